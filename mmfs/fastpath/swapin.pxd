cimport cython
from mmfs.fastpath.defs cimport *
from mmfs.fastpath.frames cimport Frames, PageRec, BlockRec
from mmfs.fastpath.buddy cimport Buddy
from mmfs.fastpath.anon_folio cimport AnonFolios
from mmfs.fastpath.folio cimport Folios
from mmfs.fastpath.huge_memory cimport HugeMemory
from mmfs.fastpath.lru cimport Lru
from mmfs.fastpath.memcontrol cimport Memcontrol
from mmfs.fastpath.rmap cimport Rmap
from mmfs.fastpath.shmem cimport Shmem
from mmfs.fastpath.swap cimport Swap
from mmfs.fastpath.swap_map cimport SwapMap, SwapAreaRec
from mmfs.fastpath.swap_state cimport SwapState
from mmfs.fastpath.tlb cimport MmRec
from mmfs.fastpath.vma cimport VmaRec, Vmas

@cython.final
cdef class SwapIn:
    cdef readonly SwapState state
    cdef readonly AnonFolios anon_folios
    cdef readonly HugeMemory huge
    cdef readonly Frames frames
    cdef readonly Buddy buddy
    cdef readonly Folios folios
    cdef readonly Lru lru
    cdef readonly Memcontrol memcg
    cdef readonly Shmem shmem
    cdef readonly Rmap rmap
    cdef readonly Swap swap
    cdef readonly Vmas areas
    cdef VmaRec[::1] vma
    cdef MmRec[::1] mm
    cdef SwapAreaRec[::1] area
    cdef long[::1] event
    cdef public bint major
    cdef readonly int reason
    cdef bint direct
    cdef int swap_in(self, long mm, long vma, long addr, long at, bint write) noexcept nogil
    cdef bint alone_in_zram(self, long slot) noexcept nogil
    cdef bint might_need_to_copy(self, long vma, long addr, long pfn) noexcept nogil
    cdef int map_copy(self, long mm, long vma, long addr, long at) noexcept nogil
    cdef bint is_whole(self, long vma, long addr, long at, long index, long nr) noexcept nogil
    cdef void map_huge(self, long mm, long vma, long addr, long at, long folio, bint write) noexcept nogil
    cdef bint can_swapin(self, long vma, long addr, long at, long slot, int order) noexcept nogil
    cdef int swap_in_large(self, long mm, long vma, long addr, long at, long slot, bint write) noexcept nogil
    cdef void map_large(self, long mm, long vma, long addr, long at, long slot, long pfn, int order, long memcg, bint write) noexcept nogil
    cdef bint may_be_exclusive(self, long folio, long slot, unsigned long entry) noexcept nogil
    cdef bint wants_no_slot(self, long vma, long folio, bint write) noexcept nogil
    cdef void map_page(self, long mm, long vma, long addr, long at, long pfn, bint write) noexcept nogil
    cdef int unuse(self, long mm, long vma, long addr, long at) noexcept nogil
    cdef int slot_type(self, unsigned long value) noexcept nogil
    cdef long shmem_swapin(self, long m, long index) noexcept nogil
