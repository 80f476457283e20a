"""/sys/kernel/mm/damon/admin: monitors of data accesses, what they monitor and how.

Linux: mm/damon/sysfs.c; Documentation/admin-guide/mm/damon/usage.rst.

Simplified: 7.0's addr_unit and dests are not there.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Generator, Iterable, Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from mmfs.fs.sys.root import DIRECTORY, mm
from mmfs.kernfs import Directory, fail, kstrtobool
from mmfs.kernfs.kstrtox import kstrtoint, kstrtouint, kstrtoul, sysfs_match_string
from mmfs.mm.damon.sysfs import (
    COMMANDS,
    DamonSysfs,
    DamonSysfsContext,
    DamonSysfsKdamond,
    DamonSysfsRegion,
    DamonSysfsTarget,
)
from mmfs.mm.damon.sysfs_schemes import DamonSysfsUlRange
from mmfs.profile import Needs, config, since

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel

T = TypeVar("T")
U = TypeVar("U")

SINCE_6_12: Final = since(7, 0)
"""Which kernels have what came after 6.12."""
RW: Final = 0o600
RO: Final = 0o400
Parse = Callable[[str], int]


def number(
    directory: Directory[T], name: str, attribute: str = "", parse: Parse = kstrtoul, needs: Needs | None = None
) -> None:
    """A file of a number that is read and written."""
    where = attribute or name

    def show(obj: T) -> str:
        return f"{getattr(obj, where)}\n"

    def store(obj: T, buf: str) -> None:
        setattr(obj, where, parse(buf))

    directory.attributes(name, show, store, mode=RW, needs=needs)


def boolean(directory: Directory[T], name: str, attribute: str, needs: Needs | None = None) -> None:
    """A file of Y or N."""

    def show(obj: T) -> str:
        return f"{'NY'[getattr(obj, attribute)]}\n"

    def store(obj: T, buf: str) -> None:
        setattr(obj, attribute, kstrtobool(buf))

    directory.attributes(name, show, store, mode=RW, needs=needs)


def result(directory: Directory[T], name: str, get: Callable[[T], object], needs: Needs | None = None) -> None:
    """A file that is only read."""

    def show(obj: T) -> str:
        return f"{get(obj)}\n"

    directory.attributes(name, show, mode=RO, needs=needs)


def word(
    directory: Directory[T], name: str, attribute: str, kinds: type[IntEnum], newer: IntEnum | None = None
) -> None:
    """A file of one of some words, which are the members' names in small letters; 6.12 has none from ``newer`` on."""
    words = [kind.name.lower() for kind in kinds]

    def show(obj: T) -> str:
        return f"{words[getattr(obj, attribute)]}\n"

    def store(obj: T, buf: str) -> None:
        known = words if newer is None or SINCE_6_12(obj) else words[:newer]
        setattr(obj, attribute, kinds(sysfs_match_string(known, buf)))

    directory.attributes(name, show, store, mode=RW)


def einval(parse: Parse) -> Parse:
    """Whatever is wrong with a number is EINVAL."""

    def parsed(buf: str) -> int:
        try:
            return parse(buf)
        except OSError:
            fail(errno.EINVAL)

    return parsed


def nth(found: Sequence[U], name: str) -> U | None:
    """The entry of a numbered directory."""
    if not name.isdecimal() or str(int(name)) != name:
        return None
    return found[int(name)] if int(name) < len(found) else None


class Locked(Protocol):
    """What has the lock of all of these files within reach."""

    sysfs: DamonSysfs


L = TypeVar("L", bound=Locked)


def numbered(
    directory: Directory[L],
    name: str,
    entries: Callable[[L], list[U]],
    make: Callable[[L], U],
    most: int | None = None,
) -> Directory[U]:
    """A directory with a file that says how many there are, and so many subdirectories, which begin anew each time."""

    def show(obj: L) -> str:
        return f"{len(entries(obj))}\n"

    def store(obj: L, buf: str) -> None:
        count = kstrtoint(buf)
        if count < 0 or (most is not None and count > most):
            fail(errno.EINVAL)
        obj.sysfs.trylock()
        obj.sysfs.kmalloc_array(count)
        entries(obj)[:] = [make(obj) for _ in range(count)]

    directory.attributes(name, show, store, mode=RW)

    def names(obj: L) -> Iterable[str]:
        return (str(one) for one in range(len(entries(obj))))

    return directory.family(list=names, lookup=lambda obj, name: nth(entries(obj), name), mode=DIRECTORY)


