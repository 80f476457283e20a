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
    cdef long folio_batch(self, long at, long most, bint anon_only) noexcept nogil
    cdef bint split_part(self, long pmd, bint whole) noexcept nogil
    cdef long seek_part(self, long mm, long addr, long end, bint anon_only) noexcept nogil
    cdef void lazyfree_table(self, long mm, long at, long end) noexcept nogil
    cdef void lazyfree_folio(self, long at, long nr) noexcept nogil
    cdef void make_clean(self, long at, long nr) noexcept nogil
    cdef int cold_or_pageout_folio(self, long folio, long[::1] out, long n, bint pageout) noexcept nogil
    cdef int cold_or_pageout_table(self, long at, long end, bint anon_only, long[::1] out, long n, bint pageout) noexcept nogil
