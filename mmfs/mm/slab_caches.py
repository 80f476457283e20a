"""The slab caches of a 6.12 kernel and how many objects booting one puts into them.

A row a cache, newest first, which is the order of /proc/slabinfo: name, size of the object, size with its
metadata and padding, alignment, flags (r: reclaimable, h: aligned to cache lines, u: freed after an RCU grace
period, d: from ZONE_DMA, a: accounted to memory cgroups, m: others may be merged into it), and, for those that
boot fills, the objects as a constant plus so many a CPU. The counts are what Debian's kernel had in them right after
init had started on machines of 1 to 16 CPUs; caches of tasks, VMAs and the like are filled by the tasks that the model
makes.

How many objects a slab holds is computed (`mm/slub.py`), it depends on the number of CPUs. Caches with the same
geometry are merged in Linux and appear once; ALIASES names those that share another's.
"""

from __future__ import annotations

from typing import Final

SLAB_CACHES: Final = """
ext4_groupinfo_4k 152 152 8 rm 26+0
ext4_inode_cache 1160 1168 8 ra 16+13
ext4_allocation_context 168 168 8 rm
ext4_prealloc_space 112 112 8 rm
ext4_io_end_vec 32 32 8 m
ext4_io_end 64 64 8 rm
bio_post_read_ctx 48 48 8 rm 170+0
extent_status 40 40 8 rm 126+39
jbd2_journal_handle 56 56 8 rm 102+22
jbd2_journal_head 112 120 8 ru 66+1
jbd2_revoke_table_s 16 16 8 rm 256+0
jbd2_revoke_record_s 32 32 32 rhm
bio-128 128 192 64 hu 19+1
fsverity_info 264 264 8 r
fscrypt_inode_info 120 120 8 rm
MPTCPv6 2160 2176 64 hua
request_sock_subflow_v6 376 384 8 ua
ip6-frags 184 184 8 m
PINGv6 1192 1216 64 ham
RAWv6 1192 1216 64 ha 20+3
UDPv6 1344 1344 64 ham
tw_sock_TCPv6 248 256 8 ua
request_sock_TCPv6 304 312 8 ua
TCPv6 2560 2624 64 hua
io_kiocb 248 256 64 hu
bio-256 256 320 64 hu 10+1
mqueue_inode_cache 944 960 64 ha 13+2
fuse_request 152 152 8 m
fuse_inode 864 896 64 rha
kioctx 576 576 64 hm
userfaultfd_ctx_cache 176 192 64 h
dnotify_struct 32 32 8 am
posix_timers_cache 256 256 8 am
ip4-frags 200 200 8 m
MPTCP 2016 2048 64 hua
request_sock_subflow_v4 376 384 8 ua
xfrm_dst 296 320 64 hm
xfrm_state 792 832 64 hm
ip_fib_trie 48 48 8 am
ip_fib_alias 56 56 8 am
PING 1024 1024 64 ham
RAW 1008 1024 64 ha 8+4
tw_sock_TCP 248 256 8 ua
request_sock_TCP 304 312 8 ua
TCP 2368 2432 64 hua
hugetlbfs_inode_cache 632 640 8 a 10+1
dquot 208 256 64 rhm 14+1
bio-248 248 256 64 hu 32+0
backing_aio 128 128 64 hm
ep_head 24 24 8 am
dax_cache 768 832 64 rha 15+2
request_queue 968 968 8 m 12+2
bio-192 192 256 64 hu 16+24
biovec-max 4096 4096 64 hm 48+0
biovec-128 2048 2048 64 hm 16+0
msg_msg-8k 8192 8192 8 a
msg_msg-4k 4096 4096 8 a
msg_msg-2k 2048 2048 8 a
msg_msg-1k 1024 1024 8 a
msg_msg-512 512 512 8 a
msg_msg-256 256 256 8 a
msg_msg-128 128 128 8 a
msg_msg-64 64 64 8 a
msg_msg-32 32 32 8 a
msg_msg-16 16 16 8 a
msg_msg-8 8 8 8 a
msg_msg-192 192 192 8 a
msg_msg-96 96 96 8 a
khugepaged_mm_slot 40 40 8 m 92+5
memdup_user-8k 8192 8192 8 -
memdup_user-4k 4096 4096 8 -
memdup_user-2k 2048 2048 8 -
memdup_user-1k 1024 1024 8 -
memdup_user-512 512 512 8 -
memdup_user-256 256 256 8 -
memdup_user-128 128 128 8 -
memdup_user-64 64 64 8 -
memdup_user-32 32 32 8 -
memdup_user-16 16 16 8 - 446+33
memdup_user-8 8 8 8 - 270+377
memdup_user-192 192 192 8 -
memdup_user-96 96 96 8 -
user_namespace 616 616 8 am
iommu_iova_magazine 1024 1024 64 hm 6+13
dmaengine-unmap-256 2080 2112 64 hm 15+0
dmaengine-unmap-128 1056 1088 64 hm 13+1
dmaengine-unmap-2 64 64 64 hm 64+0
sock_inode_cache 768 832 64 rha 10+14
skbuff_small_head 704 704 64 h 20+13
skbuff_head_cache 232 256 64 h 14+9
tracefs_inode_cache 656 664 8 ra 100+10
file_lease_cache 160 160 8 m
file_lock_cache 192 192 8 m 38+2
fsnotify_mark_connector 24 24 8 m 170+0
buffer_head 104 104 8 rm 103+7
task_delay_info 144 144 8 am
taskstats 432 432 8 m
proc_dir_entry 192 192 8 - 294+42
proc_inode_cache 696 704 8 ra 0+24
seq_file 120 120 8 am 64+2
sigqueue 80 80 8 am 26+38
bdev_cache 1600 1664 64 rha 36+1
shmem_inode_cache 752 760 8 a 113+17
kernfs_node_cache 136 136 8 m 13290+240
mnt_cache 336 384 64 ham 0+21
filp 184 192 64 hua
inode_cache 624 632 8 ra 251+62
dentry 192 192 8 ra 515+92
names_cache 4096 4096 64 h 0+8
net_namespace 4736 4736 64 am
ima_iint_cache 96 104 8 -
lsm_inode_cache 88 88 8 m 545+98
uts_namespace 432 432 8 a
nsproxy 72 72 8 am 56+0
vma_lock 40 40 8 am
vm_area_struct 176 176 8 am
files_cache 704 704 64 ham
signal_cache 1152 1152 64 ham
sighand_cache 2080 2112 64 hua
task_struct 8392 8448 64 a
cred 184 192 64 ham
anon_vma_chain 64 64 8 am
anon_vma 96 104 8 ua
pid 128 128 64 ham
Acpi-State 80 80 8 m 196+4
shared_policy_node 48 48 8 m 340+85
numa_policy 272 272 8 m 13+1
perf_event 1312 1312 8 m 10+1
trace_event_file 96 96 8 m 1636+1
ftrace_event_field 56 56 8 m 4423+15
pool_workqueue 512 512 256 m 8+68
maple_node 256 256 256 m
radix_tree_node 576 584 8 r 350+28
task_group 640 640 64 m
mm_struct 1360 1408 64 ha
vmap_area 72 72 8 m 794+79
kmalloc_buckets 112 112 8 - 36+0
kmalloc-cg-8k 8192 8192 8192 a
kmalloc-cg-4k 4096 4096 4096 a 18+3
kmalloc-cg-2k 2048 2048 2048 a 26+3
kmalloc-cg-1k 1024 1024 1024 a 4+14
kmalloc-cg-512 512 512 512 a 8+12
kmalloc-cg-256 256 256 256 a 8+12
kmalloc-cg-128 128 128 128 a 46+9
kmalloc-cg-64 64 64 64 a 106+11
kmalloc-cg-32 32 32 32 a 214+21
kmalloc-cg-16 16 16 16 a 0+256
kmalloc-cg-8 8 8 8 a 496+264
kmalloc-cg-192 192 192 64 a 0+31
kmalloc-cg-96 96 96 32 a 68+8
dma-kmalloc-8k 8192 8192 8192 d
dma-kmalloc-4k 4096 4096 4096 d
dma-kmalloc-2k 2048 2048 2048 d
dma-kmalloc-1k 1024 1024 1024 d
dma-kmalloc-512 512 512 512 d
dma-kmalloc-256 256 256 256 d
dma-kmalloc-128 128 128 128 d
dma-kmalloc-64 64 64 64 d
dma-kmalloc-32 32 32 32 d
dma-kmalloc-16 16 16 16 d
dma-kmalloc-8 8 8 8 d
dma-kmalloc-192 192 192 64 d
dma-kmalloc-96 96 96 32 d
kmalloc-rcl-8k 8192 8192 8192 r
kmalloc-rcl-4k 4096 4096 4096 r
kmalloc-rcl-2k 2048 2048 2048 r
kmalloc-rcl-1k 1024 1024 1024 r
kmalloc-rcl-512 512 512 512 r
kmalloc-rcl-256 256 256 256 r
kmalloc-rcl-128 128 128 128 r
kmalloc-rcl-64 64 64 64 r
kmalloc-rcl-32 32 32 32 r
kmalloc-rcl-16 16 16 16 r
kmalloc-rcl-8 8 8 8 r
kmalloc-rcl-192 192 192 64 r
kmalloc-rcl-96 96 96 32 r
kmalloc-8k 8192 8192 8192 - 10+3
kmalloc-4k 4096 4096 4096 - 188+14
kmalloc-2k 2048 2048 2048 - 260+22
kmalloc-1k 1024 1024 1024 - 252+34
kmalloc-512 512 512 512 - 252+50
kmalloc-256 256 256 256 - 426+43
kmalloc-128 128 128 128 - 350+49
kmalloc-64 64 64 64 - 1960+76
kmalloc-32 32 32 32 - 1282+127
kmalloc-16 16 16 16 - 1360+216
kmalloc-8 8 8 8 - 992+528
kmalloc-192 192 192 64 - 328+46
kmalloc-96 96 96 32 - 2494+55
kmem_cache_node 64 64 64 h 182+37
kmem_cache 224 256 64 h 172+18
"""

