"""Lists of objects of the slab that nobody uses just now, one for each cgroup and node of the machine.

An object is on the list of the cgroup that pays for it and of the node that it lies on, so that a cgroup that is full
gives up its own names and inodes, not others'. When a cgroup is removed, its lists become its parent's.

Linux: mm/list_lru.c.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mmfs.mm.slab_common import SlabCaches

K = TypeVar("K")
V = TypeVar("V")


class ListLru(Generic[K, V]):
    """Lists by lruvec, the least recently used first; a value goes with each. Linux: struct list_lru."""

    def __init__(self, slab: SlabCaches) -> None:
        self.slab = slab
        self.lists: dict[int, dict[K, V]] = {}
        self.where: dict[K, int] = {}
        """The list of each."""

    def __contains__(self, item: K) -> bool:
        return item in self.where

    def __len__(self) -> int:
        return len(self.where)

    def __iter__(self) -> Iterator[K]:
        return iter(self.where)

    def add(self, item: K, value: V, obj: int) -> None:
        """To the end of its list; `obj` is its object of the slab. Linux: list_lru_add_obj()."""
        lruvec = self.slab.lruvec_of(obj)
        self.where[item] = lruvec
        self.lists.setdefault(lruvec, {})[item] = value

    def set(self, item: K, value: V) -> None:
        """Change the value, not the place."""
        self.lists[self.where[item]][item] = value

    def rotate(self, item: K, value: V) -> None:
        """To the end. Linux: LRU_ROTATE."""
        one = self.lists[self.where[item]]
        del one[item]
        one[item] = value

    def get(self, item: K) -> V:
        """The value."""
        return self.lists[self.where[item]][item]

    def discard(self, item: K) -> None:
        """Off its list, if it is on one. Linux: list_lru_del_obj()."""
        lruvec = self.where.pop(item, None)
        if lruvec is not None:
            one = self.lists[lruvec]
            del one[item]
            if not one:
                del self.lists[lruvec]

    def count(self, lruvec: int) -> int:
        """How many are on a list. Linux: list_lru_shrink_count()."""
        return len(self.lists.get(lruvec, ()))

    def oldest(self, lruvec: int, nr: int) -> list[K]:
        """The first of a list."""
        return list(islice(self.lists.get(lruvec, ()), nr))

    def reparent(self, memcg: int, parent: int) -> None:
        """A cgroup is removed. Linux: memcg_reparent_list_lrus()."""
        nr_nodes = self.slab.fast.nr_nodes
        for nid in range(nr_nodes):
            moved = self.lists.pop(memcg * nr_nodes + nid, None)
            if moved:
                self.lists.setdefault(parent * nr_nodes + nid, {}).update(moved)
                self.where.update(dict.fromkeys(moved, parent * nr_nodes + nid))
