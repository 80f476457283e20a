"""/proc/PID/stat, statm and status: a process at a glance.

Linux: fs/proc/array.c; fs/proc/task_mmu.c, task_mem().

Simplified: no signal queue is kept, so SigQ counts none; the CPU is taken to be immune to speculation attacks.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

from mmfs.fs.proc.pid import attribute, pid_dir, ptrace_may_access, tid_dir
from mmfs.kernel.sched import (
    RLIM_INFINITY,
    RLIMIT_RSS,
    RLIMIT_SIGPENDING,
    STATE_NAMES,
    TASK_RUNNING,
)
from mmfs.kernfs.bitmap import bitmap_list, bitmap_mask
from mmfs.mm.huge_memory import thp_disabled
from mmfs.mm_types import (
    MM_ANONPAGES,
    MM_FILEPAGES,
    MM_SHMEMPAGES,
    MM_SWAPENTS,
    PAGE_MASK,
    PAGE_SHIFT,
    PAGE_SIZE,
)
from mmfs.profile import Profile, config, since

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task
    from mmfs.kernfs import Caller
    from mmfs.mm.mm_struct import MmStruct

NSEC_PER_TICK = 10_000_000
_KB = PAGE_SHIFT - 10


def max_numnodes(kernel: Kernel) -> int:
    """How many nodes a mask of nodes is for. Linux: include/linux/numa.h, MAX_NUMNODES."""
    return 1 << int(kernel.profile.options.get("NODES_SHIFT", 0))


def nsec_to_clock_t(nsec: int) -> int:
    """Nanoseconds in units of sysconf(_SC_CLK_TCK), 100 a second."""
    return nsec // NSEC_PER_TICK


def text_and_lib(mm: MmStruct) -> tuple[int, int]:
    """Bytes of the program's own code, and of all other code. Linux: fs/proc/task_mmu.c, task_mem()."""
    text = ((mm.end_code + PAGE_SIZE - 1) & PAGE_MASK) - (mm.start_code & PAGE_MASK)
    text = min(text, mm.exec_vm << PAGE_SHIFT)
    return text, (mm.exec_vm << PAGE_SHIFT) - text


def task_state_words(task: Task, mm: MmStruct | None, whole: bool, permitted: bool) -> str:
    """The line of stat. Linux: do_task_stat()."""
    signal, sighand = task.signal, task.sighand
    if whole:
        minflt, majflt = task.thread_group_faults()
        utime, stime = task.thread_group_cputime()
    else:
        minflt, majflt, utime, stime = task.min_flt, task.maj_flt, task.utime_ns, task.stime_ns
    nr_threads, state = len(signal.threads), task.run_state
    wchan = int(permitted and (not whole or nr_threads < 2) and state != TASK_RUNNING)
    if mm is None:
        memory, code, layout = "0 0", "0 0 0", "0 0 0 0 0 0 0"
    else:
        memory = f"{mm.total_vm << PAGE_SHIFT} {mm.rss}"
        code = f"{mm.start_code} {mm.end_code} {mm.start_stack}" if permitted else "1 1 0"
        layout = (
            f"{mm.start_data} {mm.end_data} {mm.start_brk} {mm.arg_start} {mm.arg_end} {mm.env_start} {mm.env_end}"
            if permitted
            else "0 0 0 0 0 0 0"
        )
    ignored, caught = sighand.ignored_mask() & 0x7FFF_FFFF, sighand.caught_mask() & 0x7FFF_FFFF
    gtime = task.gtime_ns + (signal.gtime_ns if whole else 0)
    return (
        f"{state} {task.ppid} {signal.pgrp} {signal.session} {signal.tty_nr} {task.tty_pgrp} {task.flags}"
        f" {minflt} {signal.cmin_flt} {majflt} {signal.cmaj_flt}"
        f" {nsec_to_clock_t(utime)} {nsec_to_clock_t(stime)}"
        f" {nsec_to_clock_t(signal.cutime_ns)} {nsec_to_clock_t(signal.cstime_ns)}"
        f" {task.prio} {task.nice} {nr_threads} 0 {nsec_to_clock_t(task.start_time_ns)} {memory}"
        f" {signal.rlimits[RLIMIT_RSS][0]} {code} 0 0"
        f" {task.pending & 0x7FFF_FFFF} {task.blocked & 0x7FFF_FFFF} {ignored} {caught} {wchan} 0 0"
        f" {task.exit_signal} {task.processor} {task.rt_priority} {task.policy} {nsec_to_clock_t(task.blkio_delay_ns)}"
        f" {nsec_to_clock_t(gtime)} {nsec_to_clock_t(signal.cgtime_ns if whole else 0)} {layout}"
        f" {task.exit_code if permitted else 0}"
    )


