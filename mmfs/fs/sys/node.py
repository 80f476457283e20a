"""/sys/devices/system/node: the nodes, each with its memory, counters, processors and distances.

Linux: drivers/base/node.c; mm/hugetlb.c, hugetlb_report_node_meminfo(); mm/compaction.c, compact_store();
mm/memory-failure.c.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from mmfs.fs.proc.vmstat import Plan, node_stat_printed, zone_printed
from mmfs.fs.sys.device import Device, bus_type, device, number_after
from mmfs.fs.sys.hugepages import Pool, node_pool_dir
from mmfs.fs.sys.root import DIRECTORY, system
from mmfs.fs.user_reclaim import reclaim_request
from mmfs.kernfs import fail
from mmfs.kernfs.bitmap import bitmap_list, bitmap_mask
from mmfs.mm.compaction import compact_node
from mmfs.mm.node_reclaim import reclaim_from_node
from mmfs.mm.show_mem import node_page_state_pages
from mmfs.mm.vmstat import node_stat_text, numa_stat_text, zone_stat_text
from mmfs.mm_types import MAX_NR_ZONES, PAGE_SHIFT, PAGE_SIZE, NumaStatItem, ZoneStatItem
from mmfs.mm_types import NodeStatItem as Item
from mmfs.profile import Profile, config, since, until

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.mm.mmzone import PglistData

def cpulist_size(of: HasKernel) -> int:
    """st_size of a list of CPUs. Linux: include/linux/cpumask.h, CPULIST_FILE_MAX_BYTES."""
    return max(of.kernel.profile.config_int("NR_CPUS") * 7 // 2, PAGE_SIZE)



class HasKernel(Protocol):
    """What belongs to a kernel."""

    @property
    def kernel(self) -> Kernel:
        """Its kernel."""


class NodeDevice(NamedTuple):
    """A node. Linux: struct node."""

    kernel: Kernel
    pgdat: PglistData

    @property
    def nid(self) -> int:
        """Its number."""
        return self.pgdat.node_id


NUMA = config("NUMA")
node = system.directory("node", mode=DIRECTORY, needs=NUMA)


def nodes_device(kernel: Kernel) -> Device:
    """The directory itself is a device, too."""
    return Device(kernel, "node")


device(node, nodes_device)


def _node_list(nodes: Iterable[int]) -> str:
    return bitmap_list(nodes) + "\n"


@node.attribute("possible")
def possible(kernel: Kernel) -> str:
    """Nodes that there can be."""
    return _node_list(range(len(kernel.node_data)))


@node.attribute("online")
def online(kernel: Kernel) -> str:
    """Nodes that there are."""
    return _node_list(range(len(kernel.node_data)))


@node.attribute("has_memory")
def has_memory(kernel: Kernel) -> str:
    """Nodes with memory. Linux: N_MEMORY."""
    return _node_list(pgdat.node_id for pgdat in kernel.node_data if pgdat.node_present_pages)


@node.attribute("has_normal_memory")
def has_normal_memory(kernel: Kernel) -> str:
    """Nodes with memory that is not only movable. Linux: N_NORMAL_MEMORY."""
    return _node_list(
        pgdat.node_id for pgdat in kernel.node_data if any(zone.populated() for zone in pgdat.node_zones[:3])
    )


@node.attribute("has_cpu")
def has_cpu(kernel: Kernel) -> str:
    """Nodes with processors. Linux: N_CPU."""
    return _node_list(pgdat.node_id for pgdat in kernel.node_data if pgdat.cpus)


@node.attribute("has_generic_initiator")
def has_generic_initiator(_: Kernel) -> str:
    """Nodes of devices that access memory by themselves: these machines have none."""
    return _node_list(())


# -- nodeN ---------------------------------------------------------------------------------------------------------


def names(kernel: Kernel) -> list[str]:
    """The directories of all nodes."""
    return [f"node{pgdat.node_id}" for pgdat in kernel.node_data]


def find(kernel: Kernel, name: str) -> NodeDevice | None:
    """The node of a directory."""
    nid = number_after("node", name)
    return NodeDevice(kernel, kernel.node_data[nid]) if nid is not None and nid < len(kernel.node_data) else None


def node_device(one: NodeDevice) -> Device:
    """The node as a device."""
    return Device(one.kernel, f"node/node{one.nid}")


node_dir = node.family(list=names, lookup=find, mode=DIRECTORY)
device(node_dir, node_device, subsystem="node")
node_dir.directory("x86", mode=DIRECTORY)
bus_type("node", names, find, needs=NUMA)


@node_dir.attribute("cpumap")
def cpumap(one: NodeDevice) -> str:
    """The node's processors as a mask."""
    return bitmap_mask(one.pgdat.cpus, len(one.kernel.cpus)) + "\n"


