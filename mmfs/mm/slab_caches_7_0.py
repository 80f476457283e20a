"""The slab caches of a 7.0 kernel and how many objects booting one puts into them; rows as in `mm/slab_caches.py`.

An area is locked by a count of its own since 6.15, so there is no cache of locks, and it fills three cache lines. What
khugepaged and KSM keep of an address space has a common cache since 6.18, cgroups have two of their own. CPUs keep
objects in sheaves: arrays, filled and emptied as a whole, of which /proc/slabinfo takes each object to be in use.

The counts are what Linux 7.0, built with Debian's options of memory management, had in them right after init had
started on machines of 1, 2 and 4 CPUs.

Linux: mm/slub.c; kernel/fork.c, vma_state_init(); mm/khugepaged.c, khugepaged_init().

Simplified: there are none of drivers that Debian has in its image (multipath TCP, DMA engines, IOMMUs); objects wait on
CPUs in slabs, not in sheaves, beyond those of boot.
"""

from __future__ import annotations

from typing import Final

SLAB_CACHES: Final = """
ext4_groupinfo_4k 152 152 8 rm 60+0
ext4_inode_cache 1128 1128 8 ra 23+4
ext4_allocation_context 168 168 8 rm
ext4_prealloc_space 112 112 8 rm
ext4_io_end_vec 32 32 8 m
ext4_io_end 64 64 8 rm
extent_status 40 40 8 rm 27+40
jbd2_transaction_s 192 192 64 rhm 60+0
jbd2_journal_handle 56 56 8 rm 147+40
jbd2_journal_head 112 120 8 ru 53+20
jbd2_revoke_table_s 16 16 8 rm 60+0
jbd2_revoke_record_s 32 32 32 rhm
bio-128 128 192 64 hu 53+20
fsverity_info 272 272 8 r
fscrypt_inode_info 120 120 8 rm
ip6-frags 184 184 8 m
ip6_dst_cache 224 256 64 ham
RAWv6 1344 1344 64 ha 7+4
UDPv6 1472 1472 64 ham
tw_sock_TCPv6 248 256 8 ua
request_sock_TCPv6 312 320 8 ua
TCPv6 2496 2496 64 hua
io_kiocb 248 256 64 hu
bio-256 256 320 64 hu 28+0
mqueue_inode_cache 928 960 64 ha 28+0
fuse_request 176 176 8 m
fuse_inode 848 896 64 rha
kioctx 576 576 64 hm
userfaultfd_ctx_cache 176 192 64 h
fanotify_perm_event 112 112 8 m
dnotify_struct 32 32 8 am
zs_handle 8 8 8 m
pid_namespace 576 576 64 am
ip4-frags 200 200 8 m
xfrm_dst 296 320 64 hm
xfrm_state 816 832 64 hm
ip_fib_trie 48 48 8 am
ip_fib_alias 56 56 8 am
PING 1040 1088 64 ham
RAW 1216 1216 64 ha 12+0
UDP 1344 1344 64 ham 12+0
tw_sock_TCP 248 256 8 ua
request_sock_TCP 312 320 8 ua
TCP 2368 2368 64 hua
hugetlbfs_inode_cache 616 624 8 a 28+0
dquot 208 256 64 rhm
bio-272 272 320 64 hu 56+0
ep_head 16 16 8 am
eventpoll_epi 120 128 64 ham
dax_cache 752 768 64 rha 28+0
request_queue 976 976 8 m 16+9
blkdev_ioc 16 16 8 m 60+0
bio-192 192 256 64 hu 16+37
biovec-max 4096 4096 64 hm 47+0
biovec-128 2048 2048 64 hm 12+0
biovec-64 1024 1024 64 hm 16+0
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
ksm_rmap_item 64 64 8 m
memdup_user-8k 8192 8192 8 -
memdup_user-4k 4096 4096 8 -
memdup_user-2k 2048 2048 8 -
memdup_user-1k 1024 1024 8 -
memdup_user-512 512 512 8 -
memdup_user-256 256 256 8 -
memdup_user-128 128 128 8 -
memdup_user-64 64 64 8 -
memdup_user-32 32 32 8 -
memdup_user-16 16 16 8 - 80+0
memdup_user-8 8 8 8 - 27+40
memdup_user-192 192 192 8 -
memdup_user-96 96 96 8 -
user_namespace 896 896 64 am
sock_inode_cache 768 832 64 rha 0+28
skbuff_ext_cache 128 128 64 hm 60+0
skbuff_small_head 576 576 64 h 0+28
skbuff_fclone_cache 440 448 64 hm
skbuff_head_cache 216 256 64 h 15+19
tracefs_inode_cache 640 648 8 ra 93+28
debugfs_inode_cache 624 632 8 r 142+47
file_lease_cache 160 160 8 m
file_lock_cache 192 192 8 m
fsnotify_mark_connector 24 24 8 m
buffer_head 104 104 8 rm 0+60
task_delay_info 368 368 8 am
taskstats 688 688 8 m
mem_cgroup_per_node 1920 1920 64 hm 12+0
mem_cgroup 1672 1728 64 hm 12+0
pidfs_xattr_cache 16 16 16 rham
pidfs_attr_cache 40 64 64 rham
proc_dir_entry 192 192 8 - 327+40
pde_opener 40 40 8 am
proc_inode_cache 680 688 8 ra 12+19
seq_file 120 120 8 am 33+20
sigqueue 80 80 8 am 0+60
bdev_cache 1576 1600 64 rha 5+8
shmem_inode_cache 736 744 8 a 114+19
kernfs_node_cache 136 136 8 m 12900+240
mnt_cache 384 384 64 ham 30+19
bfilp 200 256 64 hu
filp 184 192 64 hua
inode_cache 608 616 8 ra 124+19
dentry 192 192 8 ra 513+80
names_cache 192 192 64 h 0+60
net_namespace 4032 4032 64 am
lsm_file_cache 40 40 8 m 600+60
key_jar 256 256 64 hm 0+28
uts_namespace 704 704 8 a
nsproxy 72 72 8 am 60+0
vm_area_struct 192 192 64 hua
files_cache 704 704 64 ham
signal_cache 1152 1152 64 ham
sighand_cache 2080 2112 64 hua
task_struct 8584 8640 64 a
anon_vma_chain 64 64 8 am
anon_vma 96 104 8 ua
pid 184 192 64 ham
Acpi-State 80 80 8 m 127+40
shared_policy_node 48 48 8 m 327+40
numa_policy 288 288 8 m 28+0
perf_event 1352 1352 8 m 12+0
trace_event_file 96 96 8 m 1560+0
ftrace_event_field 56 56 8 m 4219+60
pool_workqueue 512 512 256 m 28+56
radix_tree_node 576 584 8 r 296+37
task_group 640 640 64 m
maple_node 256 256 256 -
mm_struct 1752 1792 64 ha
vmap_area 72 72 8 m 1100+80
kmalloc_buckets 112 112 8 - 60+0
kmalloc-cg-8k 8192 8192 8192 a 4+0
kmalloc-cg-4k 4096 4096 4096 a 15+1
kmalloc-cg-2k 2048 2048 2048 a 17+8
kmalloc-cg-1k 1024 1024 1024 a 0+12
kmalloc-cg-512 512 512 512 a 0+28
kmalloc-cg-256 256 256 256 a 0+28
kmalloc-cg-128 128 128 128 a 0+60
kmalloc-cg-64 64 64 64 a 27+40
kmalloc-cg-32 32 32 32 a 67+40
kmalloc-cg-16 16 16 16 a 0+60
kmalloc-cg-8 8 8 8 a 0+60
kmalloc-cg-192 192 192 64 a 0+60
kmalloc-cg-96 96 96 32 a 33+20
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
kmalloc-8k 8192 8192 8192 - 12+4
kmalloc-4k 4096 4096 4096 - 251+5
kmalloc-2k 2048 2048 2048 - 221+8
kmalloc-1k 1024 1024 1024 - 269+20
kmalloc-512 512 512 512 - 335+153
kmalloc-256 256 256 256 - 422+113
kmalloc-128 128 128 128 - 274+88
kmalloc-64 64 64 64 - 1266+66
kmalloc-32 32 32 32 - 1767+40
kmalloc-16 16 16 16 - 1300+60
kmalloc-8 8 8 8 - 1413+80
kmalloc-192 192 192 64 - 388+40
kmalloc-96 96 96 32 - 2220+60
kmem_cache_node 72 128 64 h 195+0
kmem_cache 216 256 64 h 195+0
"""

