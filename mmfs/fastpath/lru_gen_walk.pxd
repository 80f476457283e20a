cimport cython
from mmfs.fastpath.defs cimport *
from mmfs.fastpath.frames cimport Frames, PageRec, BlockRec
from mmfs.fastpath.folio cimport Folios
from mmfs.fastpath.lru cimport Lru
from mmfs.fastpath.lru_gen cimport LruGen
from mmfs.fastpath.tlb cimport MmRec
from mmfs.fastpath.vma cimport VmaRec
from mmfs.fastpath.walk cimport Walker

@cython.final
cdef class LruGenWalk:
    cdef readonly Frames frames
    cdef readonly Walker walker
    cdef readonly Folios folios
    cdef readonly Lru lru
    cdef readonly LruGen lru_gen
    cdef MmRec[::1] mm
    cdef VmaRec[::1] vma
    cdef unsigned char[:, ::1] filter
    cdef int[::1] filter_used
    cdef long[:, ::1] stat
    cdef readonly object stats
    cdef public bint clear_pmd_young
    cdef public bint batching
    cdef long next_addr
    cdef long key(self, long pmd, int number) noexcept nogil
    cdef bint in_filter(self, long lruvec, long seq, long pmd) noexcept nogil
    cdef void update_filter(self, long lruvec, long seq, long pmd) noexcept nogil
    cdef void prefetch(self, long at) noexcept nogil
    cdef long use_entry(self, long lruvec, long at, bint can_swap) noexcept nogil
    cdef long seek_pmd(self, long mm, long addr) noexcept nogil
    cdef void walk_huge(self, long lruvec, long pmd, bint can_swap) noexcept nogil
    cdef bint look_around(self, long at, long addr, long vma, long pfn) noexcept nogil
