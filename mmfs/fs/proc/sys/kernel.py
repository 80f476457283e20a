"""/proc/sys/kernel: what the kernel is called, what it does when it fails, limits of tasks, IPC and the scheduler.

The numbers stand with their owners: names in `kernel.uts`, IPC in `kernel.ipc`, pids and threads in `kernel.tasks`, the
log in `kernel.printk`, the rest in `kernel.sysctl` (kernel/params.py).

Linux: kernel/sysctl.c, kern_table[]; kernel/utsname_sysctl.c, ipc/ipc_sysctl.c, kernel/printk/sysctl.c,
kernel/hung_task.c, kernel/sched, drivers/char/random.c.

Simplified: nothing hangs, oopses or runs in real time here, so the tunables about these only keep what is written.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Final

from mmfs.fs.proc.sys.root import fact, register_sysctl, sysctl_directory, tunable
from mmfs.kernfs import Attribute, fail
from mmfs.kernfs.kstrtox import INT_MAX, long_max
from mmfs.kernfs.sysctl import (
    HZ,
    proc_dointvec,
    proc_dointvec_jiffies,
    proc_dointvec_minmax,
    proc_dostring,
    proc_douintvec_minmax,
    proc_doulongvec_minmax,
    sysctl,
)
from mmfs.profile import config, since, until

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.params import IpcSysctl, KernelSysctl, UtsNamespace
    from mmfs.kernel.pid import PidAllocator, TaskTable
    from mmfs.kernel.printk import Printk
    from mmfs.kernel.scheduler import Scheduler

IPCMNI: Final = 32768
MAX_THREADS: Final = 0x3FFFFFFF
NEW_UTS_LEN: Final = 64
CORENAME_MAX_SIZE: Final = 128
RR_TIMESLICE_MS: Final = 100
TAINT_FLAGS: Final = (1 << 19) - 1
MAXOLDUID: Final = 65535

kernel_dir = sysctl_directory()
random_dir = sysctl_directory()


def of_sysctl(kernel: Kernel) -> KernelSysctl:
    """Where plain tunables stand."""
    return kernel.sysctl


def of_uts(kernel: Kernel) -> UtsNamespace:
    """Names."""
    return kernel.uts


def of_ipc(kernel: Kernel) -> IpcSysctl:
    """System V IPC."""
    return kernel.ipc


def of_pids(kernel: Kernel) -> PidAllocator:
    """Process numbers."""
    return kernel.tasks.pids


def of_tasks(kernel: Kernel) -> TaskTable:
    """All tasks."""
    return kernel.tasks


def of_delayacct(kernel: Kernel) -> Scheduler:
    """Who accounts for what tasks wait for."""
    return kernel.scheduler


def of_printk(kernel: Kernel) -> Printk:
    """The log."""
    return kernel.printk


# -- bounds that depend on something ---------------------------------------------------------------------------


def pid_max_changed(kernel: Kernel, old: int) -> None:
    """Linux: kernel/pid.c, pid_max_min, pid_max_max."""
    pids = kernel.tasks.pids
    if not pids.pid_max_min <= pids.pid_max <= pids.pid_max_max:
        pids.pid_max = old
        fail(errno.EINVAL)


def sem_changed(kernel: Kernel, old: list[int]) -> None:
    """Linux: ipc/ipc_sysctl.c, proc_ipc_sem_dointvec()."""
    if not 0 <= kernel.ipc.sem[3] <= IPCMNI:
        kernel.ipc.sem[3] = old[3]
        fail(errno.ERANGE)


def shm_rmid_forced_changed(kernel: Kernel, _: int) -> None:
    """Linux: ipc/ipc_sysctl.c, proc_ipc_dointvec_minmax_orphans()."""
    if kernel.ipc.shm_rmid_forced:
        kernel.shm.destroy_orphaned()


def sched_rt_changed(field: str) -> Callable[[Kernel, int], None]:
    """The runtime cannot exceed the period. Linux: kernel/sched/rt.c, sched_rt_handler()."""

    def check(kernel: Kernel, old: int) -> None:
        if kernel.sysctl.sched_rt_runtime_us > kernel.sysctl.sched_rt_period_us:
            setattr(kernel.sysctl, field, old)
            fail(errno.EINVAL)
        runtime = kernel.sysctl.sched_rt_runtime_us
        if DL_SERVERS_COUNT(kernel) and 0 <= runtime * 10 < kernel.sysctl.sched_rt_period_us:
            setattr(kernel.sysctl, field, old)
            fail(errno.EBUSY)

    return check


DL_SERVERS_COUNT: Final = since(7, 0)
"""Which kernels keep, on each CPU, 5 % each for the fair and for the extensible class, which no limit can go below.

