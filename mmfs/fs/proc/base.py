"""The small files of /proc/PID: names and arguments, identity, limits, I/O, links, and what a task waits in.

Linux: fs/proc/base.c.

Simplified: `stack` shows only the frames that every sleeping task has in common, `syscall` only kernel threads (they
make none); audit, timers and live patches are as they are when nobody uses them.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from mmfs.fs.proc.pid import (
    attribute,
    capable,
    current,
    lock_trace,
    needs_mm,
    pid_dir,
    ptrace_may_access,
    same_thread_group,
    symlink,
    tid_dir,
)
from mmfs.kernel.cgroup import task_css
from mmfs.kernel.cgroup.cgroup1 import mounted
from mmfs.kernel.sched import (
    RLIM_INFINITY,
    SCHED_FIFO,
    SCHED_RR,
    TASK_COMM_LEN,
    TASK_INTERRUPTIBLE,
    TASK_RUNNING,
    TIMER_SLACK_NS,
)
from mmfs.kernfs.kstrtox import fail, kstrtouint, kstrtoull
from mmfs.mm.mman import VM_MERGEABLE
from mmfs.profile import config, since, until

if TYPE_CHECKING:
    from mmfs.kernel.signal_struct import IoAccounting
    from mmfs.kernel.task import Task
    from mmfs.kernfs import Caller

INVALID_UID: Final = (1 << 32) - 1
DUMP_FILTER_BITS: Final = (1 << 9) - 1
LIMITS: Final = (
    ("Max cpu time", "seconds"),
    ("Max file size", "bytes"),
    ("Max data size", "bytes"),
    ("Max stack size", "bytes"),
    ("Max core file size", "bytes"),
    ("Max resident set", "bytes"),
    ("Max processes", "processes"),
    ("Max open files", "files"),
    ("Max locked memory", "bytes"),
    ("Max address space", "bytes"),
    ("Max file locks", "locks"),
    ("Max pending signals", "signals"),
    ("Max msgqueue size", "bytes"),
    ("Max nice priority", ""),
    ("Max realtime priority", ""),
    ("Max realtime timeout", "us"),
)
IO_ROWS: Final = ("rchar", "wchar", "syscr", "syscw", "read_bytes", "write_bytes", "cancelled_write_bytes")


# ---- the program --------------------------------------------------------------------------------------------------


@attribute("cmdline")
def cmdline(task: Task) -> bytes:
    """The arguments, each ended by a NUL. Linux: get_mm_cmdline()."""
    return task.cmdline


@attribute("environ", mode=0o400, open=needs_mm, outlives=True)
def environ(task: Task) -> bytes:
    """The environment, each entry ended by a NUL. Linux: environ_read()."""
    return task.environ


@attribute("auxv", mode=0o400, open=needs_mm, outlives=True)
def auxv(task: Task) -> bytes:
    """What the kernel told the program when it started. Linux: auxv_read()."""
    return task.auxv


@attribute("comm", wants_caller=True)
def comm(task: Task, caller: Caller) -> str:
    """The thread's name. Linux: comm_show()."""
    return f"{task.proc_name}\n"


@comm.store
def comm_write(task: Task, buf: str, caller: Caller) -> None:
    """A process renames its own threads; 15 bytes count, up to a NUL. Linux: comm_write()."""
    if not same_thread_group(task, caller):
        fail(errno.EINVAL)
    task.comm = buf[: TASK_COMM_LEN - 1].partition("\0")[0]
    task.full_name = None


@symlink("exe")
def exe(task: Task) -> str:
    """The program; kernel threads and zombies have none. Linux: proc_exe_link()."""
    if not task.exe:
        fail(errno.ENOENT)
    return task.exe


@symlink("cwd")
def cwd(task: Task) -> str:
    """The working directory; zombies have none. Linux: proc_cwd_link()."""
    if not task.alive:
        fail(errno.ENOENT)
    return task.cwd


@symlink("root")
def root(task: Task) -> str:
    """The root directory; zombies have none. Linux: proc_root_link()."""
    if not task.alive:
        fail(errno.ENOENT)
    return task.root


@attribute("arch_status")
def arch_status(task: Task) -> str:
    """Nothing: no task has used AVX-512. Linux: arch/x86/kernel/fpu/xstate.c, proc_pid_arch_status()."""
    return ""


