cimport cython
from mmfs.fastpath.defs cimport *
from mmfs.fastpath.blk cimport Disk
from mmfs.fastpath.frames cimport Frames, PageRec, BlockRec
from mmfs.fastpath.buddy cimport Buddy
from mmfs.fastpath.lru cimport Lru
from mmfs.fastpath.folio cimport Folios, MappingRec
from mmfs.fastpath.walk cimport Walker

cdef packed struct FileRaRec:
    long start
    long size
    long async_size
    long ra_pages
    long prev_pos
    int mmap_miss
    int random

@cython.final
cdef class Filemap:
    cdef readonly Frames frames
    cdef readonly Buddy buddy
    cdef readonly Lru lru
    cdef readonly Folios folios
    cdef readonly Walker walker
    cdef MappingRec[::1] mapping
    cdef FileRaRec[::1] file
    cdef readonly object files
    cdef long[::1] bio_done_ns
    cdef unsigned int[::1] bio_number
    cdef unsigned int next_bio
    cdef public int reason
    cdef public long now_ns
    cdef public long cpu_ns
    cdef public long memstall_ns
    cdef public long read_ns
    cdef public long add_ns
    cdef public long write_ns
    cdef public long nr_dirtied
    cdef public long spare
    cdef public long locked
    cdef public bint in_fault
    cdef readonly long last_done_ns
    cdef readonly long ra_index
    cdef readonly long ra_end
    cdef long ra_mark
    cdef long ra_run
    cdef long ra_m
    cdef Disk ra_disk
    cdef long alloc_page(self) noexcept nogil
    cdef void spend(self, long ns) noexcept nogil
    cpdef long reading_until(self, long pfn) noexcept nogil
    cdef bint is_locked(self, long pfn, long now_ns) noexcept nogil
    cdef void begin(self, long m, Disk disk, long index, long nr, long lookahead) noexcept
    cdef int resume(self) noexcept nogil
    cdef void read_pages(self) noexcept nogil
    cdef long prev_miss(self, long m, long index, long max_scan) noexcept nogil
    cdef long next_miss(self, long m, long index, long max_scan) noexcept nogil
    cdef long max_pages(self, long row, Disk disk, long req) noexcept nogil
    cdef int sync_ra(self, long m, long row, Disk disk, long index, long req) noexcept
    cdef int async_ra(self, long m, long row, Disk disk, long pfn, long index, long req) noexcept
    cdef void wait_on_page(self, long pfn) noexcept nogil
    cdef long read_batch(self, long m, long index, long last) noexcept nogil
    cdef bint write_begin(self, long m, Disk disk, long pos, long end) noexcept
