cimport cython
from mmfs.fastpath.defs cimport *
from mmfs.fastpath.frames cimport Frames, PageRec, BlockRec
from mmfs.fastpath.buddy cimport Buddy
from mmfs.fastpath.lru cimport Lru
from mmfs.fastpath.folio cimport Folios, MappingRec
from mmfs.fastpath.filemap cimport Filemap, FileRaRec
from mmfs.fastpath.writeback cimport Writeback
from mmfs.fastpath.memcontrol cimport Memcontrol
from mmfs.fastpath.tlb cimport MmRec, Tlb
from mmfs.fastpath.walk cimport Walker
from mmfs.fastpath.vma cimport VmaRec, Vmas
from mmfs.fastpath.swap cimport Swap
from mmfs.fastpath.swap_map cimport SwapMap
from mmfs.fastpath.zswap cimport Zswap
from mmfs.fastpath.contents cimport Contents
from mmfs.fastpath.lru_gen_walk cimport LruGenWalk
from mmfs.fastpath.anon_fault cimport AnonFaults
from mmfs.fastpath.file_fault cimport FileFaults
from mmfs.fastpath.task_time cimport TaskTime
from mmfs.fastpath.unmap cimport Unmap
from mmfs.fastpath.huge_memory cimport HugeMemory
from mmfs.fastpath.huge_split cimport HugeSplit
from mmfs.fastpath.huge_file cimport HugeFile
from mmfs.fastpath.rmap cimport Rmap
from mmfs.fastpath.shmem cimport Shmem
from mmfs.fastpath.swap_state cimport SwapState
from mmfs.fastpath.swapin cimport SwapIn
from mmfs.fastpath.zswap_writeback cimport ZswapWriteback
from mmfs.fastpath.compaction cimport Compaction
from mmfs.fastpath.migrate cimport Migration
from mmfs.fastpath.numa cimport Numa

@cython.final
cdef class Mmu:
    cdef readonly Frames frames
    cdef readonly Buddy buddy
    cdef readonly Lru lru
    cdef readonly Folios folios
    cdef readonly Filemap filemap
    cdef readonly Writeback writeback
    cdef readonly Tlb tlb
    cdef readonly Walker walker
    cdef readonly Vmas areas
    cdef readonly Swap swap
    cdef readonly LruGenWalk lru_gen_walk
    cdef readonly HugeMemory huge
    cdef readonly AnonFaults anon
    cdef readonly FileFaults file_faults
    cdef readonly TaskTime time
    cdef readonly Unmap unmap
    cdef readonly Shmem shmem
    cdef readonly HugeSplit huge_split
    cdef readonly Rmap rmap
    cdef readonly SwapState swap_state
    cdef readonly SwapIn swapin
    cdef readonly ZswapWriteback zswap_writeback
    cdef readonly Compaction compaction
    cdef readonly Numa numa
    cdef MmRec[::1] mm
    cdef VmaRec[::1] vma
    cdef readonly Memcontrol memcg
    cdef readonly object mms
    cdef readonly object vmas
    cdef public int reason
    cdef long[8] coming
    cdef void prefetch_slot(self, long at) noexcept nogil
    cdef int swap_fault(self, long mm, long vma, long addr, long at, bint write) noexcept nogil
    cdef int fault(self, long mm, long vma, long addr, long at, bint write) noexcept nogil
    cdef void numa_fault(self, long mm, long vma, long addr, long at, bint huge) noexcept nogil
    cdef void count_fault(self, long mm) noexcept nogil
    cdef int huge_fault(self, long mm, long vma, long addr, bint write) noexcept nogil
    cdef int access_huge(self, long mm, long vma, long addr, long pmd, bint write) noexcept nogil
    cdef int access(self, long mm, long vma, long addr, bint write) noexcept nogil
    cdef int access_entry(self, long mm, long vma, long addr, long at, bint write) noexcept nogil