ALIASES: Final = """
Acpi-State: Acpi-ParseExt audit_tree_mark kernfs_iattrs_cache
UDP: PINGv6 UDP-Lite
UDPv6: UDPLITEv6
anon_vma_chain: eventpoll_pwq fs_cache
biovec-128: sgpool-64
biovec-64: sgpool-32
biovec-max: sgpool-128
buffer_head: ext4_fc_dentry_update
eventpoll_epi: fib6_node tcp_bind2_bucket tcp_bind_bucket
file_lock_cache: aio_kiocb inet_peer mfc6_cache mfc_cache rtable xsk_generic_xmit_cache
ftrace_event_field: Acpi-Parse damon_region fanotify_mnt_event file_lock_ctx zspage
ip_fib_trie: fasync_cache
jbd2_journal_handle: bio_post_read_ctx ext4_free_data mb_cache_entry
jbd2_revoke_record_s: pending_reservation
key_jar: biovec-16 sgpool-8
ksm_rmap_item: fanotify_path_event jbd2_inode ksm_stable_node
lsm_file_cache: ext4_system_zone fsnotify_inode_mark_connector lsm_inode_cache mm_slot
mnt_cache: posix_timers_cache
pid: cred
pool_workqueue: sgpool-16
shared_policy_node: Acpi-Namespace ksm_mm_slot
signal_cache: UNIX UNIX-STREAM
sigqueue: dnotify_mark fanotify_mark inotify_inode_mark
skbuff_ext_cache: backing_aio bio_integrity_data uid_cache
vmap_area: Acpi-Operand audit_buffer fanotify_fid_event
"""

