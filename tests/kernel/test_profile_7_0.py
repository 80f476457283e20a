"""Linux 7.0, which cannot be booted here: what its source says of files, rows, their order, and what they take.

The lists are facts of mm/vmstat.c, fs/proc/meminfo.c, mm/memcontrol.c, drivers/base/node.c and mm/show_mem.c of 7.0;
the order of vmstat, meminfo and memory.stat is also what machines with kernels up to 6.19 have printed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

import pytest

import mmfs
from mmfs.kernfs.node import Binary
from mmfs.mm.mman import MAP_ANONYMOUS, MAP_HUGETLB, MAP_PRIVATE
from mmfs.mm_types import PAGE_SIZE
from tests.fs.test_proc_relations import check as check_files

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernfs.entry import Entry

MB = 1 << 20
GROUP = "/sys/fs/cgroup/g"
ZONE_STATS = """nr_free_pages nr_free_pages_blocks nr_zone_inactive_anon nr_zone_active_anon nr_zone_inactive_file
nr_zone_active_file nr_zone_unevictable nr_zone_write_pending nr_mlock nr_zspages nr_free_cma nr_unaccepted"""
NUMA_STATS = "numa_hit numa_miss numa_foreign numa_interleave numa_local numa_other"
NODE_STATS = """nr_inactive_anon nr_active_anon nr_inactive_file nr_active_file nr_unevictable nr_slab_reclaimable
nr_slab_unreclaimable nr_isolated_anon nr_isolated_file workingset_nodes workingset_refault_anon
workingset_refault_file workingset_activate_anon workingset_activate_file workingset_restore_anon
workingset_restore_file workingset_nodereclaim nr_anon_pages nr_mapped nr_file_pages nr_dirty nr_writeback nr_shmem
nr_shmem_hugepages nr_shmem_pmdmapped nr_file_hugepages nr_file_pmdmapped nr_anon_transparent_hugepages
nr_vmscan_write nr_vmscan_immediate_reclaim nr_dirtied nr_written nr_throttled_written nr_kernel_misc_reclaimable
nr_foll_pin_acquired nr_foll_pin_released nr_kernel_stack nr_page_table_pages nr_sec_page_table_pages nr_iommu_pages
nr_swapcached pgpromote_success pgpromote_candidate pgpromote_candidate_nrl pgdemote_kswapd pgdemote_direct
pgdemote_khugepaged pgdemote_proactive nr_hugetlb nr_balloon_pages nr_kernel_file_pages"""
VM_STATS = "nr_dirty_threshold nr_dirty_background_threshold nr_memmap_pages nr_memmap_boot_pages"
EVENTS = """pgpgin pgpgout pswpin pswpout pgalloc_dma pgalloc_dma32 pgalloc_normal pgalloc_movable pgalloc_device
allocstall_dma allocstall_dma32 allocstall_normal allocstall_movable allocstall_device pgskip_dma pgskip_dma32
pgskip_normal pgskip_movable pgskip_device pgfree pgactivate pgdeactivate pglazyfree pgfault pgmajfault pglazyfreed
pgrefill pgreuse pgsteal_kswapd pgsteal_direct pgsteal_khugepaged pgsteal_proactive pgscan_kswapd pgscan_direct
pgscan_khugepaged pgscan_proactive pgscan_direct_throttle pgscan_anon pgscan_file pgsteal_anon pgsteal_file
zone_reclaim_success zone_reclaim_failed pginodesteal slabs_scanned kswapd_inodesteal kswapd_low_wmark_hit_quickly
kswapd_high_wmark_hit_quickly pageoutrun pgrotated drop_pagecache drop_slab oom_kill numa_pte_updates
numa_huge_pte_updates numa_hint_faults numa_hint_faults_local numa_pages_migrated pgmigrate_success pgmigrate_fail
thp_migration_success thp_migration_fail thp_migration_split compact_migrate_scanned compact_free_scanned
compact_isolated compact_stall compact_fail compact_success compact_daemon_wake compact_daemon_migrate_scanned
compact_daemon_free_scanned htlb_buddy_alloc_success htlb_buddy_alloc_fail unevictable_pgs_culled
unevictable_pgs_scanned unevictable_pgs_rescued unevictable_pgs_mlocked unevictable_pgs_munlocked
unevictable_pgs_cleared unevictable_pgs_stranded thp_fault_alloc thp_fault_fallback thp_fault_fallback_charge
thp_collapse_alloc thp_collapse_alloc_failed thp_file_alloc thp_file_fallback thp_file_fallback_charge
thp_file_mapped thp_split_page thp_split_page_failed thp_deferred_split_page thp_underused_split_page thp_split_pmd
thp_scan_exceed_none_pte thp_scan_exceed_swap_pte thp_scan_exceed_share_pte thp_split_pud thp_zero_page_alloc
thp_zero_page_alloc_failed thp_swpout thp_swpout_fallback balloon_inflate balloon_deflate balloon_migrate swap_ra
swap_ra_hit swpin_zero swpout_zero ksm_swpin_copy cow_ksm zswpin zswpout zswpwb direct_map_level2_splits
direct_map_level3_splits direct_map_level2_collapses direct_map_level3_collapses nr_unstable"""
MEMINFO = """MemTotal MemFree MemAvailable Buffers Cached SwapCached Active Inactive Active(anon) Inactive(anon)
Active(file) Inactive(file) Unevictable Mlocked SwapTotal SwapFree Zswap Zswapped Dirty Writeback AnonPages Mapped Shmem
KReclaimable Slab SReclaimable SUnreclaim KernelStack PageTables SecPageTables NFS_Unstable Bounce WritebackTmp
CommitLimit Committed_AS VmallocTotal VmallocUsed VmallocChunk Percpu HardwareCorrupted AnonHugePages ShmemHugePages
ShmemPmdMapped FileHugePages FilePmdMapped Unaccepted Balloon HugePages_Total HugePages_Free HugePages_Rsvd
HugePages_Surp Hugepagesize Hugetlb DirectMap4k DirectMap2M DirectMap1G"""
MEMORY_STAT = """anon file kernel kernel_stack pagetables sec_pagetables percpu sock vmalloc shmem zswap zswapped
file_mapped file_dirty file_writeback swapcached anon_thp file_thp shmem_thp inactive_anon active_anon inactive_file
active_file unevictable slab_reclaimable slab_unreclaimable slab workingset_refault_anon workingset_refault_file
workingset_activate_anon workingset_activate_file workingset_restore_anon workingset_restore_file
workingset_nodereclaim pgdemote_kswapd pgdemote_direct pgdemote_khugepaged pgdemote_proactive pgpromote_success pgscan
pgsteal pswpin pswpout pgscan_kswapd pgscan_direct pgscan_khugepaged pgscan_proactive pgsteal_kswapd pgsteal_direct
pgsteal_khugepaged pgsteal_proactive pgfault pgmajfault pgrefill pgactivate pgdeactivate pglazyfree pglazyfreed
swpin_zero swpout_zero zswpin zswpout zswpwb thp_fault_alloc thp_collapse_alloc thp_swpout thp_swpout_fallback
numa_pages_migrated numa_pte_updates numa_hint_faults"""
NUMA_STAT = """anon file kernel_stack pagetables sec_pagetables shmem file_mapped file_dirty file_writeback swapcached
anon_thp file_thp shmem_thp inactive_anon active_anon inactive_file active_file unevictable slab_reclaimable
slab_unreclaimable hugetlb workingset_refault_anon workingset_refault_file workingset_activate_anon
workingset_activate_file workingset_restore_anon workingset_restore_file workingset_nodereclaim pgdemote_kswapd
pgdemote_direct pgdemote_khugepaged pgdemote_proactive pgpromote_success"""
NODE_MEMINFO = """MemTotal MemFree MemUsed SwapCached Active Inactive Active(anon) Inactive(anon) Active(file)
Inactive(file) Unevictable Mlocked Dirty Writeback FilePages Mapped AnonPages Shmem KernelStack PageTables
SecPageTables NFS_Unstable Bounce WritebackTmp KReclaimable Slab SReclaimable SUnreclaim AnonHugePages ShmemHugePages
ShmemPmdMapped FileHugePages FilePmdMapped Unaccepted HugePages_Total HugePages_Free HugePages_Surp"""
NODE = "/sys/devices/system/node/node0"
ROWS = {
    "/proc/vmstat": f"{ZONE_STATS} {NUMA_STATS} {NODE_STATS} {VM_STATS} {EVENTS}",
    f"{NODE}/vmstat": f"{ZONE_STATS} {NUMA_STATS} {NODE_STATS}",
    "/proc/meminfo": MEMINFO,
    f"{NODE}/meminfo": NODE_MEMINFO,
    f"{GROUP}/memory.stat": MEMORY_STAT,
    f"{GROUP}/memory.numa_stat": NUMA_STAT,
    f"{GROUP}/memory.events": "low high max oom oom_kill oom_group_kill sock_throttled",
    f"{GROUP}/memory.swap.events": "high max fail",
    f"{GROUP}/cgroup.stat.local": "frozen_usec",
    "/proc/1/ksm_stat": "ksm_rmap_items ksm_zero_pages ksm_merging_pages ksm_process_profit ksm_merge_any "
    "ksm_mergeable",
}
SYSCTL_VM = """admin_reserve_kbytes compact_memory compact_unevictable_allowed compaction_proactiveness defrag_mode
dirty_background_bytes dirty_background_ratio dirty_bytes dirty_expire_centisecs dirty_ratio dirty_writeback_centisecs
dirtytime_expire_seconds drop_caches enable_soft_offline extfrag_threshold hugetlb_optimize_vmemmap hugetlb_shm_group
laptop_mode legacy_va_layout lowmem_reserve_ratio max_map_count memfd_noexec memory_failure_early_kill
memory_failure_recovery min_free_kbytes min_slab_ratio min_unmapped_ratio mmap_min_addr mmap_rnd_bits
mmap_rnd_compat_bits movable_gigantic_pages nr_hugepages nr_hugepages_mempolicy nr_overcommit_hugepages numa_stat
numa_zonelist_order oom_dump_tasks oom_kill_allocating_task overcommit_kbytes overcommit_memory overcommit_ratio
page-cluster page_lock_unfairness panic_on_oom percpu_pagelist_high_fraction stat_interval stat_refresh swappiness
unprivileged_userfaultfd user_reserve_kbytes vfs_cache_pressure vfs_cache_pressure_denom watermark_boost_factor
watermark_scale_factor zone_reclaim_mode"""
ZSWAP_PARAMETERS = "accept_threshold_percent compressor enabled max_pool_percent shrinker_enabled"
MTHP_STATS = """anon_fault_alloc anon_fault_fallback anon_fault_fallback_charge nr_anon nr_anon_partially_mapped
shmem_alloc shmem_fallback shmem_fallback_charge split split_deferred split_failed swpin swpin_fallback
swpin_fallback_charge swpout swpout_fallback zswpout"""
NAMES = {
    "/proc/sys/vm": SYSCTL_VM,
    "/sys/module/zswap/parameters": ZSWAP_PARAMETERS,
    "/sys/kernel/mm/transparent_hugepage/hugepages-2048kB/stats": MTHP_STATS,
}
UNBOUNDED = ("kmsg", "pagemap", "kpageflags", "kpagecount", "kpagecgroup")
"""Files that are as long as memory, or that wait at their end."""


OPTIONS: Final = {"ram": "256M", "swap": "128M", "cpus": 2, "nodes": 2, "seed": 1, "preset": "bare", "profile": "7.0"}


def with_a_cgroup(kernel: Kernel) -> Kernel:
    """One that has memory enabled."""
    kernel.write("/sys/fs/cgroup/cgroup.subtree_control", "+memory +pids")
    kernel.vfs.mkdir(GROUP)
    return kernel


@pytest.fixture
def kernel(boot: Callable[..., Kernel]) -> Kernel:
    """A machine with a cgroup."""
    return with_a_cgroup(boot(**OPTIONS))


@pytest.fixture(scope="module")
def at_boot() -> Iterator[Kernel]:
    """The same, which tests only read."""
    kernel = with_a_cgroup(mmfs.boot(**OPTIONS))
    yield kernel
    kernel.check()


def rows(kernel: Kernel, path: str) -> dict[str, str]:
    """Names and numbers."""
    text = re.sub(r"^Node \d+ ", "", kernel.read(path).decode(), flags=re.MULTILINE)
    return {line.split()[0].rstrip(":"): line.split(None, 1)[1] for line in text.splitlines()}


def count(kernel: Kernel, path: str, row: str) -> int:
    return int(rows(kernel, path)[row].split()[0])


@pytest.mark.parametrize("path", ROWS)
def test_rows_and_their_order(at_boot: Kernel, path: str) -> None:
    assert list(rows(at_boot, path)) == ROWS[path].split()


@pytest.mark.parametrize("path", NAMES)
def test_names_in_a_directory(at_boot: Kernel, path: str) -> None:
    assert sorted(name for name, _ in at_boot.vfs.walk(path).readdir()) == sorted(NAMES[path].split())


def test_zoneinfo(at_boot: Kernel) -> None:
    """Each node's counters once, each populated zone's, and what is reserved for atomic allocations at its end."""
    text = at_boot.read("/proc/zoneinfo").decode()
    first = text[: text.index("\nNode 0, zone    DMA32")]
    names = re.findall(r"^      (\S+) +\d+$", first, re.MULTILINE)
    assert names == f"{NODE_STATS} {ZONE_STATS} {NUMA_STATS}".split()
    fields = ("count:", "high:", "batch:", "high_min:", "high_max:")
    pageset = "".join(rf"              {name:<9} \d+\n" for name in fields)
    assert re.search(rf"^    cpu: 0\n{pageset}  vm stats threshold: \d+\n", first, re.MULTILINE)
    assert re.search(r"  start_pfn:           1\n  reserved_highatomic: 0\n  free_highatomic:     0$", first)


def test_the_release(at_boot: Kernel) -> None:
    assert at_boot.read("/proc/version").startswith(b"Linux version 7.0.13+deb14-amd64 (debian-kernel")
    assert at_boot.read("/proc/sys/kernel/osrelease") == b"7.0.13+deb14-amd64\n"


def files(entry: Entry, path: str = "") -> Iterator[str]:
    """Every file that can be read at once."""
    for name, child in entry.readdir():
        here = f"{path}/{name}"
        if child.type == stat.S_IFDIR:
            if here != "/sim":
                yield from files(child, here)
        elif child.type == stat.S_IFREG and child.mode & 0o444 and name not in UNBOUNDED:
            if not isinstance(child.node, Binary) or "page_idle" not in here:
                yield here


@pytest.mark.slow
def test_every_file_can_be_read(kernel: Kernel) -> None:
    """An errno of Linux at most; those of 6.12 are read by other tests."""
    kernel.write("/sys/module/zswap/parameters/enabled", "y")
    seen = 0
    for path in files(kernel.vfs.walk("/")):
        with contextlib.suppress(OSError):
            kernel.read(path)
            seen += 1
    assert seen > 3000


def test_files_agree(kernel: Kernel) -> None:
    """What tests/fs holds of every kernel's files, as memory is used."""
    check_files(kernel)
    task = kernel.spawn("hog", cgroup="/g")
    addr = task.mmap("16M")
    task.touch(addr, "16M", write=True)
    kernel.write("/proc/sys/vm/nr_hugepages", "4")
    check_files(kernel)
    task.exit(0)
    kernel.run_for(2.0)
    check_files(kernel)


