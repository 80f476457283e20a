cimport cython
from mmfs.fastpath.defs cimport *
from mmfs.fastpath.folio cimport Folios
from mmfs.fastpath.frames cimport Frames, PageRec
from mmfs.fastpath.huge_file cimport HugeFile
from mmfs.fastpath.huge_memory cimport HugeMemory
from mmfs.fastpath.memcontrol cimport Memcontrol
from mmfs.fastpath.swap cimport Swap
from mmfs.fastpath.tlb cimport MmRec

@cython.final
cdef class Unmap:
    cdef readonly Swap swap
    cdef readonly HugeMemory huge
    cdef readonly Folios folios
    cdef readonly Frames frames
    cdef readonly Memcontrol memcg
    cdef MmRec[::1] mm
    cdef void unmap_frames(self, long mm, unsigned long vmflags, long pfn, long nr) noexcept nogil
    cdef void unmap_page(self, long mm, unsigned long vmflags, long pfn) noexcept nogil
