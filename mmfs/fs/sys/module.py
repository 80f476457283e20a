"""/sys/module: parameters of what the kernel is built with.

Linux: kernel/params.c; mm/zswap.c.

Simplified: those of zswap, damon_reclaim and damon_lru_sort (damon_modules.py) are the only ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from mmfs.fs.sys.root import DIRECTORY, sys
from mmfs.kernfs import kstrtobool
from mmfs.kernfs.kstrtox import kstrtouint
from mmfs.profile import since, until

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.mm.zswap import Zswap

module = sys.directory("module", mode=DIRECTORY)
zswap = module.directory("zswap", mode=DIRECTORY).directory("parameters", mode=DIRECTORY)

Set = Callable[["Zswap", str], None]


def _uint(name: str) -> Set:
    """Linux: param_set_uint()."""

    def store(zswap: Zswap, buf: str) -> None:
        setattr(zswap, name, kstrtouint(buf))
        zswap.update()

    return store


def _bool(name: str) -> Set:
    """Linux: param_set_bool()."""
    return lambda zswap, buf: setattr(zswap, name, kstrtobool(buf))


PARAMETER_NEEDS: Final = {
    "non_same_filled_pages_enabled": until(6, 12),
    "same_filled_pages_enabled": until(6, 12),
    "shrinker_enabled": since(6, 12),
    "zpool": until(6, 18),
}
"""Those that not all kernels have."""
PARAMETERS: Final[dict[str, Set]] = {
    "accept_threshold_percent": _uint("accept_threshold_percent"),
    "compressor": lambda zswap, buf: zswap.set_compressor(buf.strip()),
    "enabled": lambda zswap, buf: zswap.set_enabled(kstrtobool(buf)),
    "max_pool_percent": _uint("max_pool_percent"),
    "non_same_filled_pages_enabled": _bool("non_same_filled_pages_enabled"),
    "same_filled_pages_enabled": _bool("same_filled_pages_enabled"),
    "shrinker_enabled": _bool("shrinker_enabled"),
    "zpool": lambda zswap, buf: zswap.set_zpool(buf.strip()),
}
"""zswap's, and how each is set. Linux: mm/zswap.c, module_param_cb()."""


def _add(name: str, set_value: Set) -> None:
    """A parameter's file. Linux: kernel/params.c, param_attr_show(), param_attr_store()."""

    def show(kernel: Kernel) -> str:
        value = getattr(kernel.zswap, name)
        return f"{'NY'[value] if isinstance(value, bool) else value}\n"

    def store(kernel: Kernel, buf: str) -> None:
        set_value(kernel.zswap, buf)

    zswap.attributes(name, show, store, needs=PARAMETER_NEEDS.get(name))


for _name, _set in PARAMETERS.items():
    _add(_name, _set)
