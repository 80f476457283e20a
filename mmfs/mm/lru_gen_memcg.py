"""In which turn reclaim by generations visits memory cgroups: an LRU of cgroups on each node.

The cgroups of a node stand in three generations of eight bins. Reclaim goes through the bins of the oldest generation
from a random one on. One that has aged goes to the younger generation, one that has given too little to the tail of a
bin for one more try; when the oldest generation is empty the next takes its place.

Linux: mm/vmscan.c, lru_gen_rotate_memcg() to lru_gen_release_memcg(); include/linux/mmzone.h, struct lru_gen_memcg.
"""

from __future__ import annotations

from enum import IntEnum
from random import Random
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from mmfs.mm.lru_gen import LruGenLruvec

MEMCG_NR_GENS: Final = 3
MEMCG_NR_BINS: Final = 8


class MemcgLruOp(IntEnum):
    """Where a cgroup goes. Linux: enum, MEMCG_LRU_NOP and on."""

    NOP = 0
    HEAD = 1
    TAIL = 2
    OLD = 3
    YOUNG = 4


class MemcgLru:
    """The cgroups of one node, as lruvecs. Linux: struct lru_gen_memcg. ``seed``: of the choice of bins."""

    def __init__(self, seed: int) -> None:
        self.seq = 0
        self.fifo: list[list[list[LruGenLruvec]]] = [[[] for _ in range(MEMCG_NR_BINS)] for _ in range(MEMCG_NR_GENS)]
        self._random = Random(seed)

    def random_bin(self) -> int:
        """Linux: get_random_u32_below(MEMCG_NR_BINS)."""
        return self._random.randrange(MEMCG_NR_BINS)

    @property
    def oldest(self) -> int:
        """The generation that is visited. Linux: get_memcg_gen()."""
        return self.seq % MEMCG_NR_GENS

    def add(self, lruvec: LruGenLruvec, nr_bin: int) -> None:
        """Linux: lru_gen_online_memcg()."""
        lruvec.memcg_gen, lruvec.memcg_bin, lruvec.memcg_seg = self.oldest, nr_bin, MemcgLruOp.NOP
        self.fifo[lruvec.memcg_gen][nr_bin].append(lruvec)

    def _remove(self, lruvec: LruGenLruvec) -> None:
        self.fifo[lruvec.memcg_gen][lruvec.memcg_bin].remove(lruvec)

    def _advance(self, gen: int) -> None:
        """When the oldest generation is empty, the next is the oldest."""
        if gen == self.oldest and not any(self.fifo[gen]):
            self.seq += 1

    def release(self, lruvec: LruGenLruvec) -> None:
        """Linux: lru_gen_release_memcg()."""
        self._remove(lruvec)
        self._advance(lruvec.memcg_gen)

    def rotate(self, lruvec: LruGenLruvec, op: MemcgLruOp) -> None:
        """Linux: lru_gen_rotate_memcg()."""
        self._remove(lruvec)
        old, lruvec.memcg_bin = lruvec.memcg_gen, self.random_bin()
        lruvec.memcg_seg = op if op in (MemcgLruOp.HEAD, MemcgLruOp.TAIL) else MemcgLruOp.NOP
        if op is MemcgLruOp.OLD:
            lruvec.memcg_gen = self.oldest
        elif op is MemcgLruOp.YOUNG:
            lruvec.memcg_gen = (self.seq + 1) % MEMCG_NR_GENS
        fifo = self.fifo[lruvec.memcg_gen][lruvec.memcg_bin]
        fifo.insert(0 if op in (MemcgLruOp.HEAD, MemcgLruOp.OLD) else len(fifo), lruvec)
        self._advance(old)