CONSTRUCTORS: Final = """
ext4_inode_cache init_once+0x0/0x80
mqueue_inode_cache init_once+0x0/0x20
fuse_inode fuse_inode_init_once+0x0/0x10
userfaultfd_ctx_cache init_once_userfaultfd_ctx+0x0/0x80
hugetlbfs_inode_cache init_once+0x0/0x10
dax_cache init_once+0x0/0x50
sock_inode_cache init_once+0x0/0x20
tracefs_inode_cache init_once+0x0/0x50
debugfs_inode_cache init_once+0x0/0x10
proc_inode_cache init_once+0x0/0x20
bdev_cache init_once+0x0/0x20
shmem_inode_cache shmem_init_inode+0x0/0x20
inode_cache init_once+0x0/0x10
sighand_cache sighand_ctor+0x0/0x30
anon_vma anon_vma_ctor+0x0/0x50
radix_tree_node radix_tree_node_ctor+0x0/0x50
"""

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
skbuff_small_head 256
skbuff_head_cache 48
proc_dir_entry 24
dentry 40
names_cache 168
uts_namespace 390
task_struct 2696
mm_struct 448
kmalloc-cg-8k 8192
kmalloc-cg-4k 4096
kmalloc-cg-2k 2048
kmalloc-cg-1k 1024
kmalloc-cg-512 512
kmalloc-cg-256 256
kmalloc-cg-128 128
kmalloc-cg-64 64
kmalloc-cg-32 32
kmalloc-cg-16 16
kmalloc-cg-8 8
kmalloc-cg-192 192
kmalloc-cg-96 96
dma-kmalloc-8k 8192
dma-kmalloc-4k 4096
dma-kmalloc-2k 2048
dma-kmalloc-1k 1024
dma-kmalloc-512 512
dma-kmalloc-256 256
dma-kmalloc-128 128
dma-kmalloc-64 64
dma-kmalloc-32 32
dma-kmalloc-16 16
dma-kmalloc-8 8
dma-kmalloc-192 192
dma-kmalloc-96 96
kmalloc-rcl-8k 8192
kmalloc-rcl-4k 4096
kmalloc-rcl-2k 2048
kmalloc-rcl-1k 1024
kmalloc-rcl-512 512
kmalloc-rcl-256 256
kmalloc-rcl-128 128
kmalloc-rcl-64 64
kmalloc-rcl-32 32
kmalloc-rcl-16 16
kmalloc-rcl-8 8
kmalloc-rcl-192 192
kmalloc-rcl-96 96
kmalloc-8k 8192
kmalloc-4k 4096
kmalloc-2k 2048
kmalloc-1k 1024
kmalloc-512 512
kmalloc-256 256
kmalloc-128 128
kmalloc-64 64
kmalloc-32 32
kmalloc-16 16
kmalloc-8 8
kmalloc-192 192
kmalloc-96 96
"""

RENAMED: Final[dict[str, str]] = {"khugepaged_mm_slot": "lsm_file_cache"}
"""What the model calls by another name: which cache has it."""

KMALLOC_LARGE_PAGES: Final = (16, 0)
"""Pages of allocations too large for a cache: a constant, and so many a CPU."""
