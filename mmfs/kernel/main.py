"""Boot: from the firmware's memory map to a running init, in the order in which Linux does it.

Each step makes one part of the Kernel out of the parts before it; nothing is made twice and nothing refers to a
part that comes later, except through the kernel at run time. The time that booting takes is simulated too: the
clock moves between the steps, and the first CPU is busy meanwhile.

Linux: init/main.c, start_kernel(), rest_init(), kernel_init().
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from mmfs.kernel import kthread
from mmfs.kernel.block import virtio_disks
from mmfs.kernel.clock import NSEC_PER_MSEC, NSEC_PER_USEC
from mmfs.kernel.command_line import damon_params, do_sysctl_args, module_params
from mmfs.kernel.cputime import Cost, CpuTime
from mmfs.kernel.irq import Interrupts
from mmfs.kernel.irq_arm64 import GicInterrupts
from mmfs.kernel.loadavg import LoadAverage
from mmfs.kernel.module import Modules
from mmfs.kernel.mounts import bare_mounts, filesystems, systemd_mounts
from mmfs.kernel.params import IpcSysctl, UtsNamespace, fs_sysctl, kernel_sysctl
from mmfs.kernel.printk import Printk
from mmfs.kernel.scheduler import Scheduler
from mmfs.kernel.shm import Shm
from mmfs.mm.slab_common import SlabCaches
from mmfs.mm.vmstat import VmStat
from mmfs.mm_types import HPAGE_PMD_SIZE, PAGE_SHIFT, PAGE_SIZE, TABLE_SHIFT
from mmfs.profile import config, since

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel

# Simulated time that the steps of boot take; kernel/setup.py gives the log's lines their times to match.
EARLY_NS: Final = 760 * NSEC_PER_MSEC
SMP_NS: Final = 8 * NSEC_PER_MSEC
DEFERRED_PAGE_NS: Final = 40
DRIVERS_NS: Final = 2200 * NSEC_PER_MSEC
INIT_NS: Final = 700 * NSEC_PER_MSEC
SETTLE_NS: Final = 100 * NSEC_PER_MSEC

X86, LONG_64 = config("X86"), config("64BIT")
GBPAGES, HOTPLUG = config("X86_DIRECT_GBPAGES"), config("MEMORY_HOTPLUG")
EXT4_METADATA_PAGES: Final = 67 if PAGE_SHIFT == 12 else 8
EXT4_PINNED_PAGES: Final = 10 if PAGE_SHIFT == 12 else 4
"""Of those, what the mounted file system holds: the superblock, group descriptors, the journal's own."""
"""Superblock, group descriptors, journal and first directories: what Buffers has after a real boot."""


def start_kernel(kernel: Kernel) -> None:
    """Boot. Linux: init/main.c, start_kernel()."""
    setup_arch(kernel)
    mm_core_init(kernel)
    sched_init(kernel)
    kmem_cache_init(kernel)
    fork_init(kernel)
    smp_init(kernel)
    driver_init(kernel)
    kernel_init(kernel)


def boot_delay(kernel: Kernel, nsec: int) -> None:
    """The first CPU is busy with booting for a while."""
    kernel.scheduler.cpus[0].interrupt(CpuTime.SYSTEM, nsec)
    kernel.clock.run_for(nsec)


def setup_arch(kernel: Kernel) -> None:
    """Read the firmware's map and lay out physical memory; the log begins. Linux: arch/x86/kernel/setup.c."""
    from mmfs.mm.memblock import boot_memory

    machine, profile = kernel.machine, kernel.profile
    kernel.printk = Printk(kernel.clock, machine.nr_cpus, _log_buf_len(kernel.cmdline))
    kernel.uts = UtsNamespace(profile.release, profile.build, profile.arch.machine)
    kernel.memblock = boot_memory(machine, profile, kernel.cmdline, kernel.seed)


