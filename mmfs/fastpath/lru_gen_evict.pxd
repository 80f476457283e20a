cimport cython
from mmfs.fastpath.defs cimport *
from mmfs.fastpath.frames cimport Frames, PageRec
from mmfs.fastpath.buddy cimport Buddy
from mmfs.fastpath.free_area cimport ZoneRec
from mmfs.fastpath.lru_gen cimport LruGen
from mmfs.fastpath.lru_gen_ctrl cimport LruGenCtrl
from mmfs.fastpath.memcontrol cimport Memcontrol
from mmfs.fastpath.demotion cimport Demotion
from mmfs.fastpath.folio_reclaim cimport FolioReclaim
from mmfs.fastpath.scan_control cimport ScanControl
from mmfs.fastpath.vmscan cimport Vmscan

@cython.final
cdef class LruGenEvict:
    cdef readonly Frames frames
    cdef readonly Vmscan vmscan
    cdef readonly LruGen lru_gen
    cdef readonly LruGenCtrl ctrl
    cdef readonly Buddy buddy
    cdef readonly long scanned
    cdef long[::1] event
    cdef long[::1] isolated
    cpdef bint should_abort_scan(self, long lruvec, ScanControl sc) noexcept nogil
    cdef int kinds(self, int swappiness) noexcept nogil
    cpdef long evict_folios(self, long lruvec, int swappiness, ScanControl sc) noexcept nogil
    cdef long isolate_folios(self, long lruvec, int kind, int tier, ScanControl sc) noexcept nogil
    cdef void shrink_isolated(self, long lruvec, int kind, ScanControl sc) noexcept nogil
    cdef long put_back(self, long left, bint retried) noexcept nogil
