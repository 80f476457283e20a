cimport cython
from mmfs.fastpath.defs cimport *

cdef packed struct PageCounterRec:
    long usage
    long max
    long high
    long min
    long low
    long emin
    long elow
    long min_usage
    long low_usage
    long children_min_usage
    long children_low_usage
    long watermark
    long local_watermark
    long failcnt

@cython.final
cdef class PageCounters:
    cdef PageCounterRec[::1] counter
    cdef int[::1] parent
    cdef readonly object records
    cdef readonly object parents
    cdef void init(self, long memcg, int parent) noexcept nogil
    cdef void propagate_protected_usage(self, long at, long up) noexcept nogil
    cdef void add_usage(self, long memcg, int kind, long nr) noexcept nogil
    cpdef void charge(self, long memcg, int kind, long nr) noexcept nogil
    cpdef void uncharge(self, long memcg, int kind, long nr) noexcept nogil
    cpdef long try_charge(self, long memcg, int kind, long nr) noexcept nogil
