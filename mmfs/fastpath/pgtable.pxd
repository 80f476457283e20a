cimport cython
from mmfs.fastpath.defs cimport *
from mmfs.fastpath.frames cimport Frames, PageRec, BlockRec
from mmfs.fastpath.lru cimport Lru
from mmfs.fastpath.memcontrol cimport Memcontrol
from mmfs.fastpath.huge_memory cimport HugeMemory
from mmfs.fastpath.huge_split cimport HugeSplit
from mmfs.fastpath.mmu cimport Mmu
from mmfs.fastpath.unmap cimport Unmap
from mmfs.fastpath.walk cimport Walker

@cython.final
cdef class PageTables:
    cdef readonly Mmu mmu
    cdef readonly Walker walker
    cdef readonly Frames frames
    cdef readonly HugeMemory huge
    cdef long next_addr
    cdef long pmd
    cdef long seek(self, long mm, long addr) noexcept nogil
    cdef long seek_entry(self, long mm, long addr) noexcept nogil
    cdef long seek_part(self, long mm, long addr, long end) noexcept nogil
    cdef bint is_tail(self, long at) noexcept nogil
    cdef long pte_batch(self, long at, long most) noexcept nogil
    cdef void lock_entries(self, long at, long end, bint lock) noexcept nogil
    cdef void lock_folio(self, long folio, bint lock) noexcept nogil
    cdef long zap_frames(self, long mm, unsigned long vmflags, long at, long most) noexcept nogil
    cdef void note_use(self, long folio, unsigned long entry, unsigned long vmflags) noexcept nogil
    cdef void zap_entry(self, long mm, unsigned long vmflags, long at) noexcept nogil
    cdef void copy_swap_entry(self, long dst, long at, long to) noexcept nogil
    cdef bint copy_entry(self, long dst, long src, unsigned long vmflags, long addr, long at) noexcept nogil
    cdef void free_level(self, long mm, long table, int level, long base, long floor, long ceiling) noexcept nogil
