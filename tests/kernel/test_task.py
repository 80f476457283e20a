"""The task table, process numbers, credentials, limits; cgroups as directories; badness."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from mmfs.kernel import sched
from mmfs.kernel.cgroup import CgroupRoot
from mmfs.kernel.cred import Cred
from mmfs.kernel.pid import PidAllocator
from mmfs.kernel.sched import CLONE_PTHREAD
from mmfs.mm.oom_kill import LONG_MIN, oom_badness, oom_totalpages, proc_oom_score

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel

# ---- numbers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cpus", "pid_max", "low"), [(1, 32768, 301), (32, 32768, 301), (64, 65536, 512), (8192, 4 << 20, 65536)]
)
def test_pid_max_follows_the_cpus(cpus: int, pid_max: int, low: int) -> None:
    pids = PidAllocator(cpus)
    assert (pids.pid_max, pids.pid_max_min) == (pid_max, low)


def test_pids_are_cyclic_and_spare_the_low_ones() -> None:
    pids = PidAllocator(1)
    pids.pid_max = 305
    taken = {pids.alloc_pid(set()) for _ in range(1)}
    assert taken == {1}
    pids.last_pid = 302
    taken = {1, 303}
    assert pids.alloc_pid(taken) == 304
    assert pids.alloc_pid(taken | {304}) == 300
    with pytest.raises(OSError) as error:
        pids.alloc_pid(set(range(1, 305)))
    assert error.value.errno == errno.EAGAIN


def test_pids_below_the_reserved_are_used_during_boot() -> None:
    pids = PidAllocator(1)
    pids.last_pid = 299
    assert [pids.alloc_pid({300}), pids.alloc_pid({300})] == [301, 302]
    pids.skip(10)
    assert pids.alloc_pid(()) == 313


def test_numbers_are_not_reused_soon(kernel: Kernel) -> None:
    task = kernel.spawn("prog")
    child = task.fork()
    pid = child.pid
    child.exit(0)
    task.wait()
    assert task.fork().pid == pid + 1 == kernel.tasks.last_pid


# ---- the table --------------------------------------------------------------------------------------------------


def test_table(kernel: Kernel) -> None:
    task = kernel.spawn("prog")
    thread = task.clone(CLONE_PTHREAD, 0)
    tasks = kernel.tasks
    assert tasks[thread.pid] is thread and thread.pid in tasks and tasks.get(99999) is None
    leaders = [t.pid for t in tasks.processes()]
    assert leaders == sorted(leaders) and thread.pid not in leaders
    assert len(tasks) == tasks.nr_threads == len(leaders) + 1
    assert set(tasks) == {pid for pid, _ in tasks.items()} == {t.pid for t in tasks.values()}
    assert sum(tasks.nproc.values()) == len(tasks)
    thread.exit_thread()
    assert thread.pid not in tasks


def test_becoming_a_user() -> None:
    cred = Cred().become(1000, 100, (4, 27))
    assert (cred.uid, cred.euid, cred.suid, cred.fsuid, cred.gid, cred.groups) == (1000, 1000, 1000, 1000, 100, (4, 27))
    assert cred.cap_effective == cred.cap_permitted == 0 and cred.cap_bset == sched.CAP_FULL_SET
    assert Cred().cap_effective == 0x1FFFFFFFFFF


def test_limits_are_the_real_ones() -> None:
    """/proc/1/limits of a real machine whose threads-max is 7651."""
    limits = sched.init_rlimits(7651)
    infinity = sched.RLIM_INFINITY
    assert limits[sched.RLIMIT_NPROC] == limits[sched.RLIMIT_SIGPENDING] == (3825, 3825)
    assert limits[sched.RLIMIT_STACK] == (8 << 20, infinity)
    assert limits[sched.RLIMIT_CORE] == (0, infinity)
    assert limits[sched.RLIMIT_NOFILE] == (1024, 4096)
    assert limits[sched.RLIMIT_MEMLOCK] == (8 << 20, 8 << 20)
    assert limits[sched.RLIMIT_MSGQUEUE] == (819200, 819200)
    assert limits[sched.RLIMIT_NICE] == limits[sched.RLIMIT_RTPRIO] == (0, 0)
    assert limits[sched.RLIMIT_AS] == limits[sched.RLIMIT_RTTIME] == (infinity, infinity)


def test_init_has_the_limits_of_its_machine(kernel: Kernel) -> None:
    assert kernel.tasks[1].rlimits == sched.init_rlimits(kernel.tasks.max_threads)


# ---- cgroups ----------------------------------------------------------------------------------------------------


def test_cgroup_tree(kernel: Kernel) -> None:
    root = CgroupRoot(kernel)
    group = root.makedirs("/a/b/c")
    assert group.path == "/a/b/c" and group.level == 3
    assert root.find("/a/b") is group.parent and root.find("/a/x") is None and root.find("/") is root.root
    assert [g.path for g in root.all()] == ["/", "/a", "/a/b", "/a/b/c"]
    with pytest.raises(OSError) as error:
        root.mkdir(root.root, "a")
    assert error.value.errno == errno.EEXIST
    assert group.parent is not None
    with pytest.raises(OSError) as error:
        root.rmdir(group.parent)
    assert error.value.errno == errno.EBUSY
    root.rmdir(group)
    assert root.find("/a/b/c") is None
    with pytest.raises(OSError):
        root.rmdir(root.root)


def test_tasks_live_in_cgroups(kernel: Kernel) -> None:
    group = kernel.cgroups.makedirs("/work")
    task = kernel.spawn("prog", cgroup="/work")
    thread = task.clone(CLONE_PTHREAD, 0)
    child = task.fork()
    assert group.procs() == [task.pid, child.pid] and group.populated
    assert group.threads() == sorted([task.pid, thread.pid, child.pid])
    with pytest.raises(OSError) as error:
        kernel.cgroups.rmdir(group)
    assert error.value.errno == errno.EBUSY
    other = kernel.cgroups.makedirs("/work/inner")
    kernel.cgroups.attach_task(thread, other)
    assert group.procs() == [child.pid] and other.threads() == sorted([task.pid, thread.pid])
    assert task.cgroup == "/work/inner"
    child.exit(0)
    assert not group.procs() and group.populated, "the group below is"
    task.exit(0)
    assert not group.populated
    kernel.cgroups.rmdir(other)
    kernel.cgroups.rmdir(group)


# ---- badness ----------------------------------------------------------------------------------------------------


def test_badness(kernel: Kernel) -> None:
    task = kernel.spawn("hog")
    task.touch(task.mmap("64M"), "64M", write=True)
    total = oom_totalpages(kernel)
    mm = task.mm
    assert mm is not None
    assert oom_badness(task, total) == mm.rss + mm.pgtables_bytes // 4096
    task.oom_score_adj = 500
    assert oom_badness(task, total) == mm.rss + mm.pgtables_bytes // 4096 + 500 * (total // 1000)
    task.oom_score_adj = -1000
    assert oom_badness(task, total) == LONG_MIN and proc_oom_score(task) == 0
    task.oom_score_adj = -999
    assert 0 <= proc_oom_score(task) < 100
    for pid in (1, 2):
        assert oom_badness(kernel.tasks[pid], total) == LONG_MIN and proc_oom_score(kernel.tasks[pid]) == 0


def test_oom_score_of_the_idle_is_two_thirds_of_a_thousand(kernel: Kernel) -> None:
    assert proc_oom_score(kernel.spawn("tiny")) == 666
