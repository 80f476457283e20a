"""The kernel's own threads on an idle machine, in the order in which boot starts them.

Names, numbers, flags, priorities and affinities are those of Debian's 6.12 booted in QEMU with one to four CPUs and
one or two nodes: the numbers depend on how many CPUs and nodes there are and come out right because the threads are
started in Linux's order. Where a number is skipped, a worker or a helper program has come and gone.

Linux: init/main.c, kernel/smpboot.c, kernel/workqueue.c, kernel/rcu/tree.c, mm/vmscan.c, mm/compaction.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mmfs.kernel.fork import kthread_create
from mmfs.kernel.sched import (
    PF_KCOMPACTD,
    PF_KSWAPD,
    PF_MEMALLOC,
    PF_MEMALLOC_NOFS,
    PF_NO_SETAFFINITY,
    PF_NOFREEZE,
    PF_SUPERPRIV,
    PF_WQ_WORKER,
)
from mmfs.mm_types import PAGE_SHIFT
from mmfs.profile import config, since

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task
    from mmfs.mm.mmzone import PglistData

ARM64: Final = config("ARM64")
PER_CPU: Final = PF_NOFREEZE | PF_NO_SETAFFINITY
WORKER: Final = PER_CPU | PF_WQ_WORKER
CPUS_PER_RCU_LEAF: Final = 16
RCU_FANOUT: Final = 64
THP_MIN_PAGES: Final = 512 << 20 >> PAGE_SHIFT
"""Smaller machines do without huge pages. Linux: mm/huge_memory.c, hugepage_init()."""
POOLS_PER_CPU: Final = 4
"""Worker pools of a CPU: normal, high priority, and two that run in soft interrupts."""
HIGHPRI_NICE: Final = -20
MAX_RT: Final = 99
MID_RT: Final = 50
INITRAMFS_HELPERS: Final = 77
"""Processes of the initramfs before the root disk is mounted."""


# The function a thread sleeps in (/proc/PID/wchan), by the beginning of its name.
WCHAN: Final = {
    "kworker/R-": "rescuer_thread",
    "kworker/": "worker_thread",
    "kthreadd": "kthreadd",
    "pool_workqueue_release": "kthread_worker_fn",
    "rcu_exp_": "kthread_worker_fn",
    "rcu_tasks_": "rcu_tasks_one_gp",
    "rcu_preempt": "rcu_gp_fqs_loop",
    "kdevtmpfs": "devtmpfs_work_loop",
    "kauditd": "kauditd_thread",
    "khungtaskd": "watchdog",
    "oom_reaper": "oom_reaper",
    "kcompactd": "kcompactd",
    "ksmd": "ksm_scan_thread",
    "khugepaged": "khugepaged",
    "irq/": "irq_thread",
    "kswapd": "kswapd",
    "jbd2/": "kjournald2",
}


def wchan_of(name: str) -> str:
    """Where a kernel thread waits for work; those of which every CPU has one, in smpboot's loop."""
    return next((function for prefix, function in WCHAN.items() if name.startswith(prefix)), "smpboot_thread_fn")


