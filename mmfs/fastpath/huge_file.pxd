cimport cython
from mmfs.fastpath.defs cimport *
from mmfs.fastpath.frames cimport Frames, PageRec, BlockRec
from mmfs.fastpath.buddy cimport Buddy
from mmfs.fastpath.folio cimport Folios
from mmfs.fastpath.lru cimport Lru
from mmfs.fastpath.memcontrol cimport Memcontrol
from mmfs.fastpath.tlb cimport MmRec, Tlb
from mmfs.fastpath.vma cimport Vmas
from mmfs.fastpath.walk cimport Walker

@cython.final
cdef class HugeFile:
    cdef readonly Vmas areas
    cdef readonly Frames frames
    cdef readonly Buddy buddy
    cdef readonly Walker walker
    cdef readonly Folios folios
    cdef readonly Lru lru
    cdef readonly Memcontrol memcg
    cdef readonly Tlb tlb
    cdef MmRec[::1] mm
    cdef long[::1] event
    cdef void mod_pmdmapped(self, long block, long nr) noexcept nogil
    cdef void set_pmd(self, long mm, unsigned long vmflags, long pmd, long folio, bint write) noexcept nogil
    cdef void zap_pmd(self, long mm, long pmd) noexcept nogil
    cdef void split_pmd(self, long mm, long addr, long pmd) noexcept nogil
    cdef void mod_mapped(self, long folio, long nr) noexcept nogil
    cdef void add_rmaps(self, long pfn, long nr) noexcept nogil
    cdef void remove_rmaps(self, long mm, long pfn, long nr) noexcept nogil
