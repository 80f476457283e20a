cimport cython
from mmfs.fastpath.defs cimport *
from mmfs.fastpath.frames cimport Frames, PageRec, BlockRec
from mmfs.fastpath.buddy cimport Buddy
from mmfs.fastpath.contents cimport Contents
from mmfs.fastpath.memcontrol cimport Memcontrol
from mmfs.fastpath.obj_cgroup cimport ObjCgroups
from mmfs.fastpath.zsmalloc cimport ZsPool, ZsEntryRec

@cython.final
cdef class Zswap:
    cdef readonly Frames frames
    cdef readonly Buddy buddy
    cdef readonly Contents contents
    cdef readonly ZsPool pool
    cdef ZsEntryRec[::1] entry
    cdef readonly Memcontrol memcg
    cdef unsigned short[::1] memcg_of
    cdef readonly ObjCgroups objcg
    cdef readonly object objcgs
    cdef int[::1] objcg_of
    cdef unsigned int[::1] first
    cdef unsigned int[::1] last
    cdef long[::1] nr
    cdef public bint enabled
    cdef public bint ever_enabled
    cdef readonly bint reached_full
    cdef public bint want_shrink
    cdef public long max_pages
    cdef public long accept_pages
    cdef public int factor
    cdef public long compress_ns
    cdef public long decompress_ns
    cdef readonly long pool_limit_hit
    cdef public long written_back_pages
    cdef public long reject_reclaim_fail
    cdef readonly long reject_compress_poor
    cdef readonly long reject_alloc_fail
    cdef readonly long nr_zero
    cdef public bint zeromap
    cdef public bint exclusive
    cdef public bint same_filled
    cdef void lru_add(self, long slot, int nid) noexcept nogil
    cdef void lru_del(self, long slot) noexcept nogil
    cdef bint check_limits(self) noexcept nogil
    cdef void entry_free(self, long slot) noexcept nogil
    cdef bint is_zero(self, long folio) noexcept nogil
    cdef bint store_zero(self, long folio, long slot) noexcept nogil
    cdef void set_zero(self, long slot) noexcept nogil
    cdef bint holds_zero(self, long slot) noexcept nogil
    cdef void clear_zero(self, long slot) noexcept nogil
    cdef bint store(self, long pfn, long slot) noexcept nogil
    cdef bint compress(self, long pfn, long slot) noexcept nogil
    cdef void charge(self, long slot, int objcg, long size) noexcept nogil
    cdef bint load(self, long slot) noexcept nogil
    cdef void load_for_writeback(self, long slot) noexcept nogil
    cdef bint load_zero(self, long slot) noexcept nogil
    cdef void invalidate(self, long slot) noexcept nogil
    cdef long second_chance(self, int nid) noexcept nogil
