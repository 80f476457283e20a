cimport cython
from mmfs.fastpath.defs cimport *
from mmfs.fastpath.frames cimport Frames, PageRec, BlockRec
from mmfs.fastpath.buddy cimport Buddy
from mmfs.fastpath.free_area cimport FreeArea
from mmfs.fastpath.huge_split cimport HugeSplit
from mmfs.fastpath.migrate cimport Migration

@cython.final
cdef class PageIsolation:
    cdef readonly Migration migration
    cdef readonly Buddy buddy
    cdef readonly FreeArea areas
    cdef readonly Frames frames
    cdef long[::1] event
    cdef public long spare
    cdef readonly long nr_failed
    cdef readonly long nr_moved
    cpdef long unmovable(self, long block, bint movable_zone, int migratetype) noexcept nogil
    cpdef void split_large_buddy(self, long block) noexcept nogil
    cpdef long find_large_buddy(self, long pfn) noexcept nogil
    cpdef void isolate_block(self, long block) noexcept nogil
    cpdef void unisolate_block(self, long block, int migratetype) noexcept nogil
    cpdef void split(self, long pfn) noexcept nogil
    cdef long migrate_page(self, long pfn, int nid, int highest, unsigned long nodemask) noexcept nogil
    cdef bint migrate_large(self, long folio, int nid, int highest, unsigned long nodemask) noexcept nogil
    cpdef long migrate_range(self, long start, long end, int nid, int highest, unsigned long nodemask) noexcept nogil
    cpdef long next_used(self, long start, long end) noexcept nogil
    cpdef long take_isolated(self, long zone, long start, long end) noexcept nogil
    cpdef void offline_isolated(self, long zone, long start, long end) noexcept nogil
    cpdef void online_range(self, long zone, long start, long end) noexcept nogil
    cpdef void add_virgin(self, long zone, long pfn) noexcept nogil
