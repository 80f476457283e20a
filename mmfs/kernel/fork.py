"""Making tasks: fork, vfork, clone and kernel threads, and what each of them costs in memory.

A new task takes a `task_struct`, a `pid` and a kernel stack (kernel/thread_stack.py; KernelStack in meminfo), and,
unless it shares them with its creator, a `cred`, `signal_cache`, `sighand_cache`, `files_cache` and `mm_struct`
object. `dup_mmap()` copies the VMAs and page tables, after which both sides write to their own copies. Everything
that can fail gives back what it took: fork either happens or leaves no trace.

Linux: kernel/fork.c, kernel/kthread.c.

Simplified: the few stacks per CPU that Linux keeps for the next fork are freed at once.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from mmfs.kernel import sched
from mmfs.kernel.cgroup.migrate import can_fork, post_fork
from mmfs.kernel.cputime import Cost
from mmfs.kernel.sched import (
    CLONE_FILES,
    CLONE_FS,
    CLONE_PARENT,
    CLONE_SIGHAND,
    CLONE_THREAD,
    CLONE_VFORK,
    CLONE_VM,
    CSIGNAL,
    PF_FORKNOEXEC,
    PF_KTHREAD,
    PF_NO_SETAFFINITY,
    PF_NOFREEZE,
    PF_SUPERPRIV,
    PF_WQ_WORKER,
)
from mmfs.kernel.signal import NSIG, SIG_IGN, SIGCHLD, Sighand, deliver_pending, fatal_signal_pending, oom_kill
from mmfs.kernel.thread_stack import alloc_thread_stack, free_thread_stack
from mmfs.mm import fork as mm_fork
from mmfs.mm import rows
from mmfs.mm.fork import dup_mm
from mmfs.mm.mm_struct import MmStruct
from mmfs.mm.oom_kill import OomKiller
from mmfs.mm.percpu import PercpuObject
from mmfs.mm.show_mem import AllocWarning

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task

MIN_THREADS: Final = 20
RSS_STAT_BYTES: Final = 16
"""Each CPU's part of the four counters of what an address space has in memory."""
FUTEX_TID_MASK: Final = 0x3FFF_FFFF


