cimport cython
from mmfs.fastpath.defs cimport *
from mmfs.fastpath.frames cimport Frames, PageRec
from mmfs.fastpath.swap cimport Swap
from mmfs.fastpath.swap_state cimport SwapState
from mmfs.fastpath.zsmalloc cimport ZsPool
from mmfs.fastpath.zswap cimport Zswap

@cython.final
cdef class ZswapWriteback:
    cdef readonly SwapState state
    cdef readonly Frames frames
    cdef readonly Swap swap
    cdef readonly Zswap zswap
    cdef bint writeback_entry(self, long slot) noexcept nogil
    cdef int shrink_oldest(self, int nid) noexcept nogil