class BootThreads:
    """Starts threads in boot's order."""

    pools_per_cpu = POOLS_PER_CPU
    kcompactd_flags = PF_KCOMPACTD
    initramfs_helpers = INITRAMFS_HELPERS
    absent: frozenset[str] = frozenset()
    """Threads, and queues with a rescuer, that this kernel lacks."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.nr_cpus = kernel.machine.nr_cpus
        self.first_unbound_pool = self.nr_cpus * self.pools_per_cpu
        self.pods = kernel.machine.topology.sockets
        leaves = -(-self.nr_cpus // CPUS_PER_RCU_LEAF)
        self.rcu_leaf_cpus = -(-self.nr_cpus // leaves)
        self.rcu_first_leaf = 0 if leaves == 1 else 1 if leaves <= RCU_FANOUT else 1 + -(-leaves // RCU_FANOUT)

    def rescuer(self, workqueue: str) -> None:
        """The thread that works for a queue when no worker can be made. Linux: init_rescuer()."""
        kthread_create(self.kernel, f"kworker/R-{workqueue}", flags=WORKER, idle=True, nice=HIGHPRI_NICE)

    def rescuers(self, workqueues: str) -> None:
        """Several of them."""
        for workqueue in workqueues.split():
            if workqueue not in self.absent:
                self.rescuer(workqueue)

    def worker(self, cpu: int, number: int, work: str = "", highpri: bool = False) -> None:
        """A worker of a CPU's pool; `work` is what it last did. Linux: create_worker()."""
        task = kthread_create(
            self.kernel, f"kworker/{cpu}:{number}{'H' if highpri else ''}", flags=WORKER, idle=True, cpus=(cpu,),
            nice=HIGHPRI_NICE if highpri else 0,
        )  # fmt: skip
        task.wq_desc = f"-{work}" if work else ""

    def unbound(self, pool: int, number: int, work: str = "", nice: int = 0, flags: int = 0) -> None:
        """A worker of a pool that is bound to no CPU; pools are numbered after those of the CPUs."""
        name = f"kworker/u{self.first_unbound_pool + pool}:{number}"
        task = kthread_create(self.kernel, name, flags=WORKER | flags, idle=True, nice=nice)
        task.wq_desc = f"-{work}" if work else ""

    def thread(
        self, name: str, flags: int = PF_NOFREEZE, idle: bool = False, rt: int = 0, nice: int = 0,
        cpus: tuple[int, ...] | None = None,
    ) -> Task:  # fmt: skip
        """Any other thread."""
        return kthread_create(self.kernel, name, flags=flags, idle=idle, rt_priority=rt, nice=nice, cpus=cpus)

    def per_cpu(self, name: str, cpu: int, rt: int = 0) -> None:
        """A thread of smpboot's, one a CPU. Linux: kernel/smpboot.c."""
        if name in self.absent:
            return
        self.thread(f"{name}/{cpu}", PER_CPU, rt=rt, cpus=(cpu,))

    def rcu_leaf(self, leaf: int) -> None:
        """The expedited grace period's worker of a leaf of RCU's tree. Linux: rcu_spawn_exp_par_gp_kworker()."""
        self.thread(f"rcu_exp_par_gp_kthread_worker/{self.rcu_first_leaf + leaf}")

    def skip(self, count: int) -> None:
        """Numbers that somebody had who is gone."""
        self.kernel.tasks.pids.skip(count)

    # ---- the steps of boot ----------------------------------------------------------------------------------

    def boot_cpu(self) -> None:
        """Before the other CPUs come up. Linux: workqueue_init_early(), rcu_init(), smpboot."""
        self.thread("pool_workqueue_release")
        self.rescuers("kvfree_rcu_reclaim rcu_gp sync_wq slub_flushwq netns")
        self.worker(0, 0, "events")
        self.worker(0, 1, "pm")
        self.worker(0, 0, "events_highpri", highpri=True)
        self.unbound(0, 0, "events_unbound")
        self.rescuer("mm_percpu_wq")
        for name in ("rcu_tasks_kthread", "rcu_tasks_rude_kthread", "rcu_tasks_trace_kthread"):
            self.thread(name, idle=True)
        self.per_cpu("ksoftirqd", 0)
        self.thread("rcu_preempt", idle=True)
        self.rcu_leaf(0)
        self.thread("rcu_exp_gp_kthread_worker")
        self.per_cpu("migration", 0, MAX_RT)
        self.per_cpu("idle_inject", 0, MID_RT)
        self.per_cpu("cpuhp", 0)

    def secondary_cpu(self, cpu: int) -> None:
        """What a CPU gets when it comes up. Linux: kernel/cpu.c, cpuhp_hp_states."""
        self.per_cpu("cpuhp", cpu)
        self.per_cpu("idle_inject", cpu, MID_RT)
        self.per_cpu("migration", cpu, MAX_RT)
        self.per_cpu("ksoftirqd", cpu)
        self.worker(cpu, 0, "events")
        self.worker(cpu, 0, "events_highpri", highpri=True)
        if cpu % self.rcu_leaf_cpus == 0:
            self.rcu_leaf(cpu // self.rcu_leaf_cpus)

    def first_unbound_workers(self) -> None:
        """Workers of the pools that the CPUs which share a cache have in common, once all CPUs are up.

        Linux: workqueue_init_topology(). With one such group of CPUs the first pool serves.
        """
        self.skip(1 if self.pods == 1 else 0)
        if self.pods > 1:
            for number in range(2):
                for pool in range(1, self.pods + 1):
                    flags = PF_SUPERPRIV if (pool, number) == (self.pods, 0) else 0
                    self.unbound(pool, number, "events_unbound", flags=flags)
                self.skip(2 if number == 0 else 0)
        elif self.nr_cpus > 1:
            for number in range(1, 2 if self.nr_cpus == 2 else 4):
                self.unbound(0, number, "events_unbound", flags=PF_SUPERPRIV if number == 1 else 0)

    def later_unbound_worker(self, when: int) -> None:
        """Few CPUs start their unbound workers while the subsystems initialise: `when` counts the occasions."""
        number = {1: (1, 2, 0), 2: (2, 0, 3)}.get(self.nr_cpus, (0, 0, 0))[when]
        if self.pods > 1 and when == 1:
            self.unbound(1, 2)
        elif number and self.pods == 1:
            self.unbound(0, number, "events_unbound")

    def subsystems(self) -> None:
        """The initcalls of the core kernel and of drivers."""
        self.first_unbound_workers()
        self.thread("kdevtmpfs", PF_NOFREEZE | PF_SUPERPRIV)
        self.rescuer("inet_frag_wq")
        self.thread("kauditd", 0)
        self.thread("khungtaskd")
        self.later_unbound_worker(0)
        self.thread("oom_reaper", 0)
        self.later_unbound_worker(1)
        self.rescuer("writeback")
        self._per_node("kcompactd", self.kcompactd_flags)
        self.thread("ksmd", 0, nice=5)
        self.later_unbound_worker(2)
        if self.kernel.totalram_pages() >= THP_MIN_PAGES:
            self.thread("khugepaged", 0, nice=19)
        self.rescuers("kintegrityd kblockd blkcg_punt_bio")
        if "irq/9-acpi" not in self.absent:
            self.thread("irq/9-acpi", rt=MID_RT)
        for cpu in range(1, self.nr_cpus):
            self.worker(cpu, 1, "events")
        self.rescuers("tpm_dev_wq edac-poller devfreq_wq quota_events_unbound")
        self.worker(min(1, self.nr_cpus - 1), 1, "kblockd", highpri=True)
        self._per_node("kswapd", PF_KSWAPD | PF_MEMALLOC)
        self.network()

    def network(self) -> None:
        """The rest, among short-lived helpers."""
        self.skip(6 if self.nr_cpus > 1 else 7)
        self.rescuer("kthrotld")
        self.skip(3)
        self.rescuers("acpi_thermal_pm mld")
        if self.nr_cpus > 1:
            self.worker(0, 1, highpri=True)
        else:
            self.worker(0, 2)
        self.rescuer("ipv6_addrconf")
        self.skip(4)
        self.rescuer("kstrp")
        self.skip(1)
        first = 1 if self.pods == 1 else self.pods + 1
        for pool in range(first, first + (1 if self.pods == 1 else self.pods + 1)):
            self.unbound(pool, 0, nice=HIGHPRI_NICE)

    def _per_node(self, name: str, flags: int) -> None:
        """A thread for each node with memory, on the node's CPUs. Linux: kswapd_run(), kcompactd_run()."""
        for pgdat in self.kernel.node_data:
            if pgdat.node_present_pages:
                self.of_node(name, flags, pgdat)

    def of_node(self, name: str, flags: int, pgdat: PglistData) -> Task:
        """A node's thread."""
        return self.thread(f"{name}{pgdat.node_id}", flags, cpus=tuple(pgdat.cpus) or None)

    def root_file_system(self, disk: str) -> None:
        """The threads of an ext4 file system. Linux: fs/jbd2/journal.c, fs/ext4/super.c."""
        self.thread(f"jbd2/{disk}-8", PF_MEMALLOC_NOFS)
        self.rescuer("ext4-rsv-conversion")


def boot_threads(kernel: Kernel) -> BootThreads:
    """What starts a kernel's threads."""
    from mmfs.kernel.presets.kthreads_6_1 import BootThreads61
    from mmfs.kernel.presets.kthreads_arm64 import BootThreadsArm64

    if ARM64(kernel):
        return BootThreadsArm64(kernel)
    return (BootThreads if since(6, 12)(kernel) else BootThreads61)(kernel)


def start_boot_threads(kernel: Kernel) -> None:
    """All threads that exist when init starts."""
    boot = boot_threads(kernel)
    boot.boot_cpu()
    for cpu in range(1, boot.nr_cpus):
        boot.secondary_cpu(cpu)
    boot.subsystems()
    set_wchans(kernel)


def node_threads(kernel: Kernel, pgdat: PglistData) -> None:
    """A node has memory for the first time. Linux: mm/memory_hotplug.c, online_pages()."""
    boot = boot_threads(kernel)
    for name, flags in (("kswapd", PF_KSWAPD | PF_MEMALLOC), ("kcompactd", boot.kcompactd_flags)):
        task = boot.of_node(name, flags, pgdat)
        task.wchan = wchan_of(task.proc_name)


def set_wchans(kernel: Kernel) -> None:
    """All threads have started and sleep."""
    for task in kernel.tasks.values():
        if task.is_kthread and task.wchan != "rescuer_thread":
            task.wchan = wchan_of(task.proc_name)


def start_root_file_system(kernel: Kernel) -> None:
    """Mounting the root disk, by a helper of the initramfs."""
    boot = boot_threads(kernel)
    boot.skip(boot.initramfs_helpers)
    boot.root_file_system(kernel.machine.disks[0].name)
    set_wchans(kernel)
