"""The small files of /proc/PID: names, limits, OOM adjustment, identity, scheduling, mounts.

Linux: fs/proc/base.c; kernel/sched/debug.c, proc_sched_show_task(); fs/proc_namespace.c.

Simplified: `sched` shows load averages as zero (no load tracking is modelled) and `stack` only the frames that every
sleeping task has in common; audit, sched autogroups, ksm, time and user namespaces are as they are when nobody
uses them.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, NoReturn

from mmfs.fs.proc.pid import check_ptrace, pid_dir
from mmfs.kernel.sched import RLIM_INFINITY, TASK_RUNNING
from mmfs.kernfs.kstrtox import kstrtoint, kstrtouint, kstrtoull
from mmfs.mm import memory
from mmfs.mm.oom_kill import proc_oom_score

if TYPE_CHECKING:
    from mmfs.kernel.task import Task
    from mmfs.kernfs import Caller, Directory

INVALID_UID = (1 << 32) - 1
OOM_DISABLE, OOM_ADJUST_MAX = -17, 15
OOM_SCORE_ADJ_MAX = 1000
DUMP_FILTER_BITS = (1 << 9) - 1
NICE_0_LOAD = 1 << 20
SLICE_NS = 3_000_000
ID_MAP = f"{0:10d} {0:10d} {INVALID_UID:10d}\n"
LIMITS = (
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
NAMESPACES = {
    "net": 4026531840,
    "uts": 4026531838,
    "ipc": 4026531839,
    "pid": 4026531836,
    "pid_for_children": 4026531836,
    "user": 4026531837,
    "mnt": 4026531841,
    "cgroup": 4026531835,
    "time": 4026531834,
    "time_for_children": 4026531834,
}
# Weights of nice -20 to 19. Linux: kernel/sched/core.c, sched_prio_to_weight[].
PRIO_TO_WEIGHT = (
    88761, 71755, 56483, 46273, 36291, 29154, 23254, 18705, 14949, 11916, 9548, 7620, 6100, 4904, 3906, 3121, 2501,
    1991, 1586, 1277, 1024, 820, 655, 526, 423, 335, 272, 215, 172, 137, 110, 87, 70, 56, 45, 36, 29, 23, 18, 15,
)  # fmt: skip


def fail(number: int) -> NoReturn:
    """Raise an OSError by its number."""
    raise OSError(number, os.strerror(number))


def _may_ptrace(task: Task, caller: Caller) -> None:
    check_ptrace(task, caller)


def _needs_mm(task: Task, caller: Caller) -> None:
    """Files about memory: open(2) fails for tasks without. Linux: fs/proc/base.c, __mem_open()."""
    check_ptrace(task, caller)
    if task.mm is None:
        fail(errno.ESRCH)


def declare_base(files: Directory[Task]) -> None:
    """The files that a process and each of its threads have alike."""
    for name, show in (
        ("arch_status", lambda task: ""),
        ("cgroup", lambda task: f"0::{task.cgroup}\n"),
        ("cmdline", lambda task: task.cmdline),
        ("cpu_resctrl_groups", lambda task: "res:\nmon:\n"),
        ("cpuset", lambda task: "/\n"),
        ("limits", limits),
        ("mountinfo", mountinfo),
        ("mounts", mounts),
        ("oom_score", lambda task: f"{proc_oom_score(task)}\n"),
        ("schedstat", schedstat),
        ("sessionid", lambda task: str(INVALID_UID)),
        ("wchan", lambda task: task.wchan if task.state != TASK_RUNNING else "0"),
    ):
        files.attributes(name, show)
    for name, show in (
        ("io", proc_io),
        ("patch_state", lambda task: "-1\n"),
        ("personality", lambda task: f"{task.personality:08x}\n"),
        ("stack", stack),
    ):
        files.attributes(name, show, mode=0o400, open=_may_ptrace)
    for name, show in (("environ", lambda task: task.environ), ("auxv", lambda task: task.auxv)):
        files.attributes(name, show, mode=0o400, open=_needs_mm)
    for name in ("uid_map", "gid_map", "projid_map"):
        files.attributes(name, lambda task: ID_MAP, lambda task, buf: fail(errno.EPERM))
    files.attributes("setgroups", lambda task: "allow\n", lambda task, buf: fail(errno.EPERM))
    files.attributes("loginuid", lambda task: str(INVALID_UID), lambda task, buf: fail(errno.EPERM))
    files.attributes("sched", proc_sched, lambda task, buf: None)
    files.attributes("comm", lambda task: f"{task.proc_name}\n", comm_write)
    files.attributes("oom_adj", oom_adj, oom_adj_write)
    files.attributes("oom_score_adj", lambda task: f"{task.oom_score_adj}\n", oom_score_adj_write)
    files.symlink("cwd", lambda task: task.cwd)
    files.symlink("root", lambda task: task.root)
    files.symlink("exe", exe)
    namespaces = files.directory("ns", mode=0o511)
    for name, inode in NAMESPACES.items():
        kind = name.partition("_")[0]
        namespaces.symlink(name, f"{kind}:[{inode}]")


# ---------------------------------------------------------------------------------- identity


def exe(task: Task) -> str:
    """The program; kernel threads and zombies have none. Linux: proc_exe_link()."""
    if not task.exe:
        fail(errno.ENOENT)
    return task.exe


def comm_write(task: Task, buf: str) -> None:
    """Rename a thread; 15 bytes count, up to a NUL. Linux: comm_write()."""
    task.comm = buf[:15].partition("\0")[0]
    task.full_name = None


def limits(task: Task) -> str:
    """Linux: proc_pid_limits()."""

    def value(limit: int) -> str:
        return "unlimited" if limit in (RLIM_INFINITY, -1) else str(limit)

    lines = [f"{'Limit':<25} {'Soft Limit':<20} {'Hard Limit':<20} {'Units':<10}\n"]
    for number, (name, unit) in enumerate(LIMITS):
        soft, hard = task.rlimits[number]
        lines.append(f"{name:<25} {value(soft):<20} {value(hard):<20} {unit:<10}\n")
    return "".join(lines)


def proc_io(task: Task) -> str:
    """What a process, its threads included, has read and written. Linux: do_io_accounting()."""
    rows = []
    for name in ("rchar", "wchar", "syscr", "syscw", "read_bytes", "write_bytes", "cancelled_write_bytes"):
        total = getattr(task.signal.io, name) + sum(getattr(thread.io, name) for thread in task.threads)
        rows.append(f"{name}: {total}\n")
    return "".join(rows)


# ---------------------------------------------------------------------------------- OOM


def oom_adj(task: Task) -> str:
    """oom_score_adj on the old scale of -17 to 15. Linux: oom_adj_read()."""
    adj = task.oom_score_adj
    old = OOM_ADJUST_MAX if adj == OOM_SCORE_ADJ_MAX else int(adj * -OOM_DISABLE / OOM_SCORE_ADJ_MAX)
    return f"{min(old, OOM_ADJUST_MAX)}\n"


def _set_oom_adj(task: Task, adj: int) -> None:
    task.oom_score_adj = adj
    task.signal.oom_score_adj_min = min(task.signal.oom_score_adj_min, adj)


def oom_adj_write(task: Task, buf: str) -> None:
    """Linux: oom_adj_write(); who may open the file may lower the value here."""
    old = kstrtoint(buf.strip())
    if not (OOM_DISABLE <= old <= OOM_ADJUST_MAX):
        fail(errno.EINVAL)
    adj = OOM_SCORE_ADJ_MAX if old == OOM_ADJUST_MAX else int(old * OOM_SCORE_ADJ_MAX / -OOM_DISABLE)
    _set_oom_adj(task, adj)


def oom_score_adj_write(task: Task, buf: str) -> None:
    """Linux: oom_score_adj_write()."""
    adj = kstrtoint(buf.strip())
    if abs(adj) > OOM_SCORE_ADJ_MAX:
        fail(errno.EINVAL)
    _set_oom_adj(task, adj)


# ---------------------------------------------------------------------------------- scheduling


def _runtime(task: Task) -> int:
    return task.utime_ns + task.stime_ns


def schedstat(task: Task) -> str:
    """Time on a CPU, time waiting for one, runs. Linux: proc_pid_schedstat()."""
    return f"{_runtime(task)} 0 {task.nvcsw + task.nivcsw}\n"


def _ms(nsec: int) -> str:
    return f"{nsec // 1_000_000}.{nsec % 1_000_000:06d}"


def proc_sched(task: Task) -> str:
    """Linux: kernel/sched/debug.c, proc_sched_show_task()."""
    runtime = _runtime(task)
    weight = PRIO_TO_WEIGHT[task.nice + 20]
    rows: list[tuple[str, object]] = [
        ("se.exec_start", _ms(task.kernel.clock.now_ns)),
        ("se.vruntime", _ms(runtime * 1024 // weight)),
        ("se.sum_exec_runtime", _ms(runtime)),
        ("se.nr_migrations", 0),
        ("nr_switches", task.nvcsw + task.nivcsw),
        ("nr_voluntary_switches", task.nvcsw),
        ("nr_involuntary_switches", task.nivcsw),
        ("se.load.weight", weight * (NICE_0_LOAD // 1024)),
        *((f"se.avg.{name}", 0) for name in ("load_sum", "runnable_sum", "util_sum", "load_avg", "runnable_avg",
                                              "util_avg", "last_update_time", "util_est")),
        ("policy", task.policy),
        ("prio", task.prio + 100),
        ("se.slice", SLICE_NS),
        ("clock-delta", 0),
    ]  # fmt: skip
    if task.mm is not None:
        rows.append(("mm->numa_scan_seq", 0))
    rows += [("numa_pages_migrated", 0), ("numa_preferred_nid", -1), ("total_numa_faults", 0)]
    node = task.kernel.cpu_to_node(task.processor)
    head = f"{task.proc_name} ({task.pid}, #threads: {len(task.threads)})\n{'-' * 67}\n"
    numa = f"current_node={node}, numa_group_id=0\n" + "".join(
        f"numa_faults node={pgdat.node_id} task_private=0 task_shared=0 group_private=0 group_shared=0\n"
        for pgdat in task.kernel.node_data
    )
    return head + "".join(f"{name:<45}:{value!s:>21}\n" for name, value in rows) + numa


def stack(task: Task) -> str:
    """The kernel's call chain below what the task waits in. Linux: proc_pid_stack()."""
    if task.state == TASK_RUNNING:
        return ""
    frames = (
        ("ret_from_fork+0x34/0x50", "ret_from_fork_asm+0x1a/0x30")
        if task.is_kthread
        else ("do_syscall_64+0x87/0x1b0", "entry_SYSCALL_64_after_hwframe+0x76/0x7e")
    )
    return "".join(f"[<0>] {frame}\n" for frame in frames)