@attribute("personality", mode=0o400, wants_caller=True)
def personality(task: Task, caller: Caller) -> str:
    """What personality(2) has set. Linux: proc_pid_personality()."""
    lock_trace(task, caller)
    return f"{task.personality:08x}\n"


@attribute("children", where=(tid_dir,))
def children(task: Task) -> str:
    """The processes that the thread has made. Linux: children_seq_show()."""
    return "".join([f"{child.tgid} " for child in task.children])


# ---- identity -----------------------------------------------------------------------------------------------------


@attribute("loginuid", wants_caller=True)
def loginuid(task: Task, caller: Caller) -> str:
    """Who logged in: nobody has. Linux: proc_loginuid_read()."""
    return str(INVALID_UID)


@loginuid.store
def loginuid_write(task: Task, buf: str, caller: Caller) -> None:
    """Only a task itself may say, and no login program is simulated. Linux: proc_loginuid_write()."""
    fail(errno.EPERM)


@attribute("sessionid")
def sessionid(task: Task) -> str:
    """The audit session, none. Linux: proc_sessionid_read()."""
    return str(INVALID_UID)


@attribute("cgroup")
def cgroup(task: Task) -> str:
    """A row a hierarchy, the last mounted first. Linux: kernel/cgroup/cgroup.c, proc_cgroup_show()."""
    return "".join(f"{root.index}:{root.title}:{root.path_of(task)}\n" for root in reversed(mounted(task.kernel)))


@attribute("cpuset")
def cpuset(task: Task) -> str:
    """The group whose cpuset counts. Linux: kernel/cgroup/cpuset.c, proc_cpuset_show()."""
    css = task_css(task, "cpuset")
    return "/\n" if css is None else f"{css.cgroup.path}\n"


@attribute("cpu_resctrl_groups")
def cpu_resctrl_groups(task: Task) -> str:
    """No resctrl is mounted. Linux: arch/x86/kernel/cpu/resctrl/rdtgroup.c, proc_resctrl_show()."""
    return "res:\nmon:\n"


# ---- limits and use -----------------------------------------------------------------------------------------------


def _limit(value: int) -> str:
    return "unlimited" if value in (RLIM_INFINITY, -1) else str(value)


@attribute("limits")
def limits(task: Task) -> str:
    """Linux: proc_pid_limits()."""
    lines = [f"{'Limit':<25} {'Soft Limit':<20} {'Hard Limit':<20} {'Units':<10}\n"]
    for number, (name, unit) in enumerate(LIMITS):
        soft, hard = task.rlimits[number]
        lines.append(f"{name:<25} {_limit(soft):<20} {_limit(hard):<20} {f'{unit:<10}' if unit else ''}\n")
    return "".join(lines)


def _io(task: Task, caller: Caller, parts: list[IoAccounting]) -> str:
    if not ptrace_may_access(task, caller):
        fail(errno.EACCES)
    return "".join([f"{name}: {sum(getattr(part, name) for part in parts)}\n" for name in IO_ROWS])


@attribute("io", mode=0o400, wants_caller=True, where=(pid_dir,))
def proc_tgid_io(task: Task, caller: Caller) -> str:
    """What a process, its threads included, has read and written. Linux: do_io_accounting()."""
    return _io(task, caller, [task.signal.io, *(thread.io for thread in task.threads)])


@attribute("io", mode=0o400, wants_caller=True, where=(tid_dir,))
def proc_tid_io(task: Task, caller: Caller) -> str:
    """What a thread has read and written."""
    return _io(task, caller, [task.io])


@attribute("coredump_filter", where=(pid_dir,))
def coredump_filter(task: Task) -> str:
    """Which mappings a core dump would hold; nothing for tasks without memory."""
    return f"{task.mm.coredump_filter:08x}\n" if task.mm is not None else ""


@coredump_filter.store
def coredump_filter_write(task: Task, buf: str) -> None:
    """Nine bits count. Linux: proc_coredump_filter_write()."""
    value = kstrtouint(buf)
    if task.mm is None:
        fail(errno.ESRCH)
    task.mm.coredump_filter = value & DUMP_FILTER_BITS


# ---- waiting and timers -------------------------------------------------------------------------------------------


@attribute("wchan", wants_caller=True)
def wchan(task: Task, caller: Caller) -> str:
    """The kernel function that the task waits in, or 0. Linux: proc_pid_wchan()."""
    waits = task.alive and task.run_state != TASK_RUNNING
    if not waits or not ptrace_may_access(task, caller):
        return "0"
    return "get_signal" if task.frozen and task.state == TASK_INTERRUPTIBLE else task.wchan


