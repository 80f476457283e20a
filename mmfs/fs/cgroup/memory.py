"""memory.*: what a cgroup uses, its limits and protection, what happened at them.

Linux: mm/memcontrol.c, memory_files[], swap_files[], zswap_files[].
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from mmfs.fs.cgroup.core import cgroup, enabled
from mmfs.fs.user_reclaim import reclaim_request
from mmfs.kernel.cgroup import Cgroup
from mmfs.kernfs import OpenFile, fail, kstrtoint, memparse
from mmfs.mm import memcg_stat
from mmfs.mm.page_counter import UNLIMITED, PageCounter, bytes_text
from mmfs.mm_types import PAGE_SIZE, MemcgMemoryEvent, MemcgStatItem
from mmfs.profile import Needs, both, config, since, until

if TYPE_CHECKING:
    from mmfs.mm.mem_cgroup import MemCgroup

U64: Final = (1 << 64) - 1
Events = tuple[tuple[str, MemcgMemoryEvent | None], ...]
EVENTS: Final[Events] = (
    ("low", MemcgMemoryEvent.MEMCG_LOW),
    ("high", MemcgMemoryEvent.MEMCG_HIGH),
    ("max", MemcgMemoryEvent.MEMCG_MAX),
    ("oom", MemcgMemoryEvent.MEMCG_OOM),
    ("oom_kill", MemcgMemoryEvent.MEMCG_OOM_KILL),
    ("oom_group_kill", MemcgMemoryEvent.MEMCG_OOM_GROUP_KILL),
    ("sock_throttled", None),
)
SWAP_EVENTS: Final[Events] = (
    ("high", MemcgMemoryEvent.MEMCG_SWAP_HIGH),
    ("max", MemcgMemoryEvent.MEMCG_SWAP_MAX),
    ("fail", MemcgMemoryEvent.MEMCG_SWAP_FAIL),
)
EVENT_NEEDS: Final = {"sock_throttled": since(6, 19)}
"""The rows that not all kernels have; what has no event never happens here: no socket's buffers fill up."""


def memcg_of(group: Cgroup) -> MemCgroup:
    """The memory controller's state of a directory. Linux: mem_cgroup_from_css()."""
    css: MemCgroup = group.subsys["memory"]
    return css


has_memory = enabled("memory", on_root=True)
limited = enabled("memory")


