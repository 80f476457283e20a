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
from mmfs.fastpath.anon_folio cimport AnonFolios
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
    cdef readonly AnonFolios anon_folios
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
    cdef MappingRec[::1] mapping
    cdef FileRaRec[::1] file
    cdef readonly Memcontrol memcg
    cdef long[:, ::1] zone_stat
    cdef long[::1] event
    cdef readonly object mms
    cdef readonly object vmas
    cdef readonly long zero_pfn
    cdef public int reason
    cdef public long fault_around_pages
    cdef public long minflt
    cdef public long majflt
    cdef public long cow
    cdef public long nr_read
    cdef public long now_ns
    cdef public long cpu_ns
    cdef public long user_ns
    cdef public long wait_ns
    cdef public long nr_waits
    cdef public long memstall_ns
    cdef public long budget_ns
    cdef public long cpu_budget_ns
    cdef public long cost_access
    cdef public long cost_fault
    cdef public long cost_cow
    cdef public long cost_major
    cdef public long cost_huge
    cdef public bint tried
    cdef long[8] coming
    cdef void prefetch_slot(self, long at) noexcept nogil
    cdef long task_ns(self) noexcept nogil
    cdef long left_ns(self) noexcept nogil
    cdef void wait_on_read(self) noexcept nogil
    cdef void use(self, long ns) noexcept nogil
    cdef bint has_recency(self, long vma) noexcept nogil
    cdef void map_copy(self, long mm, long vma, long addr, long at, long pfn) noexcept nogil
    cdef void add_anon(self, long mm, long vma, long addr, long pfn) noexcept nogil
    cdef int anonymous_fault(self, long mm, long vma, long addr, long at, bint write) noexcept nogil
    cdef int large_fault(self, long mm, long vma, long addr, long at) noexcept nogil
    cdef bint can_reuse(self, long vma, long pfn) noexcept nogil
    cdef long shmem_fault(self, long m, long index) noexcept nogil
    cdef int swap_fault(self, long mm, long vma, long addr, long at, bint write) noexcept nogil
    cdef int write_protect_fault(self, long mm, long vma, long addr, long at) noexcept nogil
    cdef long file_page(self, long vma, long m, long index) noexcept nogil
    cdef void map_file(self, long mm, long vma, long pfn, long at, bint write) noexcept nogil
    cdef void map_frame(self, long mm, long vma, long pfn, long at, bint write) noexcept nogil
    cdef int unserved(self, long page) noexcept nogil
    cdef int shmem_huge_fault(self, long mm, long vma, long addr, bint write) noexcept nogil
    cdef void fault_around(self, long mm, long vma, long addr) noexcept nogil
    cdef int file_fault(self, long mm, long vma, long addr, long at, bint write) noexcept nogil
    cdef int fault(self, long mm, long vma, long addr, long at, bint write) noexcept nogil
    cdef void numa_fault(self, long mm, long vma, long addr, long at, bint huge) noexcept nogil
    cdef void count_fault(self, long mm) noexcept nogil
    cdef int huge_fault(self, long mm, long vma, long addr, bint write) noexcept nogil
    cdef int access_huge(self, long mm, long vma, long addr, long pmd, bint write) noexcept nogil
    cdef int access(self, long mm, long vma, long addr, bint write) noexcept nogil
    cdef int access_entry(self, long mm, long vma, long addr, long at, bint write) noexcept nogil
    cdef void unmap_frames(self, long mm, unsigned long vmflags, long pfn, long nr) noexcept nogil
    cdef void unmap_page(self, long mm, unsigned long vmflags, long pfn) noexcept nogil
