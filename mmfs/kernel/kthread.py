"""Kernel threads' regular work: who wakes when, what it does, what it costs.

Each entry runs from the clock, in the order of registration when several fall due at once. It calls a function
of the model (a bound method, which keeps its state there), and its time is charged to the kernel thread that
would have done it, so that an idle machine shows the few wakeups, context switches and interrupts a second that a
real one shows.

Linux: kernel/kthread.c, kernel/workqueue.c and the places named at each entry.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from mmfs.kernel.clock import NSEC_PER_SEC, Periodic
from mmfs.kernel.cputime import Cost
from mmfs.kernel.panic import check_panicked
from mmfs.mm.compaction import HPAGE_FRAG_CHECK_INTERVAL_NS

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task
    from mmfs.mm.mmzone import PglistData

WATCHDOG_INTERVAL_NS: Final = NSEC_PER_SEC // 2
RCU_GRACE_PERIOD_NS: Final = NSEC_PER_SEC
COMMIT_INTERVAL_NS: Final = 5 * NSEC_PER_SEC
PHASE, PHASES = 377, 610
"""Neighbours in the Fibonacci series: their ratio spreads any number of starts evenly over a period."""


class KthreadWork:
    """One thread's regular work."""

    def __init__(
        self,
        kernel: Kernel,
        comm: str,
        function: Callable[[], object] | None = None,
        cost_ns: int = Cost.WAKEUP,
        cpu: int = 0,
    ) -> None:
        """`comm` is the name of the thread that runs it; `cpu` where it runs if there is no such thread."""
        self.kernel = kernel
        self.comm = comm
        self.function = function
        self.cost_ns = cost_ns
        self.cpu = cpu
        self._task: Task | None = None

    def task(self) -> Task | None:
        """The kernel thread, once there is one."""
        if self._task is None or self._task.pid not in self.kernel.tasks:
            threads = (task for task in self.kernel.tasks.values() if task.is_kthread)
            self._task = next((task for task in threads if task.comm.startswith(self.comm)), None)
        return self._task

    def run(self) -> None:
        """Wake up, work, sleep."""
        if self.function is not None:
            self.function()
        self.kernel.scheduler.run_kthread(self.task(), self.cost_ns, self.cpu)


def start(
    kernel: Kernel,
    name: str,
    comm: str,
    period_ns: int,
    function: Callable[[], object] | None = None,
    cost_ns: int = Cost.WAKEUP,
    cpu: int = 0,
) -> Periodic:
    """Have a kernel thread wake up every `period_ns`; the handle changes the period."""
    work = KthreadWork(kernel, comm, function, cost_ns, cpu)
    return kernel.clock.call_every(name, period_ns, work.run, first_run(kernel, period_ns))


def first_run(kernel: Kernel, period_ns: int) -> int:
    """When regular work starts: each a different part of its period from now, as threads start one after another."""
    turn = len(kernel.clock.periodics) + 1
    return kernel.clock.now_ns + period_ns * (turn * PHASE % PHASES) // PHASES


class ClocksourceWatchdog:
    """A timer that checks the time stamp counter on one CPU after another.

    Linux: kernel/time/clocksource.c, clocksource_watchdog().
    """

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.cpu = 0

    def run(self) -> None:
        """Interrupt the next CPU."""
        cpus = self.kernel.scheduler.cpus
        self.cpu = (self.cpu + 1) % len(cpus)
        cpus[self.cpu].timer_interrupt(Cost.TIMER_INTERRUPT)


class VmstatShepherd:
    """Looks every second which CPUs have been busy; those fold their counters and trim their page lists.

    Linux: mm/vmstat.c, vmstat_shepherd(), vmstat_update().
    """

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.busy_ns = [0] * len(kernel.scheduler.cpus)

    def run(self) -> None:
        """Give work to the CPUs that have something to fold."""
        kernel = self.kernel
        for number, cpu in enumerate(kernel.scheduler.cpus):
            cpu.sync()
            if cpu.busy_ns != self.busy_ns[number]:
                kernel.page_alloc.refresh_cpu_vm_stats(number)
                kernel.scheduler.run_kthread(None, Cost.WAKEUP, number)
                cpu.sync()
                self.busy_ns[number] = cpu.busy_ns + cpu.backlog_ns


class KhugepagedTime(KthreadWork):
    """What khugepaged's rounds cost. Linux: mm/khugepaged.c, khugepaged()."""

    def account(self, scanned: int, copied: int) -> None:
        """A round has looked at so many entries, and copied so many pages."""
        nsec = self.cost_ns + scanned * Cost.COPY_PTE + copied * Cost.COPY_PAGE
        self.kernel.scheduler.run_kthread(self.task(), nsec, self.cpu)


class KsmdTime(KthreadWork):
    """What ksmd's rounds cost. Linux: mm/ksm.c, ksm_scan_thread()."""

    def account(self, scanned: int, merged: int) -> int:
        """It has read so many pages for their checksums, and replaced so many: the ns of that."""
        nsec = self.cost_ns + scanned * Cost.COPY_PAGE + merged * Cost.FAULT_MINOR
        self.kernel.scheduler.run_kthread(self.task(), nsec, self.cpu)
        return nsec