def max_threads_of(nr_free_pages: int, stack_pages: int) -> int:
    """How many threads a machine allows: their stacks, of so many pages, may take an eighth of memory.

    Linux: kernel/fork.c, set_max_threads().
    """
    return min(max(nr_free_pages // (stack_pages * 8), MIN_THREADS), FUTEX_TID_MASK)


# ---- what is shared and what is copied --------------------------------------------------------------------------


def _check_flags(parent: Task, flags: int) -> None:
    """Refuse what makes no sense. Linux: kernel/fork.c, copy_process(), its first lines."""
    if flags & CLONE_THREAD and not flags & CLONE_SIGHAND:
        raise OSError(errno.EINVAL, "CLONE_THREAD needs CLONE_SIGHAND")
    if flags & CLONE_SIGHAND and not flags & CLONE_VM:
        raise OSError(errno.EINVAL, "CLONE_SIGHAND needs CLONE_VM")
    if flags & CLONE_PARENT and parent.signal.unkillable:
        raise OSError(errno.EINVAL, "init has no parent to share")


def _check_limits(parent: Task) -> None:
    """RLIMIT_NPROC and threads-max. Linux: kernel/fork.c, copy_process()."""
    tasks = parent.kernel.tasks
    if tasks.nproc.get(parent.uid, 0) >= parent.rlimit(sched.RLIMIT_NPROC):
        privileged = parent.capable(sched.CAP_SYS_RESOURCE) or parent.capable(sched.CAP_SYS_ADMIN)
        if parent.uid != 0 and not privileged:
            raise OSError(errno.EAGAIN, f"user {parent.uid} has as many tasks as RLIMIT_NPROC allows")
    if tasks.nr_threads >= tasks.max_threads:
        raise OSError(errno.EAGAIN, "kernel.threads-max is reached")


class _Objects:
    """The slab objects a new task has taken so far, to be given back if fork fails."""

    def __init__(self, task: Task) -> None:
        self.slab = task.kernel.slab
        self.taken: list[int] = []

    def take(self, name: str) -> int:
        """Allocate one object or raise ENOMEM."""
        obj = self.slab.alloc(name)
        if not obj:
            raise OSError(errno.ENOMEM, f"no memory for a {name}")
        self.taken.append(obj)
        return obj

    def give_back(self) -> None:
        """Free them all."""
        for obj in reversed(self.taken):
            self.slab.free(obj)


def _copy_shared(task: Task, parent: Task, flags: int, objects: _Objects) -> None:
    """Files, fs, sighand: shared or copied. Linux: copy_files(), copy_fs(), copy_sighand()."""
    if parent.files is None or flags & CLONE_FILES:
        task.files = parent.files
    else:
        obj = objects.take("files_cache")
        task.files = parent.files.copy()
        task.files.obj = obj
    if flags & CLONE_FS:
        task.fs = parent.fs
    else:
        task.fs = replace(parent.fs, users=1, obj=objects.take("fs_cache"))
    if not flags & CLONE_SIGHAND:
        task.sighand.obj = objects.take("sighand_cache")
    if not flags & CLONE_THREAD:
        task.signal.obj = objects.take("signal_cache")
        task.signal.cred_obj = objects.take("cred")


def _hold_shared(task: Task, parent: Task, flags: int) -> None:
    """Count the new user of what is shared, once nothing can fail any more."""
    if task.files is not None and task.files is parent.files:
        task.files.count += 1
    if task.fs is parent.fs:
        task.fs.users += 1
    if task.sighand is parent.sighand:
        task.sighand.count += 1


def _copy_mm(task: Task, parent: Task, flags: int) -> None:
    """Share the address space or copy it. Linux: kernel/fork.c, copy_mm(), dup_mm()."""
    old = parent.mm
    if old is None:
        return
    if flags & CLONE_VM:
        old.mm_users += 1
        task.mm = old
        return
    objects = _take_mm_struct(task)
    try:
        task.mm = dup_mm(old, task)
    except OSError:
        _give_mm_struct(task.kernel, objects)
        raise
    task.mm.objects = objects
    cost = task.mm.rss * Cost.COPY_PTE
    task.kernel.scheduler.charge(parent, system_ns=cost)


def _take_mm_struct(task: Task) -> tuple[int, PercpuObject]:
    """Its object of the slab and its counters. Linux: kernel/fork.c, allocate_mm(); mm_init()."""
    kernel = task.kernel
    obj = kernel.slab.alloc("mm_struct")
    if not obj:
        raise OSError(errno.ENOMEM, "no memory for an mm_struct")
    counters = kernel.percpu.alloc(RSS_STAT_BYTES)
    if counters is None:
        kernel.slab.free(obj)
        raise OSError(errno.ENOMEM, "no memory for the counters of an mm_struct")
    return obj, counters


def _give_mm_struct(kernel: Kernel, objects: tuple[int, PercpuObject]) -> None:
    kernel.slab.free(objects[0])
    kernel.percpu.free(objects[1])


def mm_alloc(task: Task) -> MmStruct:
    """An empty address space with its page-table root. Linux: kernel/fork.c, mm_alloc(), mm_init()."""
    objects = _take_mm_struct(task)
    mm = MmStruct(task.kernel, task)
    mm.objects = objects
    try:
        rows.mm_init(task.kernel, mm, task.mm)
    except OSError:
        _give_mm_struct(task.kernel, objects)
        raise
    return mm


def mmput(mm: MmStruct, task: Task) -> None:
    """Drop `task`'s use of an address space; the last one unmaps all of it. Linux: kernel/fork.c, mmput()."""
    last = mm.mm_users == 1
    if last:
        task.kernel.scheduler.charge(task, system_ns=mm.rss * Cost.UNMAP_PAGE)
    elif mm.owner is task:
        mm.owner = next(other for other in task.kernel.tasks.values() if other.mm is mm and other is not task)
    mm_fork.mmput(mm)
    if last:
        _give_mm_struct(task.kernel, mm.objects)


# ---- a new task -------------------------------------------------------------------------------------------------


def copy_process(parent: Task, flags: int, exit_signal: int = SIGCHLD, comm: str | None = None) -> Task:
    """A new task like `parent`, in the task table but with nothing done yet.

    Linux: kernel/fork.c, copy_process().
    """
    _check_flags(parent, flags)
    _check_limits(parent)
    kernel = parent.kernel
    thread = bool(flags & CLONE_THREAD)
    signal = parent.signal if thread else parent.signal.copy()
    sighand = parent.sighand if flags & CLONE_SIGHAND else parent.sighand.copy()
    task = type(parent)(kernel, 0, comm or parent.comm, signal, sighand)
    _inherit(task, parent)
    objects = _Objects(task)
    try:
        task.obj = objects.take("task_struct")
        alloc_thread_stack(task)
        _copy_shared(task, parent, flags, objects)
        _copy_mm(task, parent, flags)
        task.pid_obj = objects.take("pid")
        task.pid = task.tgid = kernel.tasks.pids.alloc_pid(kernel.tasks)
        can_fork(task)
    except OSError:
        if task.files is not None and task.files is not parent.files:
            task.files.put()
        if task.mm is not None:
            mmput(task.mm, task)
        if task.stack_pages:
            free_thread_stack(task)
        objects.give_back()
        raise
    _hold_shared(task, parent, flags)
    if kernel.numa_balancing.enabled:
        kernel.numa_balancing.fork(task, parent)
    _join_family(task, parent, flags, exit_signal)
    return task


def _inherit(task: Task, parent: Task) -> None:
    """What a child has of its creator. Linux: dup_task_struct(), copy_flags(), sched_fork()."""
    lost = PF_KTHREAD | PF_SUPERPRIV | PF_WQ_WORKER | PF_NO_SETAFFINITY
    lost |= sched.PF_IDLE | sched.PF_KSWAPD | sched.PF_KCOMPACTD
    task.flags = parent.flags & ~lost | PF_FORKNOEXEC
    task.cset, task.memcg = list(parent.cset), parent.memcg
    task.cred = parent.cred
    task.blocked = parent.blocked
    task.exec_image = parent.exec_image
    task.static_prio, task.policy, task.rt_priority = parent.static_prio, parent.policy, parent.rt_priority
    task.cpus_allowed = parent.cpus_allowed
    task.processor = task.kernel.tasks.next_cpu(parent)
    task.timerslack_ns = parent.timerslack_ns
    task.no_new_privs = parent.no_new_privs
    task.personality = parent.personality
    task.mempolicy = parent.mempolicy
    task.mems_allowed, task.user_cpus = parent.mems_allowed, parent.user_cpus
    task.wchan = parent.wchan


def _join_family(task: Task, parent: Task, flags: int, exit_signal: int) -> None:
    """Enter the thread group, the parent's children, the cgroup and the task table."""
    signal = task.signal
    signal.threads.append(task)
    if flags & CLONE_THREAD:
        task.group_leader = parent.group_leader
        task.tgid = parent.tgid
        task.exit_signal = -1
        task.parent = parent.group_leader.parent
    else:
        task.exit_signal = exit_signal
        task.parent = parent.group_leader.parent if flags & CLONE_PARENT else parent.group_leader
        if task.parent is not None:
            task.parent.children.append(task)
    task.kernel.tasks.attach(task)
    post_fork(task)
    task.kernel.scheduler.total_forks += 1


def kernel_clone(parent: Task, flags: int, exit_signal: int = SIGCHLD) -> Task:
    """clone(2): the new task, ready to run; a parent of CLONE_VFORK sleeps until it execs or exits.

    Linux: kernel/fork.c, kernel_clone().
    """
    if exit_signal & ~CSIGNAL or exit_signal > NSIG:
        raise OSError(errno.EINVAL, "no such exit signal")
    child = copy_process(parent, flags, exit_signal)
    if flags & CLONE_VFORK:
        child.vfork_parent = parent
        parent.vfork_child = child
        parent.state = sched.TASK_UNINTERRUPTIBLE
    return child


def vfork_done(child: Task) -> None:
    """Wake the parent that waits for `child` to leave its address space. Linux: complete_vfork_done()."""
    parent = child.vfork_parent
    child.vfork_parent = None
    if parent is not None and parent.vfork_child is child:
        parent.vfork_child = None
        if parent.state == sched.TASK_UNINTERRUPTIBLE:
            parent.state = sched.TASK_INTERRUPTIBLE
            deliver_pending(parent)


# ---- kernel threads ---------------------------------------------------------------------------------------------


def kthread_create(
    kernel: Kernel,
    name: str,
    *,
    flags: int = PF_NOFREEZE,
    idle: bool = False,
    cpus: Iterable[int] | None = None,
    nice: int = 0,
    rt_priority: int = 0,
) -> Task:
    """A thread of the kernel's own, child of kthreadd.

    `flags` are PF_ bits besides those that all have; `idle` threads sleep in state I and do not count as load;
    `cpus` binds to CPUs; `rt_priority` makes it SCHED_FIFO.

    Linux: kernel/kthread.c, kthread_create_on_node().
    """
    kthreadd = kernel.tasks[2]
    task = copy_process(kthreadd, sched.CLONE_FS | CLONE_FILES, comm=name)
    if len(name) > sched.TASK_COMM_LEN - 1:
        task.full_name = name
    task.flags = PF_KTHREAD | PF_FORKNOEXEC | flags
    task.state = sched.TASK_IDLE if idle else sched.TASK_INTERRUPTIBLE
    task.static_prio = sched.DEFAULT_PRIO + nice
    if rt_priority:
        task.policy, task.rt_priority = sched.SCHED_FIFO, rt_priority
    if cpus is not None:
        task.set_cpus_allowed(frozenset(cpus))
    return task


def start_kernel_tasks(kernel: Kernel, rlimits: sched.Rlimits) -> tuple[Task, Task]:
    """init and kthreadd, which the idle task makes at the end of boot, and the threads that kthreadd makes then.

    Linux: init/main.c, rest_init(). The idle task (pid 0) must be in `kernel.init_task`.
    """
    from mmfs.kernel.presets.kthreads import start_boot_threads

    swapper = kernel.init_task
    init = copy_process(swapper, CLONE_FS, exit_signal=0, comm="init")
    init.signal.unkillable = True
    init.signal.rlimits = dict(rlimits)
    kthreadd = copy_process(swapper, CLONE_FS | CLONE_FILES, exit_signal=0, comm="kthreadd")
    kthreadd.flags = PF_KTHREAD | PF_FORKNOEXEC | PF_NOFREEZE
    kthreadd.signal.rlimits = dict(rlimits)
    kthreadd.sighand.actions = dict.fromkeys(range(1, NSIG + 1), SIG_IGN)
    start_boot_threads(kernel)
    kernel.oom_killer = OomKiller(kernel, oom_kill, fatal_signal_pending)
    kernel.page_alloc.out_of_memory = kernel.oom_killer.out_of_memory
    kernel.page_alloc.current_is_victim = kernel.oom_killer.current_is_victim
    kernel.page_alloc.warn_alloc = AllocWarning(kernel).warn_alloc
    return init, kthreadd


def idle_task(kernel: Kernel, rlimits: sched.Rlimits) -> Task:
    """The task that boots, pid 0: in no table, parent of init and kthreadd. Linux: init/init_task.c."""
    from mmfs.kernel.signal_struct import SignalStruct
    from mmfs.kernel.task import Task

    task = Task(kernel, 0, "swapper/0", SignalStruct(dict(rlimits)), Sighand())
    task.flags = PF_KTHREAD | sched.PF_IDLE
    task.state = sched.TASK_RUNNING
    task.signal.threads.append(task)
    return task
