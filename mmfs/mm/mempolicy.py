"""Memory policies: which nodes a mapping's pages come from.

Without one, a page comes from the node whose CPU runs, or the next in its zonelist that has room. ``bind`` allows
nothing but its nodes, ``prefer`` asks one node first, ``interleave`` takes its nodes in turn by page offset.

Linux: mm/mempolicy.c.

Simplified: pages that are there already stay where they are (no MPOL_MF_MOVE); no weighted interleave.
"""

from __future__ import annotations

from dataclasses import dataclass
from errno import EFAULT, EINVAL
from typing import TYPE_CHECKING, Any

from mmfs.mm.mman import page_align
from mmfs.mm_types import PAGE_SIZE

if TYPE_CHECKING:
    from mmfs.mm.mm_struct import MmStruct

MPOL_DEFAULT = "default"
MPOL_PREFERRED = "prefer"
MPOL_BIND = "bind"
MPOL_INTERLEAVE = "interleave"
MPOL_LOCAL = "local"
# How the fast path serves a VMA: from the local node, from one node within a mask, or from a mask in turn.
_LOCAL, _NODE, _IN_TURN = 0, 1, 2
_ALL_NODES = (1 << 64) - 1


@dataclass(frozen=True)
class Mempolicy:
    """A policy and its nodes, in rising order. Linux: struct mempolicy."""

    mode: str
    nodes: tuple[int, ...] = ()

    def effective(self) -> tuple[int, int, int]:
        """(how, first node, node mask) for the fast path."""
        mask = sum(1 << nid for nid in self.nodes)
        if self.mode == MPOL_BIND:
            return _NODE, self.nodes[0], mask
        if self.mode == MPOL_PREFERRED and self.nodes:
            return _NODE, self.nodes[0], _ALL_NODES
        if self.mode == MPOL_INTERLEAVE:
            return _IN_TURN, self.nodes[0], mask
        return _LOCAL, 0, _ALL_NODES


def make_policy(mode: str, nodes: tuple[int, ...], possible: tuple[int, ...]) -> Mempolicy | None:
    """A policy as set_mempolicy(2) would take it; None for the default. EINVAL. Linux: mpol_new()."""
    nodes = tuple(sorted(set(nodes)))
    if mode == MPOL_DEFAULT:
        if nodes:
            raise OSError(EINVAL, "the default policy has no nodes")
        return None
    if mode not in (MPOL_PREFERRED, MPOL_BIND, MPOL_INTERLEAVE, MPOL_LOCAL):
        raise OSError(EINVAL, f"no policy {mode!r}")
    if (mode == MPOL_LOCAL and nodes) or (mode in (MPOL_BIND, MPOL_INTERLEAVE) and not nodes):
        raise OSError(EINVAL, f"policy {mode} with these nodes")
    if not set(nodes) <= set(possible):
        raise OSError(EINVAL, "a node without memory")
    return Mempolicy(mode, nodes[:1] if mode == MPOL_PREFERRED else nodes)


def effective(policy: Mempolicy | None, owner: Any) -> tuple[int, int, int]:
    """(how, first node, node mask) for the fast path, of a policy within what the owner's cpuset allows.

    What the policy names has no effect where the cpuset forbids all of it. Linux: mm/mempolicy.c, mpol_rebind_policy().
    """
    allowed = None if owner is None else owner.mems_allowed
    if allowed is None:
        return policy.effective() if policy is not None else (0, 0, 0)
    how, nid, mask = (policy or Mempolicy(MPOL_DEFAULT)).effective()
    if how == _LOCAL:
        how, nid = _NODE, owner.kernel.scheduler.cpus[owner.processor].nid
    within = sum(1 << node for node in allowed)
    mask = mask & within or within
    return how, nid if mask >> nid & 1 else min(allowed), mask


def policy_nodemask(policy: Mempolicy | None, owner: Any = None) -> int | None:
    """The nodes to which a policy, or the owner's cpuset, binds allocations, None if to none.

    Linux: mm/mempolicy.c, policy_nodemask(); kernel/cgroup/cpuset.c, cpuset_node_allowed().
    """
    bound = sum(1 << nid for nid in policy.nodes) if policy is not None and policy.mode == MPOL_BIND else None
    allowed = None if owner is None else owner.mems_allowed
    if allowed is None:
        return bound
    within: int = sum(1 << nid for nid in allowed)
    return within if bound is None else bound & within or within


def mempolicy_in_oom_domain(policy: Mempolicy | None, nodemask: int) -> bool:
    """Whether a task with this policy may have memory on the nodes. Linux: mempolicy_in_oom_domain()."""
    bound = policy_nodemask(policy)
    return bound is None or bool(bound & nodemask)


def do_mbind(mm: MmStruct, start: int, length: int, mode: str, nodes: tuple[int, ...] = ()) -> None:
    """Give a range a policy for the pages it will take. EINVAL, EFAULT for a hole. Linux: do_mbind()."""
    from mmfs.mm.vma_merge import vma_modify_policy

    possible = tuple(pgdat.node_id for pgdat in mm.kernel.node_data if pgdat.node_present_pages)
    policy = make_policy(mode, nodes, possible)
    if start % PAGE_SIZE:
        raise OSError(EINVAL, "the address is not on a page boundary")
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
