"""memory.*: what a cgroup uses and may use, as cgroup v1 shows it.

Linux: mm/memcontrol-v1.c, mem_cgroup_legacy_files[], memsw_files[].
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Final

from mmfs.fs.cgroup.core import enabled
from mmfs.fs.cgroup.memory import memcg_of, page_counter_memparse
from mmfs.fs.cgroup1.core import cgroup1
from mmfs.kernel.cgroup import Cgroup
from mmfs.kernfs import fail, kstrtoull
from mmfs.mm import memcontrol_v1
from mmfs.mm.mem_cgroup import MemCgroup
from mmfs.mm.memcontrol_v1 import resize_max, warn_once
from mmfs.mm.page_counter import UNLIMITED, PageCounter
from mmfs.mm_types import PAGE_SIZE, MemcgMemoryEvent
from mmfs.profile import both, config, since

MAX_SWAPPINESS: Final = 200
MOVE_MASK: Final = 3

needs = enabled("memory", on_root=True)


# -- usage and limits ------------------------------------------------------------------------------------------------


def _counter(
    prefix: str,
    counter: Callable[[MemCgroup], PageCounter],
    usage: Callable[[MemCgroup], int],
    set_max: Callable[[MemCgroup, int], None],
) -> None:
    """The four files of a counter. Linux: mem_cgroup_read_u64(), mem_cgroup_write(), mem_cgroup_reset()."""

    def set_limit(group: Cgroup, buf: str) -> None:
        pages = page_counter_memparse(buf, "-1")
        if group.parent is None:
            fail(errno.EINVAL)
        set_max(memcg_of(group), pages)

    def reset_max_usage(group: Cgroup, buf: str) -> None:
        counter(memcg_of(group)).reset_watermark()

    def reset_failcnt(group: Cgroup, buf: str) -> None:
        counter(memcg_of(group)).reset_failcnt()

    for name, show, store in (
        ("usage_in_bytes", lambda group: usage(memcg_of(group)) * PAGE_SIZE, None),
        ("max_usage_in_bytes", lambda group: counter(memcg_of(group)).watermark * PAGE_SIZE, reset_max_usage),
        ("limit_in_bytes", lambda group: counter(memcg_of(group)).max * PAGE_SIZE, set_limit),
        ("failcnt", lambda group: counter(memcg_of(group)).failcnt, reset_failcnt),
    ):
        cgroup1.attributes(f"memory.{prefix}{name}", show, store, needs=needs)


def _set_tcp_max(memcg: MemCgroup, pages: int) -> None:
    """Linux: memcg_update_tcp_max()."""
    warn_once(memcg, "kmem.tcp.limit_in_bytes")
    memcg.tcpmem.max = pages
    memcg.tcpmem_active = True


_counter(
    "", lambda memcg: memcg.memory, lambda memcg: memcontrol_v1.usage(memcg, False),
    lambda memcg, pages: resize_max(memcg, pages, False),
)  # fmt: skip
_counter(
    "memsw.", lambda memcg: memcg.swap, lambda memcg: memcontrol_v1.usage(memcg, True),
    lambda memcg, pages: resize_max(memcg, pages, True),
)  # fmt: skip
_counter(
    "kmem.", lambda memcg: memcg.kmem, lambda memcg: memcg.kmem.usage,
    lambda memcg, pages: warn_once(memcg, "kmem.limit_in_bytes"),
)  # fmt: skip
_counter("kmem.tcp.", lambda memcg: memcg.tcpmem, lambda memcg: memcg.tcpmem.usage, _set_tcp_max)


@cgroup1.attribute("memory.soft_limit_in_bytes", needs=needs)
def memory_soft_limit_in_bytes(group: Cgroup) -> int:
    """There is none any more. Linux: mem_cgroup_soft_limit_read()."""
    return UNLIMITED * PAGE_SIZE


@memory_soft_limit_in_bytes.store
def memory_soft_limit_in_bytes_store(group: Cgroup, buf: str) -> None:
    """A size is taken, and nothing follows. Linux: mem_cgroup_soft_limit_write()."""
    page_counter_memparse(buf, "-1")
    warn_once(memcg_of(group), "soft_limit_in_bytes")


# -- counters --------------------------------------------------------------------------------------------------------


@cgroup1.attribute("memory.stat", needs=needs)
def memory_stat(group: Cgroup) -> str:
    """What the memory is used for, here, and with all below. Linux: memory_stat_show()."""
    return "".join(f"{name} {value}\n" for name, value in memcontrol_v1.stat_rows(memcg_of(group)))


@cgroup1.attribute("memory.numa_stat", needs=both(config("NUMA"), needs))
def memory_numa_stat(group: Cgroup) -> str:
    """Pages by node. Linux: memcg_numa_stat_show()."""
    memcg = memcg_of(group)
    nodes = [pgdat.node_id for pgdat in memcg.owner.kernel.node_data if pgdat.node_present_pages]
    lines = []
    for name, values in memcontrol_v1.numa_rows(memcg, nodes):
        by_node = "".join(f" N{nid}={value}" for nid, value in zip(nodes, values, strict=True))
        lines.append(f"{name}={sum(values)}{by_node}\n")
    return "".join(lines)


@cgroup1.attribute("memory.kmem.slabinfo", needs=needs)
def memory_kmem_slabinfo(group: Cgroup) -> str:
    """Nothing any more. Linux: mem_cgroup_slab_show()."""
    return ""


# -- what to do ------------------------------------------------------------------------------------------------------


def memory_force_empty(group: Cgroup, buf: str) -> None:
    """Linux: mem_cgroup_force_empty_write()."""
    if group.parent is None:
        fail(errno.EINVAL)
    memcontrol_v1.force_empty(memcg_of(group))


cgroup1.attributes("memory.force_empty", None, memory_force_empty, needs=needs)


@cgroup1.attribute("memory.use_hierarchy", needs=needs)
def memory_use_hierarchy(group: Cgroup) -> int:
    """What is below counts here: always. Linux: mem_cgroup_hierarchy_read()."""
    return 1


@memory_use_hierarchy.store
def memory_use_hierarchy_store(group: Cgroup, buf: str) -> None:
    """Linux: mem_cgroup_hierarchy_write()."""
    if kstrtoull(buf) != 1:
        warn_once(memcg_of(group), "use_hierarchy")
        fail(errno.EINVAL)


@cgroup1.attribute("memory.swappiness", needs=needs)
def memory_swappiness(group: Cgroup) -> int:
    """How readily anonymous memory is swapped; the root's is the machine's. Linux: mem_cgroup_swappiness_read()."""
    memcg = memcg_of(group)
    return memcg.owner.swappiness(memcg)


@memory_swappiness.store
def memory_swappiness_store(group: Cgroup, buf: str) -> None:
    """Linux: mem_cgroup_swappiness_write()."""
    value, memcg = kstrtoull(buf), memcg_of(group)
    if value > MAX_SWAPPINESS:
        fail(errno.EINVAL)
    if memcg.is_root:
        memcg.owner.kernel.vm.swappiness = value
    else:
        memcg.swappiness = value


CHARGES_STAY: Final = since(6, 13)
"""Kernels in which memory never follows a process to another cgroup."""


@cgroup1.attribute("memory.move_charge_at_immigrate", needs=needs)
def memory_move_charge_at_immigrate(group: Cgroup) -> int:
    """What of a process's memory follows it here: 1 anonymous, 2 of files."""
    return memcg_of(group).move_charge_at_immigrate


