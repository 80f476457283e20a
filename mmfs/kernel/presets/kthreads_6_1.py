"""The kernel threads of Debian's 6.1: rescuers have the names of their queues, and RCU and idling need fewer threads.

As mmfs/kernel/presets/kthreads.py has it for 6.12, booted with one, two and four CPUs.
"""

from __future__ import annotations

from mmfs.kernel.fork import kthread_create
from mmfs.kernel.presets.kthreads import HIGHPRI_NICE, MAX_RT, THP_MIN_PAGES, WORKER, BootThreads
from mmfs.kernel.sched import PF_KSWAPD, PF_MEMALLOC, PF_NOFREEZE, PF_SUPERPRIV, TASK_COMM_LEN


class BootThreads61(BootThreads):
    """Starts threads in the order of a 6.1's boot."""

    pools_per_cpu = 2
    kcompactd_flags = 0
    initramfs_helpers = 37

    def rescuer(self, workqueue: str) -> None:
        """The thread that works for a queue when no worker can be made. Linux: init_rescuer()."""
        name = workqueue[: TASK_COMM_LEN - 1]
        task = kthread_create(self.kernel, name, flags=WORKER, idle=True, nice=HIGHPRI_NICE)
        task.wchan = "rescuer_thread"

    def boot_cpu(self) -> None:
        """Before the other CPUs come up."""
        self.rescuers("rcu_gp rcu_par_gp slub_flushwq netns")
        self.worker(0, 0, "events")
        self.worker(0, 0, "events_highpri", highpri=True)
        self.unbound(0, 0, "events_unbound")
        self.rescuer("mm_percpu_wq")
        for name in ("rcu_tasks_kthread", "rcu_tasks_rude_kthread", "rcu_tasks_trace_kthread"):
            self.thread(name, idle=True)
        self.per_cpu("ksoftirqd", 0)
        self.thread("rcu_preempt", idle=True)
        self.per_cpu("migration", 0, MAX_RT)
        self.worker(0, 1, "events")
        self.per_cpu("cpuhp", 0)

    def secondary_cpu(self, cpu: int) -> None:
        """What a CPU gets when it comes up."""
        self.per_cpu("cpuhp", cpu)
        self.per_cpu("migration", cpu, MAX_RT)
        self.per_cpu("ksoftirqd", cpu)
        self.worker(cpu, 0, "events")
        self.worker(cpu, 0, "events_highpri", highpri=True)

    def subsystems(self) -> None:
        """The initcalls of the core kernel and of drivers."""
        self.skip(1)
        if self.nr_cpus > 1:
            self.unbound(0, 1, "events_unbound")
        if self.nr_cpus > 2:
            self.unbound(0, 2)
        self.thread("kdevtmpfs", PF_NOFREEZE | PF_SUPERPRIV)
        self.rescuer("inet_frag_wq")
        self.thread("kauditd", 0)
        self.thread("khungtaskd")
        if self.nr_cpus == 1:
            self.unbound(0, 1, "events_unbound")
        self.thread("oom_reaper", 0)
        if self.nr_cpus == 2:
            self.unbound(0, 2)
        self.rescuer("writeback")
        self._per_node("kcompactd", self.kcompactd_flags)
        if self.nr_cpus == 1:
            self.unbound(0, 2)
        self.thread("ksmd", 0, nice=5)
        for cpu in range(1, self.nr_cpus):
            self.worker(cpu, 1, "events")
        if self.kernel.totalram_pages() >= THP_MIN_PAGES:
            self.thread("khugepaged", 0, nice=19)
        self.rescuers("kintegrityd kblockd blkcg_punt_bio tpm_dev_wq edac-poller devfreq_wq quota_events_unbound")
        self.worker(min(1, self.nr_cpus - 1), 1, "kblockd", highpri=True)
        self._per_node("kswapd", PF_KSWAPD | PF_MEMALLOC)
        self.network()

    def network(self) -> None:
        """The rest, among short-lived helpers."""
        self.skip(5)
        self.rescuer("kthrotld")
        self.skip(1)
        self.rescuer("acpi_thermal_pm")
        self.worker(0, 2)
        self.rescuers("mld ipv6_addrconf")
        self.skip(4)
        self.rescuer("kstrp")
        self.skip(4)
        self.rescuer("zswap-shrink")
        self.unbound(1, 0, nice=HIGHPRI_NICE)
