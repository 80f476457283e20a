"""Memory tiers: nodes by how fast their memory is, and where what is cold goes from each.

Firmware says how fast memory is (ACPI's HMAT). From that comes an abstract distance, the larger the slower: DRAM beside
processors has 576, and each 128 make a tier. What reclaim would take from a node it moves to the nearest node of the
next tier instead, once that is asked for (/sys/kernel/mm/numa/demotion_enabled); fastpath/demotion.py does it.

Linux: mm/memory-tiers.c; drivers/acpi/numa/hmat.c, hmat_calculate_adistance().
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import takewhile
from typing import TYPE_CHECKING, Final

from mmfs.mm.debug import LOG_INFO, ranges

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mmfs.fastpath.demotion import Demotion
    from mmfs.kernel.kernel import Kernel
    from mmfs.machine import Node
    from mmfs.mm.mmzone import PglistData

MEMTIER_CHUNK_BITS: Final = 7
MEMTIER_CHUNK_SIZE: Final = 1 << MEMTIER_CHUNK_BITS
MEMTIER_ADISTANCE_DRAM: Final = 4 * MEMTIER_CHUNK_SIZE + (MEMTIER_CHUNK_SIZE >> 1)


@dataclass
class MemoryTier:
    """Nodes of about the same speed. Linux: struct memory_tier."""

    adistance_start: int
    nodes: set[int] = field(default_factory=set)
    lower_tier_mask: int = 0

    @property
    def id(self) -> int:
        """The number of its device."""
        return self.adistance_start >> MEMTIER_CHUNK_BITS


def _mask(nodes: set[int]) -> int:
    return sum(1 << nid for nid in nodes)


def _list(mask: int) -> str:
    return ranges([nid for nid in range(mask.bit_length()) if mask >> nid & 1])


class MemoryTiers:
    """The tiers of a machine, the fastest first, and what comes of them.

    ``preferred``: a node's demotion targets as a mask. ``demotion``: whoever demotes, once reclaim runs.
    """

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.tiers: list[MemoryTier] = []
        self.of_node: dict[int, MemoryTier] = {}
        self.top_tier_adistance = 0
        self.preferred: dict[int, int] = {}
        self.demotion: Demotion
        self.default_dram = self._default_dram()
        for pgdat in kernel.node_data:
            if pgdat.node_present_pages:
                self._set_node_memory_tier(pgdat.node_id)
        self._establish_demotion_targets()

    def attach(self, demotion: Demotion) -> None:
        """Reclaim is there, and may demote."""
        self.demotion = demotion
        demotion.seed = self.kernel.seed * 2 + 0x9E3779B97F4A7C15 & (1 << 64) - 1
        self._tell()

    @property
    def numa_demotion_enabled(self) -> bool:
        """/sys/kernel/mm/numa/demotion_enabled."""
        return bool(self.demotion.enabled)

    # -- tiers ----------------------------------------------------------------------------------------------------

    def _default_dram(self) -> Node | None:
        """The first node whose speed others are measured by, None if firmware gives none, or nodes with processors
        differ by more than a tenth. Linux: mt_set_default_dram_perf()."""
        dram = [node for node in self.kernel.machine.nodes if node.cpus and node.memory and node.latency]
        for node in dram[1:]:
            for mine, first in ((node.latency, dram[0].latency), (node.bandwidth, dram[0].bandwidth)):
                if abs(mine - first) * 10 > first:
                    return None
        return dram[0] if dram else None

    def adistance(self, nid: int) -> int:
        """The abstract distance of a node. Linux: mt_perf_to_adistance()."""
        node, dram = self.kernel.machine.nodes[nid], self.default_dram
        if dram is None or not node.latency:
            return MEMTIER_ADISTANCE_DRAM
        slower = MEMTIER_ADISTANCE_DRAM * node.latency * 2 // (dram.latency * 2)
        return slower * dram.bandwidth * 2 // (node.bandwidth * 2)

    def _set_node_memory_tier(self, nid: int) -> None:
        """A node has its first memory. Linux: set_node_memory_tier(), find_create_memory_tier()."""
        start = self.adistance(nid) & -MEMTIER_CHUNK_SIZE
        tier = next((tier for tier in self.tiers if tier.adistance_start == start), None)
        if tier is None:
            tier = MemoryTier(start)
            self.tiers.append(tier)
            self.tiers.sort(key=lambda tier: tier.adistance_start)
        tier.nodes.add(nid)
        self.of_node[nid] = tier

    def _clear_node_memory_tier(self, nid: int) -> None:
        """A node has no more memory. Linux: clear_node_memory_tier()."""
        tier = self.of_node.pop(nid)
        tier.nodes.discard(nid)
        if not tier.nodes:
            self.tiers.remove(tier)

    def notifier(self, pgdat: PglistData, online: bool) -> None:
        """Memory came or went. Linux: memtier_hotplug_callback()."""
        if (pgdat.node_present_pages > 0) is (pgdat.node_id in self.of_node):
            return
        if online:
            self._set_node_memory_tier(pgdat.node_id)
        else:
            self._clear_node_memory_tier(pgdat.node_id)
        self._establish_demotion_targets()
        self._tell()
        for line in self.dump_demotion_targets():
            self.kernel.printk.emit(line, LOG_INFO)

    def node_is_toptier(self, nid: int) -> bool:
        """Whether nothing is promoted from a node. Linux: node_is_toptier()."""
        tier = self.of_node.get(nid)
        return tier is None or tier.adistance_start <= self.top_tier_adistance

    # -- demotion targets -----------------------------------------------------------------------------------------

    def _preferred(self, nid: int) -> int:
        """The nearest nodes of the next tier, as a mask. Linux: mm/page_alloc.c, find_next_best_node()."""
        below = self.tiers[self.tiers.index(self.of_node[nid]) + 1 :]
        if not below:
            return 0
        nodes, distances = self.kernel.node_data, self.kernel.node_data[nid].distances
        order = sorted(
            below[0].nodes, key=lambda other: (distances[other] + (other < nid) + bool(nodes[other].cpus), other)
        )
        return _mask(set(takewhile(lambda other: distances[other] == distances[order[0]], order)))

    def _establish_demotion_targets(self) -> None:
        """Linux: establish_demotion_targets()."""
        with_cpus = {pgdat.node_id for pgdat in self.kernel.node_data if pgdat.cpus}
        lower = _mask(set(self.of_node))
        for tier in self.tiers:
            lower &= ~_mask(tier.nodes)
            tier.lower_tier_mask = lower
            if tier.nodes & with_cpus:
                self.top_tier_adistance = tier.adistance_start + MEMTIER_CHUNK_SIZE - 1
        self.preferred = {nid: self._preferred(nid) for nid in self.of_node}

    def _tell(self) -> None:
        """Whoever demotes does so to these nodes from now on."""
        self.demotion.preferred[:] = self.demotion.lower[:] = 0
        for nid, tier in self.of_node.items():
            self.demotion.preferred[nid], self.demotion.lower[nid] = self.preferred[nid], tier.lower_tier_mask

    def dump_demotion_targets(self) -> Iterator[str]:
        """What the log says of them. Linux: dump_demotion_targets()."""
        for nid, preferred in sorted(self.preferred.items()):
            where = f"preferred: {_list(preferred)}, fallback: {_list(self.of_node[nid].lower_tier_mask)}"
            yield f"Demotion targets for Node {nid}: {where if preferred else 'null'}"

    def check(self) -> None:
        """Every node with memory is in one tier, and its targets are slower nodes. Raises AssertionError."""
        present = {pgdat.node_id for pgdat in self.kernel.node_data if pgdat.node_present_pages}
        assert set(self.of_node) == present, f"tiers: nodes {set(self.of_node)} are not {present}"
        for tier in self.tiers:
            mine = {nid for nid, of in self.of_node.items() if of is tier}
            assert mine == tier.nodes, f"tier {tier.id}: {tier.nodes} are not {mine}"
            slower = {nid for nid, of in self.of_node.items() if of.adistance_start > tier.adistance_start}
            for nid in tier.nodes:
                targets = int(self.demotion.preferred[nid])
                assert int(self.demotion.lower[nid]) == _mask(slower), f"node {nid}: lower tiers"
                assert bool(targets) is bool(slower), f"node {nid}: targets {targets:#x}, slower {slower}"
                assert not targets & ~_mask(slower), f"node {nid}: targets {targets:#x} that are not slower"
