"""/sys/kernel/debug: what debugfs shows of memory.

Linux: mm/vmscan.c, lru_gen_seq_show(), lru_gen_seq_write(); mm/zswap.c, zswap_debugfs_init(); mm/vmstat.c,
extfrag_debug_init(); mm/huge_memory.c, split_huge_pages_debugfs(); mm/memory.c, fault_around_debugfs(); fs/debugfs.

Simplified: the PMD entries that a walk has looked at are not counted, which 6.1 tells (N in lru_gen_full).
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from mmfs.fs.sys.root import kernel_dir
from mmfs.kernel.clock import HZ
from mmfs.kernfs import DEBUGFS, Directory, fail, kstrtoul
from mmfs.mm import huge_split
from mmfs.mm.lru_gen import ANON, ANON_ONLY, FILE, SWAPPINESS_ANON_ONLY, LruGenLruvec
from mmfs.mm_types import MAX_NR_GENS, MAX_NR_TIERS, NR_PAGE_ORDERS, PAGE_SHIFT, PTRS_PER_TABLE
from mmfs.profile import since, until

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.mm.zswap import Zswap

_RANGE = r"0x([0-9a-f]+)(?:,0x([0-9a-f]+)(?:,(-?\d+))?)?"
_PART_OF_PROCESS = re.compile(rf"\s*(-?\d+)(?:,{_RANGE})?", re.IGNORECASE)
_PART_OF_FILE = re.compile(rf"(){_RANGE}", re.IGNORECASE)
_COMMAND = re.compile(r"\s*(\S)\s*(\d+)\s+(\d+)\s+(\d+)\s*(?:(\d+|max)\s*(?:(\d+)\s*)?)?")

debug: Directory[Kernel] = kernel_dir.directory("debug", mode=0o700, rules=DEBUGFS)


def _generation(lruvec: LruGenLruvec, seq: int, full: bool) -> str:
    """The line of a generation: number, age in ms, pages of either kind."""
    clock = lruvec.owner.kernel.clock
    age_ms = (clock.jiffies - lruvec.birth[seq % MAX_NR_GENS]) * 1000 // HZ
    line = f" {seq:10d} {age_ms:10d}"
    for kind in (ANON, FILE):
        mark = "x" if full and seq < lruvec.min_seq(kind) else " "
        line += f" {lruvec.size(kind, seq):10d}{mark}"
    return line + "\n"


WALK_STATS: Final = ((since(6, 12), "x", "TYFA"), (until(6, 12), " ", "LOYNFA"))
"""By kernel: the letter behind a number that means nothing, and those of what a walk has looked at."""


def _tiers(lruvec: LruGenLruvec, seq: int) -> str:
    """The lines of a generation's tiers, and of the walk that began it. Linux: lru_gen_seq_show_full()."""
    kernel = lruvec.owner.kernel
    none, columns = next((none, columns) for needs, none, columns in WALK_STATS if needs(kernel))
    text = ""
    for tier in range(MAX_NR_TIERS):
        text += f"            {tier:10d}"
        for kind in (ANON, FILE):
            letters, numbers = none * 3, (0, 0, 0)
            if seq == lruvec.max_seq:
                letters = f"RT{none}"
                numbers = (lruvec.avg_refaulted[kind][tier], lruvec.avg_total[kind][tier], 0)
            elif seq == lruvec.min_seq(kind):
                letters, numbers = "rep", lruvec.tier_counts(kind, tier)
            text += "".join(f" {number:10d}{letter}" for number, letter in zip(numbers, letters, strict=True))
        text += "\n"
    total, young, found, added = lruvec.owner.walk.stats[lruvec.number].tolist() if seq == lruvec.max_seq else [0] * 4
    stats = {"T": total, "L": total, "O": total - young, "Y": young, "N": 0, "F": found, "A": added}
    letters = columns if seq == lruvec.max_seq else none * len(columns)
    text += "                      "
    text += "".join(f" {stats[column]:10d}{letter}" for column, letter in zip(columns, letters, strict=True))
    return text + "\n"


