cimport cython
from mmfs.fastpath.defs cimport *
from mmfs.fastpath.buddy cimport Buddy

cdef packed struct MmRec:
    long pgd
    long rss_file
    long rss_anon
    long rss_swap
    long rss_shmem
    long pgtables_bytes
    long asid
    unsigned long cpumask
    unsigned int memcg
    unsigned int lru_gen_bitmap
    long hiwater_rss
    long flags

@cython.final
cdef class Tlb:
    cdef readonly Buddy buddy
    cdef MmRec[::1] mm
    cdef unsigned long[::1] tag
    cdef long[:, ::1] count
    cdef readonly object counts
    cdef readonly long next_asid
    cdef long set_of(self, long cpu, long addr) noexcept nogil
    cdef unsigned long tag_of(self, long mm, long addr) noexcept nogil
    cdef bint hit(self, long mm, long addr, bint write) noexcept nogil
    cdef void fill(self, long mm, long addr, unsigned long entry) noexcept nogil
    cdef void flush_page(self, long mm, long addr) noexcept nogil
    cdef void flush_mm(self, long mm) noexcept nogil
    cdef void flush_range(self, long mm, long start, long end) noexcept nogil
