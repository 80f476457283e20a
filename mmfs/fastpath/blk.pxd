cimport cython
from mmfs.fastpath.defs cimport *

@cython.final
cdef class Disk:
    cdef readonly object stats
    cdef long[:, ::1] stat
    cdef long[::1] event
    cdef long[::1] done_ns
    cdef long[::1] done_requests
    cdef long oldest
    cdef long nr_waiting
    cdef long requests_waiting
    cdef long head
    cdef long transfers_end
    cdef long busy_end
    cdef long busy_ns
    cdef public long seek_ns
    cdef public long latency_ns
    cdef public long request_ns
    cdef public long flush_ns
    cdef public long read_ps
    cdef public long write_ps
    cdef public long io_pages
    cpdef long account(self, int op, long nr_sectors, long nr_bios, long nr_requests, long now_ns, long sector=*) noexcept nogil
    cpdef long submit(self, int op, long nr_sectors, long nr_bios, long nr_requests, long now_ns, long sector=*) noexcept nogil
    cdef void count(self, int op, long nr_sectors, long nsec) noexcept nogil
    cpdef long in_flight(self, long now_ns) noexcept nogil
    cpdef long io_ns(self, long now_ns) noexcept nogil
