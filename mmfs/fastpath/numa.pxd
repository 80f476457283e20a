cimport cython
from mmfs.fastpath.defs cimport *
from mmfs.fastpath.frames cimport Frames, PageRec, BlockRec
from mmfs.fastpath.buddy cimport Buddy
from mmfs.fastpath.free_area cimport ZoneRec
from mmfs.fastpath.huge_memory cimport HugeMemory
from mmfs.fastpath.huge_split cimport HugeSplit
from mmfs.fastpath.memcontrol cimport Memcontrol
from mmfs.fastpath.migrate cimport Migration
from mmfs.fastpath.tlb cimport Tlb
from mmfs.fastpath.vma cimport VmaRec, Vmas

@cython.final
cdef class TaskNuma:
    cdef public long pid
    cdef readonly int nr_nodes
    cdef readonly object fault_counts
    cdef readonly object localities
    cdef long[::1] fault
    cdef long[::1] locality
    cdef public int preferred_nid
    cdef public long scan_seq
    cdef public long pages_migrated
    cdef public long migrate_retry
    cdef public bint has_faults
    cdef public bint due

@cython.final
cdef class Numa:
    cdef readonly Vmas areas
    cdef readonly Migration migration
    cdef readonly Frames frames
    cdef readonly Buddy buddy
    cdef readonly Memcontrol memcg
    cdef readonly Tlb tlb
    cdef readonly HugeMemory huge
    cdef long[::1] event
    cdef long[:, ::1] zone_stat
    cdef long[:, ::1] node_stat
    cdef VmaRec[::1] vma
    cdef bint several
    cdef unsigned char[::1] toptier
    cdef readonly object rates
    cdef long[:, ::1] rate
    cdef public int mode
    cdef public long hot_threshold
    cdef public long rate_limit
    cdef public long scan_period_max
    cdef public unsigned long wake
    cdef public long now_ms
    cdef public TaskNuma task
    cdef bint flag_local
    cdef bint flag_migrated
    cdef bint flag_failed
    cdef long last_cpupid(self, long folio) noexcept nogil
    cdef long xchg_last_cpupid(self, long folio, long cpupid) noexcept nogil
    cdef bint use_access_time(self, int nid) noexcept nogil
    cdef bint free_space_enough(self, int nid) noexcept nogil
    cdef long adjust_threshold(self, int nid) noexcept nogil
    cdef bint rate_limited(self, int nid, long nr) noexcept nogil
    cdef bint is_hot(self, long folio, int nid, long nr) noexcept nogil
    cdef bint should_migrate(self, long folio, int source, int nid, long nr) noexcept nogil
    cdef int mpol_misplaced(self, long folio, long vma, int source, long nr) noexcept nogil
    cdef bint is_shared(self, long folio) noexcept nogil
    cdef bint balanced(self, int nid, long nr) noexcept nogil
    cdef bint prepare(self, long folio, long vma, int nid, long nr) noexcept nogil
    cdef bint migrate_misplaced(self, long folio, long vma, int nid, int source) noexcept nogil
    cdef void task_numa_fault(self, long last, int nid, long nr) noexcept nogil
    cdef bint hint_fault(self, long folio, long vma, long nr) noexcept nogil
    cdef bint can_change_writable(self, long vma, unsigned long entry, long pfn) noexcept nogil
    cdef void restore(self, long vma, long at, bint writable) noexcept nogil
    cdef void do_numa_page(self, long vma, long at) noexcept nogil
    cdef void restore_large(self, long vma, long at, long folio) noexcept nogil
    cdef void rebuild_large(self, long vma, long at, long pfn) noexcept nogil
    cdef void do_huge_pmd_numa_page(self, long vma, long pmd) noexcept nogil
    cpdef long check_cpupid(self, long pfn) noexcept nogil
