"""/sys/module/damon_reclaim and /sys/module/damon_lru_sort: their parameters.

Linux: mm/damon/reclaim.c, lru_sort.c, modules-common.h.
"""

from __future__ import annotations

from collections.abc import Callable, Generator

from mmfs.fs.sys.damon import RW, SINCE_6_12, result
from mmfs.fs.sys.module import module
from mmfs.fs.sys.root import DIRECTORY
from mmfs.kernel.kernel import Kernel
from mmfs.kernfs import Directory, kstrtobool, kstrtoul
from mmfs.mm.damon.lru_sort import DamonLruSort
from mmfs.mm.damon.modules_common import DamonModule
from mmfs.mm.damon.reclaim import DamonReclaim
from mmfs.profile import Needs, config

STATS = ("nr_tried", "sz_tried", "nr_applied", "sz_applied", "qt_exceeds")


def _parameter(directory: Directory[DamonModule], name: str, is_bool: bool, needs: Needs | None) -> None:
    """A value that is read when the module starts, or is told to commit. Linux: module_param()."""

    def show(one: DamonModule) -> str:
        value = one.params[name]
        return f"{'NY'[value] if is_bool else value}\n"

    def store(one: DamonModule, buf: str) -> None:
        one.params[name] = kstrtobool(buf) if is_bool else kstrtoul(buf)

    directory.attributes(name, show, store, mode=RW, needs=needs)


def _statistic(directory: Directory[DamonModule], key: str, number: int) -> None:
    """Linux: DEFINE_DAMON_MODULES_DAMOS_STATS_PARAMS()."""
    tried, done, exceeds = key.split()
    name = (f"nr_{tried}", f"bytes_{tried}", f"nr_{done}", f"bytes_{done}", f"nr_{exceeds}")[number]
    result(directory, name, lambda one: getattr(one.stats[key], STATS[number]))


def _enabled(one: DamonModule) -> str:
    """Whether it runs. Linux: damon_reclaim_enabled_load()."""
    return f"{'NY'[one.enabled]}\n"


def _enabled_store(one: DamonModule, buf: str) -> Generator[None, None, None]:
    """Linux: damon_reclaim_enabled_store()."""
    yield from one.turn(kstrtobool(buf))


def _module(name: str, option: str, cls: type[DamonModule], stats: tuple[str, ...],
            get: Callable[[Kernel], DamonModule]) -> None:  # fmt: skip
    directory = module.directory(name, mode=DIRECTORY, needs=config(option))
    parameters = directory.directory("parameters", obj=get, mode=DIRECTORY)
    parameters.attributes("enabled", _enabled, _enabled_store, mode=RW)
    result(parameters, "kdamond_pid", lambda one: one.kdamond_pid)
    for parameter, default in (*cls.defaults.items(), ("commit_inputs", False)):
        _parameter(parameters, parameter, isinstance(default, bool), SINCE_6_12 if parameter in cls.newer else None)
    for key in stats:
        for number in range(len(STATS)):
            _statistic(parameters, key, number)


_module("damon_reclaim", "DAMON_RECLAIM", DamonReclaim, DamonReclaim.stat_names, lambda kernel: kernel.damon.reclaim)
_module("damon_lru_sort", "DAMON_LRU_SORT", DamonLruSort, DamonLruSort.stat_names,
        lambda kernel: kernel.damon.lru_sort)  # fmt: skip
