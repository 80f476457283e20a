"""The slab caches of a 6.1 kernel and how many objects booting one puts into them.

As mm/slab_caches.py has it for 6.12, on machines of 1 to 8 CPUs. tracefs of this kernel makes an inode and a name for
each event, ten thousand of them, before anybody looks.
"""

from __future__ import annotations

from typing import Final

SLAB_CACHES: Final = """
ext4_groupinfo_1k 176 176 8 rm 23+0
ext4_groupinfo_4k 184 184 8 rm 44+0
ext4_fc_dentry_update 96 96 8 rm
ext4_inode_cache 1184 1192 8 ra 8+23
ext4_allocation_context 136 136 8 rm
ext4_system_zone 40 40 8 m 71+15
ext4_io_end 64 64 8 rm
ext4_extent_status 40 40 8 rm 31+87
jbd2_journal_handle 56 56 8 rm 67+41
jbd2_journal_head 112 120 8 ru 55+4
jbd2_revoke_table_s 16 16 8 rm 256+0
jbd2_revoke_record_s 32 32 32 rhm
bio-128 128 192 64 hu 21+0
fsverity_info 256 256 8 r
fscrypt_info 128 128 8 rm
MPTCPv6 2112 2176 64 hua
request_sock_subflow_v6 376 384 8 ua
ip6-frags 184 184 8 m
PINGv6 1200 1216 64 ham
RAWv6 1200 1216 64 ha 12+2
UDPv6 1344 1344 64 ham
tw_sock_TCPv6 264 272 8 ua
request_sock_TCPv6 304 312 8 ua
TCPv6 2440 2496 64 hua
mqueue_inode_cache 952 960 64 ha 6+3
kioctx 576 576 64 hm
userfaultfd_ctx_cache 128 192 64 h
dnotify_struct 32 32 8 am
pid_namespace 136 136 8 am
ip4-frags 200 200 8 m
MPTCP 1952 1984 64 hua
request_sock_subflow_v4 376 384 8 ua
xfrm_dst_cache 304 320 64 hm
xfrm_state 736 768 64 hm
ip_fib_trie 48 48 8 am
ip_fib_alias 56 56 8 am
PING 1024 1024 64 ham
RAW 1000 1024 64 ha 6+3
tw_sock_TCP 264 272 8 ua
request_sock_TCP 304 312 8 ua
TCP 2280 2304 64 hua
hugetlbfs_inode_cache 656 664 8 a 11+2
dquot 216 256 64 rhm 11+2
bio-256 256 320 64 hu 33+5
ep_head 16 16 8 am
dax_cache 776 832 64 rha 13+3
request_queue_srcu 1360 1360 8 m
request_queue 968 968 8 m 6+3
bio-192 192 256 64 hu 0+34
biovec-max 4096 4096 64 hm 48+0
biovec-128 2048 2048 64 hm 14+2
biovec-64 1024 1024 64 hm 0+18
khugepaged_mm_slot 112 112 8 m
user_namespace 624 624 8 am
dmaengine-unmap-256 2080 2112 64 hm 15+0
dmaengine-unmap-128 1056 1088 64 hm 14+2
sock_inode_cache 768 832 64 rha 0+26
skbuff_ext_cache 176 192 64 hm 31+0
skbuff_fclone_cache 512 512 64 hm 0+15
skbuff_head_cache 232 256 64 h 0+15
file_lock_cache 216 216 8 m
buffer_head 104 104 8 rm 78+16
taskstats 416 416 8 m
proc_dir_entry 192 192 8 - 321+43
pde_opener 40 40 8 am
proc_inode_cache 704 712 8 ra 0+20
seq_file 120 120 8 am 31+5
sigqueue 80 80 8 am 4+43
bdev_cache 1560 1600 64 rha 17+3
shmem_inode_cache 776 784 8 a 112+16
kernfs_iattrs_cache 88 88 8 m 46+0
kernfs_node_cache 128 128 8 m 12073+235
mnt_cache 320 320 64 ham 13+20
filp 256 256 64 ham
inode_cache 632 640 8 ra 10916+81
dentry 192 192 8 ra 11094+77
names_cache 4096 4096 64 h 0+8
net_namespace 4480 4480 64 am
iint_cache 120 128 8 -
lsm_inode_cache 32 32 8 m 11016+166
lsm_file_cache 24 24 8 m 0+170
uts_namespace 432 432 8 a
nsproxy 72 72 8 am 56+0
vm_area_struct 152 152 8 am
files_cache 704 704 64 ham
signal_cache 1152 1152 64 ham
sighand_cache 2080 2112 64 hua
task_struct 8392 8448 64 a
cred_jar 184 192 64 ham
anon_vma_chain 64 64 8 am
anon_vma 96 104 8 ua
pid 128 128 64 ham
Acpi-Operand 72 72 8 m 482+41
Acpi-State 80 80 8 m 173+5
shared_policy_node 48 48 8 m 492+33
numa_policy 272 272 8 m 14+2
perf_event 1232 1232 8 m 12+2
trace_event_file 96 96 8 m 1486+4
ftrace_event_field 56 56 8 m 3802+18
maple_node 256 256 256 m
radix_tree_node 576 584 8 r 299+29
task_group 640 640 64 m
mm_struct 1104 1152 64 ha
vmap_area 64 64 8 m 120+79
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
kmalloc-rcl-64 64 64 64 r 58+10
kmalloc-rcl-32 32 32 32 r
kmalloc-rcl-16 16 16 16 r
kmalloc-rcl-8 8 8 8 r
kmalloc-cg-8k 8192 8192 8192 a
kmalloc-cg-4k 4096 4096 4096 a 12+4
kmalloc-cg-2k 2048 2048 2048 a 16+6
kmalloc-cg-1k 1024 1024 1024 a 0+16
kmalloc-cg-512 512 512 512 a 0+18
kmalloc-cg-256 256 256 256 a 0+18
kmalloc-cg-192 192 192 8 a 13+19
kmalloc-cg-128 128 128 128 a 32+19
kmalloc-cg-96 96 96 8 a 49+4
kmalloc-cg-64 64 64 64 a 64+0
kmalloc-cg-32 32 32 32 a 156+52
kmalloc-cg-16 16 16 16 a 0+256
kmalloc-cg-8 8 8 8 a 312+361
kmalloc-8k 8192 8192 8192 - 14+4
kmalloc-4k 4096 4096 4096 - 198+12
kmalloc-2k 2048 2048 2048 - 277+22
kmalloc-1k 1024 1024 1024 - 264+26
kmalloc-512 512 512 512 - 232+45
kmalloc-256 256 256 256 - 470+40
kmalloc-192 192 192 8 - 315+21
kmalloc-128 128 128 128 - 334+39
kmalloc-96 96 96 8 - 588+42
kmalloc-64 64 64 64 - 1734+80
kmalloc-32 32 32 32 - 1037+150
kmalloc-16 16 16 16 - 1336+156
kmalloc-8 8 8 8 - 1307+468
kmem_cache_node 64 64 64 h 103+58
kmem_cache 224 256 64 h 113+28
"""