def test_free_pages_in_whole_blocks(kernel: Kernel) -> None:
    """What buddyinfo has in orders 9 and 10, the machine's, each node's and each zone's."""
    task = kernel.spawn("hog")
    task.touch(task.mmap("33M"), "33M", write=True)
    lines = re.findall(r"^Node (\d), zone +(\w+) (.*)$", kernel.read("/proc/buddyinfo").decode(), re.MULTILINE)
    blocks = [int(nine) * 512 + int(ten) * 1024 for *_, nine, ten in (found[2].split() for found in lines)]
    assert count(kernel, "/proc/vmstat", "nr_free_pages_blocks") == sum(blocks) > 0
    zones = re.findall(r"^      nr_free_pages_blocks (\d+)$", kernel.read("/proc/zoneinfo").decode(), re.MULTILINE)
    assert [int(zone) for zone in zones] == blocks
    assert sum(blocks) < count(kernel, "/proc/vmstat", "nr_free_pages")


def test_huge_pages_in_use_are_counted(kernel: Kernel) -> None:
    kernel.write("/proc/sys/vm/nr_hugepages", "4")
    assert count(kernel, "/proc/vmstat", "nr_hugetlb") == 0
    task = kernel.spawn("hog")
    addr = task.mmap("4M", flags=MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB)
    task.touch(addr, "4M", write=True)
    assert count(kernel, "/proc/vmstat", "nr_hugetlb") == 1024
    task.exit(0)
    kernel.run_for(1.0)
    assert count(kernel, "/proc/vmstat", "nr_hugetlb") == 0


