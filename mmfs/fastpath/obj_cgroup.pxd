cimport cython
from mmfs.fastpath.defs cimport *
from mmfs.fastpath.buddy cimport Buddy
from mmfs.fastpath.memcontrol cimport Memcontrol

@cython.final
cdef class ObjCgroups:
    cdef readonly Memcontrol memcg
    cdef readonly Buddy buddy
    cdef readonly long nr_nodes
    cdef readonly object rows
    cdef readonly object nr_charged_bytes
    cdef readonly object pages
    cdef readonly object refs
    cdef readonly object of_rows
    cdef int[::1] row
    cdef long[::1] charged_bytes
    cdef long[::1] page
    cdef long[::1] ref
    cdef int[::1] of_row
    cdef int[::1] first
    cdef int[::1] nxt
    cdef int[::1] prv
    cdef int[::1] stock_objcg
    cdef long[::1] stock_bytes
    cdef int free_list
    cdef readonly int end
    cdef void link(self, int objcg, long memcg) noexcept nogil
    cdef void reparent(self, long memcg, long parent) noexcept nogil
    cdef void hand_on_state(self, long memcg, long parent) noexcept nogil
    cdef void hand_on_lruvec_state(self, long memcg, long parent, long nid, int item) noexcept nogil
    cdef void hand_on_memcg_state(self, long memcg, long parent, int item) noexcept nogil
    cdef void put(self, int objcg) noexcept nogil
    cpdef int from_memcg(self, long memcg) noexcept nogil
    cpdef int current(self) noexcept nogil
    cdef bint charge_pages(self, int objcg, long nr) noexcept nogil
    cdef void account_kmem(self, int objcg, long nr) noexcept nogil
    cdef void uncharge_pages(self, int objcg, long nr) noexcept nogil
    cdef void drain_stock(self, long cpu) noexcept nogil
    cdef void refill_stock(self, int objcg, long nr_bytes, bint allow_uncharge) noexcept nogil
    cpdef bint charge(self, int objcg, long size, bint force) noexcept nogil
    cpdef void uncharge(self, int objcg, long size) noexcept nogil
    cdef void mod_state(self, int objcg, long nid, int item, long nr) noexcept nogil
    cpdef void mod_memcg_state(self, int objcg, int item, long nr) noexcept nogil
