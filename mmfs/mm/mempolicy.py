"""Memory policies: which nodes a mapping's pages come from.

Without one, a page comes from the node whose CPU runs, or the next in its zonelist that has room. ``bind`` allows
nothing but its nodes, ``prefer`` asks one node first, ``prefer (many)`` some nodes, ``interleave`` takes its nodes in
turn by page offset, ``weighted interleave`` as many pages of each in turn as its weight says.

Linux: mm/mempolicy.c.

Simplified: what the kernel's own start allocates is not spread by the policy that its first two tasks have until init
runs, so that ``numa_interleave`` begins with 0; a real 6.12 has made 890 to 970 such allocations by then, more with
more CPUs, not with more memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from errno import EFAULT, EINVAL, EIO, ENODEV
from math import gcd
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mmfs.mm.mman import page_align
from mmfs.mm_types import PAGE_SIZE, POLICY_IN_TURN, POLICY_LOCAL, POLICY_MANY, POLICY_NODE, POLICY_WEIGHTED
from mmfs.profile import since

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task
    from mmfs.mm.mm_struct import MmStruct

MPOL_DEFAULT = "default"
MPOL_PREFERRED = "prefer"
MPOL_PREFERRED_MANY = "prefer (many)"
MPOL_BIND = "bind"
MPOL_INTERLEAVE = "interleave"
MPOL_WEIGHTED_INTERLEAVE = "weighted interleave"
MPOL_LOCAL = "local"
MPOL_MF_STRICT, MPOL_MF_MOVE, MPOL_MF_MOVE_ALL = 1, 2, 4
_IN_TURN = {MPOL_INTERLEAVE: POLICY_IN_TURN, MPOL_WEIGHTED_INTERLEAVE: POLICY_WEIGHTED}
_ALL_NODES = (1 << 64) - 1
AUTO: Final = since(6, 18)
"""Kernels that set the weights by themselves."""
WEIGHTINESS: Final = 32
"""The sum of the weights that bandwidths are scaled to."""


@dataclass(frozen=True)
class Mempolicy:
    """A policy and its nodes, in rising order. Linux: struct mempolicy."""

    mode: str
    nodes: tuple[int, ...] = ()

    def effective(self) -> tuple[int, int, int]:
        """(how, first node, node mask) for the fast path."""
        mask = sum(1 << nid for nid in self.nodes)
        if self.mode == MPOL_BIND:
            return POLICY_NODE, self.nodes[0], mask
        if self.mode == MPOL_PREFERRED and self.nodes:
            return POLICY_NODE, self.nodes[0], _ALL_NODES
        if self.mode == MPOL_PREFERRED_MANY:
            return POLICY_MANY, self.nodes[0], mask
        if self.mode in _IN_TURN:
            return _IN_TURN[self.mode], self.nodes[0], mask
        return POLICY_LOCAL, 0, _ALL_NODES

    def nodes_of(self, indexes: NDArray[np.int64], weights: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Which of its nodes pages should come from, given their offsets and the nodes' weights."""
        nodes = np.array(self.nodes)
        if self.mode not in _IN_TURN:
            return np.full(len(indexes), nodes[0])
        if self.mode == MPOL_WEIGHTED_INTERLEAVE:
            nodes = np.repeat(nodes, np.maximum(weights[nodes], 1))
        found: NDArray[np.int64] = nodes[indexes % len(nodes)]
        return found


