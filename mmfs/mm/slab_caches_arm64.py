"""The slab caches of a 6.12 kernel of arm64 with pages of 64 KB, and how many objects booting one puts into them.

As mm/slab_caches.py has it for x86: a kernel of few drivers on machines of 2 and 4 CPUs with 2 GB. A slab has a page of
64 KB at least, and only slabs were counted: a row has half a slab less than that.
"""

from __future__ import annotations

from typing import Final

from mmfs.mm.slab_caches import KERNFS_NODES_PER_MEMORY_BLOCK as KERNFS_NODES_PER_MEMORY_BLOCK
from mmfs.mm.slab_caches import KERNFS_NODES_PER_NODE as KERNFS_NODES_PER_NODE

SLAB_CACHES: Final = """
ext4_groupinfo_4k 152 152 8 rm 215+0
fsverity_info 264 264 8 r
fscrypt_inode_info 120 120 8 rm
ip6-frags 184 184 8 m
PINGv6 1160 1216 64 ham
RAWv6 1160 1216 64 ha 26+0
UDPv6 1344 1344 64 ham
tw_sock_TCPv6 248 256 8 ua
request_sock_TCPv6 304 312 8 ua
TCPv6 2560 2624 64 hua
bio-128 128 192 64 hu 170+0
io_kiocb 248 256 64 hu
bio-256 256 320 64 hu 102+0
mqueue_inode_cache 944 960 64 ha 34+0
jbd2_transaction_s 208 256 64 rhm 128+0
jbd2_journal_head 112 120 8 ru 273+273
jbd2_revoke_table_s 16 16 8 rm 2048+0
ext4_inode_cache 1128 1136 8 ra 0+51
ext4_allocation_context 168 168 8 rm
ext4_prealloc_space 112 112 8 rm
ext4_io_end 64 64 8 rm
bio_post_read_ctx 48 48 8 rm 682+0
pending_reservation 32 32 8 rm
extent_status 40 40 8 rm 0+1474
mb_cache_entry 56 56 8 rm 0+1053
kioctx 576 576 64 hm
userfaultfd_ctx_cache 176 192 64 h
dnotify_struct 32 32 8 am
posix_timers_cache 256 256 8 am
ip4-frags 200 200 8 m
ip_fib_trie 48 48 8 am
ip_fib_alias 56 56 8 am
PING 1024 1024 64 ham
RAW 976 1024 64 ha 32+0
tw_sock_TCP 248 256 8 ua
request_sock_TCP 304 312 8 ua
TCP 2368 2432 64 hua
hugetlbfs_inode_cache 632 640 8 a 51+0
bio-248 248 256 64 hu 384+0
ep_head 24 24 8 am
dax_cache 768 832 64 rha 39+0
request_queue 968 968 8 m 33+0
blkdev_ioc 16 16 8 m 2048+0
bio-192 192 256 64 hu 0+230
biovec-max 4096 4096 64 hm 504+8
biovec-128 2048 2048 64 hm 16+0
msg_msg-128k 131072 131072 8 a
msg_msg-64k 65536 65536 8 a
msg_msg-32k 32768 32768 8 a
msg_msg-16k 16384 16384 8 a
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
khugepaged_mm_slot 40 40 8 m 0+1474
memdup_user-128k 131072 131072 8 -
memdup_user-64k 65536 65536 8 -
memdup_user-32k 32768 32768 8 -
memdup_user-16k 16384 16384 8 -
memdup_user-8k 8192 8192 8 -
memdup_user-4k 4096 4096 8 -
memdup_user-2k 2048 2048 8 -
memdup_user-1k 1024 1024 8 -
memdup_user-512 512 512 8 -
memdup_user-256 256 256 8 -
memdup_user-128 128 128 8 -
memdup_user-64 64 64 8 -
memdup_user-32 32 32 8 -
memdup_user-16 16 16 8 - 6144+0
memdup_user-8 8 8 8 - 0+7372
memdup_user-192 192 192 8 -
memdup_user-96 96 96 8 -
user_namespace 608 608 8 am
iommu_iova_magazine 1024 1024 64 hm 0+28
iommu_iova 64 64 64 hm 512+0
sock_inode_cache 768 832 64 rha 0+70
skbuff_small_head 640 640 64 h 51+51
skbuff_fclone_cache 424 448 64 hm
skbuff_head_cache 208 256 64 h 0+230
tracefs_inode_cache 656 664 8 ra 147+49
file_lease_cache 160 160 8 m
file_lock_cache 192 192 8 m 170+0
fsnotify_mark_connector 24 24 8 m 1365+0
buffer_head 104 104 8 rm 0+567
task_delay_info 144 144 8 am
taskstats 432 432 8 m
proc_dir_entry 192 192 8 - 0+306
proc_inode_cache 696 704 8 ra 0+83
seq_file 120 120 8 am 0+491
sigqueue 80 80 8 am 0+737
bdev_cache 1584 1600 64 rha 0+18
shmem_inode_cache 752 760 8 a 43+86
kernfs_iattrs_cache 80 80 8 m
kernfs_node_cache 136 136 8 m 9380+721
mnt_cache 336 384 64 ham 0+153
filp 184 192 64 hua
inode_cache 624 632 8 ra 0+139
dentry 192 192 8 ra 0+306
names_cache 4096 4096 64 h 0+14
net_namespace 2368 2368 64 am
uts_namespace 432 432 8 a
nsproxy 72 72 8 am 455+0
vma_lock 40 40 8 am
vm_area_struct 176 176 8 am
files_cache 704 704 64 ham
signal_cache 1152 1152 64 ham
sighand_cache 2080 2112 64 hua
task_struct 4800 4800 64 a
cred 184 192 64 ham
anon_vma_chain 64 64 8 am
anon_vma 96 104 8 ua
pid 128 128 64 ham
shared_policy_node 48 48 8 m
numa_policy 32 32 8 m 1024+0
perf_event 1312 1312 8 m
trace_event_file 96 96 8 m 341+0
ftrace_event_field 56 56 8 m 1755+0
maple_node 256 256 256 m
radix_tree_node 576 584 8 r 280+56
task_group 640 640 64 m
mm_struct 1232 1280 64 ha
vmap_area 72 72 8 m 0+819
pgd_cache 512 512 512 m 0+115
kmalloc_buckets 144 144 8 - 0+204
kmalloc-cg-128k 131072 131072 131072 a
kmalloc-cg-64k 65536 65536 65536 a 0+7
kmalloc-cg-32k 32768 32768 32768 a
kmalloc-cg-16k 16384 16384 16384 a
kmalloc-cg-8k 8192 8192 8192 a
kmalloc-cg-4k 4096 4096 4096 a 24+0
kmalloc-cg-2k 2048 2048 2048 a 0+14
kmalloc-cg-1k 1024 1024 1024 a 32+32
kmalloc-cg-512 512 512 512 a 0+115
kmalloc-cg-256 256 256 256 a 128+128
kmalloc-cg-128 128 128 128 a 0+460
kmalloc-cg-64 64 64 64 a 1536+0
kmalloc-cg-32 32 32 32 a 1024+1024
kmalloc-cg-16 16 16 16 a 2048+2048
kmalloc-cg-8 8 8 8 a 0+7372
kmalloc-cg-192 192 192 64 a 0+306
kmalloc-cg-96 96 96 32 a 341+0
dma-kmalloc-128k 131072 131072 131072 d
dma-kmalloc-64k 65536 65536 65536 d
dma-kmalloc-32k 32768 32768 32768 d
dma-kmalloc-16k 16384 16384 16384 d
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
kmalloc-rcl-128k 131072 131072 131072 r
kmalloc-rcl-64k 65536 65536 65536 r
kmalloc-rcl-32k 32768 32768 32768 r
kmalloc-rcl-16k 16384 16384 16384 r
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
kmalloc-128k 131072 131072 131072 -
kmalloc-64k 65536 65536 65536 - 164+4
kmalloc-32k 32768 32768 32768 - 24+0
kmalloc-16k 16384 16384 16384 - 0+14
kmalloc-8k 8192 8192 8192 - 8+16
kmalloc-4k 4096 4096 4096 - 56+8
kmalloc-2k 2048 2048 2048 - 176+32
kmalloc-1k 1024 1024 1024 - 160+64
kmalloc-512 512 512 512 - 64+128
kmalloc-256 256 256 256 - 0+230
kmalloc-128 128 128 128 - 0+460
kmalloc-64 64 64 64 - 0+921
kmalloc-32 32 32 32 - 0+1843
kmalloc-16 16 16 16 - 0+3686
kmalloc-8 8 8 8 - 0+7372
kmalloc-192 192 192 64 - 0+306
kmalloc-96 96 96 32 - 341+682
kmem_cache_node 64 64 64 h 0+921
kmem_cache 224 256 64 h 0+230
"""

