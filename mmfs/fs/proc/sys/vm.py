"""/proc/sys/vm: the tunables of memory, a row a file.

A row names its file, how its numbers are read, and what follows from a new value. Plain fields stand in
`kernel.vm` (mm/sysctl.py); those of overcommit and of huge pages with their owners.

Linux: kernel/sysctl.c, vm_table[]; the ctl_table of mm/page_alloc.c, page-writeback.c, hugetlb.c, compaction.c,
oom_kill.c, memory-failure.c; fs/drop_caches.c, fs/userfaultfd.c.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from mmfs.fs.proc.sys.root import register_sysctl, sysctl_directory, tunable
from mmfs.kernfs import Attribute, Caller, fail
from mmfs.kernfs.kstrtox import UINT_MAX, ulong_max
from mmfs.kernfs.sysctl import (
    HZ,
    proc_dobool,
    proc_dointvec,
    proc_dointvec_jiffies,
    proc_dointvec_minmax,
    proc_doulongvec_minmax,
    proc_get_long,
    skip_spaces,
    sysctl,
)
from mmfs.mm.compaction import compact_nodes, proactiveness_changed
from mmfs.mm.drop_caches import drop_caches
from mmfs.mm.mempolicy import init_nodemask_of_mempolicy
from mmfs.mm.node_reclaim import node_reclaim_mode_changed
from mmfs.mm.watermark import MIN_PERCPU_PAGELIST_HIGH_FRACTION
from mmfs.mm_types import PAGE_SIZE
from mmfs.profile import config, since, until

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.mm.sysctl import VmSysctl
    from mmfs.mm.util import Overcommit

LOG_WARNING: Final = 4

vm = sysctl_directory()


def of_vm(kernel: Kernel) -> VmSysctl:
    """Where plain tunables stand."""
    return kernel.vm


def of_overcommit(kernel: Kernel) -> Overcommit:
    """Where those of overcommit stand."""
    return kernel.overcommit


# -- the page allocator ------------------------------------------------------------------------------------


def min_free_kbytes_changed(kernel: Kernel, _: int) -> None:
    """Linux: mm/page_alloc.c, min_free_kbytes_sysctl_handler()."""
    kernel.vm.user_min_free_kbytes = kernel.vm.min_free_kbytes
    kernel.page_alloc.setup_per_zone_wmarks()


def watermark_scale_factor_changed(kernel: Kernel, _: int) -> None:
    """Linux: mm/page_alloc.c, watermark_scale_factor_sysctl_handler()."""
    kernel.page_alloc.setup_per_zone_wmarks()


def watermark_boost_factor_changed(kernel: Kernel, _: int) -> None:
    """The next pageblock that is stolen boosts by it."""
    kernel.page_alloc.buddy.areas.watermark_boost_factor = kernel.vm.watermark_boost_factor


def zone_reclaim_mode_changed(kernel: Kernel, _: int) -> None:
    """The page allocator stops for it from now on."""
    node_reclaim_mode_changed(kernel)


def page_cluster_changed(kernel: Kernel, _: int) -> None:
    """The next page that is swapped in comes with so many."""
    kernel.mmu.swap_state.page_cluster = kernel.vm.page_cluster


def percpu_pagelist_high_fraction_changed(kernel: Kernel, old: int) -> None:
    """Linux: mm/page_alloc.c, percpu_pagelist_high_fraction_sysctl_handler()."""
    if 0 < kernel.vm.percpu_pagelist_high_fraction < MIN_PERCPU_PAGELIST_HIGH_FRACTION:
        kernel.vm.percpu_pagelist_high_fraction = old
        fail(errno.EINVAL)
    if kernel.vm.percpu_pagelist_high_fraction != old:
        kernel.page_alloc.setup_per_cpu_pagesets()


class lowmem_reserve_ratio_sysctl_handler(proc_dointvec_minmax):
    """ints of which those below 1 become 0; what is no number is taken without an error.

    Linux: mm/page_alloc.c, lowmem_reserve_ratio_sysctl_handler().
    """

    def store(self, value: Any, buf: str, offset: int, assign: Callable[[Any], None]) -> int:
        raw = buf.encode("utf-8", "surrogateescape")
        ratios: list[int] = list(value)
        at = read = 0
        while not offset and read < len(ratios) and at < len(raw):
            at = skip_spaces(raw, at)
            try:
                negative, magnitude, end = proc_get_long(raw, at)
                at = end
                ratios[read] = max(self.to_value(negative, magnitude), 0)
            except OSError:
                break
            read += 1
        else:
            at = skip_spaces(raw, at)
        assign(ratios)
        return at if read else len(raw)


def lowmem_reserve_ratio_changed(kernel: Kernel, _: list[int]) -> None:
    """Linux: mm/page_alloc.c, setup_per_zone_lowmem_reserve()."""
    kernel.page_alloc.setup_per_zone_lowmem_reserve()


def numa_zonelist_order(_: Kernel) -> str:
    """Zonelists are ordered by node, and only so. Linux: mm/page_alloc.c, numa_zonelist_order."""
    return "Node\n"


def numa_zonelist_order_store(kernel: Kernel, buf: str) -> None:
    """Linux: mm/page_alloc.c, __parse_numa_zonelist_order()."""
    if buf[:1] not in tuple("dDnN"):
        kernel.printk.emit(f"Ignoring unsupported numa_zonelist_order value:  {buf}", LOG_WARNING)
        fail(errno.EINVAL)


# -- counters ----------------------------------------------------------------------------------------------


def numa_stat_changed(kernel: Kernel, old: int) -> None:
    """Count NUMA events or forget them. Linux: mm/vmstat.c, sysctl_vm_numa_stat_handler()."""
    if kernel.vm.numa_stat == old:
        return
    kernel.vmstat.set_numa_stat(bool(kernel.vm.numa_stat))
    kernel.printk.emit(
        "enable numa statistics" if kernel.vm.numa_stat else "disable numa statistics, and clear numa counters"
    )


def stat_refresh(kernel: Kernel, buf: str = "") -> str:
    """Nothing to read, and nothing to refresh: the counters are exact; one below zero is logged.

    Linux: mm/vmstat.c, vmstat_refresh().
    """
    for name, value in kernel.vmstat.negative():
        kernel.printk.emit(f"vmstat_refresh: {name} {value}", LOG_WARNING)
    return ""


def stat_refresh_store(kernel: Kernel, buf: str) -> None:
    """Whatever is written."""
    stat_refresh(kernel)


# -- dirty pages -------------------------------------------------------------------------------------------


def _too_large(limit: int) -> bool:
    """More pages than an int counts, in the kernel's 64-bit arithmetic. Linux: DIV_ROUND_UP()."""
    return (limit + PAGE_SIZE - 1 & ulong_max()) // PAGE_SIZE > UINT_MAX


