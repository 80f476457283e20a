cimport cython
from mmfs.fastpath.defs cimport *
from mmfs.fastpath.frames cimport Frames, PageRec

cdef packed struct ItemRec:
    long address
    unsigned long key
    unsigned int nxt
    unsigned int mm
    unsigned int anon_vma
    unsigned int vma
    unsigned int node
    unsigned int after
    unsigned int before
    unsigned int turn
    unsigned char tree
    unsigned char age
    unsigned char skips
    unsigned char pad

cdef packed struct NodeRec:
    unsigned long key
    long kpfn
    long pruned_ms
    unsigned int first
    unsigned int nr
    unsigned int after
    unsigned int before
    unsigned int dup
    unsigned int used

cdef packed struct KsmMmRec:
    unsigned int first
    unsigned int rmap_items
    unsigned int merging
    unsigned int zero

@cython.final
cdef class KsmTree:
    cdef readonly Frames frames
    cdef readonly object items
    cdef readonly object nodes
    cdef readonly object mms
    cdef ItemRec[::1] item
    cdef NodeRec[::1] node
    cdef KsmMmRec[::1] mm
    cdef unsigned int[::1] stable
    cdef unsigned int[::1] unstable
    cdef unsigned int[::1] stamp
    cdef readonly long next_item
    cdef readonly long next_node
    cdef long free_item
    cdef long free_node
    cdef public long turn
    cdef public long max_page_sharing
    cdef public long now_ms
    cdef public long prune_ms
    cdef public bint unmerging
    cdef readonly long rmap_items
    cdef readonly long pages_shared
    cdef readonly long pages_sharing
    cdef readonly long pages_unshared
    cdef readonly long zero_pages
    cdef readonly long chains
    cdef readonly long dups
    cdef readonly long nr_nodes
    cdef long bucket(self, unsigned long key) noexcept nogil
    cdef long new_item(self, long mm, long addr, long before) noexcept nogil
    cdef void free_next(self, long mm, long before) noexcept nogil
    cdef long get_item(self, long mm, long before, long addr) noexcept nogil
    cdef void remove_item(self, long i) noexcept nogil
    cdef void insert_unstable(self, long i) noexcept nogil
    cdef long search_unstable(self, unsigned long key) noexcept nogil
    cdef long ksm_page(self, long n) noexcept nogil
    cdef void append(self, long i, long n) noexcept nogil
    cdef void leave_node(self, long i) noexcept nogil
    cdef long new_node(self, unsigned long key, long kpfn) noexcept nogil
    cdef void remove_node(self, long n) noexcept nogil
    cdef long search_stable(self, unsigned long key) noexcept nogil
    cdef bint has_room(self, long n) noexcept nogil
    cdef void unmap_zero(self, long mm, unsigned long entry) noexcept nogil
    cdef void map_zero(self, long mm) noexcept nogil
