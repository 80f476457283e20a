cimport cython
from mmfs.fastpath.defs cimport *
from mmfs.fastpath.anon_folio cimport AnonFolios
from mmfs.fastpath.buddy cimport Buddy
from mmfs.fastpath.folio cimport Folios
from mmfs.fastpath.frames cimport Frames, PageRec, BlockRec
from mmfs.fastpath.ksm_tree cimport KsmTree
from mmfs.fastpath.lru cimport Lru
from mmfs.fastpath.memcontrol cimport Memcontrol
from mmfs.fastpath.rmap cimport Rmap
from mmfs.fastpath.swap cimport Swap
from mmfs.fastpath.task_time cimport TaskTime
from mmfs.fastpath.tlb cimport MmRec, Tlb
from mmfs.fastpath.unmap cimport Unmap
from mmfs.fastpath.vma cimport VmaRec, Vmas

@cython.final
cdef class AnonFaults:
    cdef readonly AnonFolios anon_folios
    cdef readonly Rmap rmap
    cdef readonly Unmap unmap
    cdef readonly TaskTime time
    cdef readonly Swap swap
    cdef readonly Tlb tlb
    cdef readonly Folios folios
    cdef readonly Frames frames
    cdef readonly Lru lru
    cdef readonly Buddy buddy
    cdef readonly Memcontrol memcg
    cdef readonly Vmas areas
    cdef VmaRec[::1] vma
    cdef MmRec[::1] mm
    cdef long[::1] event
    cdef readonly long zero_pfn
    cdef bint has_recency(self, long vma) noexcept nogil
    cdef void add_anon(self, long mm, long vma, long addr, long pfn) noexcept nogil
    cdef int anonymous_fault(self, long mm, long vma, long addr, long at, bint write) noexcept nogil
    cdef int large_fault(self, long mm, long vma, long addr, long at) noexcept nogil
    cdef bint can_reuse(self, long vma, long pfn) noexcept nogil
    cdef void map_copy(self, long mm, long vma, long addr, long at, long pfn) noexcept nogil
    cdef int write_protect_fault(self, long mm, long vma, long addr, long at) noexcept nogil
