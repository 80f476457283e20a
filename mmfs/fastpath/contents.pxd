cimport cython
from mmfs.fastpath.defs cimport *
from mmfs.fastpath.frames cimport Frames, PageRec

@cython.final
cdef class Contents:
    cdef readonly Frames frames
    cdef int[:, ::1] kind
    cdef readonly object table
    cdef public long cpu_ns
    cpdef long take_ns(self) noexcept nogil
    cdef unsigned long hash(self, long pfn) noexcept nogil
    cpdef int compressed(self, long pfn, int factor) noexcept nogil
