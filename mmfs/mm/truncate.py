"""Taking clean pages out of the page cache because somebody asks for it.

Linux: mm/truncate.c, invalidate_mapping_pages(); mm/fadvise.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmfs.mm.filemap import AddressSpace


def invalidate_mapping_pages(mapping: AddressSpace, first: int = 0, last: int = 1 << 62) -> int:
    """Drop the pages [first, last) that are clean and that nobody maps; how many there were."""
    dropped = int(mapping.cache.mmu.folios.invalidate_range(mapping.id, first, last))
    mapping.cache.settle()
    return dropped
