cimport cython
from mmfs.fastpath.defs cimport *
from mmfs.fastpath.frames cimport Frames, PageRec, BlockRec
from mmfs.fastpath.buddy cimport Buddy

cdef packed struct ZsEntryRec:
    unsigned int zspage
    unsigned short length
    unsigned short flags
    unsigned int nxt
    unsigned int prv
    unsigned int obj_nxt
    unsigned int obj_prv

cdef packed struct ZspageRec:
    unsigned short klass
    unsigned short inuse
    unsigned int first
    unsigned int objects
    unsigned int nxt
    unsigned int prv
    int group

@cython.final
cdef class ZsPool:
    cdef readonly Frames frames
    cdef readonly Buddy buddy
    cdef long[:, ::1] zone_stat
    cdef int[:, ::1] klass
    cdef ZsEntryRec[::1] entry
    cdef ZspageRec[::1] zspage
    cdef long[::1] nr_used
    cdef long[::1] nr_room
    cdef unsigned int[::1] head
    cdef readonly object classes
    cdef readonly object entries
    cdef readonly object zspages
    cdef readonly object used
    cdef readonly object room
    cdef long free_zspage_list
    cdef readonly long nr_zspages
    cdef readonly long pages_allocated
    cdef readonly long pages_compacted
    cdef readonly long nr_objects
    cdef readonly long bytes_stored
    cdef int class_of(self, int size) noexcept nogil
    cdef int group_of(self, long z) noexcept nogil
    cdef void insert(self, long z, int group) noexcept nogil
    cdef void remove(self, long z) noexcept nogil
    cdef int fix_fullness(self, long z) noexcept nogil
    cdef long alloc_zspage(self, int k, int nid) noexcept nogil
    cdef void free_chain(self, long first) noexcept nogil
    cdef void free_zspage(self, long z) noexcept nogil
    cdef void link(self, long z, long key) noexcept nogil
    cdef void unlink(self, long key) noexcept nogil
    cpdef bint malloc(self, long key, int size, int nid) noexcept nogil
    cpdef void free(self, long key) noexcept nogil
    cdef long can_compact(self, int k) noexcept nogil
    cdef long isolate(self, int k, int first, int last) noexcept nogil
    cdef long compact_class(self, int k) noexcept nogil