def _show(kernel: Kernel, full: bool) -> str:
    """All memory cgroups, those that are dying included. Linux: lru_gen_seq_show()."""
    kernel.memcgs.reap()
    text, nr_nodes = "", kernel.lru.nr_nodes
    for memcg in kernel.memcgs.root.descendants():
        text += f"memcg {memcg.id:5d} {memcg.path}\n"
        for pgdat in kernel.node_data:
            if not pgdat.node_present_pages:
                continue
            lruvec = kernel.lru_gen.lruvecs[memcg.row * nr_nodes + pgdat.node_id]
            text += f" node {lruvec.nid:5d}\n"
            first = max(lruvec.max_seq - MAX_NR_GENS + 1, 0) if full else lruvec.min_seq(ANON)
            for seq in range(first, lruvec.max_seq + 1):
                text += _generation(lruvec, seq, full)
                if full:
                    text += _tiers(lruvec, seq)
    return text


@debug.attribute("lru_gen")
def lru_gen(kernel: Kernel) -> str:
    """The generations of each cgroup on each node: number, age in ms, anonymous and file pages."""
    return _show(kernel, full=False)


@lru_gen.store
def lru_gen_store(kernel: Kernel, buf: str) -> None:
    """`+ memcg node seq [can_swap [force_scan]]` ages, `- memcg node seq [swappiness [nr_to_reclaim]]` evicts."""
    commands = [command for command in re.split(r"[,;\n]", buf) if command.strip()]
    if not commands:
        fail(errno.EINVAL)
    for command in commands:
        match = _COMMAND.fullmatch(command)
        if match is None:
            fail(errno.EINVAL)
        letter, memcg, nid, seq, swappiness, option = match.groups()
        if letter not in "+-" or (swappiness == "max" and not ANON_ONLY(kernel)):
            fail(errno.EINVAL)
        if swappiness == "max":
            swappiness = str(SWAPPINESS_ANON_ONLY)
        kernel.reclaim.generations.run_cmd(
            letter == "+", int(memcg), int(nid), int(seq), int(swappiness) if swappiness else -1,
            int(option) if option else -1,
        )  # fmt: skip


@debug.attribute("lru_gen_full")
def lru_gen_full(kernel: Kernel) -> str:
    """The same with tiers and what the walks found."""
    return _show(kernel, full=True)


# -- huge pages, and pages around a fault ----------------------------------------------------------------------------


def split_huge_pages_write(kernel: Kernel, buf: str) -> None:
    """`1`: all; `pid,start,end[,order]` of a process, `path,start,end[,order]` of a file, in pages. ESRCH, EINVAL.

    Linux: split_huge_pages_write().
    """
    path, _, rest = buf.partition(",") if buf.startswith("/") else ("", "", buf)
    match = (_PART_OF_FILE if path else _PART_OF_PROCESS).match(rest)
    if match is None:
        fail(errno.EINVAL)
    pid, order = int(match[1] or 0), int(match[4] or 0)
    start, end = int(match[2] or "0", 16), int(match[3] or "0", 16)
    wanted = huge_split.is_order(order)
    if match[3] is None:  # no range: all, or nonsense
        if match[2] is not None or pid != 1:
            fail(errno.EINVAL)
        huge_split.split_huge_pages_all(kernel)
    elif path:
        huge_split.split_huge_pages_in_file(kernel, path, start, end if wanted else start, order)
    elif (task := kernel.tasks.get(pid)) is None:
        fail(errno.ESRCH)
    elif task.mm is None:
        fail(errno.EINVAL)
    elif wanted:
        huge_split.split_huge_pages_pid(task.mm, start, end, order)


debug.attributes("split_huge_pages", None, split_huge_pages_write, mode=0o200)


@debug.attribute("fault_around_bytes", mode=0o644)
def fault_around_bytes(kernel: Kernel) -> int:
    """How much of a file's cache a read fault maps. Linux: mm/memory.c, fault_around_bytes_get()."""
    return kernel.mmu.file_faults.fault_around_pages << PAGE_SHIFT