ALIASES: Final = """
PING: UNIX UNIX-STREAM
UDPv6: UDPLITEv6
anon_vma_chain: eventpoll_pwq fib6_node fs_cache
biovec-128: sgpool-64
biovec-max: jbd2_4k sgpool-128
buffer_head: ext4_fc_dentry_update
file_lock_cache: aio_kiocb bio_integrity_payload inet_peer rtable uid_cache
fsnotify_mark_connector: audit_buffer
ftrace_event_field: damon_region file_lock_ctx
iommu_iova: fanotify_path_event jbd2_inode ksm_rmap_item ksm_stable_node
iommu_iova_magazine: biovec-64 sgpool-32
ip_fib_trie: fasync_cache
kernfs_iattrs_cache: audit_tree_mark
khugepaged_mm_slot: ext4_system_zone
maple_node: biovec-16 key_jar sgpool-8
mb_cache_entry: ext4_free_data jbd2_journal_handle
numa_policy: ext4_io_end_vec
pending_reservation: jbd2_revoke_record_s
pgd_cache: pool_workqueue sgpool-16
pid: eventpoll_epi tcp_bind2_bucket tcp_bind_bucket
posix_timers_cache: ip6_dst_cache
shared_policy_node: ksm_mm_slot
signal_cache: UDP UDP-Lite
sigqueue: dnotify_mark fanotify_mark inotify_inode_mark
task_delay_info: pid_namespace
trace_event_file: fanotify_perm_event
vma_lock: pde_opener
vmap_area: fanotify_fid_event
"""