class Kdamonds:
    """The threads of monitors. Linux: mm/damon/core.c, __damon_start(), kdamond_fn()."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel

    def create(self, name: str) -> Task:
        """A new thread."""
        from mmfs.kernel.fork import kthread_create

        task = kthread_create(self.kernel, name, idle=True)
        task.wchan = "kdamond_fn"
        return task

    def end(self, task: Task) -> None:
        """A thread ends."""
        from mmfs.kernel.exit import do_exit

        do_exit(task, 0)

    def wake(self, task: Task) -> None:
        """A timer has woken a thread."""
        self.kernel.scheduler.run_kthread(task)

    def charge(self, task: Task, scanned: int) -> None:
        """A thread has looked at so many pages, by their entries or by who maps them."""
        if scanned:
            self.kernel.scheduler.charge(task, system_ns=scanned * Cost.RECLAIM_REFERENCED)

    def ready_ns(self, task: Task) -> int:
        """When a thread will be through with its work so far."""
        return self.kernel.scheduler.ready_ns(task)

    def sleep_until(self, when_ns: int) -> bool:
        """Let time pass, from outside; False within a wakeup, where it cannot."""
        if self.kernel.clock.running:
            return False
        check_panicked(self.kernel)
        self.kernel.clock.run_until(when_ns)
        return True


class Psimon:
    """The thread that looks at pressure triggers; it lives while there are any. Linux: kernel/sched/psi.c."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.task: Task | None = None

    def want(self, wanted: bool) -> None:
        """Start it or end it. Linux: psi_trigger_create_rtpoll_worker(), psi_trigger_destroy()."""
        from mmfs.kernel.exit import do_exit
        from mmfs.kernel.fork import kthread_create

        if wanted and self.task is None:
            self.task = kthread_create(self.kernel, "psimon", rt_priority=1)
        elif not wanted and self.task is not None:
            do_exit(self.task, 0)
            self.task = None

    def another(self) -> Psimon:
        """Each group has its own."""
        return Psimon(self.kernel)

    def run(self) -> None:
        """Linux: psi_rtpoll_worker()."""
        self.kernel.scheduler.run_kthread(self.task)


def start_all(kernel: Kernel) -> None:
    """Register what every machine does regularly, in a fixed order."""
    clock = kernel.clock
    kernel.scheduler.psi_system.rtpoll_worker = Psimon(kernel)
    for name, period_ns, work in (
        ("clocksource_watchdog", WATCHDOG_INTERVAL_NS, ClocksourceWatchdog(kernel).run),
        ("vmstat_shepherd", kernel.vm.stat_interval * NSEC_PER_SEC, VmstatShepherd(kernel).run),
    ):
        clock.call_every(name, period_ns, work, first_run(kernel, period_ns))
    kernel.khugepaged.account = KhugepagedTime(kernel, "khugepaged").account
    kernel.khugepaged.start_stop(kernel.thp.pmd_enabled())
    kernel.damon.threads = Kdamonds(kernel)
    kernel.ksm.account = KsmdTime(kernel, "ksmd").account
    start(kernel, "rcu_gp", "rcu_preempt", RCU_GRACE_PERIOD_NS)
    for pgdat in kernel.node_data:
        if pgdat.node_present_pages:
            start_kcompactd(kernel, pgdat)


def start_kcompactd(kernel: Kernel, pgdat: PglistData) -> None:
    """The kcompactd of a node looks twice a second how fragmented it is."""
    name, cpu = f"kcompactd{pgdat.node_id}", pgdat.cpus[0] if pgdat.cpus else 0
    kcompactd = kernel.kcompactds[pgdat.node_id]
    kcompactd.checks = start(kernel, name, name, HPAGE_FRAG_CHECK_INTERVAL_NS, kcompactd.check, cpu=cpu)


def memory_notifier(kernel: Kernel, pgdat: PglistData, online: bool) -> None:
    """A node's first memory came, or its last went: its threads, the nodes of cpusets and of pools follow.

    Linux: kswapd_run(), kcompactd_run(); kernel/cgroup/cpuset.c, cpuset_track_online_nodes().
    """
    from mmfs.kernel.cgroup.cpuset import Cpusets
    from mmfs.kernel.exit import do_exit
    from mmfs.kernel.presets.kthreads import node_threads

    nodes = [one.node_id for one in kernel.node_data if one.node_present_pages]
    if nodes == kernel.hugetlb.nodes:
        return
    kernel.hugetlb.set_nodes(nodes)
    for daemon in (kernel.kcompactds[pgdat.node_id], kernel.kswapds[pgdat.node_id]):
        if daemon.task is not None:
            do_exit(daemon.task, 0)
        daemon.forget_task()
    kernel.clock.forget(f"kcompactd{pgdat.node_id}")
    if pgdat.node_present_pages:
        node_threads(kernel, pgdat)
        start_kcompactd(kernel, pgdat)
    cpusets = kernel.cgroups.controllers["cpuset"]
    assert isinstance(cpusets, Cpusets)
    cpusets.track_online_nodes()
