cimport cython
from mmfs.fastpath.defs cimport *
from mmfs.fastpath.frames cimport Frames, PageRec, BlockRec
from mmfs.fastpath.compact_control cimport CompactControl, CompactZoneRec, CompactZones
from mmfs.fastpath.free_area cimport FreeArea, ZoneRec
from mmfs.fastpath.migrate cimport Migration
from mmfs.fastpath.rmap cimport Rmap

@cython.final
cdef class MigrateScanner:
    cdef readonly Migration migration
    cdef readonly Rmap rmap
    cdef readonly Frames frames
    cdef readonly CompactZones zones
    cdef readonly FreeArea areas
    cdef long[::1] event
    cdef public bint unevictable_allowed
    cdef void putback(self, CompactControl cc) noexcept nogil
    cdef bint suitable_migration_source(self, CompactControl cc, long pfn) noexcept nogil
    cdef bint movable(self, CompactControl cc, long pfn) noexcept nogil
    cdef long folio_at(self, long pfn) noexcept nogil
    cdef bint skip_isolation_on_order(self, int order, int target) noexcept nogil
    cdef long isolate_whole(self, CompactControl cc, long low, long end) noexcept nogil
    cdef void isolate_migratepages_block(self, CompactControl cc, long low, long end) noexcept nogil
    cdef long reinit_migrate_pfn(self, CompactControl cc) noexcept nogil
    cdef long fast_find_migrateblock(self, CompactControl cc) noexcept nogil
    cdef void move_freelist_tail(self, long head, long pfn) noexcept nogil
    cdef bint isolate_migratepages(self, CompactControl cc) noexcept nogil
