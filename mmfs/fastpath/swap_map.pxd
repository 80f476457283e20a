cimport cython
from mmfs.fastpath.defs cimport *
from mmfs.fastpath.frames cimport Frames, PageRec, BlockRec, prefetch
from mmfs.fastpath.buddy cimport Buddy
from mmfs.fastpath.folio cimport Folios
from mmfs.fastpath.huge_memory cimport HugeMemory
from mmfs.fastpath.memcontrol cimport Memcontrol
from mmfs.fastpath.workingset cimport Workingset
from mmfs.fastpath.zram cimport SwapDevice
from mmfs.fastpath.zswap cimport Zswap

cdef packed struct SwapAreaRec:
    long base
    long max
    long pages
    long inuse
    long lowest_bit
    long highest_bit
    long cluster_next
    long cluster_nr
    int prio
    int flags

cdef packed struct ClusterRec:
    unsigned int nxt
    unsigned int prv
    int count
    short flags
    short order

@cython.final
cdef class SwapMap:
    cdef readonly Frames frames
    cdef readonly Buddy buddy
    cdef readonly Folios folios
    cdef readonly HugeMemory huge
    cdef readonly Workingset workingset
    cdef readonly Zswap zswap
    cdef public SwapDevice devices
    cdef SwapAreaRec[::1] area
    cdef unsigned int[::1] count
    cdef unsigned long[::1] cached
    cdef unsigned char[::1] type
    cdef ClusterRec[::1] cluster
    cdef int[::1] frag_nr
    cdef int[::1] avail
    cdef readonly Memcontrol memcg
    cdef unsigned short[::1] memcg_of
    cdef readonly object memcgs
    cdef readonly object areas
    cdef readonly object counts
    cdef readonly object caches
    cdef readonly object types
    cdef readonly object avails
    cdef readonly object discards
    cdef long[::1] discard
    cdef public long nr_discards
    cdef public int nr_avail
    cdef public long total_swap_pages
    cdef void uncharge(self, long slot) noexcept nogil
    cdef bint swap_full(self) noexcept nogil
    cdef bint folio_swap_full(self, long pfn) noexcept nogil
    cdef unsigned long entry_of(self, long slot) noexcept nogil
    cdef long slot_of(self, unsigned long entry) noexcept nogil
    cdef void prefetch(self, unsigned long entry) noexcept nogil
    cdef long lookup(self, long slot) noexcept nogil
    cdef long list_head(self, int t, int which, int order) noexcept nogil
    cdef void list_del(self, long cluster) noexcept nogil
    cdef void list_add_tail(self, long head, long cluster) noexcept nogil
    cdef void set_list(self, int t, long cluster, int flags) noexcept nogil
    cdef void add_to_avail_list(self, int t) noexcept nogil
    cdef void del_from_avail_list(self, int t) noexcept nogil
    cdef void range_alloc(self, int t, long offset, long nr) noexcept nogil
    cdef void range_free(self, long slot) noexcept nogil
    cdef void remove_from_cache(self, long folio, unsigned long shadow) noexcept nogil
    cdef bint has_only_cache(self, long folio) noexcept nogil
    cdef long frame_of(self, long folio, long slot) noexcept nogil
    cdef void free_folio(self, long folio) noexcept nogil
    cdef bint isolated(self, long pfn) noexcept nogil
    cdef bint freeable(self, long pfn) noexcept nogil
    cdef int reclaim_direct(self, long slot) noexcept nogil
