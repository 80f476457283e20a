cimport cython
from mmfs.fastpath.defs cimport *

cdef extern from *:
    """
    #if defined(__GNUC__)
    #define mmfs_prefetch(address) __builtin_prefetch(address, 1)
    #else
    #define mmfs_prefetch(address) ((void)(address))
    #endif
    """
    void prefetch "mmfs_prefetch"(const void *address) noexcept nogil

cdef packed struct PageRec:
    unsigned int flags
    unsigned int nxt
    unsigned int prv
    unsigned int mapping
    unsigned int index
    unsigned int private
    int mapcount
    unsigned short memcg
    unsigned short mlock_count

cdef packed struct BlockRec:
    unsigned int nxt
    unsigned int prv
    int mapcount
    int nr_mapped
    unsigned char state
    unsigned char migratetype
    unsigned char order
    unsigned char pad
    unsigned short zone
    unsigned short pad2
    int skip
    unsigned int spare

@cython.final
cdef class Frames:
    cdef public PageRec[::1] page
    cdef public BlockRec[::1] block
    cdef public unsigned long[::1] entry
    cdef readonly object pages
    cdef readonly object blocks
    cdef readonly object entries
    cdef readonly long nr_frames
    cdef readonly long nr_blocks
    cdef readonly long next_page_head
    cdef readonly long next_block_head
    cdef readonly long huge
    cdef readonly long mthp
    cdef readonly long mthp_pfns
    cdef long page_heads_end
    cdef long block_heads_end
    cpdef long new_page_head(self)
    cpdef long new_block_head(self)
    cpdef long reserve_page_heads(self, long nr)
    cpdef long reserve_block_heads(self, long nr)
    cdef void init_page_head(self, long head) noexcept nogil
    cdef void init_block_head(self, long head) noexcept nogil
    cdef void prefetch_page(self, long pfn) noexcept nogil
    cdef bint maps_thp(self, unsigned long entry) noexcept nogil
    cdef void page_list_add(self, long head, long pfn) noexcept nogil
    cdef void page_list_add_tail(self, long head, long pfn) noexcept nogil
    cdef void page_list_add_run(self, long head, long first, long nr, unsigned int flags) noexcept nogil
    cdef void page_list_del(self, long pfn) noexcept nogil
    cdef void block_list_add(self, long head, long block) noexcept nogil
    cdef void block_list_add_tail(self, long head, long block) noexcept nogil
    cdef void block_list_del(self, long block) noexcept nogil
    cdef long block_of(self, long folio) noexcept nogil
    cdef long zone_of(self, long folio) noexcept nogil
    cdef int folio_order(self, long folio) noexcept nogil
    cdef long nr_pages(self, long folio) noexcept nogil
    cdef long folio_pfn(self, long folio) noexcept nogil
    cdef long large_folio(self, long pfn, int order) noexcept nogil
    cdef long folio_of(self, long pfn) noexcept nogil
    cdef long page_folio(self, long pfn) noexcept nogil
    cdef bint valid(self, long pfn) noexcept nogil
    cdef void clear_table(self, long pfn) noexcept nogil
