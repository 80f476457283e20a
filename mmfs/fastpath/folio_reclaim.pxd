cimport cython
from mmfs.fastpath.defs cimport *
from mmfs.fastpath.frames cimport Frames, PageRec, BlockRec
from mmfs.fastpath.buddy cimport Buddy
from mmfs.fastpath.demotion cimport Demotion
from mmfs.fastpath.lru cimport Lru, LruvecRec
from mmfs.fastpath.filemap cimport Filemap
from mmfs.fastpath.folio cimport Folios
from mmfs.fastpath.memcontrol cimport Memcontrol
from mmfs.fastpath.huge_split cimport HugeSplit
from mmfs.fastpath.rmap cimport Rmap
from mmfs.fastpath.shmem cimport Shmem
from mmfs.fastpath.swap cimport Swap
from mmfs.fastpath.swap_map cimport SwapMap
from mmfs.fastpath.zswap cimport Zswap
from mmfs.fastpath.contents cimport Contents
from mmfs.fastpath.workingset cimport Workingset
from mmfs.fastpath.scan_control cimport ScanControl

@cython.final
cdef class FolioReclaim:
    cdef readonly Frames frames
    cdef readonly Buddy buddy
    cdef readonly Lru lru
    cdef readonly Folios folios
    cdef readonly Workingset workingset
    cdef readonly HugeSplit huge_split
    cdef readonly Rmap rmap
    cdef readonly Swap swap
    cdef readonly Filemap filemap
    cdef LruvecRec[::1] lruvec
    cdef readonly Memcontrol memcg
    cdef long[:, ::1] node_stat
    cdef long[::1] event
    cdef unsigned int[::1] folio
    cdef unsigned int[::1] kept
    cdef unsigned int[::1] demote
    cdef readonly Demotion demotion
    cdef long nr_demote
    cdef long nr_demoted
    cdef long nr_split
    cdef bint demoting
    cdef long nr_left
    cdef long nr_reclaimed
    cdef long nr_pageout
    cdef long coming
    cdef public long now_ns
    cdef public long cpu_ns
    cdef public long nr_written
    cdef public long cost_scan
    cdef public long cost_referenced
    cdef public long cost_steal
    cdef public long cost_unmap
    cdef public long cost_pageout
    cdef void prefetch(self, long i, long n) noexcept nogil
    cdef int check_references(self, long pfn, ScanControl sc) noexcept nogil
    cdef bint is_locked(self, long pfn) noexcept nogil
    cdef int shrink_folio(self, long pfn, ScanControl sc, bint ignore_references) noexcept nogil
    cdef int reclaim_folio(self, long pfn, ScanControl sc, int references) noexcept nogil
    cdef int pageout(self, long pfn, ScanControl sc, int references) noexcept nogil
    cdef int writepage(self, long pfn) noexcept nogil
    cdef bint referenced(self, long pfn) noexcept nogil
    cdef bint remove_mapping(self, long pfn) noexcept nogil
    cdef void activate(self, long pfn) noexcept nogil
    cdef long shrink_folio_list(self, long n, ScanControl sc, bint ignore_references) noexcept nogil
    cdef void demote_folios(self, ScanControl sc, bint ignore_references) noexcept nogil
    cdef void shrink_folios(self, long n, ScanControl sc, bint ignore_references) noexcept nogil
    cdef bint unmap(self, long pfn) noexcept nogil
    cdef bint is_huge_file(self, long pfn) noexcept nogil
    cdef bint may_write(self, ScanControl sc) noexcept nogil
    cdef int split(self, long folio, ScanControl sc) noexcept nogil
    cdef int split_to_swap(self, long folio, ScanControl sc) noexcept nogil
    cdef void note_result(self, long pfn, int result) noexcept nogil