def ul_range(directory: Directory[T], name: str, get: Callable[[T], DamonSysfsUlRange]) -> None:
    """A directory of two bounds. Linux: mm/damon/sysfs-common.c."""
    inner = directory.directory(name, obj=get, mode=DIRECTORY)
    number(inner, "min")
    number(inner, "max")



def _sysfs(kernel: Kernel) -> DamonSysfs:
    return kernel.damon.sysfs


admin = mm.directory("damon", mode=DIRECTORY, needs=config("DAMON_SYSFS")).directory("admin", mode=DIRECTORY)
kdamonds = admin.directory("kdamonds", obj=_sysfs, mode=DIRECTORY)


@kdamonds.attribute("nr_kdamonds", mode=RW)
def nr_kdamonds(sysfs: DamonSysfs) -> str:
    """How many there are."""
    return f"{len(sysfs.kdamonds)}\n"


@nr_kdamonds.store
def nr_kdamonds_store(sysfs: DamonSysfs, buf: str) -> None:
    """Linux: nr_kdamonds_store()."""
    count = kstrtoint(buf)
    if count < 0:
        fail(errno.EINVAL)
    sysfs.trylock()
    sysfs.set_nr_kdamonds(count)


kdamond_dir: Directory[DamonSysfsKdamond] = kdamonds.family(
    list=lambda sysfs: (str(one) for one in range(len(sysfs.kdamonds))),
    lookup=lambda sysfs, name: nth(sysfs.kdamonds, name),
    mode=DIRECTORY,
)


@kdamond_dir.attribute("state", mode=RW)
def state(kdamond: DamonSysfsKdamond) -> str:
    """Whether it runs."""
    kdamond.sysfs.trylock()
    return "on\n" if kdamond.running else "off\n"


@state.store
def state_store(kdamond: DamonSysfsKdamond, buf: str) -> Generator[None, None, None]:
    """Linux: state_store()."""
    kdamond.sysfs.trylock()
    commands = COMMANDS if SINCE_6_12(kdamond) else COMMANDS[:-1]
    yield from kdamond.sysfs.handle_cmd(commands[sysfs_match_string(commands, buf)], kdamond)


@kdamond_dir.attribute("pid", mode=RO)
def pid(kdamond: DamonSysfsKdamond) -> str:
    """Of its thread, or -1."""
    kdamond.sysfs.trylock()
    return f"{kdamond.pid}\n"


number(kdamond_dir, "refresh_ms", parse=kstrtouint, needs=SINCE_6_12)
contexts = kdamond_dir.directory("contexts", mode=DIRECTORY)
context: Directory[DamonSysfsContext] = numbered(
    contexts, "nr_contexts", lambda kdamond: kdamond.contexts, lambda kdamond: DamonSysfsContext(kdamond.sysfs), 1
)
result(context, "avail_operations", lambda context: "\n".join(ops.name for ops in context.sysfs.damon.operations))


@context.attribute("operations", mode=RW)
def operations(context: DamonSysfsContext) -> str:
    """What is monitored."""
    return f"{context.ops}\n"


@operations.store
def operations_store(context: DamonSysfsContext, buf: str) -> None:
    """Linux: operations_store()."""
    names = [ops.name for ops in context.sysfs.damon.operations]
    context.ops = names[sysfs_match_string(names, buf)]


attrs = context.directory("monitoring_attrs", mode=DIRECTORY)
intervals = attrs.directory("intervals", mode=DIRECTORY)
for _name in ("sample_us", "aggr_us", "update_us"):
    number(intervals, _name)
intervals_goal = intervals.directory(
    "intervals_goal", obj=lambda context: context.intervals_goal, needs=SINCE_6_12, mode=DIRECTORY
)
for _name in ("access_bp", "aggrs", "min_sample_us", "max_sample_us"):
    number(intervals_goal, _name)
ul_range(attrs, "nr_regions", lambda context: context.nr_regions)

targets = context.directory("targets", mode=DIRECTORY)
target: Directory[DamonSysfsTarget] = numbered(
    targets, "nr_targets", lambda context: context.targets, lambda context: DamonSysfsTarget(context.sysfs)
)
number(target, "pid_target", "pid", einval(kstrtoint))
boolean(target, "obsolete_target", "obsolete", SINCE_6_12)
regions = target.directory("regions", mode=DIRECTORY)
region: Directory[DamonSysfsRegion] = numbered(
    regions, "nr_regions", lambda target: target.regions, lambda target: DamonSysfsRegion()
)
number(region, "start")
number(region, "end")
