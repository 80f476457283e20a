"""Folios as arrays of numbers: those of frames, how many pages each has, all large ones of a machine.

A folio's number is that of its frame, or of the record that stands for several (fastpath/frames.py).

Linux: include/linux/mm.h, folio_nr_pages(); include/linux/page-flags.h, page_folio().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mmfs.mm_types import BLK_HUGE, BLK_SPLIT, HPAGE_PMD_NR, HPAGE_PMD_ORDER, PAGEBLOCK_ORDER, PG_HEAD

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmfs.fastpath.frames import Frames

SMALLEST_SHIFT = 2
"""The record of the smallest folio of several pages is that of so many frames, as a shift."""


def nr_pages(frames: Frames, folios: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many pages each folio has. Linux: folio_nr_pages()."""
    sizes = np.where(folios >= frames.huge, HPAGE_PMD_NR, 1).astype(np.int64)
    small = np.flatnonzero(folios >= frames.mthp)
    sizes[small] = 1 << frames.pages["mlock_count"][folios[small] - frames.mthp << SMALLEST_SHIFT].astype(np.int64)
    return sizes


def folio_pfn(frames: Frames, folio: int) -> int:
    """A folio's first frame."""
    return int(frames.first_frame(folio))


def folio_order(frames: Frames, folio: int) -> int:
    """Linux: folio_order()."""
    return int(frames.order(folio))


def of_tails(frames: Frames, pfns: NDArray[np.int64]) -> NDArray[np.int64]:
    """The folio of each frame of a folio of several pages (PG_TAIL). Linux: page_folio()."""
    orders = frames.pages["mlock_count"][pfns].astype(np.int64)
    whole = frames.huge + (pfns >> PAGEBLOCK_ORDER)
    small = frames.mthp + (pfns >> orders << orders >> SMALLEST_SHIFT)
    found: NDArray[np.int64] = np.where(orders == HPAGE_PMD_ORDER, whole, small)
    return found


def large_folios(frames: Frames) -> NDArray[np.int64]:
    """All folios of several pages, the first in memory first."""
    states = frames.blocks["state"][: frames.nr_blocks]
    whole = np.flatnonzero((states == BLK_SPLIT) | (states == BLK_HUGE))
    whole = frames.huge + whole[frames.pages["flags"][frames.huge + whole] & PG_HEAD != 0]
    a_block = 1 << PAGEBLOCK_ORDER - SMALLEST_SHIFT
    records = frames.mthp + (np.flatnonzero(states == BLK_SPLIT)[:, np.newaxis] * a_block + np.arange(a_block)).ravel()
    records = records[records < len(frames.pages)]
    small = records[frames.pages["flags"][records] & PG_HEAD != 0]
    found = np.concatenate((whole, small))
    order: NDArray[np.int64] = found[np.argsort([folio_pfn(frames, int(folio)) for folio in found])]
    return order
