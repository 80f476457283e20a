cimport cython
from mmfs.fastpath.defs cimport *
from mmfs.fastpath.frames cimport Frames, PageRec, BlockRec
from mmfs.fastpath.buddy cimport Buddy
from mmfs.fastpath.huge_file cimport HugeFile
from mmfs.fastpath.lru cimport Lru
from mmfs.fastpath.folio cimport Folios
from mmfs.fastpath.memcontrol cimport Memcontrol
from mmfs.fastpath.tlb cimport MmRec, Tlb
from mmfs.fastpath.walk cimport Walker
from mmfs.fastpath.vma cimport VmaRec, Vmas

@cython.final
cdef class HugeMemory:
    cdef readonly Vmas areas
    cdef readonly Frames frames
    cdef readonly Buddy buddy
    cdef readonly Walker walker
    cdef readonly Folios folios
    cdef readonly Lru lru
    cdef readonly Memcontrol memcg
    cdef readonly Tlb tlb
    cdef readonly HugeFile file
    cdef MmRec[::1] mm
    cdef VmaRec[::1] vma
    cdef long[::1] event
    cdef public bint always
    cdef public bint madvise
    cdef public bint use_zero_page
    cdef public bint slow
    cdef public bint slow_madvised
    cdef public bint reclaims
    cdef public bint reclaims_madvised
    cdef public int charged
    cdef public long charged_for
    cdef public int flags
    cdef public int flags_madvised
    cdef public long handed
    cdef public int wanted
    cdef readonly int answered
    cdef public long zero_pfn
    cdef public long zero_users
    cdef public long page_zero
    cdef readonly object stats
    cdef long[:, ::1] stat
    cdef readonly object queues
    cdef long[::1] queue
    cdef readonly object queued_counts
    cdef long[::1] queued
    cdef void deposit(self, long pmd, long table) noexcept nogil
    cdef long withdraw(self, long pmd) noexcept nogil
    cdef void zap_deposited(self, long mm, long pmd) noexcept nogil
    cdef bint allowed(self, long mm, long vma, long addr) noexcept nogil
    cdef long alloc(self, long vma, long index, int order, bint madvised) noexcept nogil
    cdef long take_handed(self) noexcept nogil
    cdef int charge(self, long memcg, long pfn, int order, bint madvised) noexcept nogil
    cdef void drop(self, long pfn, int order) noexcept nogil
    cpdef void put_back(self) noexcept nogil
    cdef int count_fallback(self) noexcept nogil
    cdef int zero_fault(self, long mm, long vma, long addr, long pmd) noexcept nogil
    cdef int fault(self, long mm, long vma, long addr, long pmd, bint write) noexcept nogil
    cdef void map_new(self, long mm, long vma, long start, long pmd, long pfn, long table, long memcg) noexcept nogil
    cdef int write_protect_fault(self, long mm, long vma, long addr, long pmd) noexcept nogil
    cdef long folio_of_pmd(self, unsigned long entry) noexcept nogil
    cdef bint maps_anon(self, unsigned long entry) noexcept nogil
    cdef bint maps_file(self, unsigned long entry) noexcept nogil
    cdef void write_frames(self, long block) noexcept nogil
    cdef void split_pmd(self, long mm, long addr, long pmd) noexcept nogil
    cdef void split_rmap(self, long block, unsigned long entry) noexcept nogil
    cdef bint copy_pmd(self, long dst, long src, long addr, long pmd) noexcept nogil
    cdef bint move_pmd(self, long mm, long pmd, long new) noexcept nogil
    cdef void protect_pmd(self, unsigned long vmflags, long pmd) noexcept nogil
    cdef void zap_pmd(self, long mm, unsigned long vmflags, long pmd) noexcept nogil
    cdef void add_rmap(self, long pfn) noexcept nogil
    cdef void add_rmaps(self, long pfn, long nr, bint exclusive) noexcept nogil
    cdef void remove_rmap(self, long pfn, long nr) noexcept nogil
    cdef int entire_mapcount(self, long folio) noexcept nogil
    cdef bint likely_mapped_shared(self, long folio) noexcept nogil
    cdef void free(self, long folio) noexcept nogil
    cdef void clear(self, long folio, int order) noexcept nogil
    cdef void deferred_split(self, long folio) noexcept nogil
    cdef void forget(self, long folio) noexcept nogil
