"""The kernel of a simulated machine: what `mmfs.boot()` returns.

A Kernel owns every part of the model and knows none of their rules: memory is in `mmfs.mm`, tasks, files and
time in their modules here. `kernel/main.py` boots it, in Linux's order. Files are read and written through
`kernel.vfs`, which `mmfs.fs.mount()` sets when the first of them is looked at.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from mmfs.kernel import main
from mmfs.kernel.clock import BOOT_REALTIME_NS, NSEC_PER_SEC, Clock
from mmfs.kernel.panic import KernelPanicError, check_panicked, panic
from mmfs.kernel.printk import Printk
from mmfs.kernel.sched import TASK_UNINTERRUPTIBLE
from mmfs.mm import swapfile
from mmfs.mm.fault import SLICE_NS

if TYPE_CHECKING:
    from mmfs.fastpath.frames import Frames
    from mmfs.fastpath.lru import Lru
    from mmfs.fastpath.madvise import Madvise
    from mmfs.fastpath.mmu import Mmu
    from mmfs.fastpath.page_idle import PageIdle
    from mmfs.fastpath.pgtable import PageTables
    from mmfs.fastpath.task_mmu import TaskMmu
    from mmfs.kernel.block import BlockDevices
    from mmfs.kernel.cgroup import CgroupRoot
    from mmfs.kernel.char_dev import CharDevices
    from mmfs.kernel.device import Devices
    from mmfs.kernel.ext4 import Ext4
    from mmfs.kernel.irq import Interrupts
    from mmfs.kernel.loadavg import LoadAverage
    from mmfs.kernel.module import Modules
    from mmfs.kernel.mounts import FileSystemType, MountTable
    from mmfs.kernel.namei import Namei
    from mmfs.kernel.numa_balancing import NumaBalancing
    from mmfs.kernel.params import FsSysctl, IpcSysctl, KernelSysctl, UtsNamespace
    from mmfs.kernel.pid import TaskTable
    from mmfs.kernel.rq import Cpu
    from mmfs.kernel.scheduler import Scheduler
    from mmfs.kernel.shm import Shm
    from mmfs.kernel.signal import Workload
    from mmfs.kernel.socket import UdpProto
    from mmfs.kernel.task import Task
    from mmfs.kernel.thread_stack import LinearStacks, VmapStacks
    from mmfs.kernel.zram import ZramControl
    from mmfs.machine import Machine
    from mmfs.mm.backing_dev import BackingDevInfo
    from mmfs.mm.cma import Cma
    from mmfs.mm.compaction import Compactor, Kcompactd
    from mmfs.mm.damon.core import Damon
    from mmfs.mm.direct_map import DirectMap
    from mmfs.mm.filemap import PageCache
    from mmfs.mm.huge_memory import TransparentHugepage
    from mmfs.mm.hugetlb import Hstates
    from mmfs.mm.khugepaged import Khugepaged
    from mmfs.mm.ksm import Ksm
    from mmfs.mm.kswapd import Kswapd
    from mmfs.mm.lru_gen import LruGenState
    from mmfs.mm.memblock import Memblock
    from mmfs.mm.memcontrol import MemCgroups
    from mmfs.mm.memory_block import MemoryBlocks
    from mmfs.mm.memory_failure import MemoryFailure
    from mmfs.mm.memory_hotplug import MemoryHotplug
    from mmfs.mm.memory_tiers import MemoryTiers
    from mmfs.mm.mempolicy import WeightedInterleave
    from mmfs.mm.mm_struct import MmStruct
    from mmfs.mm.mmzone import PglistData, Zone
    from mmfs.mm.oom_kill import OomKiller
    from mmfs.mm.page_alloc import PageAllocator
    from mmfs.mm.page_io import SwapWrites
    from mmfs.mm.page_writeback import WbDomain
    from mmfs.mm.percpu import PerCpu
    from mmfs.mm.pgd import PgdObject, PgdPage
    from mmfs.mm.resource import Resource
    from mmfs.mm.rmap import Rmap
    from mmfs.mm.rows import Rows
    from mmfs.mm.shmem import ShmMnt
    from mmfs.mm.shmem_huge import ShmemHuge
    from mmfs.mm.slab_common import SlabCaches
    from mmfs.mm.sparse import Sections
    from mmfs.mm.swapfile import SwapFiles, SwapInfoStruct
    from mmfs.mm.sysctl import VmSysctl
    from mmfs.mm.util import Overcommit
    from mmfs.mm.vmalloc import Vmalloc
    from mmfs.mm.vmscan import Reclaim
    from mmfs.mm.vmstat import VmStat
    from mmfs.mm.zswap import Zswap
    from mmfs.profile import Profile


__all__ = ["Kernel", "KernelPanicError"]


class Kernel:
    """A booted machine. The order of the attributes is the order in which boot makes them."""

    clock: Clock
    printk: Printk
    uts: UtsNamespace
    memblock: Memblock
    vmstat: VmStat
    frames: Frames
    mmu: Mmu
    page_alloc: PageAllocator
    node_data: list[PglistData]
    zones: list[Zone]
    lru: Lru
    pagetables: PageTables
    page_idle: PageIdle
    task_mmu: TaskMmu
    madvise: Madvise
    lru_gen: LruGenState
    thp: TransparentHugepage
    weighted_interleave: WeightedInterleave
    khugepaged: Khugepaged
    ksm: Ksm
    damon: Damon
    memcgs: MemCgroups
    page_cache: PageCache
    rmap: Rmap
    swap_files: SwapFiles
    swap_writes: SwapWrites
    zswap: Zswap
    zrams: ZramControl
    shm_mnt: ShmMnt
    pgd: PgdPage | PgdObject
    shmem_huge: ShmemHuge
    mm_rows: Rows
    vma_rows: Rows
    mms: dict[int, MmStruct]
    vm: VmSysctl
    sections: Sections
    direct_map: DirectMap
    scheduler: Scheduler
    slab: SlabCaches
    percpu: PerCpu
    vmalloc: Vmalloc
    udp_prot: UdpProto
    overcommit: Overcommit
    hugetlb: Hstates
    interrupts: Interrupts
    loadavg: LoadAverage
    block_devices: BlockDevices
    bdis: list[BackingDevInfo]
    wb_domain: WbDomain
    ext4: Ext4
    devices: Devices
    memory_blocks: MemoryBlocks
    memory_tiers: MemoryTiers
    memory_hotplug: MemoryHotplug
    cma_areas: list[Cma]
    memory_failure: MemoryFailure
    chrdevs: CharDevices
    ioports: Resource
    modules: Modules
    filesystems: tuple[FileSystemType, ...]
    mounts: MountTable
    namei: Namei
    cgroups: CgroupRoot
    """The default hierarchy, of cgroup v2."""
    cgroup_roots: list[CgroupRoot]
    """All hierarchies, the default one first."""
    sysctl: KernelSysctl
    fs_sysctl: FsSysctl
    ipc: IpcSysctl
    shm: Shm
    tasks: TaskTable
    numa_balancing: NumaBalancing
    init_task: Task
    thread_stacks: VmapStacks | LinearStacks
    oom_killer: OomKiller
    reclaim: Reclaim
    kswapds: list[Kswapd]
    compactor: Compactor
    kcompactds: list[Kcompactd]
    caller: Any
    """As whom the calls below look at files: init, so /proc/self is /proc/1."""

    def __init__(
        self,
        machine: Machine,
        profile: Profile,
        mount_files: Callable[[Kernel], None],
        *,
        seed: int = 0,
        cmdline: str = "",
        preset: str = "server",
        realtime: int | None = None,
        cgroup: str = "v2",
    ) -> None:
        self.machine = machine
        self.profile = profile
        self.mount_files = mount_files
        """Sets `vfs` and `caller`; called when a file is first looked at."""
        self.seed = seed
        self.cmdline = cmdline
        self.preset = preset
        self.cgroup = cgroup
        """Which cgroups are mounted: v2, or v1."""
        self.panicked = ""
        self.workload: Workload | None = None
        """The simulated programs that run, if any do."""
        self._vfs: Any = None
        self.clock = Clock(BOOT_REALTIME_NS if realtime is None else realtime * NSEC_PER_SEC)
        main.start_kernel(self)

    def __reduce__(self) -> tuple[Any, ...]:
        """A machine as bytes, from which it goes on as this one would."""
        from mmfs.kernel import checkpoint

        return checkpoint.restore, (checkpoint.save(self),)

    def __repr__(self) -> str:
        return f"<Kernel {self.profile.release}, {self.machine.ram >> 20} MB, {self.machine.nr_cpus} CPUs>"

    # -- time -------------------------------------------------------------------------------------------

    def run_for(self, seconds: float) -> None:
        """Let simulated time pass."""
        if seconds < 0:
            raise ValueError(f"seconds: time does not run backwards ({seconds})")
        check_panicked(self)
        self.clock.run_for(round(seconds * NSEC_PER_SEC))

    # -- files --------------------------------------------------------------------------------------------

    @property
    def vfs(self) -> Any:
        """The tree of files, a `mmfs.kernfs.Vfs`."""
        if self._vfs is None:
            self.mount_files(self)
        return self._vfs

    @vfs.setter
    def vfs(self, vfs: Any) -> None:
        self._vfs = vfs

    def read(self, path: str) -> bytes:
        """The whole content of a file; OSError as Linux."""
        content: bytes = self.vfs.read(path, self.caller)
        return content

    def write(self, path: str, data: bytes | str) -> int:
        """One write(2) to a file; how many bytes it took. OSError as Linux."""
        taken: int = self.vfs.write(path, data.encode() if isinstance(data, str) else data, self.caller)
        return taken

    def listdir(self, path: str) -> list[str]:
        """The names in a directory."""
        names: list[str] = self.vfs.listdir(path, self.caller)
        return names

    def mkdir(self, path: str) -> None:
        """mkdir(2): a cgroup, for example."""
        self.vfs.mkdir(path, caller=self.caller)

    def rmdir(self, path: str) -> None:
        """rmdir(2)."""
        self.vfs.rmdir(path, self.caller)

    def stat(self, path: str) -> os.stat_result:
        """stat(2); what a symbolic link leads to is looked at, not the link."""
        return self._stat(self.vfs.stat(path, self.caller))

    def lstat(self, path: str) -> os.stat_result:
        """lstat(2); of a symbolic link the link itself."""
        return self._stat(self.vfs.lstat(path, self.caller))

    def _stat(self, found: Any) -> os.stat_result:
        now = self.clock.realtime_ns // NSEC_PER_SEC
        head = (found.mode, found.ino, 0, found.nlink, found.uid, found.gid, found.size, now, now, now)
        return os.stat_result(head, {"st_rdev": found.rdev})

    def readlink(self, path: str) -> str:
        """Where a symbolic link points."""
        target: str = self.vfs.readlink(path, self.caller)
        return target

    # -- tasks --------------------------------------------------------------------------------------------

    @property
    def cpus(self) -> list[Cpu]:
        """The processors, each with its time buckets."""
        return self.scheduler.cpus

    def spawn(self, name: str, **options: Any) -> Task:
        """Start a process: fork and exec from init, with uid=, oom_score_adj=, cgroup= and so on set in between."""
        from mmfs.kernel.spawn import spawn

        return spawn(self, name, **options)

    def kill(self, pid: int, sig: int) -> None:
        """kill(2) as root."""
        from mmfs.kernel import signal

        signal.kill(self, pid, sig)

    def nr_active(self) -> int:
        """Tasks that the load average counts: those that run or wait uninterruptibly. Linux: calc_load()."""
        waiting = sum(1 for task in self.tasks.values() if task.state == TASK_UNINTERRUPTIBLE)
        return self.scheduler.nr_running + self.scheduler.nr_uninterruptible + waiting

    def run_worker(self, comm: str, cost_ns: int) -> None:
        """A kernel thread whose name begins like that has worked."""
        threads = (task for task in self.tasks.values() if task.is_kthread and task.comm.startswith(comm))
        self.scheduler.run_kthread(next(threads, None), cost_ns)

    # -- files' pages ------------------------------------------------------------------------------------------

    def create_file(self, path: str, size: int | str = 0) -> None:
        """A file that lies on the disk since long: nothing of it is in memory."""
        from mmfs.kernel.sys import nr_bytes

        self.namei.install(path, nr_bytes(size))

    def collect_dirty_inodes(self) -> None:
        """Tell the flushers of the files that have become dirty in the compiled loops."""
        folios = self.mmu.folios
        if not folios.nr_dirtied:
            return
        for row in folios.dirtied[: folios.nr_dirtied].tolist():
            mapping = self.page_cache.mappings.get(row)
            if mapping is not None and mapping.host.bdi is not None:
                mapping.host.bdi.wb.mark_inode_dirty(mapping.host)
        folios.nr_dirtied = 0

    def sync(self, task: Task | None = None) -> None:
        """sync(2): everything that is dirty is on the disks then. Linux: fs/sync.c, ksys_sync()."""
        from mmfs.kernel.fs_writeback import sync_inodes

        task = task if task is not None else self.tasks[1]
        sync_inodes(self, task)
        self.io_schedule(task, self.ext4.commit())
        sync_inodes(self, task)
    # -- the time of system calls ---------------------------------------------------------------------------

    def schedule(self, task: Task) -> None:
        """Let time pass until the task has done its queued work and its waits are over.

        For calls from outside: what a wakeup calls runs on, and its time follows (`Scheduler.ready_ns()`).
        """
        scheduler, clock = self.scheduler, self.clock
        if clock.running or scheduler.is_ready(task):
            return
        current = self.tasks.current
        while True:
            check_panicked(self)
            clock.run_until(scheduler.ready_ns(task))
            if scheduler.is_ready(task):
                break
        self.tasks.current = current
        self.page_alloc.buddy.cpu = task.processor

    def cond_resched(self, task: Task) -> None:
        """In a long call: charge what the access loops have used, and let others run. Linux: cond_resched()."""
        task.account_faults()
        if not self.clock.running and self.scheduler.backlog_ns(task) >= SLICE_NS:
            self.schedule(task)

    def io_schedule(self, task: Task, until_ns: int, memstall: bool = False) -> None:
        """The task sleeps until a device has answered.

        From outside, time passes until then. In a wakeup the device answers at once, and the wait is the task's.
        Linux: kernel/sched/core.c, io_schedule(); `memstall` is what psi_memstall_enter() says.
        """
        ready = self.scheduler.ready_ns(task)
        if until_ns > ready:
            self.schedule_timeout(task, until_ns - ready, memstall=memstall, io=True)
        if self.clock.running:  # also if the task's own time has come so far, which runs ahead of the clock
            self.block_devices.complete_until(until_ns)

    def io_wait(self, task: Task, nsec: int, memstall_ns: int = 0, times: int = 1) -> None:
        """The task sleeps for devices, `nsec` in all in so many turns, of which `memstall_ns` are a stall on memory."""
        scheduler = self.scheduler
        if memstall_ns:
            scheduler.wait(task, memstall_ns, io=True, memstall=True, times=times if memstall_ns == nsec else 1)
        if nsec > memstall_ns:
            scheduler.wait(task, nsec - memstall_ns, io=True, times=max(times - (memstall_ns > 0), 1))
        self.schedule(task)
        if self.clock.running:
            self.block_devices.complete_until(scheduler.ready_ns(task))

    def current_io_schedule(self, until_ns: int) -> None:
        """The running task sleeps until a device has answered."""
        if self.tasks.current is not None:
            self.io_schedule(self.tasks.current, until_ns)
        else:
            self.block_devices.complete_until(until_ns)

    def schedule_timeout(self, task: Task, nsec: int, memstall: bool = False, io: bool = False) -> None:
        """The task is throttled for a while. Linux: kernel/time/timer.c, schedule_timeout_uninterruptible()."""
        self.scheduler.wait(task, nsec, io=io, memstall=memstall)
        self.schedule(task)

    def panic(self, reason: str, complaint: str = "panic") -> NoReturn:
        """Log the end of this kernel and stop. Linux: kernel/panic.c, panic()."""
        panic(self, reason, complaint)

    # -- swap ---------------------------------------------------------------------------------------------

    def mkswap(self, path: str) -> None:
        """Make a disk or a file a swap area, as mkswap(8) does."""
        self.swap_files.mkswap(path)

    def swapon(self, path: str, priority: int | None = None) -> None:
        """swapon(2) as root; `priority` from 0 to 32767, or the kernel gives it one below all others."""
        self.swap_files.swapon(path, swapfile.swap_flags(priority))

    def swapoff(self, path: str) -> None:
        """swapoff(2) as root: what is in the area is read back, which takes its time."""
        self.swap_files.swapoff(path)

    # -- memory: what has no better owner ---------------------------------------------------------------------

    def cpu_to_node(self, cpu: int) -> int:
        """The NUMA node of a processor."""
        return self.scheduler.cpus[cpu].nid

    def zone_of(self, nid: int, zone_type: int) -> Zone:
        """A zone by node and type."""
        return self.node_data[nid].node_zones[zone_type]

    def translate(self, pid: int, addr: int) -> Any:
        """Walk a process's page tables for an address, level by level."""
        from mmfs.mm import pgtable

        return pgtable.translate(self, pid, addr)

    def check(self) -> None:
        """Every invariant of the model; AssertionError says what differs."""
        from mmfs.kernel.check import check_tasks
        from mmfs.mm import check

        self.scheduler.check()
        self.slab.check()
        check_tasks(self)
        self.numa_balancing.check()
        check.check(self)

    def totalram_pages(self) -> int:
        """MemTotal: pages that the page allocator manages."""
        return self.page_alloc.totalram_pages

    def nr_blockdev_pages(self) -> int:
        """Buffers of /proc/meminfo."""
        return self.block_devices.nr_blockdev_pages()

    def hugetlb_total_pages(self) -> int:
        """Hugetlb of /proc/meminfo: what the pools of huge pages take."""
        return self.hugetlb.total_pages()

    @property
    def max_pfn(self) -> int:
        """The first frame behind all memory."""
        return self.memblock.max_pfn

    @property
    def swap_info(self) -> list[SwapInfoStruct]:
        """The swap areas by number."""
        return [self.swap_files.areas[number] for number in sorted(self.swap_files.areas)]

    @property
    def total_swap_pages(self) -> int:
        """SwapTotal: pages of all swap areas."""
        return swapfile.total_swap_pages(self)

    @property
    def nr_swap_pages(self) -> int:
        """SwapFree: free pages of all swap areas."""
        return swapfile.nr_swap_pages(self)

    @property
    def zero_pfn(self) -> int:
        """The frame of the shared zero page."""
        return int(self.mmu.anon.zero_pfn)
