cimport cython
from mmfs.fastpath.defs cimport *
from mmfs.fastpath.folio_reclaim cimport FolioReclaim
from mmfs.fastpath.frames cimport Frames, PageRec, BlockRec
from mmfs.fastpath.buddy cimport Buddy
from mmfs.fastpath.lru cimport Lru, LruvecRec
from mmfs.fastpath.memcontrol cimport Memcontrol
from mmfs.fastpath.rmap cimport Rmap
from mmfs.fastpath.scan_control cimport ScanControl

@cython.final
cdef class Vmscan:
    cdef readonly FolioReclaim reclaim
    cdef readonly Frames frames
    cdef readonly Buddy buddy
    cdef readonly Lru lru
    cdef LruvecRec[::1] lruvec
    cdef readonly Memcontrol memcg
    cdef long[::1] event
    cdef unsigned int[::1] rotated
    cdef long nr_scanned
    cdef long nr_taken
    cdef public long budget_ns
    cdef public bint wake_flusher
    cdef bint is_over(self) noexcept nogil
    cdef long isolate_lru_folios(self, long lruvec, int lru, long nr_to_scan, ScanControl sc) noexcept nogil
    cdef void move_folios_to_lru(self, long n) noexcept nogil
    cdef long shrink_inactive_list(self, long lruvec, int lru, long nr_to_scan, ScanControl sc) noexcept nogil
    cdef void shrink_active_list(self, long lruvec, int lru, long nr_to_scan, ScanControl sc) noexcept nogil
    cdef void count(self, ScanControl sc, long lruvec, int item, long nr) noexcept nogil
    cdef int reclaimer_offset(self, ScanControl sc) noexcept nogil
    cdef void count_demoted(self, ScanControl sc, long lruvec) noexcept nogil
    cdef bint is_low(self, long lruvec, int lru) noexcept nogil
    cdef bint adjust_targets(self, ScanControl sc) noexcept nogil
