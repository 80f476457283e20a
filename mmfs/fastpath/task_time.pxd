cimport cython
from mmfs.fastpath.defs cimport *
from mmfs.fastpath.contents cimport Contents
from mmfs.fastpath.swap_state cimport SwapState
from mmfs.fastpath.zswap cimport Zswap

@cython.final
cdef class TaskTime:
    cdef public long minflt
    cdef public long majflt
    cdef public long cow
    cdef public long nr_read
    cdef public long now_ns
    cdef public long cpu_ns
    cdef public long user_ns
    cdef public long wait_ns
    cdef public long nr_waits
    cdef public long memstall_ns
    cdef public long budget_ns
    cdef public long cpu_budget_ns
    cdef public long cost_access
    cdef public long cost_fault
    cdef public long cost_cow
    cdef public long cost_major
    cdef public long cost_huge
    cdef public bint tried
    cdef long now(self) noexcept nogil
    cdef long left_ns(self) noexcept nogil
    cdef void use(self, long ns) noexcept nogil
    cdef void use_large(self, long nr) noexcept nogil
    cdef void count_fault(self) noexcept nogil
    cdef void wait_on_read(self, SwapState swap_state) noexcept nogil
