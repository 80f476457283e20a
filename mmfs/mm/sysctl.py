"""The tunables of /proc/sys/vm: one field each, by Linux's names.

Those with an owner that computes from them (the page allocator, overcommit) are read there; the files under
mmfs/fs write them and tell the owner. Overcommit's own three stand in mm/util.py.

Linux: mm/*.c, the ctl_table of each; defaults of Debian's 6.12 on x86-64.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

CONFIG_LSM_MMAP_MIN_ADDR: Final = 65536
HZ: Final = 250


@dataclass
class VmSysctl:
    """Plain tunables. Units are in the names, else pages, percent or flags as in Linux's vm.rst."""

    compact_memory: int = 0
    compact_unevictable_allowed: int = 1
    compaction_proactiveness: int = 20
    dac_mmap_min_addr: int = 65536
    defrag_mode: int = 0
    dirty_background_bytes: int = 0
    dirty_background_ratio: int = 10
    dirty_bytes: int = 0
    dirty_expire_centisecs: int = 3000
    dirty_ratio: int = 20
    dirty_writeback_centisecs: int = 500
    dirtytime_expire_seconds: int = 43200
    drop_caches: int = 0
    drop_caches_silent: bool = False
    enable_soft_offline: int = 1
    extfrag_threshold: int = 500
    highmem_is_dirtyable: int = 0
    hugetlb_optimize_vmemmap: int = 0
    hugetlb_shm_group: int = 0
    laptop_mode: int = 0
    laptop_mode_ignored: int = 0
    legacy_va_layout: int = 0
    lowmem_reserve_ratio: list[int] = field(default_factory=list)
    """A ratio for each zone that the kernel has."""
    max_map_count: int = 65530
    memfd_noexec: int = 0
    memory_failure_early_kill: int = 0
    memory_failure_recovery: int = 1
    min_free_kbytes: int = 1024
    min_slab_ratio: int = 5
    min_unmapped_ratio: int = 1
    mmap_min_addr: int = 65536
    mmap_rnd_bits: int = 28
    mmap_rnd_compat_bits: int = 8
    movable_gigantic_pages: int = 0
    numa_stat: int = 1
    oom_dump_tasks: int = 1
    oom_kill_allocating_task: int = 0
    page_cluster: int = 3
    page_lock_unfairness: int = 5
    panic_on_oom: int = 0
    percpu_pagelist_high_fraction: int = 0
    stat_interval: int = HZ
    swappiness: int = 60
    unprivileged_userfaultfd: int = 0
    user_min_free_kbytes: int = -1
    vdso_enabled: int = 1
    vfs_cache_pressure: int = 100
    vfs_cache_pressure_denom: int = 100
    watermark_boost_factor: int = 15000
    watermark_scale_factor: int = 10
    zone_reclaim_mode: int = 0

    def update_mmap_min_addr(self) -> None:
        """What mmap() obeys: the higher of root's choice and the configuration's. Linux: security/min_addr.c."""
        self.mmap_min_addr = max(self.dac_mmap_min_addr, CONFIG_LSM_MMAP_MIN_ADDR)