def _log_buf_len(cmdline: str) -> int:
    """log_buf_len= of the command line. Linux: kernel/printk/printk.c, log_buf_len_setup()."""
    from mmfs.mm.cmdline import memparse

    values = [word.partition("=")[2] for word in cmdline.split() if word.startswith("log_buf_len=")]
    return memparse(values[-1]) if values else 0


def mm_core_init(kernel: Kernel) -> None:
    """Zones, free lists and counters. Linux: mm/mm_init.c, mm_core_init()."""
    from mmfs.mm import memory
    from mmfs.mm.damon.core import Damon
    from mmfs.mm.direct_map import SPLITS_32, SPLITS_64, SPLITS_64_7_0, DirectMap
    from mmfs.mm.huge_memory import TransparentHugepage
    from mmfs.mm.khugepaged import Khugepaged
    from mmfs.mm.ksm import Ksm
    from mmfs.mm.mempolicy import WeightedInterleave
    from mmfs.mm.page_alloc import PageAllocator
    from mmfs.mm.sparse import Sections
    from mmfs.mm.sysctl import VmSysctl

    machine = kernel.machine
    kernel.vmstat = VmStat(len(machine.nodes))
    kernel.vm = VmSysctl(mmap_rnd_bits=kernel.profile.config_int("ARCH_MMAP_RND_BITS"))
    huge = bool(kernel.profile.config("TRANSPARENT_HUGEPAGE_ALWAYS"))
    huge = huge and "transparent_hugepage=never" not in kernel.cmdline.split()
    kernel.page_alloc = PageAllocator(machine, kernel.memblock, kernel.vmstat, kernel.vm, kernel.profile, huge)
    kernel.frames = kernel.page_alloc.frames
    kernel.node_data = kernel.page_alloc.node_data
    kernel.zones = kernel.page_alloc.zones
    memory.paging_init(kernel)
    kernel.thp = TransparentHugepage(kernel, early_ram_pages(kernel))
    kernel.weighted_interleave = WeightedInterleave(kernel)
    kernel.khugepaged = Khugepaged(kernel)
    kernel.ksm = Ksm(kernel)
    kernel.damon = Damon(kernel)
    kernel.sections = Sections(kernel.memblock.memory)
    ram = [(start << PAGE_SHIFT, end << PAGE_SHIFT) for start, end, _ in kernel.memblock.memory]
    if not X86(kernel):
        kernel.direct_map = DirectMap((), False, (0, 0))
        return
    if LONG_64(kernel):
        splits = SPLITS_64_7_0 if since(7, 0)(kernel) else SPLITS_64
        kernel.direct_map = DirectMap(ram, machine.cpu.gbpages, splits)
        return
    low = kernel.memblock.max_low_pfn << PAGE_SHIFT
    splits = SPLITS_32[low < ram[-1][1]]
    kernel.direct_map = DirectMap([(start, min(end, low)) for start, end in ram if start < low], False, splits)


def sched_init(kernel: Kernel) -> None:
    """Run queues and the load average. Linux: kernel/sched/core.c, sched_init()."""
    nodes = [nid for _, nid in sorted(kernel.machine.cpu_to_node.items())]
    kernel.scheduler = Scheduler(kernel.clock, nodes)
    kernel.scheduler.delayacct_on = int("delayacct" in kernel.cmdline.split())
    used = kernel.mmu.time
    used.cost_access, used.cost_fault, used.cost_cow = Cost.ACCESS, Cost.FAULT_MINOR, Cost.FAULT_COW
    used.cost_major, used.cost_huge = Cost.FAULT_MAJOR, Cost.FAULT_HUGE * HPAGE_PMD_SIZE // (2 << 20)
    kernel.loadavg = LoadAverage(kernel.clock, kernel.nr_active)


