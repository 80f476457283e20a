cimport cython
from mmfs.fastpath.defs cimport *
from mmfs.fastpath.frames cimport Frames, BlockRec
from mmfs.fastpath.free_area cimport FreeArea, ZoneRec

@cython.final
cdef class HighAtomic:
    cdef readonly FreeArea areas
    cdef readonly Frames frames
    cdef ZoneRec[::1] zone
    cdef void reserve(self, long zone, long pfn, int order) noexcept nogil
