"""Compaction: moving pages together so that larger blocks become free.

Linux: mm/compaction.c.

Simplified: no page is ever moved; asking for it only puts the pages that CPUs hold back on the lists.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel


def compact_node(kernel: Kernel, nid: int) -> None:
    """Compact one node. Linux: mm/compaction.c, compact_store()."""
    kernel.lru.lru_add_drain_all()


def compact_nodes(kernel: Kernel) -> None:
    """Compact every node. Linux: mm/compaction.c, compact_nodes()."""
    kernel.lru.lru_add_drain_all()