def kmem_cache_init(kernel: Kernel) -> None:
    """Slab caches, per-CPU memory, vmalloc. Linux: mm/slub.c, kmem_cache_init()."""
    from mmfs.mm.hugetlb import Hstates
    from mmfs.mm.percpu import PerCpu, percpu_unit_pages
    from mmfs.mm.util import Overcommit
    from mmfs.mm.vmalloc import Vmalloc

    nodes = [cpu.nid for cpu in kernel.cpus]
    folios = kernel.mmu.folios
    kernel.slab = SlabCaches(kernel.page_alloc, folios.slub, kernel.profile)
    kernel.slab.memcgs = kernel.memcgs
    folios.nodes.node_cache = kernel.slab["radix_tree_node"].index
    folios.nodes.buffer_cache = kernel.slab["buffer_head"].index
    first_chunk = percpu_unit_pages(kernel.profile) * PAGE_SIZE
    kernel.percpu = PerCpu(first_chunk, nodes, kernel.page_alloc, kernel.memcgs)
    kernel.vmalloc = Vmalloc(kernel)
    kernel.overcommit = Overcommit(kernel)
    with_memory = [pgdat.node_id for pgdat in kernel.node_data if pgdat.node_present_pages]
    gbpages = kernel.machine.cpu.gbpages and GBPAGES(kernel)
    orders = [order for order in kernel.profile.arch.hugetlb_orders if order < 2 * TABLE_SHIFT or gbpages]
    kernel.hugetlb = Hstates(kernel.page_alloc, orders, with_memory, kernel.memblock.gigantic_pages)
    kernel.hugetlb.clear_ns = Cost.FAULT_HUGE * PAGE_SIZE // (2 << 20)
    kernel.hugetlb.copy_ns = Cost.COPY_PAGE * PAGE_SIZE // 4096


def fork_init(kernel: Kernel) -> None:
    """The task table and the idle task. Linux: kernel/fork.c, fork_init()."""
    from mmfs.kernel.fork import idle_task, max_threads_of
    from mmfs.kernel.numa_balancing import NumaBalancing
    from mmfs.kernel.pid import TaskTable
    from mmfs.kernel.sched import init_rlimits
    from mmfs.kernel.socket import UdpProto
    from mmfs.kernel.thread_stack import thread_stack_cache_init

    ram_pages = early_ram_pages(kernel)
    cgroup_init(kernel)
    kernel.thread_stacks = thread_stack_cache_init(kernel)
    threads = max_threads_of(ram_pages, kernel.thread_stacks.nr_pages)
    kernel.tasks = TaskTable(kernel.machine.nr_cpus, threads, kernel.seed, kernel.profile.arch.pid_max_limit)
    kernel.tasks.memcontrol = kernel.lru.memcg
    kernel.udp_prot = UdpProto(kernel)
    kernel.numa_balancing = NumaBalancing(kernel)
    kernel.init_task = idle_task(kernel, init_rlimits(kernel.tasks.max_threads))
    kernel.sysctl = kernel_sysctl(kernel.seed, kernel.cmdline, len(kernel.machine.nodes), kernel.profile)
    high, bits = kernel.page_alloc.totalhigh_pages(), kernel.profile.arch.bits_per_long
    kernel.fs_sysctl = fs_sysctl(ram_pages, kernel.machine.nr_cpus, high, bits)
    kernel.ipc = IpcSysctl(kernel.profile.arch.ulong_max)
    kernel.shm = Shm(kernel)


def cgroup_init(kernel: Kernel) -> None:
    """The root cgroups with their controllers. Linux: kernel/cgroup/cgroup.c, cgroup_init()."""
    from mmfs.kernel.cgroup import CgroupRoot
    from mmfs.kernel.cgroup.cgroup1 import VERSIONS, mount_hierarchies
    from mmfs.kernel.cgroup.cpuset import Cpusets
    from mmfs.kernel.cgroup.pids import Pids
    from mmfs.mm.hugetlb_cgroup import HugetlbController

    if kernel.cgroup not in VERSIONS:
        raise ValueError(f"cgroup: {kernel.cgroup!r} is no version of cgroups (known: {', '.join(VERSIONS)})")
    kernel.cgroups = CgroupRoot(kernel)
    kernel.cgroup_roots = [kernel.cgroups]
    kernel.cgroups.register(Cpusets(kernel))
    controllers = (kernel.memcgs, HugetlbController(kernel.hugetlb), Pids())
    if kernel.cgroup == "v1":
        mount_hierarchies(kernel, controllers)
        kernel.lru.memcg.memsw = kernel.lru.memcg.only_local_events = True
    else:
        for ss in controllers:
            kernel.cgroups.register(ss)