def make_policy(mode: str, nodes: tuple[int, ...], possible: tuple[int, ...]) -> Mempolicy | None:
    """A policy as set_mempolicy(2) would take it; None for the default. EINVAL. Linux: mpol_new()."""
    nodes = tuple(sorted(set(nodes)))
    if mode == MPOL_DEFAULT:
        if nodes:
            raise OSError(EINVAL, "the default policy has no nodes")
        return None
    need_nodes = (MPOL_BIND, MPOL_PREFERRED_MANY, MPOL_INTERLEAVE, MPOL_WEIGHTED_INTERLEAVE)
    if mode not in (MPOL_PREFERRED, MPOL_LOCAL, *need_nodes):
        raise OSError(EINVAL, f"no policy {mode!r}")
    if (mode == MPOL_LOCAL and nodes) or (mode in need_nodes and not nodes):
        raise OSError(EINVAL, f"policy {mode} with these nodes")
    if not set(nodes) <= set(possible):
        raise OSError(EINVAL, "a node without memory")
    return Mempolicy(mode, nodes[:1] if mode == MPOL_PREFERRED else nodes)


def effective(policy: Mempolicy | None, owner: Any) -> tuple[int, int, int]:
    """(how, first node, node mask) for the fast path, of a policy within what the owner's cpuset allows.

    What the policy names has no effect where the cpuset forbids all of it. The first node is that of the CPU if the
    policy names none, allowed or not: the nearest that is allowed is taken, but no huge page of another one.

    Linux: mm/mempolicy.c, mpol_rebind_policy(), alloc_pages_mpol().
    """
    allowed = None if owner is None else owner.mems_allowed
    if allowed is None:
        return policy.effective() if policy is not None else (0, 0, 0)
    how, nid, mask = (policy or Mempolicy(MPOL_DEFAULT)).effective()
    within = sum(1 << node for node in allowed)
    if how == POLICY_LOCAL:
        return POLICY_NODE, owner.kernel.scheduler.cpus[owner.processor].nid, within
    mask = mask & within or within
    return how, nid if mask >> nid & 1 else min(allowed), mask


def policy_nodemask(policy: Mempolicy | None, owner: Any = None) -> int | None:
    """The nodes to which a policy binds allocations, of those that the owner's cpuset allows; None if to none.

    Linux: mm/mempolicy.c, policy_nodemask(), mpol_rebind_policy().
    """
    if policy is None or policy.mode != MPOL_BIND:
        return None
    bound = sum(1 << nid for nid in policy.nodes)
    within = nodemask_of(None if owner is None else owner.mems_allowed)
    return bound & within or within


def nodemask_of(nodes: frozenset[int] | None) -> int:
    """Nodes as bits; None: all."""
    return _ALL_NODES if nodes is None else sum(1 << node for node in nodes)


def init_nodemask_of_mempolicy(task: Task | None) -> list[int] | None:
    """The nodes that a task's own policy names, that of its CPU if it says local; None: it has none, or is nobody.

    Linux: mm/mempolicy.c, init_nodemask_of_mempolicy().
    """
    if task is None or task.mempolicy is None:
        return None
    return list(task.mempolicy.nodes) or [task.kernel.scheduler.cpus[task.processor].nid]


def mempolicy_in_oom_domain(policy: Mempolicy | None, nodemask: int) -> bool:
    """Whether a task with this policy may have memory on the nodes. Linux: mempolicy_in_oom_domain()."""
    bound = policy_nodemask(policy)
    return bound is None or bool(bound & nodemask)


