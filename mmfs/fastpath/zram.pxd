cimport cython
from mmfs.fastpath.defs cimport *
from mmfs.fastpath.frames cimport Frames, PageRec, BlockRec
from mmfs.fastpath.blk cimport Disk
from mmfs.fastpath.buddy cimport Buddy
from mmfs.fastpath.contents cimport Contents
from mmfs.fastpath.zsmalloc cimport ZsPool, ZsEntryRec

@cython.final
cdef class Zram:
    cdef readonly Frames frames
    cdef readonly Buddy buddy
    cdef readonly Contents contents
    cdef readonly Disk disk
    cdef readonly ZsPool pool
    cdef ZsEntryRec[::1] entry
    cdef readonly int huge_size
    cdef public int factor
    cdef public int header_bytes
    cdef public long compress_ns
    cdef public long decompress_ns
    cdef public long limit_pages
    cdef public long max_used_pages
    cdef readonly long pages_stored
    cdef readonly long same_pages
    cdef readonly long huge_pages
    cdef readonly long huge_pages_since
    cdef readonly long compr_data_size
    cdef readonly long failed_writes
    cdef readonly long notify_free
    cdef void free_page(self, long key) noexcept nogil
    cpdef bint write_header(self) noexcept nogil
    cdef bint write(self, long page, long pfn) noexcept nogil
    cdef void read(self, long page) noexcept nogil
    cdef void slot_free_notify(self, long page) noexcept nogil

@cython.final
cdef class SwapDevice:
    cdef int type
    cdef Disk disk
    cdef Zram zram
    cdef long sector
    cdef readonly SwapDevice nxt
    cdef long read(self, int t, long offset, long pages, long now_ns) noexcept nogil
    cdef bint zram_write(self, int t, long offset, long pfn) noexcept nogil
    cdef void zram_read(self, int t, long offset) noexcept nogil
    cdef void zram_free(self, int t, long offset) noexcept nogil