Linux: 7.0, kernel/sched/deadline.c, sched_dl_global_validate().
"""


def sched_deadline_changed(field: str) -> Callable[[Kernel, int], None]:
    """The shortest period cannot exceed the longest. Linux: kernel/sched/deadline.c, sched_dl_sysctls[]."""

    def check(kernel: Kernel, old: int) -> None:
        if kernel.sysctl.sched_deadline_period_min_us > kernel.sysctl.sched_deadline_period_max_us:
            setattr(kernel.sysctl, field, old)
            fail(errno.EINVAL)

    return check


def sched_rr_timeslice_changed(kernel: Kernel, _: int) -> None:
    """Linux: kernel/sched/rt.c, sched_rr_handler()."""
    if kernel.sysctl.sched_rr_timeslice_ms <= 0:
        kernel.sysctl.sched_rr_timeslice_ms = RR_TIMESLICE_MS


# -- files with ways of their own ------------------------------------------------------------------------------


def sched_energy_aware(_: Kernel) -> str:
    """Empty where the processors all use the same energy. Linux: kernel/sched/topology.c."""
    return ""


def sched_energy_aware_store(_: Kernel, buf: str) -> None:
    """Linux: kernel/sched/topology.c, sched_energy_aware_handler()."""
    fail(errno.EOPNOTSUPP)


def console_loglevels(kernel: Kernel) -> list[int]:
    """Linux: include/linux/printk.h, console_printk[]."""
    log = kernel.printk
    return [
        log.console_loglevel,
        log.default_message_loglevel,
        log.minimum_console_loglevel,
        log.default_console_loglevel,
    ]


def set_console_loglevels(kernel: Kernel, levels: list[int]) -> None:
    """Linux: include/linux/printk.h, console_printk[]."""
    log = kernel.printk
    log.console_loglevel, log.default_message_loglevel = levels[:2]
    log.minimum_console_loglevel, log.default_console_loglevel = levels[2:]


def set_printk_ratelimit(kernel: Kernel, jiffies: int) -> None:
    """The field is in seconds, as the file is."""
    kernel.sysctl.printk_ratelimit = jiffies // HZ


def printk_devkmsg(kernel: Kernel) -> str:
    """What programs may write to the log: on, off or ratelimit."""
    return f"{kernel.printk.devkmsg_log}\n"


def printk_devkmsg_store(kernel: Kernel, buf: str) -> None:
    """One of the words and exactly one more byte. Linux: kernel/printk/printk.c, devkmsg_sysctl_set_loglvl()."""
    word = buf[:-1]
    if word not in ("on", "off", "ratelimit") or len(buf.encode("utf-8", "surrogateescape")) != len(word) + 1:
        fail(errno.EINVAL)
    kernel.printk.devkmsg_log = word


class proc_taint(proc_doulongvec_minmax):
    """Flags that can be set and not cleared. Linux: kernel/sysctl.c, proc_taint()."""

    def store(self, value: Any, buf: str, offset: int, assign: Callable[[Any], None]) -> int:
        return super().store(0, buf, offset, lambda flags: assign(value | flags & TAINT_FLAGS))


class proc_do_rointvec(proc_dointvec):
    """An int that can be written to no effect. Linux: drivers/char/random.c, proc_do_rointvec()."""

    def store(self, value: Any, buf: str, offset: int, assign: Callable[[Any], None]) -> int:
        return len(buf.encode("utf-8", "surrogateescape"))


INT = proc_dointvec()
NATURAL = proc_dointvec_minmax(0)
FLAG = proc_dointvec_minmax(0, 1)
ULONG = proc_doulongvec_minmax()
UINT = proc_douintvec_minmax()
SECONDS = proc_doulongvec_minmax(0, lambda: long_max() // HZ)
NAME = proc_dostring(NEW_UTS_LEN + 1)

def numa_balancing_changed(kernel: Kernel, _: int) -> None:
    """Linux: kernel/sched/core.c, sysctl_numa_balancing()."""
    kernel.numa_balancing.set_mode(kernel.sysctl.numa_balancing)


BALANCING = config("NUMA_BALANCING")
SYS_INFO: Final = ("tasks", "mem", "timers", "locks", "ftrace", "", "all_bt", "blocked_tasks")
"""What can be told of a system in trouble, by bit. Linux 6.18: lib/sys_info.c, si_names."""


class proc_sys_info(proc_dostring):
    """A mask as the names of its bits; what is no name is passed over. Linux: sysctl_sys_info_handler()."""

    def __init__(self) -> None:
        super().__init__(sum(len(name) + 1 for name in SYS_INFO))

    def show(self, value: int) -> str:
        return super().show(",".join(name for bit, name in enumerate(SYS_INFO) if name and value >> bit & 1))

    def store(self, value: int, buf: str, offset: int, assign: Callable[[int], None]) -> int:
        def save(text: str) -> None:
            names = takewhile(bool, text.split(","))
            assign(sum(1 << SYS_INFO.index(name) for name in {*names} & {*SYS_INFO}))

        return super().store("", buf, offset, save)


register_sysctl(kernel_dir, (
    fact("arch", lambda kernel: f"{kernel.uts.machine}\n"),
    fact("cap_last_cap", lambda kernel: f"{kernel.sysctl.cap_last_cap}\n"),
    tunable(of_sysctl, "core_pattern", proc_dostring(CORENAME_MAX_SIZE)),
    tunable(of_sysctl, "core_pipe_limit", INT),
    tunable(of_sysctl, "core_uses_pid", INT),
    tunable(of_sysctl, "dmesg_restrict", FLAG),
    tunable(of_uts, "domainname", NAME),
    tunable(of_uts, "hostname", NAME, field="nodename"),
    tunable(of_sysctl, "hung_task_all_cpu_backtrace", FLAG),
    tunable(of_sysctl, "hung_task_check_count", NATURAL),
    tunable(of_sysctl, "hung_task_check_interval_secs", SECONDS),
    fact("hung_task_detect_count", lambda _: "0\n", needs=since(6, 13)),
    tunable(of_sysctl, "hung_task_panic", FLAG, needs=until(7, 0)),
    tunable(of_sysctl, "hung_task_panic", proc_dointvec_minmax(0), needs=since(7, 0)),
    tunable(of_sysctl, "hung_task_sys_info", proc_sys_info(), needs=since(6, 19)),
    tunable(of_sysctl, "hung_task_timeout_secs", SECONDS),
    tunable(of_sysctl, "hung_task_warnings", proc_dointvec_minmax(-1)),
    fact("msg_next_id", lambda kernel: f"{kernel.ipc.msg_next_id}\n"),
    tunable(of_ipc, "msgmax", NATURAL),
    tunable(of_ipc, "msgmnb", NATURAL),
    tunable(of_ipc, "msgmni", proc_dointvec_minmax(0, IPCMNI)),
    fact("ngroups_max", lambda kernel: f"{kernel.sysctl.ngroups_max}\n"),
    tunable(of_sysctl, "numa_balancing", proc_dointvec_minmax(0, 4), numa_balancing_changed, needs=BALANCING),
    tunable(of_sysctl, "numa_balancing_promote_rate_limit_MBps", NATURAL, numa_balancing_changed, needs=BALANCING),
    fact("osrelease", lambda kernel: f"{kernel.uts.release}\n"),
    fact("ostype", lambda kernel: f"{kernel.uts.sysname}\n"),
    tunable(of_sysctl, "overflowgid", proc_dointvec_minmax(0, MAXOLDUID)),
    tunable(of_sysctl, "overflowuid", proc_dointvec_minmax(0, MAXOLDUID)),
    tunable(of_sysctl, "panic", INT),
    tunable(of_sysctl, "panic_on_io_nmi", INT),
    tunable(of_sysctl, "panic_on_oops", INT),
    tunable(of_sysctl, "panic_on_rcu_stall", FLAG),
    tunable(of_sysctl, "panic_on_unrecovered_nmi", INT),
    tunable(of_sysctl, "panic_on_warn", FLAG),
    tunable(of_sysctl, "panic_print", ULONG),
    tunable(of_sysctl, "panic_sys_info", proc_sys_info(), field="panic_print", needs=since(6, 18)),
    tunable(of_pids, "pid_max", INT, pid_max_changed),
    sysctl("printk", INT, get=console_loglevels, set=set_console_loglevels),
    tunable(of_sysctl, "printk_delay", proc_dointvec_minmax(0, 10000)),
    Attribute("printk_devkmsg", printk_devkmsg, printk_devkmsg_store),
    sysctl("printk_ratelimit", proc_dointvec_jiffies(), get=lambda kernel: kernel.sysctl.printk_ratelimit * HZ,
           set=set_printk_ratelimit),
    tunable(of_sysctl, "printk_ratelimit_burst", INT),
    tunable(of_sysctl, "randomize_va_space", INT),
    tunable(of_sysctl, "sched_autogroup_enabled", FLAG),
    tunable(of_sysctl, "sched_cfs_bandwidth_slice_us", proc_dointvec_minmax(1)),
    tunable(of_sysctl, "sched_child_runs_first", INT, needs=until(6, 12)),
    tunable(of_sysctl, "sched_deadline_period_max_us", UINT, sched_deadline_changed("sched_deadline_period_max_us")),
    tunable(of_sysctl, "sched_deadline_period_min_us", UINT, sched_deadline_changed("sched_deadline_period_min_us")),
    Attribute("sched_energy_aware", sched_energy_aware, sched_energy_aware_store, needs=since(6, 12)),
    tunable(of_sysctl, "sched_energy_aware", FLAG, field="energy_aware", needs=until(6, 12)),
    tunable(of_sysctl, "sched_rr_timeslice_ms", INT, sched_rr_timeslice_changed),
    tunable(of_sysctl, "sched_rt_period_us", proc_dointvec_minmax(1, INT_MAX), sched_rt_changed("sched_rt_period_us")),
    tunable(of_sysctl, "sched_rt_runtime_us", proc_dointvec_minmax(-1), sched_rt_changed("sched_rt_runtime_us")),
    tunable(of_sysctl, "sched_schedstats", FLAG),
    tunable(of_ipc, "sem", INT, sem_changed),
    fact("sem_next_id", lambda kernel: f"{kernel.ipc.sem_next_id}\n"),
    fact("shm_next_id", lambda kernel: f"{kernel.ipc.shm_next_id}\n"),
    tunable(of_ipc, "shm_rmid_forced", FLAG, shm_rmid_forced_changed),
    tunable(of_ipc, "shmall", ULONG),
    tunable(of_ipc, "shmmax", ULONG),
    tunable(of_ipc, "shmmni", proc_dointvec_minmax(0, IPCMNI)),
    tunable(of_sysctl, "sysrq", INT),
    tunable(of_sysctl, "tainted", proc_taint()),
    tunable(of_delayacct, "task_delayacct", FLAG, field="delayacct_on"),
    tunable(of_tasks, "threads-max", proc_dointvec_minmax(1, MAX_THREADS), field="max_threads"),
    fact("version", lambda kernel: f"{kernel.uts.version}\n"),
))  # fmt: skip

register_sysctl(random_dir, (
    fact("boot_id", lambda kernel: f"{kernel.sysctl.random_boot_id}\n"),
    fact("entropy_avail", lambda kernel: f"{kernel.sysctl.random_entropy_avail}\n"),
    fact("poolsize", lambda kernel: f"{kernel.sysctl.random_poolsize}\n"),
    tunable(of_sysctl, "urandom_min_reseed_secs", proc_do_rointvec(), field="random_urandom_min_reseed_secs"),
    fact("uuid", lambda kernel: f"{kernel.sysctl.random_uuid()}\n"),
    tunable(of_sysctl, "write_wakeup_threshold", proc_do_rointvec(), field="random_write_wakeup_threshold"),
))  # fmt: skip