ALIASES: Final = """
Acpi-State: Acpi-ParseExt audit_tree_mark gpu_buddy_block kernfs_iattrs_cache
PING: UNIX UNIX-STREAM
UDPv6: UDPLITEv6
anon_vma_chain: eventpoll_pwq fs_cache
backing_aio: btree_node
biovec-128: sgpool-64
biovec-max: sgpool-128
buffer_head: ext4_fc_dentry_update
cred: mfc6_cache mfc_cache
dmaengine-unmap-2: fanotify_path_event iommu_iova jbd2_inode ksm_rmap_item ksm_stable_node
dquot: jbd2_transaction_s
file_lock_cache: aio_kiocb bio_integrity_payload dmaengine-unmap-16 inet_peer rtable skbuff_ext_cache uid_cache
fsnotify_mark_connector: audit_buffer
ftrace_event_field: Acpi-Parse damon_region file_lock_ctx
iommu_iova_magazine: biovec-64 sgpool-32
ip_fib_trie: fasync_cache
jbd2_journal_handle: ext4_free_data mb_cache_entry
jbd2_revoke_record_s: pending_reservation
khugepaged_mm_slot: ext4_system_zone
lsm_inode_cache: blkdev_ioc
maple_node: biovec-16 key_jar sgpool-8
pid: eventpoll_epi fib6_node tcp_bind2_bucket tcp_bind_bucket
pool_workqueue: sgpool-16 skbuff_fclone_cache
posix_timers_cache: ip6_dst_cache
shared_policy_node: Acpi-Namespace ksm_mm_slot lsm_file_cache
signal_cache: UDP UDP-Lite
sigqueue: dnotify_mark fanotify_mark inotify_inode_mark
task_delay_info: pid_namespace
task_group: dio
trace_event_file: fanotify_perm_event
vma_lock: pde_opener
vmap_area: Acpi-Operand fanotify_fid_event
"""