def page_counter_memparse(buf: str, unlimited: str = "max") -> int:
    """Pages for a size in bytes with a suffix, or `unlimited`. Linux: mm/page_counter.c, page_counter_memparse()."""
    text = buf.strip()
    if text == unlimited:
        return UNLIMITED
    value, rest = memparse(text)
    if rest:
        fail(errno.EINVAL)
    return min(value // PAGE_SIZE, UNLIMITED)


def _flag(buf: str) -> bool:
    """0 or 1, else EINVAL."""
    value = kstrtoint(buf.strip())
    if value not in (0, 1):
        fail(errno.EINVAL)
    return bool(value)


class OpenPeak:
    """The peak of an open file that has asked for one of its own. Linux: struct cgroup_of_peak."""

    def __init__(self, peers: list[OpenPeak]) -> None:
        self.peers = peers
        self.peak = 0
        peers.append(self)


# -- usage ---------------------------------------------------------------------------------------------------------


def _counter(name: str, counter: Callable[[MemCgroup], PageCounter], old_peak: Needs | None) -> None:
    """NAME.current and NAME.peak; a write makes the open file's peak its own. Linux: peak_show(), peak_write().

    Kernels that are `old_peak` have a peak of the cgroup only, which cannot be written.
    """

    def current(group: Cgroup) -> int:
        return counter(memcg_of(group)).usage * PAGE_SIZE

    def peak(group: Cgroup, *, file: OpenFile) -> int:
        found = counter(memcg_of(group))
        if file.private is None:
            return found.watermark * PAGE_SIZE
        return max(int(file.private.peak), found.local_watermark) * PAGE_SIZE

    def reset(group: Cgroup, buf: str, *, file: OpenFile) -> None:
        usage = counter(memcg_of(group)).reset_local_watermark()
        peers = memcg_of(group).peaks.setdefault(name, [])
        for peer in peers:
            peer.peak = max(peer.peak, usage)
        if file.private is None:
            file.private = OpenPeak(peers)
        file.private.peak = usage

    def release(group: Cgroup, file: Any) -> None:
        if file.private is not None:
            file.private.peers.remove(file.private)

    cgroup.attributes(f"{name}.current", current, needs=limited)
    new = both(since(6, 12), limited)
    cgroup.attributes(f"{name}.peak", peak, reset, needs=new, wants_file=True, release=release)
    if old_peak is not None:
        cgroup.attributes(f"{name}.peak", peak, needs=both(old_peak, limited), wants_file=True)


_counter("memory", lambda memcg: memcg.memory, until(6, 12))


# -- limits --------------------------------------------------------------------------------------------------------


def _limit(
    name: str, get: Callable[[MemCgroup], int], put: Callable[[MemCgroup, int], None], field: str | None = None
) -> None:
    """A file that shows and takes a number of bytes or `max`; to set the counter's `field` alone takes no reclaim."""

    def show(group: Cgroup) -> str:
        return bytes_text(get(memcg_of(group))) + "\n"

    def store(group: Cgroup, buf: str) -> None:
        put(memcg_of(group), page_counter_memparse(buf))

    def store_at_once(group: Cgroup, buf: str, *, file: OpenFile) -> None:
        """Set it, and reclaim unless the file was opened with O_NONBLOCK. Linux: memory_high_write()."""
        pages = page_counter_memparse(buf)
        if file.flags & os.O_NONBLOCK:
            assert field is not None
            setattr(memcg_of(group).memory, field, pages)
        else:
            put(memcg_of(group), pages)

    if field is None:
        cgroup.attributes(name, show, store, needs=limited)
        return
    cgroup.attributes(name, show, store, needs=both(until(6, 18), limited))

    def show_of(group: Cgroup, *, file: OpenFile) -> str:
        return show(group)

    cgroup.attributes(name, show_of, store_at_once, needs=both(since(6, 18), limited), wants_file=True)


def _of(field: str, counter: str = "memory") -> tuple[Callable[[MemCgroup], int], Callable[[MemCgroup, int], None]]:
    """A field of a counter, and its setter."""
    return (
        lambda memcg: getattr(getattr(memcg, counter), field),
        lambda memcg, pages: setattr(getattr(memcg, counter), field, pages),
    )


def _set_zswap_max(memcg: MemCgroup, pages: int) -> None:
    memcg.zswap_max = pages


_limit("memory.min", *_of("min"))
_limit("memory.low", *_of("low"))
_limit("memory.high", _of("high")[0], lambda memcg, pages: memcg.owner.set_memory_high(memcg, pages), "high")
_limit("memory.max", _of("max")[0], lambda memcg, pages: memcg.owner.set_memory_max(memcg, pages), "max")


# -- events --------------------------------------------------------------------------------------------------------


def _events(name: str, rows: Events, local: bool = False) -> None:
    """A file of events, of which poll(2) tells. Linux: memory_events_show(), swap_events_show()."""

    def counts(group: Cgroup) -> list[int]:
        memcg = memcg_of(group)
        found = (memcg.owner.fast.local_events if local else memcg.owner.fast.total_events)[memcg.row]
        return [0 if event is None else int(found[event]) for _, event in rows]

    def show(group: Cgroup) -> str:
        return "".join(
            f"{name} {count}\n"
            for (name, _), count in zip(rows, counts(group), strict=True)
            if name not in EVENT_NEEDS or EVENT_NEEDS[name](group)
        )

    cgroup.attributes(name, show, needs=limited, events=lambda group: sum(counts(group)))


_events("memory.events", EVENTS)
_events("memory.events.local", EVENTS, local=True)


# -- counters ------------------------------------------------------------------------------------------------------


@cgroup.attribute("memory.stat", needs=has_memory)
def memory_stat(group: Cgroup) -> str:
    """What the memory is used for, here and below. Linux: memory_stat_show()."""
    return "".join(f"{name} {value}\n" for name, value in memcg_stat.stat_rows(memcg_of(group)))


@cgroup.attribute("memory.numa_stat", needs=both(config("NUMA"), has_memory))
def memory_numa_stat(group: Cgroup) -> str:
    """The same by node. Linux: memory_numa_stat_show()."""
    memcg = memcg_of(group)
    nodes = [pgdat.node_id for pgdat in memcg.owner.kernel.node_data if pgdat.node_present_pages]
    lines = []
    for name, values in memcg_stat.numa_rows(memcg, nodes):
        lines.append(name + "".join(f" N{nid}={value}" for nid, value in zip(nodes, values, strict=True)) + "\n")
    return "".join(lines)


# -- what to do ----------------------------------------------------------------------------------------------------


@cgroup.attribute("memory.oom.group", needs=limited)
def memory_oom_group(group: Cgroup) -> int:
    """Whether the OOM killer takes all or nobody here."""
    return int(memcg_of(group).oom_group)


@memory_oom_group.store
def memory_oom_group_store(group: Cgroup, buf: str) -> None:
    """Linux: memory_oom_group_write()."""
    memcg_of(group).oom_group = _flag(buf)


def memory_reclaim(group: Cgroup, buf: str) -> None:
    """Reclaim so many bytes, optionally with swappiness=N or swappiness=max. Linux: memory_reclaim()."""
    memcg = memcg_of(group)
    if not memcg.owner.reclaim(memcg, *reclaim_request(group.kernel.profile, buf)):
        fail(errno.EAGAIN)


def memory_reclaim_bytes(group: Cgroup, buf: str) -> None:
    """Reclaim so many bytes. Linux 6.1: memory_reclaim()."""
    memcg = memcg_of(group)
    if not memcg.owner.reclaim(memcg, page_counter_memparse(buf, ""), -1):
        fail(errno.EAGAIN)


cgroup.attributes("memory.reclaim", None, memory_reclaim, needs=both(since(6, 12), has_memory))
cgroup.attributes("memory.reclaim", None, memory_reclaim_bytes, needs=both(until(6, 12), has_memory))


# -- swap and zswap ------------------------------------------------------------------------------------------------

_counter("memory.swap", lambda memcg: memcg.swap, None)
_limit("memory.swap.high", *_of("high", "swap"))
_limit("memory.swap.max", *_of("max", "swap"))
_events("memory.swap.events", SWAP_EVENTS)


@cgroup.attribute("memory.zswap.current", needs=limited)
def memory_zswap_current(group: Cgroup) -> int:
    """What zswap takes for it. Linux: zswap_current_read()."""
    memcg = memcg_of(group)
    memcg.owner.fast.flush()
    return memcg_stat.page_state(memcg, MemcgStatItem.MEMCG_ZSWAP_B)


_limit("memory.zswap.max", lambda memcg: memcg.zswap_max, _set_zswap_max)


@cgroup.attribute("memory.zswap.writeback", needs=both(since(6, 12), has_memory))
def memory_zswap_writeback(group: Cgroup) -> int:
    """Whether zswap may write what it keeps for it to a disk."""
    return int(memcg_of(group).zswap_writeback)


@memory_zswap_writeback.store
def memory_zswap_writeback_store(group: Cgroup, buf: str) -> None:
    """Linux: zswap_writeback_write()."""
    memcg_of(group).zswap_writeback = _flag(buf)
