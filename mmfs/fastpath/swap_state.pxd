cimport cython
from mmfs.fastpath.defs cimport *
from mmfs.fastpath.frames cimport Frames, PageRec, BlockRec
from mmfs.fastpath.buddy cimport Buddy
from mmfs.fastpath.folio cimport Folios
from mmfs.fastpath.lru cimport Lru
from mmfs.fastpath.memcontrol cimport Memcontrol
from mmfs.fastpath.swap cimport Swap
from mmfs.fastpath.swap_map cimport SwapMap, SwapAreaRec
from mmfs.fastpath.zram cimport SwapDevice
from mmfs.fastpath.tlb cimport MmRec
from mmfs.fastpath.vma cimport VmaRec, Vmas
from mmfs.fastpath.zswap cimport Zswap

cdef packed struct SwapRaRec:
    long addr
    int win
    int hits

@cython.final
cdef class SwapState:
    cdef readonly Frames frames
    cdef readonly Buddy buddy
    cdef readonly Folios folios
    cdef readonly Lru lru
    cdef readonly Memcontrol memcg
    cdef readonly Swap swap
    cdef readonly Vmas areas
    cdef readonly Zswap zswap
    cdef VmaRec[::1] vma
    cdef MmRec[::1] mm
    cdef SwapAreaRec[::1] area
    cdef unsigned int[::1] count
    cdef SwapRaRec[::1] ra
    cdef long[::1] event
    cdef readonly object ras
    cdef public int page_cluster
    cdef public bint enable_vma_readahead
    cdef public int nr_rotate_swap
    cdef readonly bint thrashing
    cdef public long now_ns
    cdef readonly long done_ns
    cdef readonly long nr_read
    cdef long run_start
    cdef long run_pages
    cdef bint allocated
    cdef int hits
    cdef int last_pages
    cdef long prev_offset
    cdef long pending_slot
    cdef long pending_addr
    cdef bint pending_by_vma
    cdef long window
    cdef long window_end
    cdef bint has_recency(self, long vma) noexcept nogil
    cpdef void begin(self, long now_ns) noexcept nogil
    cdef bint use_vma_readahead(self) noexcept nogil
    cdef long swap_cache_get(self, long slot, long vma, long addr) noexcept nogil
    cdef long read_swap_cache(self, long vma, long slot, long index) noexcept nogil
    cdef long alloc_swap_cache(self, long vma, long slot, long index) noexcept nogil
    cdef void read_folio(self, long pfn, long slot) noexcept nogil
    cdef void read_unplug(self) noexcept nogil
    cdef int nr_pages(self, long prev, long here, int hits, int max_pages, int prev_win) noexcept nogil
    cdef void vma_window(self, long vma, long addr) noexcept nogil
    cdef void cluster_window(self, long slot) noexcept nogil
    cdef long vma_readahead(self, long vma, long addr, long at, long slot) noexcept nogil
    cdef long cluster_readahead(self, long vma, long addr, long slot) noexcept nogil
    cdef long readahead(self, long vma, long addr, long at, long slot) noexcept nogil
    cdef bint read_ahead_of(self, long vma, long addr, unsigned long entry) noexcept nogil
    cdef void finish(self) noexcept nogil