@memory_move_charge_at_immigrate.store
def memory_move_charge_at_immigrate_store(group: Cgroup, buf: str) -> None:
    """Linux: mem_cgroup_move_charge_write()."""
    value, memcg = kstrtoull(buf), memcg_of(group)
    warn_once(memcg, "move_charge_at_immigrate")
    if value & ~MOVE_MASK or (value and CHARGES_STAY(memcg.owner)):
        fail(errno.EINVAL)
    memcg.move_charge_at_immigrate = value


@cgroup1.attribute("memory.oom_control", needs=needs)
def memory_oom_control(group: Cgroup) -> str:
    """Linux: mem_cgroup_oom_control_read()."""
    memcg = memcg_of(group)
    kills = int(memcg.owner.fast.local_events[memcg.row][MemcgMemoryEvent.MEMCG_OOM_KILL])
    return (
        f"oom_kill_disable {int(memcg.oom_kill_disable)}\nunder_oom {int(memcg.under_oom > 0)}\noom_kill {kills}\n"
    )


@memory_oom_control.store
def memory_oom_control_store(group: Cgroup, buf: str) -> None:
    """Linux: mem_cgroup_oom_control_write()."""
    value, memcg = kstrtoull(buf), memcg_of(group)
    warn_once(memcg, "oom_control")
    if memcg.is_root or value > 1:
        fail(errno.EINVAL)
    memcg.oom_kill_disable = bool(value)
    if not value:
        memcontrol_v1.oom_recover(memcg)


# -- events ----------------------------------------------------------------------------------------------------------


@cgroup1.attribute("memory.pressure_level", needs=needs)
def memory_pressure_level(group: Cgroup) -> str:
    """Only to be named to cgroup.event_control. Linux: mem_cgroup_dummy_seq_show()."""
    fail(errno.EINVAL)


def cgroup_event_control(group: Cgroup, buf: str) -> None:
    """Ask for events on an eventfd. Linux: memcg_write_event_control().

    Simplified: nobody's eventfd can be seen from here, so it is EINVAL, as for a descriptor of another kind.
    """
    fail(errno.EINVAL)


cgroup1.attributes("cgroup.event_control", None, cgroup_event_control, mode=0o222, needs=needs)
