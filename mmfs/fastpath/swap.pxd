cimport cython
from mmfs.fastpath.defs cimport *
from mmfs.fastpath.frames cimport Frames, PageRec, BlockRec
from mmfs.fastpath.buddy cimport Buddy
from mmfs.fastpath.folio cimport Folios
from mmfs.fastpath.lru cimport Lru
from mmfs.fastpath.swap_alloc cimport SwapAlloc
from mmfs.fastpath.memcontrol cimport Memcontrol
from mmfs.fastpath.swap_map cimport SwapMap, SwapAreaRec
from mmfs.fastpath.zram cimport SwapDevice
from mmfs.fastpath.zswap cimport Zswap

@cython.final
cdef class Swap:
    cdef readonly Frames frames
    cdef readonly Buddy buddy
    cdef readonly Folios folios
    cdef readonly Lru lru
    cdef readonly SwapMap slots
    cdef readonly SwapAlloc allocator
    cdef SwapAreaRec[::1] area
    cdef unsigned int[::1] count
    cdef unsigned long[::1] cached
    cdef long[:, ::1] mthp_stat
    cdef unsigned int[:, ::1] slot_cache
    cdef unsigned int[:, ::1] slot_cache_ret
    cdef int[::1] cur
    cdef int[::1] nr
    cdef int[::1] n_ret
    cdef unsigned int[:, ::1] batch
    cdef int[::1] batched
    cdef readonly Memcontrol memcg
    cdef long[:, ::1] zone_stat
    cdef long[::1] event
    cdef readonly object batched_counts
    cdef public bint thp_swap
    cdef public bint slot_cache_enabled
    cdef bint slot_cache_active
    cdef long max_batch
    cdef public long nr_shmem_swapped
    cdef unsigned long entry_of(self, long slot) noexcept nogil
    cdef void drain_slot_caches(self) noexcept nogil
    cdef bint check_cache_active(self) noexcept nogil
    cdef long alloc_slot(self, long folio) noexcept nogil
    cdef long find_slots(self, long folio) noexcept nogil
    cdef long find_slot(self) noexcept nogil
    cdef void free_slot(self, long slot) noexcept nogil
    cdef void duplicate(self, long slot) noexcept nogil
    cdef long owners(self, long slot) noexcept nogil
    cdef unsigned int entry_free(self, long slot) noexcept nogil
    cdef void put_slots(self, long slot, long nr) noexcept nogil
    cdef unsigned long add_to_swap_cache(self, long folio, long slot) noexcept nogil
    cdef void delete_from_swap_cache(self, long folio, unsigned long shadow) noexcept nogil
    cdef bint free_swap(self, long folio) noexcept nogil
    cdef void free_swap_cache(self, long folio) noexcept nogil
    cdef void become_page(self, long folio, long pfn) noexcept nogil
    cdef void free_swap_and_cache(self, long slot) noexcept nogil
    cdef bint add_to_swap(self, long folio) noexcept nogil
    cdef int shmem_writepage(self, long pfn) noexcept nogil
    cdef int writepage(self, long folio) noexcept nogil
    cdef void count_swpout(self, long folio) noexcept nogil
    cdef int write_to_zram(self, int t, long folio, long slot) noexcept nogil
    cdef int write_to_area(self, long folio, long slot) noexcept nogil
    cdef void start_writeback(self, long folio) noexcept nogil
    cdef void end_writeback(self, long folio) noexcept nogil
