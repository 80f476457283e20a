cimport cython
from mmfs.fastpath.defs cimport *
from mmfs.fastpath.frames cimport Frames, PageRec, BlockRec
from mmfs.fastpath.folio cimport Folios, MappingRec
from mmfs.fastpath.huge_file cimport HugeFile
from mmfs.fastpath.huge_memory cimport HugeMemory
from mmfs.fastpath.memcontrol cimport Memcontrol
from mmfs.fastpath.mmu cimport Mmu
from mmfs.fastpath.rmap cimport ChainRec, Rmap
from mmfs.fastpath.shmem cimport Shmem
from mmfs.fastpath.tlb cimport MmRec, Tlb
from mmfs.fastpath.vma cimport VmaRec
from mmfs.fastpath.walk cimport Walker

@cython.final
cdef class CollapseFile:
    cdef readonly Mmu mmu
    cdef readonly Shmem shmem
    cdef readonly HugeMemory huge
    cdef readonly Rmap rmap
    cdef readonly Folios folios
    cdef readonly Frames frames
    cdef readonly Walker walker
    cdef MappingRec[::1] mapping
    cdef VmaRec[::1] vma
    cdef readonly long present
    cdef readonly long swap
    cdef readonly bint large
    cdef readonly bint busy
    cdef bint unmap(self, long m, long first) noexcept nogil
    cdef void remove(self, long m, long index) noexcept nogil
    cdef void retract(self, long mm, long addr) noexcept nogil
