"""/sys/kernel/debug: what debugfs shows of memory.

Linux: mm/vmscan.c, lru_gen_seq_show(), lru_gen_seq_write(); mm/zswap.c, zswap_debugfs_init(); fs/debugfs.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from mmfs.fs.sys.root import kernel_dir
from mmfs.kernel.clock import HZ
from mmfs.kernfs import DEBUGFS, Directory, fail
from mmfs.mm.lru_gen import ANON, FILE, LruGenLruvec
from mmfs.mm_types import MAX_NR_GENS, MAX_NR_TIERS, PAGE_SHIFT

if TYPE_CHECKING:
    from mmfs.fastpath.zswap import Zswap
    from mmfs.kernel.kernel import Kernel

ROOT_MEMCG_ID = 1
_COMMAND = re.compile(r"\s*(\S)\s*(\d+)\s+(\d+)\s+(\d+)\s*(?:(\d+)\s*(?:(\d+)\s*)?)?")

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


def _tiers(lruvec: LruGenLruvec, seq: int) -> str:
    """The lines of a generation's tiers, and of the walk that began it. Linux: lru_gen_seq_show_full()."""
    text = ""
    for tier in range(MAX_NR_TIERS):
        text += f"            {tier:10d}"
        for kind in (ANON, FILE):
            letters, numbers = "xxx", (0, 0, 0)
            if seq == lruvec.max_seq:
                letters = "RTx"
                numbers = (lruvec.avg_refaulted[kind][tier], lruvec.avg_total[kind][tier], 0)
            elif seq == lruvec.min_seq(kind):
                letters, numbers = "rep", lruvec.tier_counts(kind, tier)
            text += "".join(f" {number:10d}{letter}" for number, letter in zip(numbers, letters, strict=True))
        text += "\n"
    stats = lruvec.owner.walk.stats[lruvec.number].tolist() if seq == lruvec.max_seq else [0] * 4
    letters = "TYFA" if seq == lruvec.max_seq else "xxxx"
    text += "                      " + "".join(f" {n:10d}{letter}" for n, letter in zip(stats, letters, strict=True))
    return text + "\n"


def _show(kernel: Kernel, full: bool) -> str:
    text = ""
    for lruvec in kernel.lru_gen.lruvecs.values():
        if not kernel.node_data[lruvec.nid].node_present_pages:
            continue
        if not text:
            text = f"memcg {ROOT_MEMCG_ID:5d} /\n"
        text += f" node {lruvec.nid:5d}\n"
        first = max(lruvec.max_seq - MAX_NR_GENS + 1, 0) if full else lruvec.min_seq(ANON)
        for seq in range(first, lruvec.max_seq + 1):
            text += _generation(lruvec, seq, full)
            if full:
                text += _tiers(lruvec, seq)
    return text


@debug.attribute("lru_gen")
def lru_gen(kernel: Kernel) -> str:
    """The generations of each node: number, age in ms, anonymous and file pages."""
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
        if int(memcg) != ROOT_MEMCG_ID or letter not in "+-":
            fail(errno.EINVAL)
        kernel.reclaim.generations.run_cmd(
            letter == "+", int(nid), int(seq), int(swappiness) if swappiness else -1, int(option) if option else -1
        )


@debug.attribute("lru_gen_full")
def lru_gen_full(kernel: Kernel) -> str:
    """The same with tiers and what the walks found."""
    return _show(kernel, full=True)


def _zswap_used(kernel: Kernel) -> bool:
    return bool(kernel.zswap.loops.ever_enabled)


ZSWAP: dict[str, Callable[[Zswap], int]] = {
    "pool_limit_hit": lambda loops: loops.pool_limit_hit,
    "pool_total_size": lambda loops: loops.pool.pages_allocated << PAGE_SHIFT,
    "reject_alloc_fail": lambda loops: loops.reject_alloc_fail,
    "reject_compress_fail": lambda loops: 0,
    "reject_compress_poor": lambda loops: loops.reject_compress_poor,
    "reject_kmemcache_fail": lambda loops: 0,
    "reject_reclaim_fail": lambda loops: loops.reject_reclaim_fail,
    "stored_pages": lambda loops: loops.pool.nr_objects,
    "written_back_pages": lambda loops: loops.written_back_pages,
}
"""What zswap has done; no compressor fails here, and there is always memory for an entry."""


def _zswap_file(name: str, value: Callable[[Zswap], int]) -> None:
    def show(kernel: Kernel) -> int:
        return value(kernel.zswap.loops)

    zswap.attributes(name, show, mode=0o444)


zswap: Directory[Kernel] = debug.directory("zswap", mode=0o755, needs=_zswap_used)
for _name, _value in ZSWAP.items():
    _zswap_file(_name, _value)
