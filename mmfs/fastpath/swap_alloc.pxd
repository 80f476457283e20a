cimport cython
from mmfs.fastpath.defs cimport *
from mmfs.fastpath.buddy cimport Buddy
from mmfs.fastpath.swap_map cimport SwapMap, SwapAreaRec, ClusterRec

@cython.final
cdef class SwapAlloc:
    cdef readonly SwapMap slots
    cdef readonly Buddy buddy
    cdef SwapAreaRec[::1] area
    cdef unsigned int[::1] count
    cdef ClusterRec[::1] cluster
    cdef int[::1] avail
    cdef int[::1] order
    cdef long[:, ::1] cluster_next
    cdef unsigned int[::1] found
    cdef long latency
    cdef bint scanned_many
    cdef long first_cluster(self, int t, int which, int order) noexcept nogil
    cdef bint range_usable(self, int t, long offset, long nr) noexcept nogil
    cdef long scan_cluster(self, int t, long offset, int order) noexcept nogil
    cdef void reclaim_full_cluster(self, int t) noexcept nogil
    cdef long cluster_alloc_swap_entry(self, int t, int order) noexcept nogil
    cdef long from_used_clusters(self, int t, int order) noexcept nogil
    cdef long steal_slot(self, int t) noexcept nogil
    cdef int cluster_alloc_swap(self, int t, int goal, int order) noexcept nogil
    cdef bint reclaimable(self, int t, long offset) noexcept nogil
    cdef long new_cluster(self, int t) noexcept nogil
    cdef void scan_latency(self, long nr) noexcept nogil
    cdef long search(self, int t, long offset, long scan_base) noexcept nogil
    cdef long search_to(self, int t, long offset, long last) noexcept nogil
    cdef long next_in_order(self, int t, long offset, long scan_base) noexcept nogil
    cdef int scan_swap_map_slots(self, int t, int goal, int order) noexcept nogil
    cdef void requeue(self, int t) noexcept nogil
    cdef int get_swap_pages(self, int goal, int order) noexcept nogil
