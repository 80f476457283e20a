cimport cython
from mmfs.fastpath.defs cimport *
from mmfs.fastpath.frames cimport Frames, PageRec, BlockRec
from mmfs.fastpath.rmap cimport ChainRec, Rmap
from mmfs.fastpath.vma cimport VmaRec

@cython.final
cdef class PageIdle:
    cdef readonly Rmap rmap
    cdef readonly Frames frames
    cdef long get_folio(self, long pfn) noexcept nogil
    cdef bint clear_young(self, long vma, long pfn) noexcept nogil
    cdef bint clear_young_ksm(self, long folio) noexcept nogil
    cdef void clear_pte_refs(self, long folio) noexcept nogil