@node_dir.attribute("cpulist", size=cpulist_size)
def cpulist(one: NodeDevice) -> str:
    """The node's processors as a list."""
    return bitmap_list(one.pgdat.cpus) + "\n"


@node_dir.attribute("distance")
def distance(one: NodeDevice) -> str:
    """How far the nodes are. Linux: node_read_distance()."""
    return " ".join(map(str, one.pgdat.distances)) + "\n"


@node_dir.attribute("numastat")
def numastat(one: NodeDevice) -> str:
    """Linux: node_read_numastat()."""
    labels = ("numa_hit", "numa_miss", "numa_foreign", "interleave_hit", "local_node", "other_node")
    state = one.kernel.vmstat.sum_zone_numa_event_state
    return "".join(f"{label} {state(one.nid, item)}\n" for label, item in zip(labels, NumaStatItem, strict=True))


@cache
def node_plan(profile: Profile) -> Plan:
    """What a kernel prints of a node's counters."""
    return Plan((*zone_stat_text, *numa_stat_text, *node_stat_text), profile, "%s %%d\n")


@node_dir.attribute("vmstat")
def vmstat(one: NodeDevice) -> str:
    """Linux: node_read_vmstat()."""
    counters = one.kernel.vmstat
    rows = slice(one.nid * MAX_NR_ZONES, (one.nid + 1) * MAX_NR_ZONES)
    values = (
        *zone_printed(one.kernel, one.pgdat.node_zones, counters.zone_stat[rows].sum(axis=0).tolist()),
        *counters.numa_event[rows].sum(axis=0).tolist(),
        *node_stat_printed(counters.node_stat[one.nid].tolist()),
    )
    return node_plan(one.kernel.profile).text(values)


def compact_store(one: NodeDevice, buf: str) -> None:
    """Whatever is written. Linux: mm/compaction.c, compact_store()."""
    compact_node(one.kernel, one.nid)


node_dir.attributes("compact", None, compact_store)


def reclaim_store(one: NodeDevice, buf: str) -> None:
    """What memory.reclaim takes, of a node; whatever is wrong is EAGAIN. Linux: mm/vmscan.c, reclaim_store()."""
    try:
        wanted, swappiness = reclaim_request(one.kernel.profile, buf)
    except OSError:
        fail(errno.EAGAIN)
    if not reclaim_from_node(one.kernel, one.pgdat, wanted, swappiness):
        fail(errno.EAGAIN)


node_dir.attributes("reclaim", None, reclaim_store, needs=since(6, 18))
hugepages = node_dir.directory("hugepages", mode=DIRECTORY)


def find_pool(one: NodeDevice, name: str) -> Pool | None:
    """A node's part of a pool."""
    hstate = one.kernel.hugetlb.find(name)
    return Pool(one.kernel, hstate, one.nid) if hstate is not None else None


hugepages.family(
    list=lambda one: [hstate.name for hstate in one.kernel.hugetlb], lookup=find_pool, template=node_pool_dir
)

memory_failure = node_dir.directory("memory_failure", mode=DIRECTORY, needs=since(6, 12))


def _add_stat(name: str) -> None:
    """What became of failures. Linux: mm/memory-failure.c, MF_ATTR_RO()."""

    def show(one: NodeDevice) -> int:
        count: int = getattr(one.kernel.memory_failure.stats[one.nid], name)
        return count

    memory_failure.attributes(name, show)


for _name in ("total", "ignored", "failed", "delayed", "recovered"):
    _add_stat(_name)


@node_dir.symlinks(
    list=lambda one: [f"cpu{cpu}" for cpu in one.pgdat.cpus],
    lookup=lambda one, name: cpu if (cpu := number_after("cpu", name)) in one.pgdat.cpus else None,
)
def cpu_of_node(cpu: int) -> str:
    """Linux: register_cpu_under_node()."""
    return f"../../cpu/cpu{cpu}"


def find_block(one: NodeDevice, name: str) -> int | None:
    """The number of a block in which the node has memory."""
    number = number_after("memory", name)
    block = None if number is None else one.kernel.memory_blocks.find(number)
    return number if block is not None and one.nid in block.nodes else None


@node_dir.symlinks(
    list=lambda one: [f"memory{number}" for number in one.kernel.memory_blocks.of_node(one.nid)], lookup=find_block
)
def memory_of_node(number: int) -> str:
    """Linux: register_memory_blocks_under_node()."""
    return f"../../memory/memory{number}"


# -- nodeN/meminfo -------------------------------------------------------------------------------------------------

