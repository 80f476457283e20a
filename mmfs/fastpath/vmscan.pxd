cimport cython
from mmfs.fastpath.defs cimport *
from mmfs.fastpath.frames cimport Frames, PageRec, BlockRec
from mmfs.fastpath.buddy cimport Buddy
from mmfs.fastpath.demotion cimport Demotion
from mmfs.fastpath.lru cimport Lru, LruvecRec
from mmfs.fastpath.filemap cimport Filemap
from mmfs.fastpath.folio cimport Folios
from mmfs.fastpath.memcontrol cimport Memcontrol
from mmfs.fastpath.huge_split cimport HugeSplit
from mmfs.fastpath.rmap cimport Rmap
from mmfs.fastpath.shmem cimport Shmem
from mmfs.fastpath.swap cimport Swap
from mmfs.fastpath.swap_map cimport SwapMap
from mmfs.fastpath.zswap cimport Zswap
from mmfs.fastpath.contents cimport Contents
from mmfs.fastpath.workingset cimport Workingset

@cython.final
cdef class ScanControl:
    cdef public long nr_to_reclaim
    cdef public long anon_cost
    cdef public long file_cost
    cdef public long gfp
    cdef public int order
    cdef public int priority
    cdef public long memcg
    cdef public bint memcg_low_reclaim
    cdef public bint memcg_low_skipped
    cdef public bint proactive
    cdef public bint count_proactive
    cdef public int swappiness
    cdef public int reclaim_idx
    cdef public int may_deactivate
    cdef public bint kswapd
    cdef public bint khugepaged
    cdef public bint no_demotion
    cdef public bint may_writepage
    cdef public bint may_unmap
    cdef public bint may_swap
    cdef public bint force_deactivate
    cdef public bint skipped_deactivate
    cdef public bint no_cache_trim_mode
    cdef public bint cache_trim_mode
    cdef public bint cache_trim_mode_failed
    cdef public bint file_is_tiny
    cdef public bint compaction_ready
    cdef public bint full_walk
    cdef public bint node_writeback
    cdef public bint node_dirty
    cdef public long nr_scanned
    cdef public long nr_reclaimed
    cdef public long nr_dirty
    cdef public long nr_unqueued_dirty
    cdef public long nr_congested
    cdef public long nr_writeback
    cdef public long nr_immediate
    cdef public long nr_file_taken
    cdef public long nr_taken
    cdef public long lruvec_reclaimed
    cdef long[5] nr
    cdef long[5] target

@cython.final
cdef class Vmscan:
    cdef readonly Frames frames
    cdef readonly Buddy buddy
    cdef readonly Lru lru
    cdef readonly Folios folios
    cdef readonly Workingset workingset
    cdef readonly HugeSplit huge_split
    cdef readonly Rmap rmap
    cdef readonly Swap swap
    cdef readonly Filemap filemap
    cdef LruvecRec[::1] lruvec
    cdef readonly Memcontrol memcg
    cdef long[:, ::1] node_stat
    cdef long[:, ::1] zone_stat
    cdef long[::1] event
    cdef unsigned int[::1] folio
    cdef unsigned int[::1] kept
    cdef unsigned int[::1] demote
    cdef readonly Demotion demotion
    cdef long nr_demote
    cdef long nr_demoted
    cdef long nr_split
    cdef bint demoting
    cdef unsigned int[::1] rotated
    cdef long nr_scanned
    cdef long nr_taken
    cdef long nr_left
    cdef long nr_reclaimed
    cdef long nr_pageout
    cdef long coming
    cdef public long now_ns
    cdef public long cpu_ns
    cdef public long nr_written
    cdef public long budget_ns
    cdef public bint wake_flusher
    cdef public long cost_scan
    cdef public long cost_referenced
    cdef public long cost_steal
    cdef public long cost_unmap
    cdef public long cost_pageout
    cdef long isolate_lru_folios(self, long lruvec, int lru, long nr_to_scan, ScanControl sc) noexcept nogil
    cdef void prefetch(self, long i, long n) noexcept nogil
    cdef int check_references(self, long pfn, ScanControl sc) noexcept nogil
    cdef bint is_locked(self, long pfn) noexcept nogil
    cdef int shrink_folio(self, long pfn, ScanControl sc, bint ignore_references) noexcept nogil
    cdef int reclaim_folio(self, long pfn, ScanControl sc, int references) noexcept nogil
    cdef int pageout(self, long pfn, ScanControl sc, int references) noexcept nogil
    cdef int writepage(self, long pfn) noexcept nogil
    cdef bint referenced(self, long pfn) noexcept nogil
    cdef bint remove_mapping(self, long pfn) noexcept nogil
    cdef void activate(self, long pfn) noexcept nogil
    cdef long shrink_folio_list(self, long n, ScanControl sc, bint ignore_references) noexcept nogil
    cdef void demote_folios(self, ScanControl sc, bint ignore_references) noexcept nogil
    cdef void shrink_folios(self, long n, ScanControl sc, bint ignore_references) noexcept nogil
    cdef bint unmap(self, long pfn) noexcept nogil
    cdef bint is_huge_file(self, long pfn) noexcept nogil
    cdef bint may_write(self, ScanControl sc) noexcept nogil
    cdef int split(self, long folio, ScanControl sc) noexcept nogil
    cdef int split_to_swap(self, long folio, ScanControl sc) noexcept nogil
    cdef void note_result(self, long pfn, int result) noexcept nogil
    cdef void move_folios_to_lru(self, long n) noexcept nogil
    cdef long shrink_inactive_list(self, long lruvec, int lru, long nr_to_scan, ScanControl sc) noexcept nogil
    cdef void shrink_active_list(self, long lruvec, int lru, long nr_to_scan, ScanControl sc) noexcept nogil
    cdef void count(self, ScanControl sc, long lruvec, int item, long nr) noexcept nogil
    cdef int reclaimer_offset(self, ScanControl sc) noexcept nogil
    cdef void count_demoted(self, ScanControl sc, long lruvec) noexcept nogil
    cdef bint is_low(self, long lruvec, int lru) noexcept nogil
    cdef bint adjust_targets(self, ScanControl sc) noexcept nogil