# ---------------------------------------------------------------------------------- mounts


def mounts(task: Task) -> str:
    """What is mounted where. Linux: fs/proc_namespace.c, show_vfsmnt()."""
    return "".join(f"{m.source} {m.mountpoint} {m.fstype} {m.combined_options} 0 0\n" for m in task.kernel.mounts)


def mountinfo(task: Task) -> str:
    """Linux: fs/proc_namespace.c, show_mountinfo()."""
    lines = []
    for m in task.kernel.mounts:
        shared = f" shared:{m.shared}" if m.shared else ""
        lines.append(
            f"{m.mnt_id} {m.parent_id} {m.dev[0]}:{m.dev[1]} {m.root} {m.mountpoint} {m.options}{shared}"
            f" - {m.fstype} {m.source} {m.super_options}\n"
        )
    return "".join(lines)


@pid_dir.attribute("mountstats", mode=0o400, open=_may_ptrace)
def mountstats(task: Task) -> str:
    """Linux: fs/proc_namespace.c, show_vfsstat()."""
    return "".join(
        f"device {m.source} mounted on {m.mountpoint} with fstype {m.fstype}\n" for m in task.kernel.mounts
    )


# ---------------------------------------------------------------------------------- of the whole process


declare_base(pid_dir)


@pid_dir.attribute("autogroup")
def autogroup(task: Task) -> str:
    """Empty: no task is in an autogroup."""
    return ""


