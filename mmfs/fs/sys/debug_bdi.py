"""/sys/kernel/debug/bdi: how writeback to each disk goes.

Linux: mm/backing-dev.c, bdi_debug_stats_show(), cgwb_debug_stats_show(), collect_wb_stats();
include/linux/backing-dev-defs.h, enum wb_state.

Simplified: one writeback a disk, that of the root cgroup; an inode is dirty for its pages, not for its times.
"""

from __future__ import annotations

from typing import Final

from mmfs.fs.sys.block import Disk, bdi_names, find_bdi
from mmfs.fs.sys.debug import debug
from mmfs.kernel.fs_writeback import BdiWriteback
from mmfs.kernfs import Directory
from mmfs.mm.page_writeback import dirty_limits
from mmfs.mm_types import PAGE_SHIFT
from mmfs.profile import since

KB_SHIFT: Final = PAGE_SHIFT - 10
WB_REGISTERED, WB_WRITEBACK_RUNNING, WB_HAS_DIRTY_IO, WB_START_ALL = 1, 2, 4, 8
ROOT_INO: Final = 1
"""The root cgroup."""

bdi_debug: Directory[Disk] = debug.directory("bdi", mode=0o755).family(list=bdi_names, lookup=find_bdi, mode=0o755)


def _state(wb: BdiWriteback) -> int:
    state = WB_REGISTERED
    if wb.work is not None:
        state |= WB_WRITEBACK_RUNNING
    if wb.inodes():
        state |= WB_HAS_DIRTY_IO
    return state | (WB_START_ALL if wb.start_all else 0)


def _lines(rows: dict[str, int], width: int) -> str:
    """A row for each count: kB and kB a second by name, plain numbers for the rest."""
    text = ""
    for name, value in rows.items():
        unit = " kBps" if name.endswith("Bandwidth") else " kB" if name[0] in "BDW" and name != "WbCgIno" else ""
        text += f"{name + ':':<{width}}{value << KB_SHIFT if unit else value:10d}{unit}\n"
    return text


def _lists(wb: BdiWriteback) -> dict[str, int]:
    wb.kernel.collect_dirty_inodes()
    return {"b_dirty": len(wb.b_dirty), "b_io": len(wb.b_io), "b_more_io": len(wb.b_more_io), "b_dirty_time": 0}


@bdi_debug.attribute("stats", mode=0o444)
def bdi_debug_stats(disk: Disk) -> str:
    """The disk's part of dirty memory, in kB, and how many inodes stand where. Linux: bdi_debug_stats_show()."""
    wb = disk.bdi.wb
    background, limit = dirty_limits(disk.kernel)
    state = _state(wb)
    rows = {
        "BdiWriteback": wb.nr_writeback(),
        "BdiReclaimable": wb.nr_dirty(),
        "BdiDirtyThresh": disk.kernel.wb_domain.wb_calc_thresh(wb, limit),
        "DirtyThresh": limit,
        "BackgroundThresh": background,
        "BdiDirtied": wb.nr_dirtied(),
        "BdiWritten": wb.written,
        "BdiWriteBandwidth": wb.avg_write_bandwidth if state & WB_HAS_DIRTY_IO else 0,
        **_lists(wb),
        "bdi_list": 1,
    }
    return _lines(rows, 20) + f"{'state:':<20}{state:10x}\n"


@bdi_debug.attribute("wb_stats", mode=0o444, needs=since(6, 12))
def cgwb_debug_stats(disk: Disk) -> str:
    """The same of each cgroup's writeback. Linux: cgwb_debug_stats_show(), wb_stats_show()."""
    wb = disk.bdi.wb
    rows = {
        "WbCgIno": ROOT_INO,
        "WbWriteback": wb.nr_writeback(),
        "WbReclaimable": wb.nr_dirty(),
        "WbDirtyThresh": disk.kernel.wb_domain.wb_calc_thresh(wb, dirty_limits(disk.kernel)[1]),
        "WbDirtied": wb.nr_dirtied(),
        "WbWritten": wb.written,
        "WbWriteBandwidth": wb.avg_write_bandwidth,
        **_lists(wb),
    }
    return _lines(rows, 19) + f"{'state:':<19}{_state(wb):10x}\n\n"
