cimport cython
from mmfs.fastpath.defs cimport *
from mmfs.fastpath.buddy cimport Buddy
from mmfs.fastpath.lru cimport LruvecRec
from mmfs.fastpath.memcontrol cimport Memcontrol
from mmfs.fastpath.demotion cimport Demotion
from mmfs.fastpath.folio_reclaim cimport FolioReclaim
from mmfs.fastpath.scan_control cimport ScanControl
from mmfs.fastpath.vmscan cimport Vmscan

@cython.final
cdef class ScanCount:
    cdef readonly Vmscan vmscan
    cdef readonly Buddy buddy
    cdef readonly Memcontrol memcg
    cdef LruvecRec[::1] lruvec
    cdef long[:, ::1] node_stat
    cdef long[:, ::1] zone_stat
    cdef long kswapd_wmark(self, long zone) noexcept nogil
    cdef long high_wmark(self, long zone) noexcept nogil
    cdef bint wants_deactivation(self, long lruvec, int lru, long restored, long seen) noexcept nogil
    cdef bint is_file_tiny(self, int nid, long file) noexcept nogil
    cdef bint can_reclaim_anon_pages(self, long memcg, int nid, ScanControl sc) noexcept nogil
    cdef long unprotected(self, long memcg, ScanControl sc, long size, long least, long low) noexcept nogil
