cimport cython
from mmfs.fastpath.defs cimport *
from mmfs.fastpath.frames cimport Frames, PageRec, BlockRec
from mmfs.fastpath.free_area cimport FreeArea, ZoneRec
from mmfs.fastpath.highatomic cimport HighAtomic

cdef packed struct PcpRec:
    int count
    int high
    int high_min
    int high_max
    int batch
    int alloc_factor
    int free_count
    int flags

@cython.final
cdef class Buddy:
    cdef readonly FreeArea areas
    cdef readonly HighAtomic highatomic
    cdef readonly Frames frames
    cdef ZoneRec[::1] zone
    cdef long[::1] nr_free
    cdef PcpRec[::1] pcp
    cdef long[:, ::1] zone_stat
    cdef long[:, ::1] numa_event
    cdef long[::1] event
    cdef int[:, ::1] zonelist
    cdef long[:, ::1] lowmem_reserve
    cdef int[::1] cpu_node
    cdef readonly object zones
    cdef readonly object pcps
    cdef readonly object zonelists
    cdef readonly object lowmem_reserves
    cdef readonly object cpu_nodes
    cdef readonly object zone_stats
    cdef readonly long nr_zones
    cdef readonly long nr_cpus
    cdef public long cpu
    cdef public int nr_online_nodes
    cdef public int opt_zone_highmem
    cdef public int nofragment_zone
    cdef public bint wake_kswapd
    cdef public long handed
    cdef public long reclaim_zone
    cdef public unsigned long reclaimed
    cdef readonly object reclaim_nodes
    cdef unsigned long[::1] reclaim_node
    cdef public unsigned long kswapds_awake
    cdef public unsigned long mems_allowed
    cdef readonly object kswapd_highest
    cdef int[::1] kswapd_highest_zoneidx
    cdef long pcp_heads
    cdef int nr_pcp_alloc(self, long slot, long zone, int order) noexcept nogil
    cdef int nr_pcp_high(self, long slot, long zone, int batch, bint free_high) noexcept nogil
    cdef int nr_pcp_free(self, long slot, int batch, int high, bint free_high) noexcept nogil
    cdef void free_pcppages_bulk(self, long zone, long slot, long count, int pindex) noexcept nogil
    cdef long rmqueue_pcplist(self, long zone, int order, int mt, int alloc_flags) noexcept nogil
    cdef long rmqueue(self, long preferred, long zone, int order, int mt, int alloc_flags) noexcept nogil
    cdef bint watermark_ok(self, long zone, int order, long mark, int highest, int alloc_flags) noexcept nogil
    cpdef bint watermark_ok_with(self, long zone, int order, long mark, int highest, int alloc_flags, long free) noexcept nogil
    cdef long alloc(self, int order, int mt, int nid, int highest, int alloc_flags, unsigned long nodemask) noexcept nogil
    cpdef bint wake_awake_kswapds(self, int nid, int highest, unsigned long nodemask) noexcept nogil
    cdef void free(self, long pfn, int order) noexcept nogil
    cpdef void drain_pages(self, long cpu, long zone) noexcept nogil
