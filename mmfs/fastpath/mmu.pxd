cimport cython
from mmfs.fastpath.defs cimport *
from mmfs.fastpath.frames cimport Frames, PageRec, BlockRec
from mmfs.fastpath.buddy cimport Buddy
from mmfs.fastpath.lru cimport Lru

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
    unsigned int pad

cdef packed struct VmaRec:
    long start
    long end
    unsigned long flags
    long pgoff
    unsigned int mapping
    unsigned int anon_vma
    int mm
    int policy
    long nid
    unsigned long nodemask

cdef packed struct MappingRec:
    long base
    long slots
    long size
    long nrpages
    int shmem
    int memcg
    long nr_dirty

@cython.final
cdef class Mmu:
    cdef readonly Frames frames
    cdef readonly Buddy buddy
    cdef readonly Lru lru
    cdef MmRec[::1] mm
    cdef VmaRec[::1] vma
    cdef MappingRec[::1] mapping
    cdef unsigned long[::1] slot
    cdef long[:, ::1] node_stat
    cdef long[:, ::1] zone_stat
    cdef long[::1] event
    cdef readonly object mms
    cdef readonly object vmas
    cdef readonly object mappings
    cdef readonly object slots
    cdef readonly int levels
    cdef readonly long zero_pfn
    cdef public int alloc_flags
    cdef public int reason
    cdef public long minflt
    cdef public long majflt
    cdef public long cow
    cdef public long bulk_pages
    cdef readonly long next_asid
    cdef long cached_key
    cdef long cached_table
    cdef unsigned long[:, ::1] tlb
    cdef unsigned char[:, ::1] tlb_rights
    cdef long[:, ::1] tlb_count
    cdef readonly object tlb_counts
    cdef long alloc_page(self, long vma, long index, int mt, int highest) noexcept nogil
    cdef long get_entry_level(self, long mm, long addr, int last) noexcept nogil
    cdef void mlock_page(self, long pfn) noexcept nogil
    cdef void munlock_page(self, long pfn) noexcept nogil
    cdef long alloc_table(self, long mm, int level, bint implied) noexcept nogil
    cdef void count_table(self, long mm, long pfn, int level, int sign) noexcept nogil
    cdef long lookup(self, long mm, long addr) noexcept nogil
    cdef long get_entry(self, long mm, long addr) noexcept nogil
    cdef void add_anon(self, long mm, long vma, long addr, long pfn) noexcept nogil
    cdef unsigned long prot(self, unsigned long flags) noexcept nogil
    cdef int anonymous_fault(self, long mm, long vma, long addr, long at, bint write) noexcept nogil
    cdef int write_protect_fault(self, long mm, long vma, long addr, long at) noexcept nogil
    cdef long page_cache_add(self, long vma, long m, long index, bint active) noexcept nogil
    cdef long filemap_get(self, long vma, long m, long index) noexcept nogil
    cdef void map_file(self, long mm, long vma, long pfn, long at, bint write) noexcept nogil
    cdef void fault_around(self, long mm, long vma, long addr) noexcept nogil
    cdef int file_fault(self, long mm, long vma, long addr, long at, bint write) noexcept nogil
    cdef void mark_dirty(self, long pfn) noexcept nogil
    cdef int fault(self, long mm, long vma, long addr, bint write) noexcept nogil
    cdef int access(self, long mm, long vma, long addr, bint write) noexcept nogil
    cdef bint tlb_hit(self, long mm, long addr, bint write) noexcept nogil
    cdef void tlb_fill(self, long mm, long addr, unsigned long entry) noexcept nogil
    cdef void tlb_flush_page(self, long mm, long addr) noexcept nogil
    cdef void tlb_flush_mm(self, long mm) noexcept nogil
    cdef void tlb_flush_range(self, long mm, long start, long end) noexcept nogil
    cdef void free_page(self, long pfn) noexcept nogil
    cdef void unmap_page(self, long mm, unsigned long vmflags, long pfn) noexcept nogil
    cdef void split_uniform(self, long mm, long addr, long pmd) noexcept nogil
    cdef bint bulk_fault(self, long mm, long vma, long addr) noexcept nogil
