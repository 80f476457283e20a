cimport cython
from mmfs.fastpath.defs cimport *
from mmfs.fastpath.frames cimport Frames, PageRec, BlockRec
from mmfs.fastpath.buddy cimport Buddy
from mmfs.fastpath.huge_memory cimport HugeMemory
from mmfs.fastpath.folio cimport Folios
from mmfs.fastpath.ksm_tree cimport KsmTree
from mmfs.fastpath.lru_gen_walk cimport LruGenWalk
from mmfs.fastpath.memcontrol cimport Memcontrol
from mmfs.fastpath.swap cimport Swap
from mmfs.fastpath.tlb cimport MmRec, Tlb
from mmfs.fastpath.vma cimport VmaRec, Vmas
from mmfs.fastpath.walk cimport Walker

cdef packed struct ChainRec:
    unsigned int vma
    unsigned int nxt
    unsigned int prv
    unsigned int head

@cython.final
cdef class Rmap:
    cdef readonly Frames frames
    cdef readonly Buddy buddy
    cdef readonly Folios folios
    cdef readonly Swap swap
    cdef readonly LruGenWalk lru_gen_walk
    cdef readonly HugeMemory huge
    cdef long found_addr
    cdef long found_vma
    cdef readonly KsmTree ksm
    cdef long ksm_item
    cdef long ksm_link
    cdef readonly Tlb tlb
    cdef readonly Vmas areas
    cdef readonly Walker walker
    cdef VmaRec[::1] vma
    cdef MmRec[::1] mm
    cdef ChainRec[::1] chain
    cdef unsigned int[::1] head
    cdef unsigned int[::1] root
    cdef readonly Memcontrol memcg
    cdef readonly object roots
    cdef long free_chain
    cdef long next_chain
    cdef public unsigned long vm_flags
    cdef long first(self, long pfn) noexcept nogil
    cdef long link(self, long head, long vma) noexcept nogil
    cdef long start_address(self, long vma, unsigned int index) noexcept nogil
    cdef void prefetch(self, long pfn) noexcept nogil
    cdef long find(self, long mm, long addr, long pfn) noexcept nogil
    cdef void begin_ksm(self, long pfn) noexcept nogil
    cdef long next_ksm(self, long pfn) noexcept nogil
    cdef int ksm_referenced(self, long pfn) noexcept nogil
    cdef bint unmap_ksm(self, long pfn) noexcept nogil
    cdef bint large_referenced_one(self, long vma, long folio) noexcept nogil
    cdef bint maps_whole(self, long vma, long folio) noexcept nogil
    cdef void mlock_missed(self, long folio) noexcept nogil
    cdef void mlock_vmas(self, long pfn) noexcept nogil
    cdef bint unmap_large_entry(self, long folio, long vma, long addr, long at, long pfn) noexcept nogil
    cdef bint referenced_one(self, long vma, long pfn) noexcept nogil
    cdef int folio_referenced(self, long pfn) noexcept nogil
    cdef bint unmap_entry(self, long vma, long addr, long at, long pfn) noexcept nogil
    cdef void set_swap_entry(self, long mm, long at, long pfn, long slot) noexcept nogil
    cdef bint unmap_huge(self, long folio) noexcept nogil
    cdef bint try_to_unmap(self, long pfn) noexcept nogil
    cdef long find_pmd(self, long vma, long folio) noexcept nogil
    cdef void split_pmds(self, long folio) noexcept nogil
    cdef bint large_clear_young(self, long vma, long folio, bint around) noexcept nogil
    cdef bint was_young(self, long pfn, bint young) noexcept nogil
    cdef void add_anon_rmap(self, long vma, long addr, long pfn, bint exclusive) noexcept nogil
    cdef void remove_rmap(self, long pfn) noexcept nogil
    cdef void update_hiwater_rss(self, long mm) noexcept nogil
