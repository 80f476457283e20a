cimport cython
from mmfs.fastpath.defs cimport *
from mmfs.fastpath.memcontrol cimport Memcontrol
from mmfs.fastpath.slub cimport Slub

@cython.final
cdef class XaNodes:
    cdef readonly Slub slub
    cdef readonly Memcontrol memcg
    cdef readonly object entries
    cdef readonly object values
    cdef readonly object objects
    cdef readonly object lists
    cdef readonly object buffers
    cdef unsigned long[::1] slot
    cdef unsigned char[::1] entry
    cdef unsigned char[::1] value
    cdef long[::1] obj
    cdef int[::1] on_list
    cdef long[::1] buffer
    cdef unsigned int[::1] nxt
    cdef unsigned int[::1] prv
    cdef unsigned int[::1] first
    cdef unsigned int[::1] last
    cdef long[::1] nr_listed
    cdef public long node_cache
    cdef public long buffer_cache
    cdef readonly long nr_nodes
    cdef readonly long nr_buffers
    cdef void store(self, long at, unsigned long value) noexcept nogil
    cdef void free_node(self, long node) noexcept nogil
    cdef long lruvec_of(self, long node) noexcept nogil
    cdef void list_add(self, long node) noexcept nogil
    cdef void list_del(self, long node) noexcept nogil
    cdef void add_buffer(self, long at, long memcg) noexcept nogil
    cdef void free_buffer(self, long at) noexcept nogil
    cdef void move_node(self, long old, long new) noexcept nogil
