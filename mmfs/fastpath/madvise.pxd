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
    cdef int cold_or_pageout_huge(self, long pmd, bint anon_only, long[::1] out, long n, bint pageout) noexcept nogil
    cdef int cold_or_pageout_folio(self, long folio, long[::1] out, long n, bint pageout) noexcept nogil
    cdef long whole_folio(self, long at, long most) noexcept nogil
    cdef int cold_or_pageout_table(self, long at, long nr, bint anon_only, long[::1] out, long n, bint pageout) noexcept nogil
