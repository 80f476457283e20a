"""The end of a task: zombies, reaping, orphans, threads, what children's times do."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from mmfs.kernel.kernel import KernelPanicError
from mmfs.kernel.sched import CLONE_PTHREAD, PR_SET_CHILD_SUBREAPER, PR_SET_PDEATHSIG, WNOHANG
from mmfs.kernel.signal import SIG_DFL, SIG_IGN, SIGCHLD, SIGKILL, SIGTERM, note_signal

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task


@pytest.fixture
def parent(kernel: Kernel) -> Task:
    return kernel.spawn("parent")


def test_zombie_until_waited_for(kernel: Kernel, parent: Task) -> None:
    child = parent.fork()
    child.exit(7)
    assert child.state == "Z" and child.mm is None
    assert kernel.tasks[child.pid] is child
    assert (child.exe, child.cmdline) == ("", b"")
    assert not child.alive
    assert parent.wait() == (child.pid, 7 << 8)
    assert child.pid not in kernel.tasks and child not in parent.children
    with pytest.raises(ChildProcessError):
        parent.wait()


def test_dead_tasks_make_no_calls(parent: Task) -> None:
    child = parent.fork()
    child.exit(0)
    for call in (lambda: child.mmap(4096), child.fork, lambda: child.exit(0), lambda: child.execve("x")):
        with pytest.raises(ProcessLookupError):
            call()


def test_wait_picks(parent: Task) -> None:
    first, second = parent.fork(), parent.fork()
    assert parent.wait(-1, WNOHANG) == (0, 0)
    second.exit(2)
    assert parent.wait(first.pid) == (0, 0)
    assert parent.wait(second.pid) == (second.pid, 2 << 8)
    with pytest.raises(ChildProcessError):
        parent.wait(second.pid)
    first.setpgid()
    first.exit(0)
    with pytest.raises(ChildProcessError):
        parent.wait(0)
    assert parent.wait(-first.pid) == (first.pid, 0)
    with pytest.raises(OSError) as error:
        parent.wait(-1, 0x40)
    assert error.value.errno == errno.EINVAL


def test_ignored_sigchld_reaps(kernel: Kernel, parent: Task) -> None:
    parent.sigaction(SIGCHLD, SIG_IGN)
    child = parent.fork()
    child.touch(child.mmap("1M"), "1M", write=True)
    child.exit(0)
    assert child.pid not in kernel.tasks
    assert parent.cstime_ns == 0 and parent.cmin_flt == 0
    with pytest.raises(ChildProcessError):
        parent.wait()


def test_nocldwait_reaps_though_caught(kernel: Kernel, parent: Task) -> None:
    caught: list[int] = []
    parent.sigaction(SIGCHLD, lambda task, sig: caught.append(sig))
    parent.sighand.nocldwait = True
    child = parent.fork()
    child.exit(0)
    assert caught == [SIGCHLD] and child.pid not in kernel.tasks


def test_children_count_when_waited_for(parent: Task) -> None:
    child = parent.fork()
    grandchild = child.fork()
    grandchild.touch(grandchild.mmap("1M"), "1M", write=True)
    faults = grandchild.min_flt
    grandchild.exit(0)
    child.wait()
    assert child.cmin_flt == faults >= 256
    child.exit(0)
    assert parent.cmin_flt == 0
    stime = child.stime_ns + child.cstime_ns
    parent.wait()
    assert parent.cmin_flt >= faults and parent.cstime_ns == stime
    assert parent.signal.cmaxrss >= 256


def test_orphans_go_to_init(kernel: Kernel, parent: Task) -> None:
    child = parent.fork()
    zombie = child.fork()
    orphan = child.fork()
    zombie.exit(0)
    child.exit(0)
    assert orphan.ppid == 1 and orphan in kernel.tasks[1].children
    assert zombie.pid not in kernel.tasks, "init reaps what it inherits"
    assert child.children == []


def test_orphans_go_to_the_nearest_subreaper(kernel: Kernel, parent: Task) -> None:
    parent.prctl(PR_SET_CHILD_SUBREAPER, 1)
    middle = parent.fork()
    assert not middle.signal.is_child_subreaper
    orphan = middle.fork()
    middle.exit(0)
    assert orphan.ppid == parent.pid
    orphan.exit(3)
    assert sorted([parent.wait(), parent.wait()]) == sorted([(middle.pid, 0), (orphan.pid, 3 << 8)])


def test_pdeathsig(kernel: Kernel, parent: Task) -> None:
    child = parent.fork()
    child.prctl(PR_SET_PDEATHSIG, SIGTERM)
    parent.exit(0)
    assert child.pid not in kernel.tasks


def test_init_waits_for_its_own(kernel: Kernel, parent: Task) -> None:
    parent.exit(0)
    assert parent.pid not in kernel.tasks


def test_thread_vanishes(kernel: Kernel, parent: Task) -> None:
    thread = parent.clone(CLONE_PTHREAD, 0)
    thread.touch(thread.mmap("64K"), "64K", write=True)
    faults = thread.min_flt
    assert parent.mm is not None and parent.mm.mm_users == 2
    thread.exit_thread()
    assert thread.pid not in kernel.tasks and parent.threads == [parent]
    assert parent.mm.mm_users == 1
    assert parent.thread_group_faults()[0] == parent.min_flt + faults


def test_leader_exits_first(kernel: Kernel, parent: Task) -> None:
    child = parent.fork()
    thread = child.clone(CLONE_PTHREAD, 0)
    child.exit_thread(5)
    assert child.state == "Z" and thread.alive
    assert parent.wait() == (0, 0), "nobody can reap a leader whose threads live"
    thread.mmap("1M")
    thread.exit_thread(6)
    assert thread.pid not in kernel.tasks
    assert parent.wait() == (child.pid, 5 << 8)


def test_exit_group_ends_all_threads(kernel: Kernel, parent: Task) -> None:
    child = parent.fork()
    threads = [child.clone(CLONE_PTHREAD, 0) for _ in range(3)]
    threads[1].exit(9)
    assert all(thread.pid not in kernel.tasks for thread in threads)
    assert parent.wait() == (child.pid, 9 << 8)


def test_exec_in_a_thread_takes_the_leaders_place(kernel: Kernel, parent: Task) -> None:
    child = parent.fork()
    thread, other = child.clone(CLONE_PTHREAD, 0), child.clone(CLONE_PTHREAD, 0)
    grandchild = child.fork()
    pid, tid = child.pid, thread.pid
    thread.execve("fresh")
    assert (thread.pid, thread.tgid) == (pid, pid)
    assert kernel.tasks[pid] is thread and thread.thread_group_leader
    assert tid not in kernel.tasks and other.pid not in kernel.tasks
    assert thread.threads == [thread] and thread in parent.children and child not in parent.children
    assert grandchild.ppid == pid
    thread.exit(1)
    assert parent.wait() == (pid, 1 << 8)


def test_sigchld_handler_runs(parent: Task) -> None:
    seen: list[tuple[int, int]] = []
    parent.sigaction(SIGCHLD, lambda task, sig: seen.append(task.wait()))
    child = parent.fork()
    child.kill(child.pid, SIGKILL)
    assert seen == [(child.pid, SIGKILL)]
    parent.sigaction(SIGCHLD, SIG_DFL)


def test_init_does_not_die(kernel: Kernel) -> None:
    init = kernel.tasks[1]
    kernel.kill(1, SIGKILL)
    kernel.kill(1, SIGTERM)
    assert init.alive
    with pytest.raises(KernelPanicError):
        init.exit(0)


def test_memory_comes_back(kernel: Kernel, parent: Task) -> None:
    parent.fork().exit(0)
    parent.wait()
    kernel.page_alloc.drain_all_pages()
    free = kernel.page_alloc.nr_free_pages()
    committed = kernel.overcommit.vm_committed_as
    child = parent.fork()
    child.touch(child.mmap("8M"), "8M", write=True)
    assert kernel.page_alloc.nr_free_pages() <= free - 2048
    child.exit(0)
    parent.wait()
    assert kernel.overcommit.vm_committed_as == committed
    kernel.page_alloc.drain_all_pages()
    assert abs(kernel.page_alloc.nr_free_pages() - free) < 16


def test_caught_signals_do_not_end(parent: Task) -> None:
    parent.sigaction(SIGTERM, note_signal)
    parent.kill(parent.pid, SIGTERM)
    assert parent.alive
