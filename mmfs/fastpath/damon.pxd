cimport cython
from mmfs.fastpath.defs cimport *
from mmfs.fastpath.frames cimport Frames, PageRec, BlockRec
from mmfs.fastpath.lru cimport Lru
from mmfs.fastpath.pgtable cimport PageTables
from mmfs.fastpath.rmap cimport ChainRec, Rmap
from mmfs.fastpath.vma cimport VmaRec

@cython.final
cdef class DamonLoops:
    cdef readonly PageTables tables
    cdef readonly Rmap rmap
    cdef readonly Frames frames
    cdef readonly Lru lru
    cdef public long next_pfn
    cdef public long applied
    cdef public long passed
    cdef public long scanned
    cdef long get_folio(self, long pfn) noexcept nogil
    cdef void mkold(self, long at, long folio) noexcept nogil
    cdef bint young(self, long at, long folio) noexcept nogil
    cdef long entry_of(self, long mm, long addr) noexcept nogil
    cdef long hugetlb_entry(self, long mm, long addr) noexcept nogil
    cdef bint walk_one(self, long vma, long folio, bint mark) noexcept nogil
    cdef bint visit(self, long at, long folio, bint mark) noexcept nogil
    cdef bint rmap_walk(self, long folio, bint mark) noexcept nogil
    cdef void folio_mkold(self, long folio) noexcept nogil
    cdef bint folio_young(self, long folio) noexcept nogil
    cdef bint filter_out(self, long folio, long[:, ::1] filters) noexcept nogil