def early_ram_pages(kernel: Kernel) -> int:
    """Pages that the allocator has until init's memory is given back; limits set early in boot scale with them."""
    late = sum(end - start for start, end, _ in (*kernel.memblock.late_free_ranges(), *kernel.memblock.cma_ranges()))
    return kernel.totalram_pages() - late


def smp_init(kernel: Kernel) -> None:
    """The other CPUs come up and initialise the memory map in parallel. Linux: kernel/smp.c, page_alloc_init_late()."""
    machine = kernel.machine
    boot_delay(kernel, EARLY_NS + SMP_NS * (machine.nr_cpus - 1))
    threads = max(machine.nr_cpus // len(machine.nodes), 1)
    boot_delay(kernel, max(node.memory for node in machine.nodes) // PAGE_SIZE * DEFERRED_PAGE_NS // threads)


def driver_init(kernel: Kernel) -> None:
    """Devices and file systems register; the slab fills. Linux: drivers/base/init.c, do_basic_setup()."""
    from mmfs.kernel.char_dev import CharDevices
    from mmfs.kernel.device import Devices
    from mmfs.kernel.ioport import build_ioports
    from mmfs.mm import iomem_arm64
    from mmfs.mm.boot_areas import boot_areas
    from mmfs.mm.memory_block import MemoryBlocks
    from mmfs.mm.memory_tiers import MemoryTiers

    machine = kernel.machine
    kernel.interrupts = (Interrupts if X86(kernel) else GicInterrupts)(machine, kernel.cpus, kernel.profile)
    disks = [(disk.name, disk.major, disk.minor, disk.nr_sectors, disk.kind) for disk in machine.disks]
    kernel.block_devices = virtio_disks(kernel.clock, kernel.vmstat, disks)
    kernel.interrupts.attach_disks(kernel.block_devices)
    kernel.interrupts.attach_tlb(kernel.mmu.tlb.counts)
    kernel.devices = Devices()
    kernel.memory_blocks = MemoryBlocks(kernel, memory_block_bytes(kernel))
    kernel.memory_tiers = MemoryTiers(kernel)
    kernel.chrdevs = CharDevices(kernel.cmdline, kernel.profile)
    kernel.ioports = build_ioports(machine) if X86(kernel) else iomem_arm64.build_ioports(machine)
    kernel.filesystems = filesystems(kernel.profile)
    blocks = machine.ram // memory_block_bytes(kernel) if HOTPLUG(kernel) else 0
    kernel.slab.boot(blocks, len(machine.nodes))
    kernel.cma_areas = []
    boot_areas(kernel)
    kernel.modules = Modules(kernel)
    kernel.modules.load_initramfs()
    kernel.percpu.populate()
    kernel.direct_map.load_modules(kernel.page_alloc)
    kernel.hugetlb.setup(kernel.cmdline)
    kernel.overcommit.init_reserves()
    boot_delay(kernel, DRIVERS_NS)


def memory_block_bytes(kernel: Kernel) -> int:
    """How much memory a directory of /sys/devices/system/memory stands for; not on x86 that of a section."""
    from mmfs.mm.mm_init import memory_block_size
    from mmfs.mm.sparse import SECTION_SIZE_BITS

    if not X86(kernel):
        return 1 << SECTION_SIZE_BITS
    return memory_block_size(kernel.max_pfn, kernel.machine.cpu.hypervisor)


def kernel_init(kernel: Kernel) -> None:
    """The root file system, kernel threads, init, and who lives on the machine. Linux: rest_init(), kernel_init()."""
    from mmfs.kernel import presets
    from mmfs.kernel.fork import start_kernel_tasks
    from mmfs.kernel.namei import Namei

    writeback_init(kernel)
    mount_root(kernel)
    kernel.namei = Namei(kernel)
    start_kernel_tasks(kernel, kernel.init_task.rlimits)
    log_boot(kernel)
    boot_delay(kernel, INIT_NS)
    swap_on(kernel)
    kswapd_init(kernel)
    module_params(kernel)
    kthread.start_all(kernel)
    damon_params(kernel)
    do_sysctl_args(kernel)
    presets.populate(kernel, kernel.preset)
    kernel.ext4.live = True
    kernel.clock.run_for(SETTLE_NS)


def writeback_init(kernel: Kernel) -> None:
    """What the page cache knows of the disks, and a flusher each. Linux: mm/page-writeback.c, page_writeback_init()."""
    from mmfs.kernel.fs_writeback import BdiWriteback
    from mmfs.kernel.zram import ZramControl
    from mmfs.mm.backing_dev import BackingDevInfo
    from mmfs.mm.page_writeback import WbDomain

    kernel.bdis = []
    for disk in kernel.block_devices:
        bdi = BackingDevInfo(disk)
        bdi.wb = BdiWriteback(kernel, bdi)
        kernel.bdis.append(bdi)
    kernel.zrams = ZramControl(kernel)
    kernel.wb_domain = WbDomain(kernel)
    fast = kernel.mmu.filemap
    fast.read_ns, fast.add_ns, fast.write_ns = Cost.READ_PAGE, Cost.ADD_PAGE, Cost.DIRTY_PAGE


def kswapd_init(kernel: Kernel) -> None:
    """Memory that runs short is reclaimed from now on. Linux: mm/vmscan.c, kswapd_init()."""
    from mmfs.mm.kswapd import Kswapd, wake_boosted
    from mmfs.mm.page_alloc_slowpath import alloc_pages_slowpath
    from mmfs.mm.shrinker import SUPER_BATCH, Shrinker
    from mmfs.mm.vmscan import Reclaim
    from mmfs.mm.workingset import workingset_shrinker
    from mmfs.mm.zswap import Zswap

    kernel.reclaim = Reclaim(kernel)
    kernel.zswap = Zswap(kernel)
    folios = kernel.reclaim.folios
    folios.cost_scan, folios.cost_referenced = Cost.RECLAIM_SCAN, Cost.RECLAIM_REFERENCED
    folios.cost_unmap, folios.cost_pageout, folios.cost_steal = (
        Cost.RECLAIM_UNMAP, Cost.RECLAIM_PAGEOUT, Cost.RECLAIM_STEAL
    )
    dcache = kernel.namei.dcache
    kernel.memcgs.list_lrus.append(dcache.reparent)
    for shrinker in (*kernel.thp.shrinkers(), kernel.shmem_huge.shrinker(), workingset_shrinker(kernel)):
        kernel.reclaim.shrinkers.register(shrinker)
    kernel.reclaim.shrinkers.register(
        Shrinker("sb-ext4", dcache.count_objects, dcache.scan_objects, batch=SUPER_BATCH, memcg_aware=True)
    )
    kernel.kswapds = [Kswapd(kernel, pgdat) for pgdat in kernel.node_data]
    compaction_init(kernel)
    kernel.page_alloc.slowpath = partial(alloc_pages_slowpath, kernel)
    kernel.page_alloc.wake_boosted = partial(wake_boosted, kernel)


def compaction_init(kernel: Kernel) -> None:
    """Memory that is in pieces is moved together from now on. Linux: mm/compaction.c, kcompactd_init()."""
    from mmfs.kernel.kthread import memory_notifier
    from mmfs.kernel.signal import SIGBUS, send_signal
    from mmfs.mm.boot_areas import dma_pools
    from mmfs.mm.cma import cma_init_reserved_areas
    from mmfs.mm.compaction import Compactor, Kcompactd
    from mmfs.mm.memory_failure import MemoryFailure
    from mmfs.mm.memory_hotplug import MemoryHotplug

    kernel.compactor = Compactor(kernel)
    kernel.kcompactds = [Kcompactd(kernel, pgdat) for pgdat in kernel.node_data]
    kernel.memory_hotplug = MemoryHotplug(kernel)
    kernel.cma_areas = cma_init_reserved_areas(kernel)
    if kernel.cma_areas:
        dma_pools(kernel)
    for hstate in kernel.hugetlb:
        hstate.alloc_contig_pages = kernel.memory_hotplug.isolation.alloc_contig_pages
    kernel.memory_tiers.attach(kernel.reclaim.demotion)
    kernel.numa_balancing.set_tiers()
    kernel.numa_balancing.set_mode(kernel.sysctl.numa_balancing)
    kernel.memory_hotplug.notifiers += [
        kernel.memory_tiers.notifier, kernel.numa_balancing.notifier, partial(memory_notifier, kernel),
    ]  # fmt: skip
    kernel.memory_failure = MemoryFailure(kernel)
    kernel.memory_failure.send_sigbus = partial(send_signal, sig=SIGBUS)
    loops = kernel.compactor.loops
    loops.cost_scan, loops.migration.cost_move = Cost.COMPACT_SCAN, Cost.MIGRATE_PAGE


def mount_root(kernel: Kernel) -> None:
    """What is mounted where; ext4 reads its metadata into the buffers. Linux: init/do_mounts.c, fs/ext4/super.c."""
    from mmfs.kernel.cgroup.cgroup1 import show_options
    from mmfs.kernel.ext4 import Ext4
    from mmfs.mm.inode import Inode

    root = kernel.machine.disks[0]
    disk = kernel.block_devices[root.name]
    inode = Inode(kernel, 0, disk.dev, EXT4_METADATA_PAGES * PAGE_SIZE, disk.path)
    inode.allocate(EXT4_METADATA_PAGES)
    disk.bd_mapping = inode.mapping
    kernel.ext4 = Ext4(kernel, inode.mapping)
    inode.mapping.readahead(0, EXT4_METADATA_PAGES)
    inode.mapping.record["pinned"] = EXT4_PINNED_PAGES
    mounts = bare_mounts if kernel.preset == "bare" else systemd_mounts
    hierarchies = [(one.name or one.title, show_options(one)) for one in kernel.cgroup_roots[1:]]
    disk_root = (root.path, (root.major, root.minor))
    high = kernel.page_alloc.totalhigh_pages()
    kernel.mounts = mounts(
        disk_root, early_ram_pages(kernel), kernel.totalram_pages(), kernel.profile, hierarchies, high
    )
    if not hierarchies:
        kernel.cgroups.reconfigure(kernel.mounts.find("/sys/fs/cgroup").super_options)


def log_boot(kernel: Kernel) -> None:
    """Put into the log what the kernel has said until here, each line with its own time."""
    from mmfs.kernel import setup, setup_arm64

    tiers = list(kernel.memory_tiers.dump_demotion_targets())
    machine, profile, memblock = kernel.machine, kernel.profile, kernel.memblock
    if X86(kernel):
        log = setup.boot_log(machine, profile, memblock, swap_priorities=False, demotion_targets=tiers)
    else:
        log = setup_arm64.boot_log(machine, profile, memblock, demotion_targets=tiers)
    for usec, level, text in log:
        kernel.printk.emit(text, level, ts_ns=min(usec * NSEC_PER_USEC, kernel.clock.now_ns))


def swap_on(kernel: Kernel) -> None:
    """Init enables the swap areas, each with a lower priority than the one before. Linux: mm/swapfile.c."""
    for device in kernel.machine.swap:
        if not device.name.startswith("/dev/"):
            kernel.namei.install(device.name, device.size, mode=0o100600)
        kernel.swap_files.mkswap(device.name)
        kernel.swap_files.swapon(device.name)