def dirty_background_ratio_changed(kernel: Kernel, _: int) -> None:
    """Linux: mm/page-writeback.c, dirty_background_ratio_handler()."""
    kernel.vm.dirty_background_bytes = 0


def dirty_background_bytes_changed(kernel: Kernel, old: int) -> None:
    """Linux: mm/page-writeback.c, dirty_background_bytes_handler()."""
    if _too_large(kernel.vm.dirty_background_bytes):
        kernel.vm.dirty_background_bytes = old
        fail(errno.ERANGE)
    kernel.vm.dirty_background_ratio = 0


def dirty_ratio_changed(kernel: Kernel, old: int) -> None:
    """Linux: mm/page-writeback.c, dirty_ratio_handler()."""
    if kernel.vm.dirty_ratio != old:
        kernel.wb_domain.set_ratelimit()
        kernel.vm.dirty_bytes = 0


def dirty_bytes_changed(kernel: Kernel, old: int) -> None:
    """Linux: mm/page-writeback.c, dirty_bytes_handler()."""
    if kernel.vm.dirty_bytes == old:
        return
    if _too_large(kernel.vm.dirty_bytes):
        kernel.vm.dirty_bytes = old
        fail(errno.ERANGE)
    kernel.wb_domain.set_ratelimit()
    kernel.vm.dirty_ratio = 0