FRAMES: Final = (
    (
        since(6, 12),
        ("ret_from_fork+0x34/0x50", "ret_from_fork_asm+0x1a/0x30"),
        ("do_syscall_64+0x87/0x1b0", "entry_SYSCALL_64_after_hwframe+0x76/0x7e"),
    ),
    (
        until(6, 12),
        ("ret_from_fork+0x22/0x30",),
        ("do_syscall_64+0x5d/0xb0", "entry_SYSCALL_64_after_hwframe+0x6e/0xd8"),
    ),
)
"""By kernel: the lowest frames of a kernel thread and of a program."""


@attribute("stack", mode=0o400, wants_caller=True)
def stack(task: Task, caller: Caller) -> str:
    """The kernel's call chain below what the task waits in. Linux: proc_pid_stack()."""
    if not capable(caller):
        fail(errno.EACCES)
    if task.run_state == TASK_RUNNING or not task.alive:
        return ""
    _, of_kthread, of_program = next(row for row in FRAMES if row[0](task))
    return "".join([f"[<0>] {frame}\n" for frame in (of_kthread if task.is_kthread else of_program)])


def _is_kthread(task: Task) -> bool:
    return task.is_kthread


@attribute("syscall", mode=0o400, wants_caller=True, needs=_is_kthread)
def syscall(task: Task, caller: Caller) -> str:
    """Number, arguments, stack and instruction pointer: a kernel thread's are all zero. Linux: proc_pid_syscall()."""
    lock_trace(task, caller)
    return "running\n" if task.run_state == TASK_RUNNING else f"0{' 0x0' * 8}\n"


@attribute("timers", where=(pid_dir,))
def timers(task: Task) -> str:
    """The timers of timer_create(2): none are made. Linux: show_timer()."""
    return ""


def _may_see_timerslack(task: Task, caller: Caller) -> None:
    if current(task, caller) is not task and not capable(caller):
        fail(errno.EPERM)


@attribute("timerslack_ns", mode=0o666, wants_caller=True, where=(pid_dir,))
def timerslack_ns(task: Task, caller: Caller) -> str:
    """Nanoseconds by which timers may be late. Linux: timerslack_ns_show()."""
    _may_see_timerslack(task, caller)
    return f"{task.timerslack_ns}\n"


@timerslack_ns.store
def timerslack_ns_write(task: Task, buf: str, caller: Caller) -> None:
    """0 means the default; real-time tasks have none. Linux: timerslack_ns_write()."""
    slack = kstrtoull(buf, 10)
    _may_see_timerslack(task, caller)
    task.timerslack_ns = 0 if task.policy in (SCHED_FIFO, SCHED_RR) else slack or TIMER_SLACK_NS


@attribute("patch_state", mode=0o400, needs=config("LIVEPATCH"))
def patch_state(task: Task) -> str:
    """No live patch is being applied. Linux: proc_pid_patch_state()."""
    return "-1\n"


# ---- ksm ----------------------------------------------------------------------------------------------------------


@attribute("ksm_merging_pages", mode=0o400)
def ksm_merging_pages(task: Task) -> str:
    """Pages of a process that are merged; nothing for tasks without memory."""
    mm = task.mm
    return f"{mm.kernel.ksm.mm_stat(mm)[2]}\n" if mm is not None else ""


KSM_STAT: Final = (
    ("ksm_rmap_items", None),
    ("ksm_zero_pages", since(6, 12)),
    ("ksm_merging_pages", since(6, 12)),
    ("ksm_process_profit", since(6, 12)),
    ("ksm_merge_any", since(6, 14)),
    ("ksm_mergeable", since(6, 14)),
)


@attribute("ksm_stat", mode=0o400)
def ksm_stat(task: Task) -> str:
    """What ksmd holds of a process and what that saves. Linux: proc_pid_ksm_stat()."""
    mm = task.mm
    if mm is None:
        return ""
    mergeable = any(vma.vm_flags & VM_MERGEABLE for vma in mm.mmap)
    values = (*mm.kernel.ksm.mm_stat(mm), "no", "yes" if mergeable else "no")
    return "".join(
        f"{name}{':' if isinstance(value, str) else ''} {value}\n"
        for (name, needs), value in zip(KSM_STAT, values, strict=True)
        if needs is None or needs(task)
    )