# A row is a label and the counters of the node that are added up, or a counter of its zones; None is counted in kB.
NODE_ITEMS: Final[dict[str, tuple[Item, ...] | ZoneStatItem | None]] = {
    "SwapCached": (Item.NR_SWAPCACHE,),
    "Active": (Item.NR_ACTIVE_ANON, Item.NR_ACTIVE_FILE),
    "Inactive": (Item.NR_INACTIVE_ANON, Item.NR_INACTIVE_FILE),
    "Active(anon)": (Item.NR_ACTIVE_ANON,),
    "Inactive(anon)": (Item.NR_INACTIVE_ANON,),
    "Active(file)": (Item.NR_ACTIVE_FILE,),
    "Inactive(file)": (Item.NR_INACTIVE_FILE,),
    "Unevictable": (Item.NR_UNEVICTABLE,),
    "Mlocked": ZoneStatItem.NR_MLOCK,
    "Dirty": (Item.NR_FILE_DIRTY,),
    "Writeback": (Item.NR_WRITEBACK,),
    "FilePages": (Item.NR_FILE_PAGES,),
    "Mapped": (Item.NR_FILE_MAPPED,),
    "AnonPages": (Item.NR_ANON_MAPPED,),
    "Shmem": (Item.NR_SHMEM,),
    "KernelStack": None,
    "PageTables": (Item.NR_PAGETABLE,),
    "SecPageTables": (Item.NR_SECONDARY_PAGETABLE,),
    "NFS_Unstable": (),
    "Bounce": ZoneStatItem.NR_BOUNCE,
    "WritebackTmp": (Item.NR_WRITEBACK_TEMP,),
    "KReclaimable": (Item.NR_SLAB_RECLAIMABLE_B, Item.NR_KERNEL_MISC_RECLAIMABLE),
    "Slab": (Item.NR_SLAB_RECLAIMABLE_B, Item.NR_SLAB_UNRECLAIMABLE_B),
    "SReclaimable": (Item.NR_SLAB_RECLAIMABLE_B,),
    "SUnreclaim": (Item.NR_SLAB_UNRECLAIMABLE_B,),
    "AnonHugePages": (Item.NR_ANON_THPS,),
    "ShmemHugePages": (Item.NR_SHMEM_THPS,),
    "ShmemPmdMapped": (Item.NR_SHMEM_PMDMAPPED,),
    "FileHugePages": (Item.NR_FILE_THPS,),
    "FilePmdMapped": (Item.NR_FILE_PMDMAPPED,),
    "Unaccepted": ZoneStatItem.NR_UNACCEPTED,
}
NODE_NEEDS: Final = {"Unaccepted": config("UNACCEPTED_MEMORY")}
TO_KB: Final = PAGE_SHIFT - 10


NARROW: Final = dict.fromkeys(("FileHugePages", "FilePmdMapped"), until(6, 12))
"""Rows without a second blank before their number, and in which kernels."""


def _line(nid: int, label: str, kilobytes: int, narrow: bool = False) -> str:
    return f"Node {nid} {label + ':':<{14 if narrow else 15}} {kilobytes:8d} kB\n"


@node_dir.attribute("meminfo")
def meminfo(one: NodeDevice) -> str:
    """Where the node's memory is. Linux: drivers/base/node.c, node_read_meminfo()."""
    vmstat, nid = one.kernel.vmstat, one.nid
    total = sum(zone.managed_pages for zone in one.pgdat.node_zones)
    free = vmstat.sum_zone_node_page_state(nid, ZoneStatItem.NR_FREE_PAGES)
    state = node_page_state_pages(vmstat.node_stat[nid].tolist())
    lines = [
        _line(nid, label, pages << TO_KB)
        for label, pages in (("MemTotal", total), ("MemFree", free), ("MemUsed", total - free))
    ]
    for label, items in NODE_ITEMS.items():
        if label in NODE_NEEDS and not NODE_NEEDS[label](one):
            continue
        if items is None:
            kilobytes = state[Item.NR_KERNEL_STACK_KB]
        elif isinstance(items, ZoneStatItem):
            kilobytes = vmstat.sum_zone_node_page_state(nid, items) << TO_KB
        else:
            kilobytes = sum(state[item] for item in items) << TO_KB
        lines.append(_line(nid, label, kilobytes, label in NARROW and NARROW[label](one)))
    return "".join(lines) + _hugetlb(one)


def _hugetlb(one: NodeDevice) -> str:
    """Linux: mm/hugetlb.c, hugetlb_report_node_meminfo()."""
    hstate, nid = one.kernel.hugetlb.default, one.nid
    counts = (
        ("Total", hstate.nr_huge_pages_node[nid]),
        ("Free", hstate.free_huge_pages_node[nid]),
        ("Surp", hstate.surplus_huge_pages_node[nid]),
    )
    return "".join(f"Node {nid} HugePages_{label + ':':<6} {count:5d}\n" for label, count in counts)
