"""The invariants of KSM: items against address spaces, nodes against pages and the entries that map them, counters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mmfs.mm_types import PAGE_SHIFT, PAGE_SIZE, PG_ANON, PG_ANON_EXCLUSIVE, PG_KSM, PTE_PFN_MASK, PTE_RW

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmfs.kernel.kernel import Kernel

NO_TREE, UNSTABLE, STABLE = range(3)


def _same(what: str, left: object, right: object) -> None:
    if left != right:
        raise AssertionError(f"{what}: {left} is not {right}")


def check_ksm(kernel: Kernel, zero_pages: dict[int, int], mapped: NDArray[np.int64]) -> None:
    """All of it. ``zero_pages``: KSM's zero pages that each address space maps; ``mapped``: frames that entries map."""
    ksm, tree = kernel.ksm, kernel.ksm.tree
    slots = {mm.row for mm in ksm.slots}
    _same("address spaces of KSM", len(slots), len(ksm.slots))
    items = stable = unstable = 0
    of_node: dict[int, list[int]] = {}
    for row in kernel.mms:
        record = tree.mms[row]
        if row not in slots:
            _same(f"mm {row}: items of an address space that is not scanned", int(record["rmap_items"]), 0)
        here, merging = _check_items(kernel, row, int(record["first"]), of_node)
        _same(f"mm {row}: ksm_rmap_items", here[0], int(record["rmap_items"]))
        _same(f"mm {row}: ksm_merging_pages", merging, int(record["merging"]))
        _same(f"mm {row}: ksm_zero_pages", zero_pages.get(row, 0), int(record["zero"]))
        items, stable, unstable = items + here[0], stable + merging, unstable + here[1]
    _same("ksm_rmap_items", items, int(tree.rmap_items))
    _same("ksm_zero_pages", sum(zero_pages.values()), int(tree.zero_pages))
    _same("pages_shared and pages_sharing", stable, int(tree.pages_shared + tree.pages_sharing))
    _same("pages_unshared", unstable, int(tree.pages_unshared))
    for name, n in (("ksm_rmap_item", items), ("ksm_mm_slot", len(ksm.slots))):
        if ksm.at < 0 and n < ksm.objects[name]:
            raise AssertionError(f"{name}: {ksm.objects[name]} objects for {n}")
    _check_nodes(kernel, of_node, mapped)


def _check_items(
    kernel: Kernel, row: int, first: int, of_node: dict[int, list[int]]
) -> tuple[tuple[int, int], int]:
    """The items of an address space: how many there are and wait, and how many are merged."""
    records, turn = kernel.ksm.tree.items, int(kernel.ksm.tree.turn)
    count = unstable = merging = 0
    last = -1
    while first:
        item = records[first]
        where = f"item {first} of mm {row}"
        _same(f"{where}: address space", int(item["mm"]), row)
        if int(item["address"]) <= last or int(item["address"]) % PAGE_SIZE:
            raise AssertionError(f"{where}: not in order of address")
        last = int(item["address"])
        count += 1
        unstable += int(item["tree"]) == UNSTABLE
        if int(item["tree"]) == STABLE:
            merging += 1
            of_node.setdefault(int(item["node"]), []).append(first)
        if int(item["tree"]) == STABLE or (int(item["tree"]) == UNSTABLE and int(item["turn"]) == turn):
            for there, back in (("after", "before"), ("before", "after")):
                if item[there]:
                    _same(f"{where}: what is {there} it", int(records[item[there]][back]), first)
        first = int(item["nxt"])
    return (count, unstable), merging


def _check_nodes(kernel: Kernel, of_node: dict[int, list[int]], mapped: NDArray[np.int64]) -> None:
    """Nodes: the items on their lists, their pages, the entries that lead to these."""
    tree, pages = kernel.ksm.tree, kernel.frames.pages
    nodes = tree.nodes[: tree.next_node]
    used = np.flatnonzero(nodes["used"])
    _same("nodes", len(used), int(tree.nr_nodes))
    shared = dups = 0
    keys: dict[int, int] = {}
    kpfns: set[int] = set()
    for n in used.tolist():
        node, listed = nodes[n], []
        i = int(node["first"])
        while i:
            listed.append(i)
            i = int(tree.items[i]["after"])
        _same(f"node {n}: its items", sorted(listed), sorted(of_node.pop(n, [])))
        _same(f"node {n}: items", len(listed), int(node["nr"]))
        shared += bool(listed)
        dups += int(node["dup"])
        keys[int(node["key"])] = max(keys.get(int(node["key"]), 0), int(node["dup"]))
        page = pages[int(node["kpfn"])]
        if page["flags"] & PG_KSM and page["flags"] & PG_ANON and int(page["mapping"]) == n:
            kpfns.add(int(node["kpfn"]))
            _check_entries(kernel, n, listed)
    _same("nodes of items", sorted(of_node), [])
    _same("pages_shared", shared, int(tree.pages_shared))
    _same("stable_node_dups", dups, int(tree.dups))
    _same("stable_node_chains", sum(keys.values()), int(tree.chains))
    merged = mapped[pages["flags"][mapped] & PG_KSM != 0].tolist()
    for pfn in merged:
        if pfn not in kpfns:
            raise AssertionError(f"{pfn:#x} is a page of KSM that no node leads to")
        _same(f"{pfn:#x}: a page of KSM is one's own", int(pages[pfn]["flags"]) & PG_ANON_EXCLUSIVE, 0)


def _check_entries(kernel: Kernel, n: int, listed: list[int]) -> None:
    """No entry that maps a page of KSM lets write to it, and its map count has room for those that items lead to."""
    tree, kpfn, seen = kernel.ksm.tree, int(kernel.ksm.tree.nodes[n]["kpfn"]), 0
    out = np.zeros(1, np.uint64)
    for i in listed:
        kernel.task_mmu.read_entries(int(tree.items[i]["mm"]), int(tree.items[i]["address"]), out)
        entry = int(out[0])
        if entry & 0x101 and (entry & PTE_PFN_MASK) >> PAGE_SHIFT == kpfn:
            seen += 1
            _same(f"node {n}: item {i}'s entry may be written", entry & PTE_RW, 0)
    mapcount = int(kernel.frames.pages[kpfn]["mapcount"])
    if seen > mapcount:
        raise AssertionError(f"node {n}: {seen} items lead to entries, {mapcount} map the page")