@autogroup.store
def autogroup_store(task: Task, buf: str) -> None:
    """A nice value for a group that does not exist. Linux: proc_sched_autogroup_set_nice()."""
    kstrtoint(buf.strip())


@pid_dir.attribute("timens_offsets")
def timens_offsets(task: Task) -> str:
    """Linux: kernel/time/namespace.c, proc_timens_show_offsets()."""
    return "".join(f"{clock:<10} {0:10d} {0:9d}\n" for clock in ("monotonic", "boottime"))


@timens_offsets.store
def timens_offsets_store(task: Task, buf: str) -> None:
    """The first time namespace has no offsets."""
    fail(errno.EPERM)


@pid_dir.attribute("timerslack_ns", mode=0o666)
def timerslack_ns(task: Task) -> str:
    """Nanoseconds by which timers may be late."""
    return f"{task.timerslack_ns}\n"


@timerslack_ns.store
def timerslack_ns_store(task: Task, buf: str) -> None:
    """0 means the default. Linux: timerslack_ns_write()."""
    task.timerslack_ns = kstrtoull(buf.strip(), 10) or 50_000


@pid_dir.attribute("coredump_filter")
def coredump_filter(task: Task) -> str:
    """Which mappings a core dump would hold; nothing for tasks without memory."""
    return f"{task.mm.coredump_filter:08x}\n" if task.mm is not None else ""


@coredump_filter.store
def coredump_filter_store(task: Task, buf: str) -> None:
    """Nine bits count. Linux: proc_coredump_filter_write()."""
    value = kstrtouint(buf)
    if task.mm is None:
        fail(errno.ESRCH)
    task.mm.coredump_filter = value & DUMP_FILTER_BITS


@pid_dir.attribute("ksm_merging_pages", mode=0o400)
def ksm_merging_pages(task: Task) -> str:
    """No pages are merged yet; nothing for tasks without memory."""
    return "0\n" if task.mm is not None else ""


def clear_refs_write(task: Task, buf: str) -> None:
    """Forget what was accessed (1 all, 2 anonymous, 3 mapped), written (4), or the highest RSS (5).

    Linux: fs/proc/task_mmu.c, clear_refs_write().
    """
    kind = kstrtoint(buf.strip())
    if not 1 <= kind <= 5:
        fail(errno.EINVAL)
    mm = task.mm
    if mm is None:
        fail(errno.ESRCH)
    if kind == 5:
        mm.hiwater_rss = mm.rss
        return
    for vma in mm.mmap:
        if (kind == 2 and vma.vm_file is not None) or (kind == 3 and vma.vm_file is None):
            continue
        memory.clear_refs(mm, vma, kind == 4)


pid_dir.attributes("clear_refs", lambda task: fail(errno.EINVAL), clear_refs_write, mode=0o200)