def _move_misplaced(mm: MmStruct, start: int, end: int, policy: Mempolicy | None, flags: int) -> None:
    """Pages of a range that are not where its policy wants them move there; EIO if with MPOL_MF_STRICT some stay.

    Linux: do_mbind(), queue_pages_range(), alloc_migration_target_by_mpol().
    """
    from mmfs.mm.hugetlb_migrate import move_misplaced
    from mmfs.mm.migrate import mapped_pages, move_pages, nodes_of

    if policy is None or not policy.nodes:
        return
    misplaced, moves, shared = 0, bool(flags & (MPOL_MF_MOVE | MPOL_MF_MOVE_ALL)), bool(flags & MPOL_MF_MOVE_ALL)
    if moves:
        mm.kernel.lru.lru_add_drain_all()  # Linux: lru_cache_disable()
    for addrs, pfns in mapped_pages(mm, start, end):
        wanted = policy.nodes_of(addrs // PAGE_SIZE, mm.kernel.mmu.areas.weights)
        wrong = ~np.isin(nodes_of(mm, pfns), policy.nodes)
        for nid in policy.nodes:
            turn = wrong & (wanted == nid)
            if moves:
                misplaced += int((move_pages(mm.kernel, pfns[turn], nid, shared) < 0).sum())
            else:
                misplaced += int(turn.sum())
    for vma in mm.mt:
        if vma.is_hugetlb() and vma.vm_start < end and vma.vm_end > start:
            misplaced += move_misplaced(vma, start, end, policy.nodes, moves, shared)
    if misplaced and flags & MPOL_MF_STRICT:
        raise OSError(EIO, f"{misplaced} pages are on other nodes")


def do_mbind(mm: MmStruct, start: int, length: int, mode: str, nodes: tuple[int, ...] = (), flags: int = 0) -> None:
    """Give a range a policy for the pages it will take; MPOL_MF_MOVE also for those it has.

    EINVAL, EFAULT for a hole, EIO for pages that are elsewhere (MPOL_MF_STRICT). Linux: do_mbind().
    """
    from mmfs.mm.vma_merge import vma_modify_policy

    possible = tuple(pgdat.node_id for pgdat in mm.kernel.node_data if pgdat.node_present_pages)
    policy = make_policy(mode, nodes, possible)
    if flags & ~(MPOL_MF_STRICT | MPOL_MF_MOVE | MPOL_MF_MOVE_ALL) or start % PAGE_SIZE:
        raise OSError(EINVAL, "no such flags, or an address that is not on a page boundary")
    begin = start
    end = start + page_align(length)
    if end == start:
        return
    vma = mm.find_vma(start)
    if vma is None or vma.vm_start > start:
        raise OSError(EFAULT, "not mapped")
    while start < end:
        vma = mm.vma_lookup(start)
        if vma is None:
            raise OSError(EFAULT, "a hole in the range")
        stop = min(end, vma.vm_end)
        if vma.vm_policy != policy:
            prev = vma if vma.vm_start < start else mm.find_vma_prev(vma.vm_start)
            vma_modify_policy(prev, vma, start, stop, policy).vm_policy = policy
        start = stop
    if flags:
        _move_misplaced(mm, begin, end, policy, flags)


class WeightedInterleave:
    """The weights of nodes, which firmware's bandwidths set until somebody does.

    Linux 6.18: mm/mempolicy.c, struct weighted_interleave_state.
    """

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.weights: NDArray[np.uint8] = kernel.mmu.areas.weights
        self.auto = True
        nodes = kernel.machine.nodes if kernel.machine.hmat and AUTO(kernel) else ()
        self.bandwidths = {nid: node.bandwidth for nid, node in enumerate(nodes) if node.bandwidth}
        if self.bandwidths:
            self._reduce()

    def set_weight(self, nid: int, weight: int) -> None:
        """A node's weight is set by hand from now on, and so are all. Linux: node_store()."""
        self.weights[nid] = weight
        self.auto = False

    def set_auto(self, auto: bool) -> None:
        """ENODEV: no bandwidths are known. Linux: weighted_interleave_auto_store()."""
        if auto and not self.bandwidths:
            raise OSError(ENODEV, "firmware tells no bandwidths")
        self.auto = auto
        if auto:
            self._reduce()

    def _reduce(self) -> None:
        """Small weights in the proportion of the bandwidths. Linux: reduce_interleave_weights()."""
        nodes = [pgdat.node_id for pgdat in self.kernel.node_data if pgdat.node_present_pages]
        total = sum(self.bandwidths.values())
        for nid in nodes:
            scaled = WEIGHTINESS * self.bandwidths.get(nid, 0)
            self.weights[nid] = scaled // total if total < scaled else 1
        self.weights[nodes] //= gcd(*self.weights[nodes].tolist())
