cimport cython
from mmfs.fastpath.defs cimport *
from mmfs.fastpath.anon_fault cimport AnonFaults
from mmfs.fastpath.filemap cimport Filemap, FileRaRec
from mmfs.fastpath.folio cimport Folios, MappingRec
from mmfs.fastpath.frames cimport Frames, PageRec
from mmfs.fastpath.huge_file cimport HugeFile
from mmfs.fastpath.huge_memory cimport HugeMemory
from mmfs.fastpath.memcontrol cimport Memcontrol
from mmfs.fastpath.rmap cimport Rmap
from mmfs.fastpath.shmem cimport Shmem
from mmfs.fastpath.swap_state cimport SwapState
from mmfs.fastpath.swapin cimport SwapIn
from mmfs.fastpath.task_time cimport TaskTime
from mmfs.fastpath.tlb cimport MmRec, Tlb
from mmfs.fastpath.vma cimport VmaRec, Vmas
from mmfs.fastpath.walk cimport Walker

@cython.final
cdef class FileFaults:
    cdef readonly AnonFaults anon
    cdef readonly TaskTime time
    cdef readonly SwapIn swapin
    cdef readonly SwapState swap_state
    cdef readonly Shmem shmem
    cdef readonly Rmap rmap
    cdef readonly HugeMemory huge
    cdef readonly Filemap filemap
    cdef readonly Walker walker
    cdef readonly Folios folios
    cdef readonly Frames frames
    cdef readonly Memcontrol memcg
    cdef readonly Vmas areas
    cdef VmaRec[::1] vma
    cdef MmRec[::1] mm
    cdef MappingRec[::1] mapping
    cdef FileRaRec[::1] file
    cdef public long fault_around_pages
    cdef long file_page(self, long vma, long m, long index) noexcept nogil
    cdef long shmem_fault(self, long m, long index) noexcept nogil
    cdef void map_file(self, long mm, long vma, long pfn, long at, bint write) noexcept nogil
    cdef long frames_to_map(self, long vma, long pfn, long at) noexcept nogil
    cdef void map_frames(self, long mm, long vma, long pfn, long at, bint write, long nr) noexcept nogil
    cdef void fault_around(self, long mm, long vma, long addr) noexcept nogil
    cdef int file_fault(self, long mm, long vma, long addr, long at, bint write) noexcept nogil
    cdef int huge_fault(self, long mm, long vma, long addr, bint write) noexcept nogil
    cdef int map_new(self, long mm, long vma, long addr, long pfn, bint write) noexcept nogil
    cdef int unserved(self, long page) noexcept nogil