ALIASES: Final = """
Acpi-Operand: fanotify_fid_event fanotify_perm_event
Acpi-State: Acpi-ParseExt audit_tree_mark
PING: UNIX UNIX-STREAM
UDPv6: UDPLITEv6
anon_vma_chain: eventpoll_pwq fs_cache tcp_bind2_bucket
biovec-128: sgpool-64
biovec-64: sgpool-32
biovec-max: sgpool-128
buffer_head: ext4_prealloc_space
cred_jar: ip6_mrt_cache ip_mrt_cache
dquot: jbd2_transaction_s
filp: io_kiocb ip6_dst_cache posix_timers_cache
ftrace_event_field: Acpi-Parse file_lock_ctx
ip_fib_trie: fasync_cache
jbd2_journal_handle: ext4_free_data mbcache
jbd2_revoke_record_s: ext4_pending_reservation
kernfs_iattrs_cache: blkdev_ioc
kernfs_node_cache: btree_node
lsm_file_cache: audit_buffer
lsm_inode_cache: ext4_io_end_vec fsnotify_mark_connector
maple_node: biovec-16 key_jar pool_workqueue sgpool-8
nsproxy: fsnotify_mark
pid: eventpoll_epi fib6_nodes task_delay_info tcp_bind_bucket
shared_policy_node: Acpi-Namespace ext4_bio_post_read_ctx ksm_mm_slot
signal_cache: UDP UDP-Lite
sigqueue: dnotify_mark inotify_inode_mark
skbuff_ext_cache: aio_kiocb bio_integrity_payload dmaengine-unmap-16 inet_peer_cache ip_dst_cache uid_cache
skbuff_fclone_cache: sgpool-16
task_group: dio
vmap_area: dmaengine-unmap-2 fanotify_path_event iommu_iova jbd2_inode ksm_rmap_item ksm_stable_node zswap_entry
"""

CONSTRUCTORS: Final = """
ext4_inode_cache init_once+0x0/0x70
mqueue_inode_cache init_once+0x0/0x10
userfaultfd_ctx_cache init_once_userfaultfd_ctx+0x0/0x70
hugetlbfs_inode_cache init_once+0x0/0x10
dax_cache init_once+0x0/0x40
sock_inode_cache init_once+0x0/0x10
proc_inode_cache init_once+0x0/0x10
bdev_cache init_once+0x0/0x20
shmem_inode_cache shmem_init_inode+0x0/0x20
inode_cache init_once+0x0/0x10
iint_cache iint_init_once+0x0/0x40
sighand_cache sighand_ctor+0x0/0x30
anon_vma anon_vma_ctor+0x0/0x40
radix_tree_node radix_tree_node_ctor+0x0/0x50
"""

USERSIZES: Final = """
ext4_inode_cache 60
fsverity_info 64
RAWv6 32
RAW 4
skbuff_head_cache 48
proc_dir_entry 16
dentry 32
names_cache 4096
uts_namespace 390
task_struct 2696
mm_struct 384
"""

RENAMED: Final = {"cred": "cred_jar", "skbuff_small_head": "kmalloc-1k"}
"""What the model calls by its name in 6.12: which cache has it here."""

KMALLOC_LARGE_PAGES: Final = (390, 0)