def test_what_is_reclaimed_as_asked_is_counted_apart(kernel: Kernel) -> None:
    """memory.reclaim: pgsteal_proactive of the cgroup; a node's reclaim: also the machine's; swap by cgroup."""
    task = kernel.spawn("hog", cgroup="/g")
    task.touch(task.mmap("16M"), "16M", write=True)
    kernel.write(f"{GROUP}/memory.reclaim", "2M swappiness=max")
    stats = {name: int(value) for name, value in rows(kernel, f"{GROUP}/memory.stat").items()}
    assert stats["pgsteal"] == stats["pgsteal_proactive"] >= 2 * MB // PAGE_SIZE
    assert stats["pgsteal_direct"] == 0 and stats["pswpout"] >= 2 * MB // PAGE_SIZE
    assert count(kernel, "/proc/vmstat", "pgsteal_proactive") == 0
    assert stats["pswpout"] == count(kernel, "/proc/vmstat", "pswpout")
    kernel.write("/sys/kernel/debug/lru_gen", f"+ 2 {kernel.cpu_to_node(task.processor)} 4 max 1")


def test_reclaim_of_a_node(kernel: Kernel) -> None:
    """Files or anonymous memory, as is asked; EAGAIN for whatever is wrong. Linux: reclaim_store()."""
    kernel.create_file("/data/log", 24 * MB)
    task = kernel.spawn("reader")
    task.read("/data/log", 0, 24 * MB)
    nid = task.kernel.cpu_to_node(task.processor)
    reclaim = f"/sys/devices/system/node/node{nid}/reclaim"
    kernel.write(reclaim, "2M swappiness=0")
    found = {name: int(value.split()[0]) for name, value in rows(kernel, "/proc/vmstat").items()}
    assert found["pgsteal_proactive"] == found["pgsteal_file"] >= 2 * MB // PAGE_SIZE
    for wrong in ("x", "1M swappiness=201", "1M nonsense"):
        with pytest.raises(OSError) as info:
            kernel.write(reclaim, wrong)
        assert info.value.errno == errno.EAGAIN
    with pytest.raises(PermissionError):
        kernel.vfs.walk(reclaim).open(os.O_RDONLY, kernel.caller).read(1)


