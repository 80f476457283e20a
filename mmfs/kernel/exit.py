"""The end of a task: exit, zombies, orphans, wait.

An exiting task gives its memory back at once. What is left, its number, its exit status and what it used, stays as
a zombie until the parent waits for it, or goes at once if the parent ignores SIGCHLD (then its times are counted
nowhere). Orphans go to another thread of the process, to the nearest ancestor that asked to be a subreaper, or to
init. Threads other than the first vanish without waiting; the first one, if others outlive it, is a zombie that
nobody can reap yet.

Linux: kernel/exit.c.

Simplified: no ptrace, no process accounting, no robust futexes.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from mmfs.kernel import fork
from mmfs.kernel.cgroup.migrate import cgroup_exit, cgroup_release
from mmfs.kernel.sched import EXIT_ZOMBIE, PF_EXITING, WCONTINUED, WNOHANG, WUNTRACED
from mmfs.kernel.signal import SIG_IGN, SIGCHLD, send_signal
from mmfs.kernel.thread_stack import free_thread_stack

if TYPE_CHECKING:
    from mmfs.kernel.task import Task

STATUS_CONTINUED = 0xFFFF


def do_group_exit(task: Task, code: int) -> None:
    """End all threads of a process; `code` is a wait(2) status. Linux: kernel/exit.c, do_group_exit()."""
    signal = task.signal
    if signal.group_exit:
        return
    signal.group_exit = True
    signal.group_exit_code = code
    for thread in reversed(list(signal.threads)):
        if thread.alive:
            do_exit(thread, code)


def do_exit(task: Task, code: int) -> None:
    """End one thread; `code` is a wait(2) status. Linux: kernel/exit.c, do_exit()."""
    kernel = task.kernel
    if task.pid == 1:
        kernel.panic(f"Attempted to kill init! exitcode=0x{code:08x}")
    task.flags |= PF_EXITING
    task.exit_code = code
    fork.vfork_done(task)
    _exit_mm(task)
    kernel.shm.exit_shm(task)
    exit_files(task)
    kernel.udp_prot.page_frag.release(task)
    task.fs.users -= 1
    if task.fs.users == 0:
        kernel.slab.free(task.fs.obj)
    kernel.scheduler.exit(task)
    task.state, task.wchan = EXIT_ZOMBIE, "0"
    cgroup_exit(task)
    _exit_notify(task)


def _exit_mm(task: Task) -> None:
    """Let go of the address space. Linux: kernel/exit.c, exit_mm()."""
    mm, task.mm = task.mm, None
    if mm is None:
        return
    task.kernel.tasks.proc_flush_pid(task.pid)
    mm.update_hiwater_rss()
    task.signal.maxrss = max(task.signal.maxrss, mm.hiwater_rss)
    fork.mmput(mm, task)


def exit_files(task: Task) -> None:
    """Close the files, if nobody else uses the table. Linux: kernel/exit.c, exit_files()."""
    files, task.files = task.files, None
    if files is None:
        return
    files.count -= 1
    if files.count == 0:
        files.put()
        task.kernel.slab.free(files.obj)


# ---- telling the family -----------------------------------------------------------------------------------------


def _exit_notify(task: Task) -> None:
    """Find parents for the orphans, become a zombie or vanish. Linux: kernel/exit.c, exit_notify()."""
    kernel, leader = task.kernel, task.group_leader
    if all(not thread.alive for thread in task.signal.threads):
        _forget_original_parent(task)
    if task is not leader:
        release_task(task)
        task = leader
        if task.alive:
            return
    if thread_group_empty(task) and _do_notify_parent(task) and kernel.tasks.get(task.pid) is task:
        release_task(task)


def thread_group_empty(task: Task) -> bool:
    """Whether no thread but the leader is left. Linux: include/linux/sched/signal.h, thread_group_empty()."""
    return len(task.signal.threads) == 1


def _do_notify_parent(task: Task) -> bool:
    """Signal the parent; True if it does not want to hear of its children. Linux: do_notify_parent()."""
    parent = task.parent
    if parent is None:
        return True
    if task.signal.group_exit:
        task.exit_code = task.signal.group_exit_code
    sig, autoreap = task.exit_signal, False
    if sig == SIGCHLD:
        action = parent.sighand.actions.get(SIGCHLD)
        autoreap = action == SIG_IGN or parent.sighand.nocldwait
        if action == SIG_IGN:
            sig = 0
    if sig > 0:
        send_signal(parent, sig)
    return autoreap


def find_new_reaper(task: Task) -> Task | None:
    """Who becomes the parent of a dead process's children. Linux: kernel/exit.c, find_new_reaper()."""
    ancestor = task.group_leader.parent
    while ancestor is not None and ancestor.pid > 1:
        if ancestor.signal.is_child_subreaper and ancestor.alive:
            return ancestor
        ancestor = ancestor.group_leader.parent
    return task.kernel.tasks.get(1)


