cimport cython
from mmfs.fastpath.defs cimport *
from mmfs.fastpath.frames cimport Frames, PageRec
from mmfs.fastpath.lru_gen cimport LruGen
from mmfs.fastpath.vmscan cimport ScanControl, Vmscan

@cython.final
cdef class LruGenEvict:
    cdef readonly Frames frames
    cdef readonly Vmscan vmscan
    cdef readonly LruGen lru_gen
    cdef long[::1] event
    cdef long[::1] isolated
    cdef void split_oldest(self, long lruvec) noexcept nogil
    cdef long put_back(self, long left, bint retried) noexcept nogil