def test_a_limit_without_reclaim(kernel: Kernel) -> None:
    """O_NONBLOCK: the limit is set, and whoever is above it finds out by itself. Linux: memory_max_write()."""
    task = kernel.spawn("hog", cgroup="/g")
    task.touch(task.mmap("12M"), "12M", write=True)
    used = count_of(kernel, f"{GROUP}/memory.current")
    for name in ("memory.high", "memory.max"):
        file = kernel.vfs.walk(f"{GROUP}/{name}").open(os.O_WRONLY | os.O_NONBLOCK, kernel.caller)
        file.write(b"8M", 0)
        assert kernel.read(f"{GROUP}/{name}") == b"8388608\n"
        assert count_of(kernel, f"{GROUP}/memory.current") == used
    kernel.write(f"{GROUP}/memory.high", "8M")
    assert count_of(kernel, f"{GROUP}/memory.current") <= 8 * MB


@pytest.mark.parametrize(("profile", "activated"), [("6.12", True), ("7.0", False)])
def test_what_is_read_again_is_not_activated(boot: Callable[..., Kernel], profile: str, activated: bool) -> None:
    """Pages that come back through file descriptors; as a real 7.0 counts them. Linux: lru_gen_refault()."""
    kernel = with_a_cgroup(boot(**OPTIONS | {"profile": profile}))
    kernel.write("/sys/kernel/mm/lru_gen/enabled", "y")
    kernel.write(f"{GROUP}/memory.max", "8M")
    kernel.create_file("/data/log", 16 * MB)
    task = kernel.spawn("reader", cgroup="/g")
    for _ in range(2):
        task.read("/data/log", 0, 16 * MB)
    found = {name: int(value) for name, value in rows(kernel, f"{GROUP}/memory.stat").items()}
    assert found["workingset_refault_file"] > 1000
    assert (found["workingset_activate_file"] > 1000) is activated