CONSTRUCTORS: Final = """
mqueue_inode_cache init_once+0x0/0x30
ext4_inode_cache init_once+0x0/0x88
userfaultfd_ctx_cache init_once_userfaultfd_ctx+0x0/0x90
hugetlbfs_inode_cache init_once+0x0/0x30
dax_cache init_once+0x0/0x48
sock_inode_cache init_once+0x0/0x30
tracefs_inode_cache init_once+0x0/0x48
proc_inode_cache init_once+0x0/0x30
bdev_cache init_once+0x0/0x30
shmem_inode_cache shmem_init_inode+0x0/0x30
inode_cache init_once+0x0/0x30
sighand_cache sighand_ctor+0x0/0x40
anon_vma anon_vma_ctor+0x0/0x58
radix_tree_node radix_tree_node_ctor+0x0/0x40
"""

USERSIZES: Final = """
fsverity_info 64
RAWv6 32
io_kiocb 56
ext4_inode_cache 60
RAW 4
msg_msg-128k 65488
msg_msg-64k 65488
msg_msg-32k 32720
msg_msg-16k 16336
msg_msg-8k 8144
msg_msg-4k 4048
msg_msg-2k 2000
msg_msg-1k 976
msg_msg-512 464
msg_msg-256 208
msg_msg-128 80
msg_msg-64 16
msg_msg-192 144
msg_msg-96 48
memdup_user-128k 131072
memdup_user-64k 65536
memdup_user-32k 32768
memdup_user-16k 16384
memdup_user-8k 8192
memdup_user-4k 4096
memdup_user-2k 2048
memdup_user-1k 1024
memdup_user-512 512
memdup_user-256 256
memdup_user-128 128
memdup_user-64 64
memdup_user-32 32
memdup_user-16 16
memdup_user-8 8
memdup_user-192 192
memdup_user-96 96
skbuff_small_head 320
skbuff_head_cache 48
proc_dir_entry 16
dentry 40
names_cache 4096
uts_namespace 390
task_struct 560
mm_struct 400
"""

RENAMED: Final[dict[str, str]] = {}
"""What the model calls by another name: which cache has it."""

KMALLOC_LARGE_PAGES: Final = (0, 0)
"""Pages of allocations too large for a cache: a constant, and so many a CPU."""