def dirty_writeback_centisecs_changed(kernel: Kernel, old: int) -> None:
    """The flushers start over. Linux: mm/page-writeback.c, dirty_writeback_centisecs_handler()."""
    if kernel.vm.dirty_writeback_centisecs not in (0, old):
        for bdi in kernel.bdis:
            if bdi.wb.inodes():
                bdi.wb.start_writeback()


# -- promises, address spaces ------------------------------------------------------------------------------


def overcommit_ratio_changed(kernel: Kernel, _: int) -> None:
    """Linux: mm/util.c, overcommit_ratio_handler()."""
    kernel.overcommit.set_overcommit_ratio(kernel.overcommit.sysctl_overcommit_ratio)


def overcommit_kbytes_changed(kernel: Kernel, _: int) -> None:
    """Linux: mm/util.c, overcommit_kbytes_handler()."""
    kernel.overcommit.set_overcommit_kbytes(kernel.overcommit.sysctl_overcommit_kbytes)


def mmap_min_addr_changed(kernel: Kernel, _: int) -> None:
    """Linux: security/min_addr.c, mmap_min_addr_handler()."""
    kernel.vm.update_mmap_min_addr()


# -- huge pages --------------------------------------------------------------------------------------------


def max_huge_pages(kernel: Kernel) -> int:
    """The persistent pages of the default pool. Linux: struct hstate, max_huge_pages."""
    return kernel.hugetlb.default.persistent_huge_pages


def set_max_huge_pages(kernel: Kernel, count: int) -> None:
    """Linux: mm/hugetlb.c, hugetlb_sysctl_handler_common()."""
    kernel.hugetlb.default.set_max_huge_pages(count)


def nr_hugepages_mempolicy(kernel: Kernel, *, caller: Caller) -> str:
    """As nr_hugepages."""
    return ULONG.show(max_huge_pages(kernel))


def nr_hugepages_mempolicy_store(kernel: Kernel, buf: str, *, offset: int, caller: Caller) -> int:
    """As nr_hugepages, on the nodes of the writer's memory policy. Linux: hugetlb_mempolicy_sysctl_handler()."""
    nodes = init_nodemask_of_mempolicy(kernel.tasks.get(caller.pid))

    def save(count: int) -> None:
        kernel.hugetlb.default.set_max_huge_pages(count, nodes_allowed=nodes)

    return ULONG.store(max_huge_pages(kernel), buf, offset, save)


def set_nr_overcommit_huge_pages(kernel: Kernel, count: int) -> None:
    """EINVAL: they are too large to come and go. Linux: mm/hugetlb.c, hugetlb_overcommit_handler()."""
    if kernel.hugetlb.default.gigantic:
        fail(errno.EINVAL)
    kernel.hugetlb.default.nr_overcommit_huge_pages = count


# -- things to do ------------------------------------------------------------------------------------------


def compact_memory(kernel: Kernel, _: int) -> None:
    """Writing 1 compacts all nodes, anything else is refused. Linux: mm/compaction.c, sysctl_compaction_handler()."""
    if kernel.vm.compact_memory != 1:
        fail(errno.EINVAL)
    compact_nodes(kernel)


def compact_memory_any(kernel: Kernel, buf: str) -> None:
    """Whatever is written compacts all nodes. Linux 6.1: mm/compaction.c, sysctl_compaction_handler()."""
    compact_nodes(kernel)


JIFFIES: Final = proc_dointvec_jiffies(hz=HZ)


def laptop_mode_ignored(kernel: Kernel, *, caller: Caller) -> str:
    """What was written, which does nothing."""
    return JIFFIES.show(kernel.vm.laptop_mode_ignored)


def laptop_mode_ignored_store(kernel: Kernel, buf: str, *, offset: int, caller: Caller) -> int:
    """Linux 7.0: mm/page-writeback.c, laptop_mode_handler()."""

    def save(value: int) -> None:
        kernel.vm.laptop_mode_ignored = value

    taken = JIFFIES.store(kernel.vm.laptop_mode_ignored, buf, offset, save)
    task = kernel.tasks.get(caller.pid)
    comm = task.comm if task is not None else "mmfs"
    kernel.printk.emit(f"{comm}: vm.laptop_mode is deprecated. Ignoring setting.", LOG_WARNING)
    return taken