def test_areas_of_swap_share_their_priority(boot: Callable[..., Kernel]) -> None:
    """-1, unless they ask for another, and what is swapped out goes to them in turns. Linux: DEF_SWAP_PRIO."""
    kernel = boot(**OPTIONS | {"swap": ["64M", "64M"]})
    for disk in ("/dev/vdb", "/dev/vdc"):
        with contextlib.suppress(OSError):  # what boot has enabled
            kernel.swapon(disk)
    assert re.findall(rb"(-?\d+)$", kernel.read("/proc/swaps"), re.MULTILINE) == [b"-1", b"-1"]
    task = kernel.spawn("hog")
    addr = task.mmap("16M")
    task.touch(addr, "16M", write=True)
    task.madvise(addr, 16 * MB, 21)  # MADV_PAGEOUT
    used = [int(line.split()[3]) for line in kernel.read("/proc/swaps").decode().splitlines()[1:]]
    assert min(used) > 4 << 10


def count_of(kernel: Kernel, path: str) -> int:
    return int(kernel.read(path))


def test_frozen_time(kernel: Kernel) -> None:
    """From when a cgroup or one above it is told to be frozen until it is not. Linux: cgroup_core_local_stat_show()."""
    kernel.vfs.mkdir(f"{GROUP}/below")
    kernel.write(f"{GROUP}/cgroup.freeze", "1")
    kernel.run_for(0.5)
    kernel.vfs.mkdir(f"{GROUP}/late")
    kernel.run_for(0.5)
    kernel.write(f"{GROUP}/cgroup.freeze", "0")
    kernel.run_for(0.5)
    for name, micros in (("", 1_000_000), ("/below", 1_000_000), ("/late", 500_000)):
        assert kernel.read(f"{GROUP}{name}/cgroup.stat.local").decode() == f"frozen_usec {micros}\n"
    with pytest.raises(FileNotFoundError):
        kernel.read("/sys/fs/cgroup/cgroup.stat.local")


