cimport cython
from mmfs.fastpath.defs cimport *
from mmfs.fastpath.frames cimport Frames, PageRec, BlockRec
from mmfs.fastpath.lru cimport Lru
from mmfs.fastpath.mmu cimport Mmu
from mmfs.fastpath.pgtable cimport PageTables

@cython.final
cdef class Madvise:
    cdef readonly PageTables tables
    cdef readonly Mmu mmu
    cdef readonly Frames frames
    cdef int cold_or_pageout_huge(self, long pmd, long[::1] out, long n, bint pageout) noexcept nogil