@fault_around_bytes.store
def fault_around_bytes_store(kernel: Kernel, buf: str) -> None:
    """Rounded down to a power of two, of a page at least and a page table at most. Linux: fault_around_bytes_set()."""
    pages = kstrtoul(buf, 0) >> PAGE_SHIFT
    if pages > PTRS_PER_TABLE:
        fail(errno.EINVAL)
    kernel.mmu.file_faults.fault_around_pages = 1 << max(pages, 1).bit_length() - 1


# -- fragmentation -----------------------------------------------------------------------------------------------------

extfrag: Directory[Kernel] = debug.directory("extfrag", mode=0o755)


def _extfrag_show(kernel: Kernel, index: Callable[[int, int], int], width: int) -> str:
    """A row a zone: an index in thousandths for each order. Linux: extfrag_show_print(), unusable_show_print()."""
    rows = []
    for zone in kernel.zones:
        if zone.populated():
            cells = (index(zone.index, order) for order in range(NR_PAGE_ORDERS))
            row = "".join(f"{int(cell / 1000):{width}d}.{abs(cell) % 1000:03d} " for cell in cells)
            rows.append(f"Node {zone.zone_pgdat.node_id}, zone {zone.name:>8s} {row}\n")
    return "".join(rows)


@extfrag.attribute("extfrag_index", mode=0o444)
def extfrag_index(kernel: Kernel) -> str:
    """Why a block of each order could not be had: towards 0 for want of memory, towards 1 as it is in pieces."""
    return _extfrag_show(kernel, kernel.compactor.loops.fragmentation_index, 2)


@extfrag.attribute("unusable_index", mode=0o444)
def unusable_index(kernel: Kernel) -> str:
    """The part of the free memory that is in blocks too small for each order."""
    return _extfrag_show(kernel, kernel.compactor.loops.unusable_free_index, 1)


def _zswap_used(kernel: Kernel) -> bool:
    """The directory is made when zswap is set up. Linux: zswap_debugfs_init()."""
    return bool(kernel.zswap.loops.ever_enabled)


ZSWAP: Final[dict[str, Callable[[Zswap], int]]] = {
    "decompress_fail": lambda zswap: 0,
    "duplicate_entry": lambda zswap: 0,
    "pool_limit_hit": lambda zswap: zswap.loops.pool_limit_hit,
    "pool_total_size": lambda zswap: zswap.loops.pool.pages_allocated << PAGE_SHIFT,
    "reject_alloc_fail": lambda zswap: zswap.loops.reject_alloc_fail,
    "reject_compress_fail": lambda zswap: 0,
    "reject_compress_poor": lambda zswap: zswap.loops.reject_compress_poor,
    "reject_kmemcache_fail": lambda zswap: 0,
    "reject_reclaim_fail": lambda zswap: zswap.loops.reject_reclaim_fail,
    "same_filled_pages": lambda zswap: zswap.nr_same_filled,
    "stored_incompressible_pages": lambda zswap: 0,
    "stored_pages": lambda zswap: zswap.nr_stored,
    "written_back_pages": lambda zswap: zswap.loops.written_back_pages,
}
"""What zswap has done; no compressor fails here, and there is always memory for an entry.

Simplified: what does not get smaller is rejected, where 6.18 keeps it as it is (stored_incompressible_pages).
"""


ZSWAP_NEEDS: Final = {
    "duplicate_entry": until(6, 12),
    "reject_compress_fail": since(6, 12),
    "same_filled_pages": until(6, 12),
    "decompress_fail": since(6, 18),
    "stored_incompressible_pages": since(6, 18),
}
"""The files that not all kernels have."""


def _zswap_file(name: str, value: Callable[[Zswap], int]) -> None:
    def show(kernel: Kernel) -> int:
        return value(kernel.zswap)

    zswap.attributes(name, show, mode=0o444, needs=ZSWAP_NEEDS.get(name))


zswap: Directory[Kernel] = debug.directory("zswap", mode=0o755, needs=_zswap_used)
for _name, _value in ZSWAP.items():
    _zswap_file(_name, _value)