def test_the_oom_report(kernel: Kernel) -> None:
    kernel.write(f"{GROUP}/memory.min", "4M")
    kernel.write(f"{GROUP}/memory.max", "16M")
    task = kernel.spawn("hog", cgroup="/g")
    task.touch(task.mmap("12M"), "12M", write=True)
    kernel.write("/proc/sysrq-trigger", "f")
    log = [record.dmesg() for record in kernel.printk.since(0)]
    text = "".join(log)
    assert re.search(r"CPU: \d UID: 0 PID: \d+ Comm: .* #1 PREEMPT\(lazy\)  Debian 7\.0\.13-1\n", text)
    assert re.search(r"shmem_thp:0kB shmem_pmdmapped:0kB anon_thp:\d+kB kernel_stack:", text)
    assert re.search(r"all_unreclaimable\? no Balloon:0kB", text)
    assert re.search(r"reserved_highatomic:0KB free_highatomic:0KB active_anon:", text)
    assert re.search(r"writepending:\d+kB zspages:0kB present:", text)
    assert "Memory cgroup min protection 4096kB -- low protection 0kB" in text
    assert "bounce:0kB" in text


def test_weights_follow_bandwidth(boot: Callable[..., Kernel]) -> None:
    """Without firmware's numbers they are 1 and cannot be automatic. Linux: reduce_interleave_weights()."""
    weights = "/sys/kernel/mm/mempolicy/weighted_interleave"
    kernel = boot(ram="256M", nodes=2, cpus=2, seed=1, preset="bare", profile="7.0")
    assert [kernel.read(f"{weights}/{name}") for name in ("auto", "node0", "node1")] == [b"true\n", b"1\n", b"1\n"]
    kernel.write(f"{weights}/node1", "3")
    assert kernel.read(f"{weights}/auto") == b"false\n"
    for name, value, error in (("auto", "1", errno.ENODEV), ("node0", "0", errno.EINVAL), ("auto", "x", errno.EINVAL)):
        with pytest.raises(OSError) as info:
            kernel.write(f"{weights}/{name}", value)
        assert info.value.errno == error
    assert kernel.read(f"{weights}/node1") == b"3\n"


