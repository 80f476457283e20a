cimport cython
from mmfs.fastpath.defs cimport *
from mmfs.fastpath.frames cimport Frames, PageRec, BlockRec
from mmfs.fastpath.buddy cimport Buddy
from mmfs.fastpath.lru cimport Lru
from mmfs.fastpath.memcontrol cimport Memcontrol
from mmfs.fastpath.slub cimport Slub
from mmfs.fastpath.workingset cimport Workingset
from mmfs.fastpath.xa_nodes cimport XaNodes

cdef packed struct MappingRec:
    long base
    long slots
    long size
    long nrpages
    int shmem
    int memcg
    long nr_dirty
    long nr_writeback
    long queued
    long writeback_index
    long on_disk
    long sector
    long pinned
    int huge_fault
    int huge_write
    int shrinking
    int unnamed

@cython.final
cdef class Folios:
    cdef readonly Frames frames
    cdef readonly Buddy buddy
    cdef readonly Lru lru
    cdef readonly Workingset workingset
    cdef readonly Slub slub
    cdef readonly XaNodes nodes
    cdef MappingRec[::1] mapping
    cdef unsigned long[::1] slot
    cdef readonly Memcontrol memcg
    cdef long[:, ::1] zone_stat
    cdef long[::1] event
    cdef readonly object mappings
    cdef readonly object slots
    cdef readonly object dirtied
    cdef unsigned int[::1] dirtied_mapping
    cdef public long nr_dirtied
    cpdef long lookup(self, long m, long index) noexcept nogil
    cdef void set_slot(self, long m, long index, unsigned long value) noexcept nogil
    cdef void cache_add(self, long m, long index, long pfn, bint in_fault) noexcept nogil
    cdef void cache_insert(self, long m, long index, long pfn) noexcept nogil
    cdef void cache_remove(self, long pfn, unsigned long shadow) noexcept nogil
    cdef bint in_use(self, long pfn) noexcept nogil
    cdef bint pinned(self, long pfn) noexcept nogil
    cdef void account_cleaned(self, long pfn) noexcept nogil
    cdef void add_buffers(self, long pfn) noexcept nogil
    cdef void mark_dirty(self, long pfn) noexcept nogil
    cdef void mlock_new(self, long folio) noexcept nogil
    cdef void mlock_folio(self, long folio) noexcept nogil
    cdef void munlock_folio(self, long folio) noexcept nogil
    cdef void clear_mlocked(self, long folio) noexcept nogil
    cdef void unmap_mlocked(self, long folio) noexcept nogil
    cdef void clear_mlocked_freed(self, long folio) noexcept nogil
    cdef void free_page(self, long pfn) noexcept nogil
