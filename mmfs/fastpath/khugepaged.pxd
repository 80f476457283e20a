cimport cython
from mmfs.fastpath.defs cimport *
from mmfs.fastpath.frames cimport Frames, PageRec, BlockRec
from mmfs.fastpath.huge_memory cimport HugeMemory
from mmfs.fastpath.memcontrol cimport Memcontrol
from mmfs.fastpath.mmu cimport Mmu
from mmfs.fastpath.unmap cimport Unmap
from mmfs.fastpath.pgtable cimport PageTables
from mmfs.fastpath.tlb cimport MmRec, Tlb
from mmfs.fastpath.vma cimport VmaRec
from mmfs.fastpath.walk cimport Walker

@cython.final
cdef class CollapseControl:
    cdef readonly PageTables tables
    cdef readonly Mmu mmu
    cdef readonly Frames frames
    cdef readonly HugeMemory huge
    cdef readonly long none
    cdef readonly long swap
    cdef readonly long shared
    cdef readonly long referenced
    cdef readonly long writable
    cdef readonly long foreign
    cdef readonly long busy
    cdef void count_page(self, unsigned long entry) noexcept nogil