DROP_CACHES: Final = proc_dointvec_minmax(1, 4)


def drop_caches_store(kernel: Kernel, buf: str, *, offset: int, caller: Caller) -> int:
    """1 drops the page cache, 2 the slab's unused objects, 3 both; with 4 the log stays silent from then on.

    Linux: fs/drop_caches.c, drop_caches_sysctl_handler().
    """

    def save(value: int) -> None:
        kernel.vm.drop_caches = value

    taken = DROP_CACHES.store(kernel.vm.drop_caches, buf, offset, save)
    task = kernel.tasks.get(caller.pid)
    drop_caches(kernel, kernel.vm.drop_caches, *((task.comm, task.pid) if task is not None else ("mmfs", 0)))
    return taken


NUMA, LONG_64, LONG_32 = config("NUMA"), config("64BIT"), ~config("64BIT")
INT = proc_dointvec()
NATURAL = proc_dointvec_minmax(0)
FLAG = proc_dointvec_minmax(0, 1)
PERCENT = proc_dointvec_minmax(0, 100)
ULONG = proc_doulongvec_minmax()

register_sysctl(vm, (
    tunable(of_overcommit, "admin_reserve_kbytes", ULONG, field="sysctl_admin_reserve_kbytes"),
    tunable(of_vm, "compact_memory", INT, compact_memory, mode=0o200, needs=since(6, 12)),
    Attribute("compact_memory", None, compact_memory_any, mode=0o200, needs=until(6, 12)),
    tunable(of_vm, "compact_unevictable_allowed", FLAG),
    tunable(of_vm, "compaction_proactiveness", PERCENT, proactiveness_changed),
    tunable(of_vm, "defrag_mode", FLAG, needs=since(6, 18)),
    tunable(of_vm, "dirty_background_bytes", proc_doulongvec_minmax(1), dirty_background_bytes_changed),
    tunable(of_vm, "dirty_background_ratio", PERCENT, dirty_background_ratio_changed),
    tunable(of_vm, "dirty_bytes", proc_doulongvec_minmax(2 * PAGE_SIZE), dirty_bytes_changed),
    tunable(of_vm, "dirty_expire_centisecs", NATURAL),
    tunable(of_vm, "dirty_ratio", PERCENT, dirty_ratio_changed),
    tunable(of_vm, "dirty_writeback_centisecs", INT, dirty_writeback_centisecs_changed),
    tunable(of_vm, "dirtytime_expire_seconds", NATURAL),
    Attribute("drop_caches", None, drop_caches_store, mode=0o200, wants_offset=True, wants_caller=True),
    tunable(of_vm, "enable_soft_offline", FLAG, needs=since(6, 12)),
    tunable(of_vm, "extfrag_threshold", proc_dointvec_minmax(0, 1000)),
    tunable(of_vm, "highmem_is_dirtyable", FLAG, needs=config("HIGHMEM")),
    tunable(of_vm, "hugetlb_optimize_vmemmap", proc_dobool(), needs=config("HUGETLB_PAGE_OPTIMIZE_VMEMMAP")),
    tunable(of_vm, "hugetlb_shm_group", INT),
    tunable(of_vm, "laptop_mode", proc_dointvec_jiffies(hz=HZ), needs=until(7, 0)),
    Attribute("laptop_mode", laptop_mode_ignored, laptop_mode_ignored_store, wants_offset=True, wants_caller=True,
              one_read=True, needs=since(7, 0)),
    tunable(of_vm, "legacy_va_layout", NATURAL),
    tunable(of_vm, "lowmem_reserve_ratio", lowmem_reserve_ratio_sysctl_handler(), lowmem_reserve_ratio_changed),
    tunable(of_vm, "max_map_count", NATURAL),
    tunable(of_vm, "memfd_noexec", proc_dointvec_minmax(0, 2), needs=since(6, 12)),
    tunable(of_vm, "memory_failure_early_kill", FLAG),
    tunable(of_vm, "memory_failure_recovery", FLAG),
    tunable(of_vm, "min_free_kbytes", NATURAL, min_free_kbytes_changed),
    tunable(of_vm, "min_slab_ratio", PERCENT, needs=NUMA),
    tunable(of_vm, "min_unmapped_ratio", PERCENT, needs=NUMA),
    tunable(of_vm, "mmap_min_addr", ULONG, mmap_min_addr_changed, field="dac_mmap_min_addr"),
    tunable(of_vm, "mmap_rnd_bits", proc_dointvec_minmax(28, 32), mode=0o600, needs=LONG_64),
    tunable(of_vm, "mmap_rnd_bits", proc_dointvec_minmax(8, 16), mode=0o600, needs=LONG_32),
    tunable(of_vm, "mmap_rnd_compat_bits", proc_dointvec_minmax(8, 16), mode=0o600, needs=config("IA32_EMULATION")),
    tunable(of_vm, "movable_gigantic_pages", INT, needs=since(7, 0)),
    sysctl("nr_hugepages", ULONG, get=max_huge_pages, set=set_max_huge_pages),
    Attribute("nr_hugepages_mempolicy", nr_hugepages_mempolicy, nr_hugepages_mempolicy_store,
              one_read=True, wants_offset=True, wants_caller=True, needs=NUMA),
    sysctl("nr_overcommit_hugepages", ULONG, get=lambda kernel: kernel.hugetlb.default.nr_overcommit_huge_pages,
           set=set_nr_overcommit_huge_pages),
    tunable(of_vm, "numa_stat", FLAG, numa_stat_changed, needs=NUMA),
    Attribute("numa_zonelist_order", numa_zonelist_order, numa_zonelist_order_store, needs=NUMA),
    tunable(of_vm, "oom_dump_tasks", INT),
    tunable(of_vm, "oom_kill_allocating_task", INT),
    tunable(of_overcommit, "overcommit_kbytes", ULONG, overcommit_kbytes_changed, field="sysctl_overcommit_kbytes"),
    tunable(of_overcommit, "overcommit_memory", proc_dointvec_minmax(0, 2), field="sysctl_overcommit_memory"),
    tunable(of_overcommit, "overcommit_ratio", INT, overcommit_ratio_changed, field="sysctl_overcommit_ratio"),
    tunable(of_vm, "page-cluster", proc_dointvec_minmax(0, 31), page_cluster_changed, needs=since(6, 12)),
    tunable(of_vm, "page-cluster", NATURAL, page_cluster_changed, needs=until(6, 12)),
    tunable(of_vm, "page_lock_unfairness", NATURAL),
    tunable(of_vm, "panic_on_oom", proc_dointvec_minmax(0, 2)),
    tunable(of_vm, "percpu_pagelist_high_fraction", NATURAL, percpu_pagelist_high_fraction_changed),
    tunable(of_vm, "stat_interval", proc_dointvec_jiffies(hz=HZ)),
    Attribute("stat_refresh", stat_refresh, stat_refresh_store, mode=0o600),
    tunable(of_vm, "swappiness", proc_dointvec_minmax(0, 200)),
    tunable(of_vm, "unprivileged_userfaultfd", FLAG),
    tunable(of_overcommit, "user_reserve_kbytes", ULONG, field="sysctl_user_reserve_kbytes"),
    tunable(of_vm, "vdso_enabled", proc_dointvec_minmax(0, 1), needs=LONG_32),
    tunable(of_vm, "vfs_cache_pressure", NATURAL),
    tunable(of_vm, "vfs_cache_pressure_denom", proc_dointvec_minmax(100), needs=since(6, 18)),
    tunable(of_vm, "watermark_boost_factor", NATURAL, watermark_boost_factor_changed),
    tunable(of_vm, "watermark_scale_factor", proc_dointvec_minmax(1, 3000), watermark_scale_factor_changed),
    tunable(of_vm, "zone_reclaim_mode", NATURAL, zone_reclaim_mode_changed, needs=NUMA),
))  # fmt: skip