def _forget_original_parent(task: Task) -> None:
    """Hand the children on. Linux: kernel/exit.c, forget_original_parent(), reparent_leader()."""
    leader = task.group_leader
    if not leader.children:
        return
    tasks = task.kernel.tasks
    reaper = find_new_reaper(task)
    orphans, leader.children = leader.children, []
    for child in orphans:
        for thread in child.signal.threads:
            thread.parent = reaper
        child.exit_signal = SIGCHLD
        if reaper is not None:
            reaper.children.append(child)
    for child in orphans:
        if child.pdeath_signal and child.alive:
            send_signal(child, child.pdeath_signal)
        if _reapable(child) and tasks.get(child.pid) is child and _do_notify_parent(child):
            release_task(child)


# ---- the last of a task -----------------------------------------------------------------------------------------


def release_task(task: Task) -> None:
    """Free what a zombie still holds. Linux: kernel/exit.c, release_task(), __exit_signal()."""
    kernel = task.kernel
    signal = task.signal
    last = task is task.group_leader
    _account_dead_thread(task)
    signal.threads.remove(task)
    cgroup_release(task)
    kernel.tasks.detach(task)
    if last:
        if task.parent is not None and task in task.parent.children:
            task.parent.children.remove(task)
        kernel.slab.free(signal.obj)
        kernel.slab.free(signal.cred_obj)
    task.sighand.count -= 1
    if task.sighand.count == 0:
        kernel.slab.free(task.sighand.obj)
    free_thread_stack(task)
    kernel.slab.free(task.pid_obj)
    kernel.slab.free(task.obj)


def _account_dead_thread(task: Task) -> None:
    """Add to the process what the thread used. Linux: kernel/exit.c, __exit_signal()."""
    signal = task.signal
    signal.utime_ns += task.utime_ns
    signal.stime_ns += task.stime_ns
    signal.gtime_ns += task.gtime_ns
    signal.min_flt += task.min_flt
    signal.maj_flt += task.maj_flt
    signal.nvcsw += task.nvcsw
    signal.nivcsw += task.nivcsw
    signal.io.add(task.io)


# ---- waiting ----------------------------------------------------------------------------------------------------


def wait_task_zombie(parent: Task, child: Task) -> tuple[int, int]:
    """Reap one zombie and count what it used as its parent's. Linux: kernel/exit.c, wait_task_zombie()."""
    into, of = parent.signal, child.signal
    utime, stime = child.thread_group_cputime()
    min_flt, maj_flt = child.thread_group_faults()
    into.cutime_ns += utime + of.cutime_ns
    into.cstime_ns += stime + of.cstime_ns
    into.cgtime_ns += child.gtime_ns + of.gtime_ns + of.cgtime_ns
    into.cmin_flt += min_flt + of.cmin_flt
    into.cmaj_flt += maj_flt + of.cmaj_flt
    into.cnvcsw += child.nvcsw + of.nvcsw + of.cnvcsw
    into.cnivcsw += child.nivcsw + of.nivcsw + of.cnivcsw
    into.cmaxrss = max(into.cmaxrss, of.maxrss, of.cmaxrss)
    into.io.add(child.io)
    into.io.add(of.io)
    result = child.pid, child.exit_code
    release_task(child)
    return result


def _reapable(child: Task) -> bool:
    return child.state == EXIT_ZOMBIE and thread_group_empty(child)


def _eligible(parent: Task, child: Task, pid: int) -> bool:
    """Whether wait4's first argument means `child`. Linux: kernel/exit.c, eligible_pid()."""
    if pid > 0:
        return child.pid == pid
    if pid == -1:
        return True
    return child.pgrp == (-pid if pid else parent.pgrp)


def wait4(parent: Task, pid: int = -1, options: int = 0) -> tuple[int, int]:
    """wait4(2): (pid, status) of a child that died, stopped or went on; (0, 0) if none did yet.

    A caller that would sleep returns (0, 0) too, for nothing happens in the model while it waits; ECHILD if there
    is nobody to wait for.

    Linux: kernel/exit.c, kernel_wait4(), do_wait().
    """
    if options & ~(WNOHANG | WUNTRACED | WCONTINUED | 0x2000_0000 | 0x4000_0000 | 0x8000_0000):
        raise OSError(errno.EINVAL, "no such option of wait4")
    children = [child for child in parent.group_leader.children if _eligible(parent, child, pid)]
    if not children:
        raise OSError(errno.ECHILD, "no child to wait for")
    for child in children:
        if _reapable(child):
            return wait_task_zombie(parent.group_leader, child)
        signal = child.signal
        if options & WUNTRACED and signal.stop_code:
            status = signal.stop_code << 8 | 0x7F
            signal.stop_code = 0
            return child.pid, status
        if options & WCONTINUED and signal.continued:
            signal.continued = False
            return child.pid, STATUS_CONTINUED
    return 0, 0


def wait_for_zombies(parent: Task) -> None:
    """Reap every zombie child, as a SIGCHLD handler's loop does."""
    for child in list(parent.group_leader.children):
        if _reapable(child):
            wait_task_zombie(parent.group_leader, child)
