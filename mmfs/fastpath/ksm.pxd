cimport cython
from mmfs.fastpath.defs cimport *
from mmfs.fastpath.contents cimport Contents
from mmfs.fastpath.frames cimport Frames, PageRec, BlockRec
from mmfs.fastpath.ksm_tree cimport ItemRec, KsmTree
from mmfs.fastpath.mmu cimport Mmu
from mmfs.fastpath.unmap cimport Unmap
from mmfs.fastpath.anon_fault cimport AnonFaults
from mmfs.fastpath.pgtable cimport PageTables
from mmfs.fastpath.rmap cimport Rmap
from mmfs.fastpath.vma cimport VmaRec

@cython.final
cdef class KsmScan:
    cdef readonly PageTables tables
    cdef readonly Mmu mmu
    cdef readonly Frames frames
    cdef readonly Contents contents
    cdef readonly Rmap rmap
    cdef readonly KsmTree tree
    cdef public long left
    cdef public long cursor
    cdef public long pages_scanned
    cdef public long pages_skipped
    cdef public long merged
    cdef public bint smart_scan
    cdef public bint merge_across_nodes
    cdef public bint use_zero_pages
    cdef int kind
    cdef unsigned long number
    cdef long base
    cdef long folio_of(self, long pfn) noexcept nogil
    cdef unsigned long mix(self, unsigned long h) noexcept nogil
    cdef unsigned long key_of(self, long addr, long pfn) noexcept nogil
    cdef bint skip(self, long i, long pfn) noexcept nogil
    cdef void scan_page(self, long mm, long vma, long addr, long pfn) noexcept nogil
    cdef void cmp_and_merge(self, long i, long vma, long addr, long pfn) noexcept nogil
    cdef long entry_at(self, long mm, long addr) noexcept nogil
    cdef void merge_two(self, long i, long t, long addr, long pfn) noexcept nogil
    cdef long page_at(self, long mm, long addr) noexcept nogil
    cdef void write_protect(self, long mm, long addr, long at, long pfn) noexcept nogil
    cdef bint replace_page(self, long mm, long vma, long addr, long pfn, long kpfn) noexcept nogil
    cdef bint merge_zero(self, long mm, long vma, long addr, long pfn) noexcept nogil
    cdef bint is_merged(self, unsigned long entry) noexcept nogil
    cdef void break_page(self, long mm, long vma, long addr, long at, long pfn) noexcept nogil
