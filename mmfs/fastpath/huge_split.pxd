cimport cython
from mmfs.fastpath.defs cimport *
from mmfs.fastpath.frames cimport Frames, PageRec, BlockRec
from mmfs.fastpath.folio cimport Folios
from mmfs.fastpath.huge_memory cimport HugeMemory
from mmfs.fastpath.lru cimport Lru
from mmfs.fastpath.rmap cimport Rmap
from mmfs.fastpath.shmem cimport Shmem
from mmfs.fastpath.shmem_slots cimport ShmemSlots
from mmfs.fastpath.swap cimport Swap

@cython.final
cdef class HugeSplit:
    cdef readonly HugeMemory huge
    cdef readonly Shmem shmem
    cdef readonly Rmap rmap
    cdef readonly Swap swap
    cdef readonly Frames frames
    cdef readonly Lru lru
    cdef long[::1] event
    cdef long[:, ::1] stat
    cdef bint split_folio(self, long folio) noexcept nogil
    cdef void split_file(self, long folio) noexcept nogil
    cdef void become_page(self, long folio, long pfn) noexcept nogil
    cdef bint split_to_order(self, long folio, int new_order) noexcept nogil
    cdef void unmap_folio(self, long folio, int order) noexcept nogil
    cdef void count_split(self, int order) noexcept nogil
    cdef long become_folio(self, long pfn, int order) noexcept nogil
    cdef void replace_on_list(self, long folio, long first, int order, int new_order) noexcept nogil