def proc_stat(task: Task, caller: Caller, whole: bool) -> str:
    """stat of a process or of one of its threads."""
    permitted = ptrace_may_access(task, caller)
    return f"{task.pid} ({task.proc_name}) {task_state_words(task, task.mm, whole, permitted)}\n"


@attribute("stat", wants_caller=True, where=(pid_dir,))
def proc_tgid_stat(task: Task, caller: Caller) -> str:
    """52 numbers about a process."""
    return proc_stat(task, caller, True)


@attribute("stat", wants_caller=True, where=(tid_dir,))
def proc_tid_stat(task: Task, caller: Caller) -> str:
    """52 numbers about a thread."""
    return proc_stat(task, caller, False)


@attribute("statm")
def proc_pid_statm(task: Task) -> str:
    """Pages: size, resident, shared, text, 0, data, 0. Linux: fs/proc/array.c, proc_pid_statm()."""
    mm = task.mm
    if mm is None:
        return "0 0 0 0 0 0 0\n"
    shared = mm.get_mm_counter(MM_FILEPAGES) + mm.get_mm_counter(MM_SHMEMPAGES)
    resident = shared + mm.get_mm_counter(MM_ANONPAGES)
    text = ((mm.end_code + PAGE_SIZE - 1) & PAGE_MASK) - (mm.start_code & PAGE_MASK) >> PAGE_SHIFT
    return f"{mm.total_vm} {resident} {shared} {text} 0 {mm.data_vm + mm.stack_vm} 0\n"


def task_mem(mm: MmStruct) -> str:
    """The Vm lines of status. Linux: fs/proc/task_mmu.c, task_mem()."""
    anon, file = mm.get_mm_counter(MM_ANONPAGES), mm.get_mm_counter(MM_FILEPAGES)
    shmem, swap = mm.get_mm_counter(MM_SHMEMPAGES), mm.get_mm_counter(MM_SWAPENTS)
    rss = anon + file + shmem
    text, lib = text_and_lib(mm)
    rows = (
        ("VmPeak", max(mm.total_vm, mm.hiwater_vm) << _KB),
        ("VmSize", mm.total_vm << _KB),
        ("VmLck", mm.locked_vm << _KB),
        ("VmPin", mm.pinned_vm << _KB),
        ("VmHWM", max(rss, mm.hiwater_rss) << _KB),
        ("VmRSS", rss << _KB),
        ("RssAnon", anon << _KB),
        ("RssFile", file << _KB),
        ("RssShmem", shmem << _KB),
        ("VmData", mm.data_vm << _KB),
        ("VmStk", mm.stack_vm << _KB),
        ("VmExe", text >> 10),
        ("VmLib", lib >> 10),
        ("VmPTE", mm.pgtables_bytes >> 10),
        ("VmSwap", swap << _KB),
        ("HugetlbPages", mm.hugetlb_usage << _KB),
    )
    return "".join([f"{name}:\t{value:8d} kB\n" for name, value in rows])


def mems_allowed(task: Task) -> list[int]:
    """The nodes a task may take memory from."""
    if task.mems_allowed is not None:
        return sorted(task.mems_allowed)
    return [pgdat.node_id for pgdat in task.kernel.node_data if pgdat.node_present_pages]


_masks: dict[tuple[tuple[int, ...], int], tuple[str, str]] = {}


def _mask(members: tuple[int, ...], nr_bits: int) -> tuple[str, str]:
    """Mask and list of a set; tasks share few, so they are made once."""
    if (members, nr_bits) not in _masks:
        _masks[members, nr_bits] = bitmap_mask(members, nr_bits), bitmap_list(members)
    return _masks[members, nr_bits]


SHADOW_STACK: Final = config("X86_USER_SHADOW_STACK")
ARM64: Final = config("ARM64")
STATUS_NEEDS: Final = {
    "Kthread": since(6, 12), "untag_mask": since(6, 12),
    "x86_Thread_features": SHADOW_STACK, "x86_Thread_features_locked": SHADOW_STACK,
}  # fmt: skip
"""The rows of status that not all kernels have."""


