cimport cython
from mmfs.fastpath.defs cimport *
from mmfs.fastpath.frames cimport Frames, PageRec, BlockRec
from mmfs.fastpath.buddy cimport Buddy

@cython.final
cdef class Lru:
    cdef readonly Frames frames
    cdef readonly Buddy buddy
    cdef long[:, ::1] node_stat
    cdef long[:, ::1] zone_stat
    cdef long[::1] event
    cdef unsigned int[:, ::1] batch
    cdef int[::1] batched
    cdef long page_heads
    cdef long block_heads
    cdef readonly long nr_cpus
    cdef int lru_of(self, unsigned int flags) noexcept nogil
    cdef void count(self, long zone, int lru, long nr) noexcept nogil
    cdef void add_page(self, long pfn) noexcept nogil
    cdef void del_page(self, long pfn) noexcept nogil
    cdef void drain(self, long cpu) noexcept nogil
    cdef void drain_all(self) noexcept nogil
    cdef void cache_add(self, long pfn) noexcept nogil
    cdef void add_block(self, long block) noexcept nogil
    cdef void del_block(self, long block) noexcept nogil
    cdef void split_block(self, long block) noexcept nogil
