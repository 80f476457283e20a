cimport cython
from mmfs.fastpath.defs cimport *
from mmfs.fastpath.frames cimport Frames, PageRec, BlockRec
from mmfs.fastpath.buddy cimport Buddy
from mmfs.fastpath.folio cimport Folios
from mmfs.fastpath.free_area cimport FreeArea
from mmfs.fastpath.lru cimport Lru
from mmfs.fastpath.memcontrol cimport Memcontrol
from mmfs.fastpath.migrate cimport Migration

from mmfs.fastpath.rmap cimport Rmap
from mmfs.fastpath.tlb cimport MmRec, Tlb
from mmfs.fastpath.vma cimport VmaRec
from mmfs.fastpath.walk cimport Walker

@cython.final
cdef class Hwpoison:
    cdef readonly Migration migration
    cdef readonly Rmap rmap
    cdef readonly Folios folios
    cdef readonly Frames frames
    cdef readonly Buddy buddy
    cdef readonly FreeArea areas
    cdef readonly Lru lru
    cdef readonly Memcontrol memcg
    cdef readonly Tlb tlb
    cdef VmaRec[::1] vma
    cdef MmRec[::1] mm
    cdef long[:, ::1] zone_stat
    cdef long[::1] event
    cpdef bint take_page_off_buddy(self, long pfn) noexcept nogil
    cpdef int unmap_poisoned(self, long pfn, bint poison) noexcept nogil
    cpdef void make_dirty_clean(self, long pfn) noexcept nogil
    cpdef void keep(self, long pfn) noexcept nogil
    cpdef void keep_in_swap_cache(self, long pfn) noexcept nogil
    cpdef void leave_swap_cache(self, long pfn) noexcept nogil
    cpdef void forget(self, long pfn) noexcept nogil
    cpdef bint evict(self, long pfn) noexcept nogil
    cpdef int migrate(self, long pfn, int nid, int highest) noexcept nogil