@cache
def _absent(profile: Profile) -> tuple[str, ...]:
    """The beginnings of the rows that a kernel has not."""
    return tuple(f"{label}:" for label, needs in STATUS_NEEDS.items() if not needs(profile))


@attribute("status")
def proc_pid_status(task: Task) -> str:
    """A process in words. Linux: fs/proc/array.c, proc_pid_status()."""
    text, absent = _status(task), _absent(task.kernel.profile)
    return "".join(row for row in text.splitlines(True) if not row.startswith(absent)) if absent else text


def _status(task: Task) -> str:
    kernel, cred, signal, sighand, mm = task.kernel, task.cred, task.signal, task.sighand, task.mm
    state = task.run_state
    leader = task.group_leader
    groups = "".join([f"{gid} " for gid in cred.groups]) or " "
    nr_cpus = kernel.machine.nr_cpus
    allowed = tuple(sorted(task.cpus_allowed)) if task.cpus_allowed is not None else tuple(range(nr_cpus))
    cpu_mask, cpu_list = _mask(allowed, nr_cpus)
    mem_mask, mem_list = _mask(tuple(mems_allowed(task)), max_numnodes(kernel))
    fdsize = task.files.fdsize if task.files is not None else 0
    memory = "" if mm is None else (
        f"{task_mem(mm)}CoreDumping:\t0\nTHP_enabled:\t{int(not thp_disabled(mm))}\n"
        f"untag_mask:\t0x{'f' * (14 if ARM64(kernel) else 16)}\n"
    )
    umask = f"Umask:\t{task.umask:04o}\n" if task.alive else ""
    pending = signal.rlimits[RLIMIT_SIGPENDING][0]
    limit = RLIM_INFINITY if pending < 0 else pending
    return (
        f"Name:\t{_escape(task.proc_name)}\n{umask}"
        f"State:\t{state} ({STATE_NAMES[state]})\nTgid:\t{task.tgid}\nNgid:\t0\nPid:\t{task.pid}\n"
        f"PPid:\t{task.ppid}\nTracerPid:\t0\n"
        f"Uid:\t{cred.uid}\t{cred.euid}\t{cred.suid}\t{cred.fsuid}\n"
        f"Gid:\t{cred.gid}\t{cred.egid}\t{cred.sgid}\t{cred.fsgid}\nFDSize:\t{fdsize}\nGroups:\t{groups}\n"
        f"NStgid:\t{task.tgid}\nNSpid:\t{task.pid}\nNSpgid:\t{signal.pgrp}\nNSsid:\t{signal.session}\n"
        f"Kthread:\t{int(task.is_kthread)}\n{memory}"
        f"Threads:\t{len(leader.signal.threads)}\nSigQ:\t0/{limit}\n"
        f"SigPnd:\t{task.pending:016x}\nShdPnd:\t{signal.shared_pending:016x}\nSigBlk:\t{task.blocked:016x}\n"
        f"SigIgn:\t{sighand.ignored_mask():016x}\nSigCgt:\t{sighand.caught_mask():016x}\n"
        f"CapInh:\t{cred.cap_inheritable:016x}\nCapPrm:\t{cred.cap_permitted:016x}\n"
        f"CapEff:\t{cred.cap_effective:016x}\nCapBnd:\t{cred.cap_bset:016x}\nCapAmb:\t{cred.cap_ambient:016x}\n"
        f"NoNewPrivs:\t{int(task.no_new_privs)}\nSeccomp:\t0\nSeccomp_filters:\t0\n"
        f"Speculation_Store_Bypass:\t{'thread' if ARM64(kernel) else 'not'} vulnerable\n"
        f"SpeculationIndirectBranch:\t{'unknown' if ARM64(kernel) else 'always enabled'}\n"
        f"Cpus_allowed:\t{cpu_mask}\nCpus_allowed_list:\t{cpu_list}\n"
        f"Mems_allowed:\t{mem_mask}\nMems_allowed_list:\t{mem_list}\n"
        f"voluntary_ctxt_switches:\t{task.nvcsw}\nnonvoluntary_ctxt_switches:\t{task.nivcsw}\n"
        f"x86_Thread_features:\t\nx86_Thread_features_locked:\t\n"
    )


def _escape(name: str) -> str:
    return name.replace("\\", "\\\\").replace("\n", "\\n") if "\\" in name or "\n" in name else name
