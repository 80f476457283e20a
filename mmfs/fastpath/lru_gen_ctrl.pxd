cimport cython
from mmfs.fastpath.defs cimport *
from mmfs.fastpath.lru_gen cimport LruGen

@cython.final
cdef class LruGenCtrl:
    cdef readonly LruGen lru_gen
    cdef long[:, ::1] seq
    cdef long[:, ::1] size
    cdef long[:, ::1] evicted
    cdef long[:, ::1] refaulted
    cdef long[:, ::1] protect
    cdef long[:, ::1] avg_refaulted
    cdef long[:, ::1] avg_total
    cdef readonly bint due
    cdef long refaults(self, long lruvec, int kind, int tier) noexcept nogil
    cdef long total(self, long lruvec, int kind, int tier) noexcept nogil
    cpdef bint positive_ctrl_err(self, long sp_refaulted, long sp_total, long sp_gain, long pv_refaulted, long pv_total, long pv_gain) noexcept nogil
    cdef int last_tier(self, long lruvec, int kind, long gain, int sp_kind, long sp_gain) noexcept nogil
    cdef int tier_idx(self, long lruvec, int kind) noexcept nogil
    cdef int type_to_scan(self, long lruvec, int swappiness) noexcept nogil
    cpdef void reset_ctrl_pos(self, long lruvec, int kind) noexcept nogil
    cpdef bint try_to_inc_min_seq(self, long lruvec, int can_swap) noexcept nogil
    cdef long gen_size(self, long lruvec, int kind, long seq) noexcept nogil
    cpdef long should_run_aging(self, long lruvec, int can_swap) noexcept nogil
