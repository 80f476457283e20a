# cython: language_level=3
"""How much reclaim scans of which list, and whether a node has enough: what it works out in each of its rounds.

A round scans lru size >> priority of each list, shared between anonymous memory and files by what either has cost
lately (pages that came back, pages that had to be kept) and by swappiness.

Linux: mm/vmscan.c, prepare_scan_control(), get_scan_count(), pgdat_balanced().
"""

import cython

from mmfs.fastpath.frames import view
from mmfs.fastpath.scan_control import ScanControl

if not cython.compiled:
    from mmfs.fastpath.defs import *  # noqa: F403

_MAX_SWAPPINESS = cython.declare(cython.long, 200)
_DEACTIVATE_ANON = cython.declare(cython.int, 1)
_DEACTIVATE_FILE = cython.declare(cython.int, 2)


class ScanCount:
    """The arithmetic of a round, over the lists of a Vmscan."""

    def __init__(self, vmscan, vmstat):
        self.vmscan = vmscan
        self.buddy = self.vmscan.buddy
        self.memcg = self.vmscan.memcg
        self.lruvec = self.vmscan.lruvec
        self.node_stat = view(vmstat.node_stat)
        self.zone_stat = view(vmstat.zone_stat)

    def high_wmark(self, zone):
        """The high watermark of a zone, boost included. Linux: high_wmark_pages()."""
        return self.buddy.zone[zone].wmark_high + self.buddy.zone[zone].watermark_boost

    def kswapd_wmark(self, zone):
        """The watermark that kswapd works towards: with memory tiering there is to be room for what is promoted."""
        if self.vmscan.reclaim.demotion.migration.tiering:
            return self.buddy.zone[zone].wmark_promo + self.buddy.zone[zone].watermark_boost
        return self.high_wmark(zone)

    def pgdat_balanced(self, nid: cython.int, order: cython.int, highest: cython.int):
        """Whether some zone of a node up to ``highest`` has its high watermark. Linux: pgdat_balanced()."""
        zone: cython.long
        managed: cython.bint = False
        for zone in range(nid * MAX_NR_ZONES, nid * MAX_NR_ZONES + highest + 1):
            if self.buddy.zone[zone].managed == 0:
                continue
            managed = True
            if self.buddy.watermark_ok_with(
                zone, order, self.kswapd_wmark(zone), highest, 0, self.zone_stat[zone, NR_FREE_PAGES]
            ):
                return True
        return not managed

    def kswapd_target(self, nid: cython.int, highest: cython.int):
        """How many pages kswapd wants of a node in a round. Linux: kswapd_shrink_node()."""
        zone: cython.long
        pages: cython.long = 0
        for zone in range(nid * MAX_NR_ZONES, nid * MAX_NR_ZONES + highest + 1):
            if self.buddy.zone[zone].managed:
                pages += max(self.high_wmark(zone), cython.cast(cython.long, SWAP_CLUSTER_MAX))
        return pages

    # ------------------------------------------------------------------------------ what a node's state says

    def wants_deactivation(self, lruvec, lru, restored, seen):
        """Whether active pages must go to the inactive list: it is short, or pages came back from beyond it."""
        return restored != seen or self.vmscan.is_low(lruvec, lru)

    def is_file_tiny(self, nid, file):
        """Whether reclaiming every page of files would not lift the node above its watermarks."""
        zone: cython.long
        free: cython.long = 0
        wanted: cython.long = 0
        for zone in range(nid * MAX_NR_ZONES, nid * MAX_NR_ZONES + MAX_NR_ZONES):
            free += self.zone_stat[zone, NR_FREE_PAGES]
            if self.buddy.zone[zone].managed:
                wanted += self.high_wmark(zone)
        return file + free <= wanted

    def prepare_scan_control(self, lruvec: cython.long, sc: ScanControl):
        """What the state of all that may be reclaimed on a node, of which ``lruvec`` is the top, says about where to
        look. Linux: prepare_scan_control()."""
        file: cython.long
        self.memcg.flush()
        file = self.memcg.lruvec_page_state(lruvec, NR_INACTIVE_FILE)
        sc.anon_cost = self.lruvec[lruvec].anon_cost
        sc.file_cost = self.lruvec[lruvec].file_cost
        sc.may_deactivate = 0
        if sc.force_deactivate or self.wants_deactivation(
            lruvec, LRU_INACTIVE_ANON, self.memcg.lruvec_page_state(lruvec, WORKINGSET_ACTIVATE_ANON),
            self.lruvec[lruvec].refaults_anon,
        ):  # fmt: skip
            sc.may_deactivate |= _DEACTIVATE_ANON
        if sc.force_deactivate or self.wants_deactivation(
            lruvec, LRU_INACTIVE_FILE, self.memcg.lruvec_page_state(lruvec, WORKINGSET_ACTIVATE_FILE),
            self.lruvec[lruvec].refaults_file,
        ):  # fmt: skip
            sc.may_deactivate |= _DEACTIVATE_FILE
        sc.cache_trim_mode = (
            file >> sc.priority != 0 and not sc.may_deactivate & _DEACTIVATE_FILE and not sc.no_cache_trim_mode
        )
        if sc.memcg >= 0:
            return
        file += self.node_stat[lruvec, NR_ACTIVE_FILE]
        sc.file_is_tiny = (
            not sc.may_deactivate & _DEACTIVATE_ANON
            and self.node_stat[lruvec, NR_INACTIVE_ANON] >> sc.priority != 0
            and self.is_file_tiny(self.lruvec[lruvec].nid, file)
        )

    # ------------------------------------------------------------------------------ how the scan is shared

    def can_reclaim_anon_pages(self, memcg, nid, sc):
        """Whether a cgroup has room in swap, or a node a slower one below it. Linux: can_reclaim_anon_pages()."""
        return self.memcg.nr_swap_pages(memcg, self.vmscan.reclaim.workingset.nr_swap_pages) > 0 or (
            not sc.no_demotion and self.vmscan.reclaim.demotion.can_demote(nid)
        )

    def unprotected(self, memcg, sc, size, least, low):
        """What of a list a cgroup's protection (pages) leaves to be scanned."""
        protection: cython.long = least
        usage: cython.long
        if least == 0 and low == 0:
            return size
        if not sc.memcg_low_reclaim and low > least:
            protection = low
            sc.memcg_low_skipped = True
        usage = max(self.memcg.counter[memcg * NR_MEMCG_COUNTERS].usage, protection)
        return max(size - size * protection // (usage + 1), cython.cast(cython.long, SWAP_CLUSTER_MAX))

    def get_scan_count(self, lruvec: cython.long, sc: ScanControl, swappiness: cython.long, least: cython.long,
                       low: cython.long):
        """Set how many pages of each list of a lruvec are to be scanned; ``least`` and ``low`` pages are protected.

        Linux: get_scan_count().
        """
        lru: cython.int
        memcg: cython.long = self.lruvec[lruvec].memcg
        anon: cython.long = 0
        file: cython.long = 1
        denominator: cython.long = 1
        total: cython.long
        size: cython.long
        scan: cython.long
        if (
            not sc.may_swap
            or not self.can_reclaim_anon_pages(memcg, self.lruvec[lruvec].nid, sc)
            or (sc.memcg >= 0 and swappiness == 0)
        ):
            pass
        elif swappiness > _MAX_SWAPPINESS:  # anonymous memory only was asked for
            anon = 1
            file = 0
        elif sc.priority == 0 and swappiness:
            anon = 1
        elif sc.file_is_tiny:
            anon = 1
            file = 0
        elif not sc.cache_trim_mode:
            total = 3 * (sc.anon_cost + sc.file_cost) + 1
            anon = swappiness * total // (2 * sc.anon_cost + sc.file_cost + 1)
            file = (_MAX_SWAPPINESS - swappiness) * total // (sc.anon_cost + 2 * sc.file_cost + 1)
            denominator = anon + file
        for lru in range(4):
            size = self.vmscan.lru.zone_size(lruvec, sc.reclaim_idx, lru)
            scan = self.unprotected(memcg, sc, size, least, low) >> sc.priority
            if scan == 0 and not self.memcg.alive[memcg]:
                scan = min(size, cython.cast(cython.long, SWAP_CLUSTER_MAX))
            scan *= file if lru >= LRU_INACTIVE_FILE else anon
            if not self.memcg.alive[memcg]:
                scan += denominator - 1  # not to miss the last page of one that is gone
            sc.nr[lru] = sc.target[lru] = scan // denominator
        sc.lruvec_reclaimed = 0
