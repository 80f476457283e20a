cimport cython
from mmfs.fastpath.defs cimport *
from mmfs.fastpath.frames cimport Frames, PageRec, BlockRec
from mmfs.fastpath.buddy cimport Buddy
from mmfs.fastpath.free_area cimport ZoneRec
from mmfs.fastpath.huge_memory cimport HugeMemory
from mmfs.fastpath.memcontrol cimport Memcontrol
from mmfs.fastpath.migrate cimport Migration
from mmfs.fastpath.mmu cimport Mmu
from mmfs.fastpath.numa cimport Numa
from mmfs.fastpath.pgtable cimport PageTables
from mmfs.fastpath.tlb cimport MmRec, Tlb

@cython.final
cdef class NumaScan:
    cdef readonly PageTables pagetables
    cdef readonly Numa numa
    cdef readonly Frames frames
    cdef readonly Buddy buddy
    cdef readonly Memcontrol memcg
    cdef readonly Migration migration
    cdef MmRec[::1] mm
    cdef public long scanned
    cdef bint skips(self, long folio) noexcept nogil
    cdef bint mark_entry(self, long at, bint cow, int target) noexcept nogil
    cdef bint mark_pmd(self, long pmd) noexcept nogil
