cimport cython
from mmfs.fastpath.defs cimport *
from mmfs.fastpath.frames cimport Frames, PageRec, BlockRec
from mmfs.fastpath.mmu cimport Mmu
from mmfs.fastpath.pgtable cimport PageTables

@cython.final
cdef class TaskMmu:
    cdef readonly PageTables tables
    cdef readonly Mmu mmu
    cdef readonly Frames frames
    cdef void count_entry(self, unsigned long entry, bint locked, long[::1] out) noexcept nogil
    cdef void count_huge(self, unsigned long entry, long[::1] out) noexcept nogil
    cdef void count_node(self, long pfn, long mapcount, unsigned long entry, long[::1] out) noexcept nogil
    cdef void count_swapped(self, unsigned long entry, long[::1] out) noexcept nogil
