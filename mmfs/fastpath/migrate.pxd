cimport cython
from mmfs.fastpath.defs cimport *
from mmfs.fastpath.frames cimport Frames, PageRec, BlockRec
from mmfs.fastpath.buddy cimport Buddy
from mmfs.fastpath.filemap cimport Filemap
from mmfs.fastpath.folio cimport Folios
from mmfs.fastpath.huge_memory cimport HugeMemory
from mmfs.fastpath.huge_split cimport HugeSplit
from mmfs.fastpath.lru cimport Lru
from mmfs.fastpath.memcontrol cimport Memcontrol
from mmfs.fastpath.rmap cimport Rmap
from mmfs.fastpath.swap_map cimport SwapMap
from mmfs.fastpath.tlb cimport Tlb
from mmfs.fastpath.vma cimport VmaRec, Vmas

@cython.final
cdef class Migration:
    cdef readonly Rmap rmap
    cdef readonly HugeSplit split
    cdef readonly HugeMemory huge
    cdef readonly Filemap filemap
    cdef readonly Folios folios
    cdef readonly Frames frames
    cdef readonly Buddy buddy
    cdef readonly Lru lru
    cdef readonly Memcontrol memcg
    cdef readonly Tlb tlb
    cdef readonly SwapMap slots
    cdef VmaRec[::1] vma
    cdef long[:, ::1] zone_stat
    cdef long[::1] event
    cdef readonly object cpupids
    cdef readonly object places
    cdef unsigned int[::1] cpupid
    cdef unsigned long[::1] place
    cdef readonly object toptiers
    cdef unsigned char[::1] toptier
    cdef bint several
    cdef public bint tiering
    cdef long moved_first
    cdef long moved_end
    cdef public long cpu_ns
    cdef public long cost_move
    cdef public long now_ns
    cdef unsigned long place_of(self, long folio) noexcept nogil
    cdef long last_cpupid(self, long folio) noexcept nogil
    cdef void set_cpupid(self, long folio, long cpupid) noexcept nogil
    cdef void move_cpupid(self, long cpupid, long src, long dst) noexcept nogil
    cdef unsigned long accessible(self, unsigned long entry, long vma, long pfn) noexcept nogil
    cpdef void isolate(self, long pfn) noexcept nogil
    cpdef void putback(self, long pfn) noexcept nogil
    cdef bint can_migrate(self, long pfn) noexcept nogil
    cdef int remap(self, long pfn, long old, long new) noexcept nogil
    cdef void remap_entry(self, long pfn, long vma, long addr, long at, long new) noexcept nogil
    cdef int remap_ksm(self, long pfn, long old, long new) noexcept nogil
    cdef void account(self, long pfn, int sign) noexcept nogil
    cdef void move_record(self, long src, long dst) noexcept nogil
    cpdef bint migrate_folio(self, long src, long dst) noexcept nogil
    cdef void remap_pmds(self, long folio, long new) noexcept nogil
    cdef void migrate_huge(self, long folio, long dst) noexcept nogil
    cdef bint moves_whole(self, long folio) noexcept nogil
    cdef void migrate_large(self, long folio, long dst) noexcept nogil
    cdef void move_frame(self, long folio, long src, long dst, int order) noexcept nogil
    cdef void move_block(self, long old, long new) noexcept nogil
    cdef void find_at(self, long folio, long dst, long nr) noexcept nogil
    cdef void account_large(self, long folio, int sign) noexcept nogil
    cdef int large_to_node(self, long folio, int nid, bint shared) noexcept nogil
    cdef bint split_large(self, long folio) noexcept nogil
    cdef int move_to_node(self, long pfn, int nid, bint shared) noexcept nogil
