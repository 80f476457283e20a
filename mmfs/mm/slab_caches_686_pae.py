"""The slab caches of a 6.1 kernel of 32 bits with PAE, and how many objects booting one puts into them.

As mm/slab_caches.py has it for 6.12: Debian's 686-pae on machines of 1 to 8 CPUs with 2 GB.
"""

from __future__ import annotations

from typing import Final

SLAB_CACHES: Final = """
ext4_groupinfo_1k 128 128 8 rm 32+0
ext4_groupinfo_4k 136 136 8 rm 30+0
ext4_fc_dentry_update 76 80 8 rm
ext4_inode_cache 792 800 8 ra 12+16
ext4_allocation_context 112 112 8 rm
ext4_prealloc_space 68 72 8 rm
mbcache 36 40 8 rm
jbd2_journal_handle 44 48 8 rm 28+72
jbd2_journal_head 64 72 8 ru 74+14
jbd2_revoke_table_s 16 16 8 rm 256+0
jbd2_revoke_record_s 28 32 32 rhm 39+109
fsverity_info 240 240 8 r
fscrypt_info 96 96 8 rm
MPTCPv6 1552 1600 64 hua
request_sock_subflow_v6 288 296 8 ua
RAWv6 896 896 64 ha 5+4
UDPv6 1024 1024 64 ham
tw_sock_TCPv6 200 208 8 ua
request_sock_TCPv6 232 240 8 ua
TCPv6 1880 1920 64 hua
bio-96 96 128 64 hu 45+3
bio-208 208 256 64 hu 12+2
mqueue_inode_cache 608 640 64 ha 11+2
userfaultfd_ctx_cache 76 128 64 h
posix_timers_cache 164 168 8 am
ip4-frags 136 136 8 m
MPTCP 1440 1472 64 hua
request_sock_subflow_v4 288 296 8 ua
xfrm_state 540 576 64 hm
RAW 744 768 64 ha 20+1
UDP 896 896 64 ham 5+4
tw_sock_TCP 200 208 8 ua
request_sock_TCP 232 240 8 ua
TCP 1768 1792 64 hua
hugetlbfs_inode_cache 416 424 8 a 12+3
dquot 156 192 64 rhm 21+0
bio-188 188 192 64 hu 42+0
ep_head 8 8 8 am
request_queue_srcu 756 760 8 m
request_queue 552 552 8 m 25+2
bio-144 144 192 64 hu 27+18
biovec-max 3072 3072 64 hm 52+0
biovec-128 1536 1536 64 hm 14+1
biovec-64 768 768 64 hm 16+9
user_namespace 412 416 8 am
sock_inode_cache 576 640 64 rha 31+4
skbuff_fclone_cache 448 448 64 hm
skbuff_head_cache 192 192 64 h 42+0
file_lock_cache 128 128 8 m 32+0
fsnotify_mark_connector 24 24 8 m
buffer_head 60 64 8 rm 96+17
taskstats 416 416 8 m
proc_dir_entry 128 128 8 - 373+35
pde_opener 20 24 8 am
proc_inode_cache 448 456 8 ra 0+33
seq_file 72 72 8 am 40+8
sigqueue 48 48 8 am 28+72
bdev_cache 976 1024 64 rha 12+7
shmem_inode_cache 480 488 8 a 88+24
kernfs_iattrs_cache 64 64 8 m
kernfs_node_cache 76 80 8 m 11256+242
filp 168 192 64 ham
inode_cache 408 416 8 ra 11639+84
dentry 128 128 8 ra 11772+95
names_cache 4096 4096 64 h 0+8
net_namespace 3264 3264 64 am
iint_cache 72 80 8 -
lsm_file_cache 16 16 8 m 11645+273
key_jar 192 192 64 hm 12+15
uts_namespace 416 416 8 a
nsproxy 36 40 8 am 102+0
vm_area_struct 80 80 8 am
files_cache 256 256 64 ham
signal_cache 768 768 64 ham
sighand_cache 1300 1344 64 hua
task_struct 5192 5248 64 a
cred_jar 128 128 64 ham
anon_vma_chain 32 32 8 am
anon_vma 52 56 8 ua
pid 64 64 64 ham
Acpi-State 48 48 8 m 822+12
perf_event 848 848 8 m 12+3
trace_event_file 56 56 8 m 1634+7
ftrace_event_field 40 40 8 m 4029+0
maple_node 256 256 256 m
radix_tree_node 300 304 8 r 272+28
task_group 384 384 64 m 12+13
mm_struct 564 576 64 ha
pgd_cache 32 32 32 m
dma-kmalloc-8k 8192 8192 8192 d
dma-kmalloc-4k 4096 4096 4096 d
dma-kmalloc-2k 2048 2048 2048 d
dma-kmalloc-1k 1024 1024 1024 d
dma-kmalloc-512 512 512 512 d
dma-kmalloc-256 256 256 256 d
dma-kmalloc-192 192 192 8 d
dma-kmalloc-128 128 128 128 d
dma-kmalloc-96 96 96 8 d
dma-kmalloc-64 64 64 64 d
dma-kmalloc-32 32 32 32 d
dma-kmalloc-16 16 16 16 d
dma-kmalloc-8 8 8 8 d
kmalloc-rcl-8k 8192 8192 8192 r
kmalloc-rcl-4k 4096 4096 4096 r
kmalloc-rcl-2k 2048 2048 2048 r
kmalloc-rcl-1k 1024 1024 1024 r
kmalloc-rcl-512 512 512 512 r
kmalloc-rcl-256 256 256 256 r
kmalloc-rcl-192 192 192 8 r
kmalloc-rcl-128 128 128 128 r
kmalloc-rcl-96 96 96 8 r
kmalloc-rcl-64 64 64 64 r 68+16
kmalloc-rcl-32 32 32 32 r
kmalloc-rcl-16 16 16 16 r
kmalloc-rcl-8 8 8 8 r
kmalloc-cg-8k 8192 8192 8192 a
kmalloc-cg-4k 4096 4096 4096 a 6+2
kmalloc-cg-2k 2048 2048 2048 a 22+2
kmalloc-cg-1k 1024 1024 1024 a 20+2
kmalloc-cg-512 512 512 512 a 1+12
kmalloc-cg-256 256 256 256 a 18+7
kmalloc-cg-192 192 192 8 a 34+5
kmalloc-cg-128 128 128 128 a 39+13
kmalloc-cg-96 96 96 8 a 24+30
kmalloc-cg-64 64 64 64 a 118+7
kmalloc-cg-32 32 32 32 a 156+1
kmalloc-cg-16 16 16 16 a 258+102
kmalloc-cg-8 8 8 8 a 0+512
kmalloc-8k 8192 8192 8192 - 8+3
kmalloc-4k 4096 4096 4096 - 165+11
kmalloc-2k 2048 2048 2048 - 97+12
kmalloc-1k 1024 1024 1024 - 201+37
kmalloc-512 512 512 512 - 290+39
kmalloc-256 256 256 256 - 193+35
kmalloc-192 192 192 8 - 268+28
kmalloc-128 128 128 128 - 364+46
kmalloc-96 96 96 8 - 266+44
kmalloc-64 64 64 64 - 1034+70
kmalloc-32 32 32 32 - 1319+109
kmalloc-16 16 16 16 - 1587+192
kmalloc-8 8 8 8 - 1068+432
kmem_cache_node 32 32 32 h 195+59
kmem_cache 140 192 64 h 148+8
"""

