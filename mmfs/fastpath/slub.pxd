cimport cython
from mmfs.fastpath.defs cimport *
from mmfs.fastpath.frames cimport Frames, PageRec, BlockRec
from mmfs.fastpath.buddy cimport Buddy
from mmfs.fastpath.obj_cgroup cimport ObjCgroups

cdef packed struct SlabRec:
    long pfn
    long base
    unsigned int nxt
    unsigned int prv
    unsigned short cache
    unsigned short nid
    unsigned short inuse
    unsigned short objects
    unsigned short freelist
    unsigned short fresh
    unsigned char order
    unsigned char state
    unsigned short pad

cdef packed struct KmemCacheRec:
    int size
    int order
    long min_partial
    int cpu_partial_slabs
    int remote_node_defrag_ratio
    int migratetype
    int highest_zoneidx
    int stat_item
    int pad
    long nr_inuse

cdef packed struct KmemCacheNodeRec:
    unsigned int first
    unsigned int last
    long nr_partial
    long nr_slabs
    long total_objects
    long partial_free

cdef packed struct KmemCacheCpuRec:
    unsigned int slab
    unsigned int partial
    long partial_slabs

@cython.final
cdef class Slub:
    cdef readonly ObjCgroups objcg
    cdef readonly Buddy buddy
    cdef readonly Frames frames
    cdef readonly long nr_nodes
    cdef readonly long nr_cpus
    cdef readonly object caches
    cdef readonly object nodes
    cdef readonly object cpus
    cdef readonly object slabs
    cdef readonly object entries
    cdef KmemCacheRec[::1] cache
    cdef KmemCacheNodeRec[::1] node
    cdef KmemCacheCpuRec[::1] cpu
    cdef SlabRec[::1] slab
    cdef unsigned int[::1] entry
    cdef unsigned int[::1] free_slabs
    cdef long[:, ::1] node_stat
    cdef readonly long end
    cdef long end_of_entries
    cdef long defrag_turn
    cdef long new_record(self, int objects) noexcept nogil
    cdef long add_slab(self, long cache, long pfn, int order) noexcept nogil
    cdef void discard(self, long slab) noexcept nogil
    cdef long new_slab(self, long cache, long nid) noexcept nogil
    cdef void add_partial(self, long slab, bint tail) noexcept nogil
    cdef void remove_partial(self, long slab) noexcept nogil
    cdef void put_partial(self, long slab, bint tail) noexcept nogil
    cdef long get_partial_node(self, long cache, long nid, long at) noexcept nogil
    cdef long get_any_partial(self, long cache, long nid, long at) noexcept nogil
    cdef void put_cpu_partial(self, long at, long slab, bint drain) noexcept nogil
    cdef void put_partials(self, long slab) noexcept nogil
    cdef void deactivate(self, long slab) noexcept nogil
    cdef long refill(self, long cache, long at) noexcept nogil
    cpdef void give_slab(self, long cache, long pfn, int order) noexcept nogil
    cdef long alloc_atomic(self, long cache, int objcg) noexcept nogil
    cpdef long memcg_of(self, long obj) noexcept nogil
    cdef long take(self, long cache) noexcept nogil
    cdef void give_back(self, long slab, long index) noexcept nogil
    cpdef long alloc(self, long cache, int objcg, bint force) noexcept nogil
    cpdef bint free(self, long obj) noexcept nogil
    cdef long shrink_node(self, long cache, long nid) noexcept nogil
    cdef void promote(self, long at, long free) noexcept nogil