def test_what_is_gone_or_has_no_effect(kernel: Kernel) -> None:
    for path in ("/sys/module/zswap/parameters/zpool", "/sys/kernel/slab/vma_lock", "/sys/fs/cgroup/cgroup.stat.local"):
        with pytest.raises(FileNotFoundError):
            kernel.read(path)
    kernel.write("/proc/sys/vm/laptop_mode", "5")
    assert kernel.read("/proc/sys/vm/laptop_mode") == b"5\n"
    assert kernel.vm.laptop_mode == 0
    assert any("vm.laptop_mode is deprecated" in record.dmesg() for record in kernel.printk.since(0))
    assert kernel.read("/sys/kernel/slab/vm_area_struct/cpu_partial") == b"0\n"
    assert kernel.read("/sys/kernel/slab/vm_area_struct/sheaf_capacity") == b"60\n"
    with pytest.raises(OSError) as info:
        kernel.write("/sys/kernel/slab/vm_area_struct/cpu_partial", "30")
    assert info.value.errno == errno.EINVAL
    kernel.write("/sys/module/zswap/parameters/enabled", "y")
    assert any("zswap: loaded using pool lzo\n" in record.dmesg() for record in kernel.printk.since(0))


def test_masks_as_names(kernel: Kernel) -> None:
    """panic_sys_info is panic_print by name. Linux: lib/sys_info.c."""
    name = "/proc/sys/kernel/panic_sys_info"
    assert kernel.read(name) == b"\n"
    kernel.write(name, "mem,nonsense,tasks,all_bt")
    assert kernel.read(name) == b"tasks,mem,all_bt\n"
    assert kernel.read("/proc/sys/kernel/panic_print") == b"67\n"
    kernel.write("/proc/sys/kernel/panic_print", "32")
    assert kernel.read(name) == b"\n"