CONSTRUCTORS: Final = """
ext4_inode_cache init_once+0x0/0x70
mqueue_inode_cache init_once+0x0/0x20
fuse_inode fuse_inode_init_once+0x0/0x10
userfaultfd_ctx_cache init_once_userfaultfd_ctx+0x0/0x80
hugetlbfs_inode_cache init_once+0x0/0x10
dax_cache init_once+0x0/0x50
sock_inode_cache init_once+0x0/0x20
tracefs_inode_cache init_once+0x0/0x50
proc_inode_cache init_once+0x0/0x20
bdev_cache init_once+0x0/0x20
shmem_inode_cache shmem_init_inode+0x0/0x20
inode_cache init_once+0x0/0x10
ima_iint_cache ima_iint_init_once+0x0/0x40
sighand_cache sighand_ctor+0x0/0x30
anon_vma anon_vma_ctor+0x0/0x50
radix_tree_node radix_tree_node_ctor+0x0/0x50
"""
"""What /sys/kernel/slab tells of the function that makes objects of a cache: its name and length."""

USERSIZES: Final = """
ext4_inode_cache 60
fsverity_info 64
RAWv6 32
io_kiocb 56
RAW 4
msg_msg-8k 4048
msg_msg-4k 4048
msg_msg-2k 2000
msg_msg-1k 976
msg_msg-512 464
msg_msg-256 208
msg_msg-128 80
msg_msg-64 16
msg_msg-192 144
msg_msg-96 48
skbuff_small_head 384
skbuff_head_cache 48
proc_dir_entry 16
dentry 40
names_cache 4096
uts_namespace 390
task_struct 2696
mm_struct 416
"""
"""Bytes of an object that may be copied from and to user space; of what kmalloc() gives, all."""

RENAMED: Final[dict[str, str]] = {}
"""What the model calls by another name: which cache has it."""

KERNFS_NODES_PER_MEMORY_BLOCK: Final = 22.5
"""Nodes of sysfs that a block of memory adds: its directory, attributes and links."""

KERNFS_NODES_PER_NODE: Final = 60
"""Nodes of sysfs that a NUMA node adds."""

KMALLOC_LARGE_PAGES: Final = (275, 50)
"""Pages of allocations too large for a cache: a constant, and so many a CPU."""
