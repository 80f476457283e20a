"""Making tasks: what is copied, what is shared, what it costs, and that a failed fork leaves no trace."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from mmfs.kernel import fork, sched
from mmfs.kernel.sched import CLONE_FILES, CLONE_PTHREAD, CLONE_SIGHAND, CLONE_THREAD
from mmfs.kernel.signal import TaskStopped
from mmfs.mm.mman import MAP_ANONYMOUS, MAP_SHARED
from mmfs.mm_types import MM_ANONPAGES, NodeStatItem

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task

MB = 1 << 20
TASK_CACHES = (
    "task_struct", "pid", "cred", "signal_cache", "sighand_cache", "files_cache", "mm_struct", "vm_area_struct",
    "anon_vma", "anon_vma_chain",
)  # fmt: skip


def objects(kernel: Kernel) -> dict[str, int]:
    """Objects in use of the caches that tasks fill (/proc/slabinfo counts whole CPU slabs)."""
    return {name: kernel.slab[name].nr_objects_inuse for name in TASK_CACHES}


def kernel_stack_kb(kernel: Kernel) -> int:
    return kernel.vmstat.global_node_page_state(NodeStatItem.NR_KERNEL_STACK_KB)


@pytest.fixture
def task(kernel: Kernel) -> Task:
    return kernel.spawn("prog")


def test_every_task_has_a_stack_of_16_kb(kernel: Kernel, task: Task) -> None:
    before = kernel_stack_kb(kernel)
    assert before == 16 * len(kernel.tasks)
    child = task.fork()
    assert kernel_stack_kb(kernel) == before + 16
    assert len(child.stack_pages) == 4
    assert kernel.vmalloc.nr_pages >= 4 * len(kernel.tasks)


def test_fork_and_exit_give_everything_back(kernel: Kernel, task: Task) -> None:
    task.fork().exit(0)
    task.wait()
    before, pages = objects(kernel), kernel.vmalloc.nr_pages
    for _ in range(3):
        child = task.fork()
        assert objects(kernel)["task_struct"] == before["task_struct"] + 1
        assert objects(kernel)["mm_struct"] == before["mm_struct"] + 1
        child.exit(0)
        task.wait()
    assert objects(kernel) == before
    assert kernel.vmalloc.nr_pages == pages


def test_child_inherits(kernel: Kernel) -> None:
    parent = kernel.spawn("prog", uid=1000, gid=100, groups=(4, 24), oom_score_adj=300, nice=5)
    parent.set_umask(0o077)
    parent.setrlimit(sched.RLIMIT_AS, "1G", "2G")
    child = parent.fork()
    assert (child.uid, child.gid, child.groups) == (1000, 100, (4, 24))
    assert (child.oom_score_adj, child.nice, child.umask) == (300, 5, 0o077)
    assert child.rlimits[sched.RLIMIT_AS] == (1 << 30, 2 << 30)
    assert (child.comm, child.exe, child.cmdline) == (parent.comm, parent.exe, parent.cmdline)
    assert child.ppid == parent.pid and child in parent.children
    assert (child.session, child.pgrp) == (parent.session, parent.pgrp)
    assert child.flags & sched.PF_FORKNOEXEC and not parent.flags & sched.PF_FORKNOEXEC
    assert child.utime_ns == child.min_flt == 0
    child.set_umask(0)
    child.setrlimit(sched.RLIMIT_AS, "1M")
    assert parent.umask == 0o077 and parent.rlimit(sched.RLIMIT_AS) == 1 << 30


def test_copy_on_write(kernel: Kernel, task: Task) -> None:
    addr = task.mmap("4M")
    task.touch(addr, "4M", write=True)
    anon = kernel.vmstat.global_node_page_state(NodeStatItem.NR_ANON_MAPPED)
    child = task.fork()
    assert child.mm is not None and task.mm is not None
    assert child.mm.get_mm_counter(MM_ANONPAGES) == task.mm.get_mm_counter(MM_ANONPAGES)
    assert kernel.vmstat.global_node_page_state(NodeStatItem.NR_ANON_MAPPED) == anon
    child.touch(addr, "1M", write=True)
    assert kernel.vmstat.global_node_page_state(NodeStatItem.NR_ANON_MAPPED) == anon + 256
    child.exit(0)
    assert kernel.vmstat.global_node_page_state(NodeStatItem.NR_ANON_MAPPED) == anon


def test_shared_memory_stays_shared(kernel: Kernel, task: Task) -> None:
    addr = task.mmap("1M", flags=MAP_SHARED | MAP_ANONYMOUS)
    child = task.fork()
    before = kernel.vmstat.global_node_page_state(NodeStatItem.NR_SHMEM)
    child.touch(addr, "1M", write=True)
    task.touch(addr, "1M", write=True)
    assert kernel.vmstat.global_node_page_state(NodeStatItem.NR_SHMEM) == before + 256


def test_vfork_shares_and_holds_the_parent(kernel: Kernel, task: Task) -> None:
    child = task.vfork()
    assert child.mm is task.mm
    assert task.state == "D"
    with pytest.raises(TaskStopped):
        task.mmap("1M")
    child.execve("other")
    assert child.mm is not task.mm
    assert task.state == "S"
    task.mmap("1M")


def test_vfork_child_exits(task: Task) -> None:
    task.vfork().exit(1)
    assert task.state == "S"
    assert task.mm is not None and task.mm.mm_users == 1
    assert task.wait()[1] == 1 << 8


def test_threads_share(kernel: Kernel, task: Task) -> None:
    before = objects(kernel)
    thread = task.clone(CLONE_PTHREAD, 0)
    after = objects(kernel)
    assert thread.tgid == task.pid and thread.pid != task.pid
    assert thread.mm is task.mm and thread.files is task.files and thread.signal is task.signal
    assert thread.ppid == task.ppid
    assert task.threads == [task, thread]
    assert thread not in kernel.tasks.processes() and kernel.tasks[thread.pid] is thread
    shared = ("signal_cache", "sighand_cache", "cred", "files_cache", "mm_struct")
    assert {name: after[name] - before[name] for name in shared} == dict.fromkeys(shared, 0)
    assert after["task_struct"] == before["task_struct"] + 1 and after["pid"] == before["pid"] + 1


def test_pthread_maps_stack_and_arena(task: Task) -> None:
    assert task.mm is not None
    size = task.mm.total_vm
    task.pthread_create("worker")
    assert (task.mm.total_vm - size) * 4096 == 8 * MB + 4096 + 64 * MB
    assert task.threads[1].comm == "worker"


@pytest.mark.parametrize("flags", [CLONE_THREAD, CLONE_THREAD | CLONE_SIGHAND, CLONE_SIGHAND | CLONE_FILES])
def test_flags_that_make_no_sense(task: Task, flags: int) -> None:
    with pytest.raises(OSError) as error:
        task.clone(flags)
    assert error.value.errno == errno.EINVAL


def test_rlimit_nproc(kernel: Kernel) -> None:
    user = kernel.spawn("prog", uid=1000)
    user.setrlimit(sched.RLIMIT_NPROC, 2)
    user.fork()
    with pytest.raises(OSError) as error:
        user.fork()
    assert error.value.errno == errno.EAGAIN
    assert kernel.tasks.nproc[1000] == 2
    root = kernel.spawn("prog")
    root.setrlimit(sched.RLIMIT_NPROC, 1)
    root.fork()


def test_threads_max(kernel: Kernel, task: Task) -> None:
    kernel.tasks.max_threads = len(kernel.tasks)
    with pytest.raises(OSError) as error:
        task.fork()
    assert error.value.errno == errno.EAGAIN


def test_failed_fork_leaves_no_trace(kernel: Kernel, task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    task.touch(task.mmap("1M"), "1M", write=True)
    before = objects(kernel), kernel_stack_kb(kernel), len(kernel.tasks), kernel.overcommit.vm_committed_as

    def no_pid(taken: object) -> int:
        raise OSError(errno.EAGAIN, "no free pid")

    monkeypatch.setattr(kernel.tasks.pids, "alloc_pid", no_pid)
    with pytest.raises(OSError):
        task.fork()
    with pytest.raises(OSError):
        task.clone(CLONE_PTHREAD, 0)
    assert (objects(kernel), kernel_stack_kb(kernel), len(kernel.tasks), kernel.overcommit.vm_committed_as) == before
    assert task.mm is not None and task.mm.mm_users == 1
    assert task.sighand.count == 1 and task.files is not None and task.files.count == 1
    monkeypatch.undo()
    task.fork()


def test_no_memory_for_a_stack(kernel: Kernel, task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    before = objects(kernel)

    def no_pages(nr_pages: int, nid: int) -> list[int]:
        raise OSError(errno.ENOMEM, "vmalloc")

    monkeypatch.setattr(kernel.vmalloc, "alloc", no_pages)
    with pytest.raises(OSError) as error:
        task.fork()
    assert error.value.errno == errno.ENOMEM
    assert objects(kernel) == before


def test_fork_counts(kernel: Kernel, task: Task) -> None:
    forks, stime = kernel.scheduler.total_forks, task.stime_ns
    task.fork()
    assert kernel.scheduler.total_forks == forks + 1
    kernel.schedule(task)
    assert task.stime_ns - stime >= 70_000


@pytest.mark.parametrize(("pages", "threads"), [(244_832, 7651), (100, 20)])
def test_threads_max_follows_memory(pages: int, threads: int) -> None:
    assert fork.max_threads_of(pages, 4) == threads


@pytest.mark.machine(cpus=4)
def test_tasks_are_spread_over_cpus(kernel: Kernel, task: Task) -> None:
    assert {task.fork().processor for _ in range(8)} == {0, 1, 2, 3}
    task.sched_setaffinity([2])
    assert {task.fork().processor for _ in range(4)} == {2}


def test_same_seed_same_machine(boot: Callable[..., Kernel]) -> None:
    def story() -> list[tuple[int, str, int, list[tuple[int, int]]]]:
        kernel = boot(ram="256M", seed=7, preset="bare")
        task = kernel.spawn("prog")
        task.touch(task.mmap("2M"), "2M", write=True)
        task.fork()
        return [
            (t.pid, t.comm, t.stime_ns, [(v.vm_start, v.vm_end) for v in t.mm.mmap] if t.mm else [])
            for t in kernel.tasks.processes()
        ]

    assert story() == story()
