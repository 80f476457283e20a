cimport cython

@cython.final
cdef class ScanControl:
    cdef public long nr_to_reclaim
    cdef public long anon_cost
    cdef public long file_cost
    cdef public long gfp
    cdef public int order
    cdef public int priority
    cdef public long memcg
    cdef public bint memcg_low_reclaim
    cdef public bint memcg_low_skipped
    cdef public bint proactive
    cdef public bint count_proactive
    cdef public int swappiness
    cdef public int reclaim_idx
    cdef public int may_deactivate
    cdef public bint kswapd
    cdef public bint khugepaged
    cdef public bint no_demotion
    cdef public bint may_writepage
    cdef public bint may_unmap
    cdef public bint may_swap
    cdef public bint force_deactivate
    cdef public bint skipped_deactivate
    cdef public bint no_cache_trim_mode
    cdef public bint cache_trim_mode
    cdef public bint cache_trim_mode_failed
    cdef public bint file_is_tiny
    cdef public bint compaction_ready
    cdef public bint full_walk
    cdef public bint node_writeback
    cdef public bint node_dirty
    cdef public long nr_scanned
    cdef public long nr_reclaimed
    cdef public long nr_dirty
    cdef public long nr_unqueued_dirty
    cdef public long nr_congested
    cdef public long nr_writeback
    cdef public long nr_immediate
    cdef public long nr_file_taken
    cdef public long nr_taken
    cdef public long lruvec_reclaimed
    cdef long[5] nr
    cdef long[5] target