ALIASES: Final = """
Acpi-State: Acpi-Operand Acpi-ParseExt audit_tree_mark fanotify_perm_event
UDP: PINGv6 UDP-Lite
UDPv6: UDPLITEv6
anon_vma_chain: eventpoll_pwq fasync_cache ip_fib_trie
biovec-128: sgpool-64
biovec-64: sgpool-32
biovec-max: sgpool-128
cred_jar: task_delay_info
dquot: jbd2_transaction_s
file_lock_cache: aio_kiocb bio_integrity_payload btree_node inet_peer_cache
file_lock_cache: ip6-frags ip_dst_cache ip_mrt_cache uid_cache
filp: io_kiocb ip6_dst_cache mnt_cache
fsnotify_mark_connector: ext4_io_end_vec ksm_mm_slot
ftrace_event_field: fanotify_path_event jbd2_inode zswap_entry
jbd2_revoke_record_s: ext4_extent_status
jbd2_revoke_table_s: ext4_pending_reservation
key_jar: biovec-16 ip6_mrt_cache sgpool-8 skbuff_ext_cache
lsm_file_cache: audit_buffer lsm_inode_cache
maple_node: pool_workqueue xfrm_dst_cache
mbcache: ext4_free_data ext4_io_end
nsproxy: ip_fib_alias
pde_opener: dnotify_struct
pgd_cache: Acpi-Namespace Acpi-Parse dmaengine-unmap-2 ext4_bio_post_read_ctx ext4_system_zone
pgd_cache: file_lock_ctx iommu_iova ksm_rmap_item ksm_stable_node vmap_area
pid: eventpoll_epi fib6_nodes fs_cache tcp_bind2_bucket tcp_bind_bucket
signal_cache: PING UNIX UNIX-STREAM
sigqueue: dnotify_mark fsnotify_mark inotify_inode_mark
skbuff_fclone_cache: kioctx
task_group: dio sgpool-16
trace_event_file: blkdev_ioc fanotify_fid_event khugepaged_mm_slot
vm_area_struct: pid_namespace
"""

CONSTRUCTORS: Final = """
ext4_inode_cache init_once+0x0/0x60
mqueue_inode_cache init_once+0x0/0x20
userfaultfd_ctx_cache init_once_userfaultfd_ctx+0x0/0x60
hugetlbfs_inode_cache init_once+0x0/0x10
sock_inode_cache init_once+0x0/0x20
proc_inode_cache init_once+0x0/0x20
bdev_cache init_once+0x0/0x20
shmem_inode_cache shmem_init_inode+0x0/0x20
inode_cache init_once+0x0/0x10
iint_cache iint_init_once+0x0/0x30
sighand_cache sighand_ctor+0x0/0x30
anon_vma anon_vma_ctor+0x0/0x40
radix_tree_node radix_tree_node_ctor+0x0/0x40
"""

USERSIZES: Final = """
ext4_inode_cache 60
fsverity_info 64
RAWv6 32
RAW 4
skbuff_head_cache 48
proc_dir_entry 24
dentry 36
names_cache 4096
uts_namespace 390
task_struct 2696
mm_struct 192
"""

RENAMED: Final = {"cred": "cred_jar", "skbuff_small_head": "kmalloc-512"}
"""What the model calls by its name in 6.12: which cache has it here."""

KMALLOC_LARGE_PAGES: Final = (40, 0)
