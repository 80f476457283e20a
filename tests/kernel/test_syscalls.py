"""The calls of a task: sizes, defaults, faults and costs that are counted as its own, identity, limits, files."""

from __future__ import annotations

import errno
import pickle
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pytest

from mmfs.kernel import sched
from mmfs.kernel.cputime import Cost
from mmfs.kernel.namei import O_APPEND, O_CREAT, O_EXCL, O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY
from mmfs.kernel.read_write import SEEK_END
from mmfs.kernel.signal import SIGKILL, TaskKilled
from mmfs.mm.mman import (
    MADV_DONTNEED,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_POPULATE,
    MAP_PRIVATE,
    MAP_SHARED,
    MCL_CURRENT,
    PR_SET_VMA,
    PR_SET_VMA_ANON_NAME,
    PROT_NONE,
    PROT_READ,
)
from mmfs.mm_types import MM_ANONPAGES, MM_SHMEMPAGES, NodeStatItem, VmEventItem

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task


def errno_of(call: Callable[..., object], *args: object, **kwargs: object) -> int | None:
    """The errno of a call, None if it succeeds."""
    try:
        call(*args, **kwargs)
    except OSError as error:
        return error.errno
    return None


@pytest.fixture
def task(kernel: Kernel) -> Task:
    return kernel.spawn("prog")


@pytest.fixture
def user(kernel: Kernel) -> Task:
    return kernel.spawn("prog", uid=1000)


def anon(task: Task) -> int:
    assert task.mm is not None
    return task.mm.get_mm_counter(MM_ANONPAGES)


# ---- memory -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", ["64K", "64KB", 65536, "0.0625M"])
def test_sizes(task: Task, size: int | str) -> None:
    assert task.mm is not None
    before = task.mm.total_vm
    addr = task.mmap(size)
    assert task.mm.total_vm == before + 16
    task.munmap(addr, size)
    assert task.mm.total_vm == before


@pytest.mark.parametrize(("size", "expected"), [(0, errno.EINVAL), (-1, errno.ENOMEM), ("nonsense", errno.EINVAL),
                                                ("128T", errno.ENOMEM)])  # fmt: skip
def test_bad_sizes(task: Task, size: int | str, expected: int) -> None:
    assert errno_of(task.mmap, size) == expected


def test_touch_writes_or_reads(kernel: Kernel, task: Task) -> None:
    addr = task.mmap("1M")
    before = anon(task)
    task.touch(addr, "1M")
    assert anon(task) == before, "reading maps the zero page"
    task.touch(addr, "1M", write=True)
    assert anon(task) == before + 256
    task.touch(addr + 8192)


def test_touch_with_a_stride(task: Task) -> None:
    addr, before = task.mmap("1M"), anon(task)
    task.touch(addr, "1M", write=True, stride="64K")
    assert anon(task) == before + 16
    task.touch(addr + 4096 - 1, 2, write=True, stride=1)
    assert anon(task) == before + 17


def test_touch_an_array_in_any_order(task: Task) -> None:
    addr, before, faults = task.mmap("1M"), anon(task), task.min_flt
    pages = addr + 4096 * np.random.default_rng(1).permutation(256)[:100]
    task.touch(pages, write=True)
    assert anon(task) == before + 100 and task.min_flt - faults >= 100
    task.touch([addr, addr + 1], write=False)


def test_faults_and_time_are_the_task_s_own(kernel: Kernel, task: Task) -> None:
    other = kernel.spawn("other")
    others = other.min_flt
    faults, event, stime = task.min_flt, int(kernel.vmstat.event[VmEventItem.PGFAULT]), task.stime_ns
    task.touch(task.mmap("1M"), "1M", write=True)
    assert task.min_flt - faults == int(kernel.vmstat.event[VmEventItem.PGFAULT]) - event == 256
    kernel.schedule(task)
    assert task.stime_ns - stime >= 256 * Cost.FAULT_MINOR
    assert other.min_flt == others


def test_major_faults(kernel: Kernel, task: Task) -> None:
    kernel.namei.create("/data/file", 1 << 20)
    addr = task.mmap("1M", prot=PROT_READ, flags=MAP_PRIVATE, file="/data/file")
    task.touch(addr, "1M")
    assert 0 < task.maj_flt < 64
    again = kernel.spawn("again")
    majors = again.maj_flt
    again.touch(again.mmap("1M", prot=PROT_READ, flags=MAP_PRIVATE, file="/data/file"), "1M")
    assert again.maj_flt == majors


def test_populate_counts_no_faults_of_the_program(task: Task) -> None:
    before = anon(task)
    task.mmap("1M", flags=MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE)
    assert anon(task) == before + 256


def test_mmap_arguments(kernel: Kernel, task: Task) -> None:
    assert errno_of(task.mmap, 4096, offset=1) == errno.EINVAL
    assert errno_of(task.mmap, 4096, flags=MAP_PRIVATE) == errno.EBADF
    assert errno_of(task.mmap, 4096, file="/no/file") == errno.ENOENT
    assert errno_of(task.mmap, 4096, file=77) == errno.EBADF
    addr = task.mmap("1M")
    assert task.mmap(4096, flags=MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, addr=addr) == addr
    kernel.namei.create("/data/file", 8192)
    fd = task.open("/data/file", O_RDONLY)
    assert errno_of(task.mmap, 4096, flags=MAP_SHARED, file=fd) == errno.EACCES
    mapped = task.mmap(4096, prot=PROT_READ, flags=MAP_SHARED, file=fd, offset=4096)
    assert task.mm is not None
    vma = task.mm.vma_lookup(mapped)
    assert vma is not None and vma.vm_pgoff == 1


def test_other_memory_calls(task: Task) -> None:
    addr = task.mmap("1M")
    task.touch(addr, "1M", write=True)
    resident = anon(task)
    task.madvise(addr, "512K", MADV_DONTNEED)
    assert anon(task) == resident - 128
    task.mprotect(addr, "4K", PROT_NONE)
    moved = task.mremap(addr + (512 << 10), "512K", "2M")
    task.touch(moved, "2M", write=True)
    task.mlock(moved, "64K")
    assert task.mm is not None and task.mm.locked_vm == 16
    task.munlock(moved, "64K")
    task.mlockall(MCL_CURRENT)
    assert task.mm.locked_vm > 500
    task.munlockall()
    assert task.mm.locked_vm == 0


def test_brk(task: Task) -> None:
    end = task.brk()
    assert task.sbrk("1M") == end
    assert task.brk() == end + (1 << 20)
    task.touch(end, "1M", write=True)
    assert task.brk(end) == end
    task.setrlimit(sched.RLIMIT_DATA, "1M")
    assert errno_of(task.sbrk, "2M") == errno.ENOMEM


def test_rlimit_as(user: Task) -> None:
    user.setrlimit(sched.RLIMIT_AS, "64M")
    assert errno_of(user.mmap, "64M") == errno.ENOMEM
    user.mmap("16M")


def test_stack_grows_to_its_limit(task: Task) -> None:
    assert task.mm is not None
    stack = task.mm.mmap[-1]
    task.touch(stack.vm_end - (7 << 20), write=True)
    assert stack.vm_end - stack.vm_start >= 7 << 20
    with pytest.raises(TaskKilled):
        task.touch(stack.vm_end - (9 << 20), write=True)


@pytest.mark.slow  # minutes uncompiled: all of a machine is touched
@pytest.mark.machine(ram="512M", cpus=2, preset="bare", swap=None)
def test_oom_kills_the_biggest(kernel: Kernel, task: Task) -> None:
    kernel.write("/proc/sys/vm/overcommit_memory", "1")
    hog = kernel.spawn("hog")
    addr = hog.mmap("600M")
    with pytest.raises(TaskKilled) as killed:
        hog.touch(addr, "600M", write=True)
    assert killed.value.signal == SIGKILL and hog.pid not in kernel.tasks
    assert task.alive
    assert int(kernel.vmstat.event[VmEventItem.OOM_KILL]) == 1
    log = [record[3] for record in kernel.printk.records]
    assert any(f"Out of memory: Killed process {hog.pid} (hog)" in line for line in log)
    task.touch(task.mmap("16M"), "16M", write=True)


@pytest.mark.slow
@pytest.mark.machine(ram="512M", cpus=2, preset="bare", swap=None)
def test_oom_spares_who_asks_for_it(kernel: Kernel) -> None:
    big = kernel.spawn("big", oom_score_adj=-1000)
    big.touch(big.mmap("200M"), "200M", write=True)
    small = kernel.spawn("small")
    small.touch(small.mmap("100M"), "100M", write=True)
    big.touch(big.mmap("200M"), "200M", write=True)
    assert big.alive and small.pid not in kernel.tasks


# ---- who, and how much ------------------------------------------------------------------------------------------


def test_setuid(kernel: Kernel, task: Task) -> None:
    child = task.fork()
    child.setgid(100)
    child.setgroups([4, 3])
    child.setuid(1000)
    assert (child.uid, child.euid, child.suid, child.fsuid, child.gid) == (1000, 1000, 1000, 1000, 100)
    assert child.groups == (3, 4) and not child.capable(sched.CAP_KILL)
    assert errno_of(child.setuid, 0) == errno.EPERM
    assert errno_of(child.setgid, 0) == errno.EPERM
    assert errno_of(child.setgroups, []) == errno.EPERM
    assert kernel.tasks.nproc[1000] == 1
    child.setuid(1000)


def test_sessions(task: Task) -> None:
    child = task.fork()
    assert errno_of(task.setsid) == errno.EPERM
    assert child.setsid() == child.pid == child.session == child.pgrp
    assert errno_of(child.setpgid) == errno.EPERM
    job = task.fork()
    task.setpgid(job.pid, job.pid)
    assert job.pgrp == job.pid
    assert errno_of(task.setpgid, 1, 0) == errno.ESRCH
    assert errno_of(task.setpgid, job.pid, -1) == errno.EINVAL


def test_setrlimit(user: Task) -> None:
    user.setrlimit(sched.RLIMIT_NOFILE, 100, 200)
    assert user.getrlimit(sched.RLIMIT_NOFILE) == (100, 200)
    assert errno_of(user.setrlimit, sched.RLIMIT_NOFILE, 300) == errno.EINVAL
    assert errno_of(user.setrlimit, sched.RLIMIT_NOFILE, 100, 300) == errno.EPERM
    assert errno_of(user.setrlimit, 16, 0) == errno.EINVAL
    assert errno_of(user.getrlimit, -1) == errno.EINVAL
    user.setrlimit(sched.RLIMIT_STACK, -1)
    assert user.rlimit(sched.RLIMIT_STACK) == sched.RLIM_INFINITY


def test_root_may_raise_limits_but_not_nofile_above_nr_open(kernel: Kernel, task: Task) -> None:
    task.setrlimit(sched.RLIMIT_MEMLOCK, "1G", "1G")
    assert errno_of(task.setrlimit, sched.RLIMIT_NOFILE, 5, kernel.fs_sysctl.nr_open + 1) == errno.EPERM


def test_priorities(user: Task, task: Task) -> None:
    user.setpriority(25)
    assert (user.nice, user.prio) == (19, 39)
    assert errno_of(user.setpriority, 0) == errno.EACCES
    task.setpriority(-30)
    assert (task.nice, task.prio) == (-20, 0)
    assert errno_of(user.sched_setscheduler, sched.SCHED_FIFO, 10) == errno.EPERM
    assert errno_of(task.sched_setscheduler, sched.SCHED_FIFO, 0) == errno.EINVAL
    assert errno_of(task.sched_setscheduler, 77) == errno.EINVAL
    task.sched_setscheduler(sched.SCHED_FIFO, 50)
    assert task.prio == -51


def test_affinity(task: Task) -> None:
    task.sched_setaffinity([1])
    assert task.processor == 1 and task.cpus_allowed == {1}
    assert errno_of(task.sched_setaffinity, [7]) == errno.EINVAL


def test_prctl(task: Task) -> None:
    task.prctl(sched.PR_SET_NAME, "a-name-that-is-too-long")
    assert task.prctl(sched.PR_GET_NAME) == task.comm == "a-name-that-is-"
    task.prctl(sched.PR_SET_TIMERSLACK, 1000)
    assert task.prctl(sched.PR_GET_TIMERSLACK) == 1000
    task.prctl(sched.PR_SET_NO_NEW_PRIVS, 1)
    assert task.fork().prctl(sched.PR_GET_NO_NEW_PRIVS) == 1
    assert errno_of(task.prctl, 12345, 0) == errno.EINVAL
    addr = task.mmap("64K")
    without_names = errno_of(task.prctl, PR_SET_VMA, PR_SET_VMA_ANON_NAME, addr, "64K", "pool")
    assert without_names == errno.EINVAL, "Debian builds without CONFIG_ANON_VMA_NAME"


# ---- files ------------------------------------------------------------------------------------------------------


def test_open_and_close(kernel: Kernel, task: Task) -> None:
    filps = kernel.slab["filp"].nr_objects_inuse
    fd = task.open("/data/new", O_RDWR | O_CREAT)
    assert kernel.slab["filp"].nr_objects_inuse == filps + 1
    assert task.fdtable[fd].path == "/data/new"
    assert errno_of(task.open, "/data/new", O_CREAT | O_EXCL) == errno.EEXIST
    assert errno_of(task.open, "/data/none") == errno.ENOENT
    task.dup2(fd, 10)
    task.close(fd)
    assert errno_of(task.close, fd) == errno.EBADF
    task.close(10)
    assert kernel.slab["filp"].nr_objects_inuse == filps


def test_exit_closes_and_fork_shares(kernel: Kernel, task: Task) -> None:
    fd = task.open("/data/new", O_RDWR | O_CREAT)
    filps = kernel.slab["filp"].nr_objects_inuse
    child = task.fork()
    task.write(fd, "10K")
    assert child.fdtable[fd].f_pos == 10240, "one open file description"
    child.exit(0)
    assert kernel.slab["filp"].nr_objects_inuse == filps


def test_rlimit_nofile(task: Task) -> None:
    task.setrlimit(sched.RLIMIT_NOFILE, len(task.fdtable) + 1)
    task.open("/data/new", O_RDWR | O_CREAT)
    assert errno_of(task.open, "/data/new") == errno.EMFILE


def test_reading_fills_the_page_cache(kernel: Kernel, task: Task) -> None:
    kernel.create_file("/data/file", 1_000_000)
    fd = task.open("/data/file")
    from_disk = task.io.read_bytes
    assert task.read(fd, "256K") == 256 << 10
    assert task.fdtable[fd].mapping.nrpages == 128  # the next window is read ahead
    assert task.read(fd, "256K") == 256 << 10
    assert task.fdtable[fd].mapping.nrpages == 192
    assert task.read(fd, "512K") == 1_000_000 - (512 << 10)
    assert task.read(fd, "512K") == 0
    assert task.read(fd, 100, offset=0) == 100
    assert task.io.rchar == 1_000_100 and task.io.syscr == 5
    assert task.io.read_bytes - from_disk == 245 * 4096
    assert errno_of(task.write, fd, 1) == errno.EBADF


def test_writing_makes_dirty_pages(kernel: Kernel, task: Task) -> None:
    dirty = kernel.vmstat.global_node_page_state(NodeStatItem.NR_FILE_DIRTY)
    fd = task.open("/data/log", O_WRONLY | O_CREAT | O_APPEND)
    assert task.write(fd, "100K") == 100 << 10
    assert task.write(fd, 1) == 1
    assert kernel.vmstat.global_node_page_state(NodeStatItem.NR_FILE_DIRTY) == dirty + 26
    assert task.lseek(fd, 0, SEEK_END) == (100 << 10) + 1
    assert task.io.wchar == (100 << 10) + 1
    assert errno_of(task.read, fd, 1) == errno.EBADF
    task.open("/data/log", O_WRONLY | O_TRUNC)
    assert kernel.vmstat.global_node_page_state(NodeStatItem.NR_FILE_DIRTY) == dirty


def test_unlinked_files_live_while_open(kernel: Kernel, task: Task) -> None:
    before = kernel.vmstat.global_node_page_state(NodeStatItem.NR_FILE_PAGES) - kernel.nr_blockdev_pages()
    fd = task.open("/data/tmp", O_RDWR | O_CREAT)
    task.write(fd, "64K")
    task.unlink("/data/tmp")
    assert errno_of(task.unlink, "/data/tmp") == errno.ENOENT
    assert task.read(fd, "64K", offset=0) == 64 << 10
    task.close(fd)
    assert kernel.vmstat.global_node_page_state(NodeStatItem.NR_FILE_PAGES) - kernel.nr_blockdev_pages() == before


def test_memfd(task: Task) -> None:
    fd = task.memfd_create("buffer")
    task.ftruncate(fd, "1M")
    addr = task.mmap("1M", flags=MAP_SHARED, file=fd)
    task.touch(addr, "1M", write=True)
    assert task.mm is not None and task.mm.get_mm_counter(MM_SHMEMPAGES) == 256
    assert task.fdtable[fd].path == "/memfd:buffer" and task.fdtable[fd].deleted


def test_relative_paths(task: Task) -> None:
    task.chdir("/data")
    fd = task.open("x", O_CREAT | O_WRONLY)
    assert task.fdtable[fd].path == "/data/x"


# ---- all of it --------------------------------------------------------------------------------------------------


def test_spawn_options(kernel: Kernel) -> None:
    kernel.cgroups.makedirs("/app")
    task = kernel.spawn("prog", uid=5, gid=6, oom_score_adj=7, cgroup="/app", nice=1, cpus=[1], cwd="/srv")
    assert (task.uid, task.gid, task.oom_score_adj, task.cgroup) == (5, 6, 7, "/app")
    assert (task.nice, task.processor, task.cwd, task.ppid) == (1, 1, "/srv", 1)
    assert task.pid in kernel.cgroups.makedirs("/app").procs()
    assert errno_of(kernel.spawn, "x", oom_score_adj=1001) == errno.EINVAL
    assert errno_of(kernel.spawn, "x", cgroup="/none") == errno.ENOENT


def test_a_kernel_with_tasks_can_be_pickled(task: Task) -> None:
    assert pickle.loads(pickle.dumps(task.cred)) == task.cred


@pytest.mark.parametrize("call", ["mmap", "munmap", "mprotect"])
def test_killed_while_memory_for_a_mapping_is_found(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """The OOM killer may choose who asks: its address space is gone then, and no VMA is put into it."""
    task = kernel.spawn("hog")
    addr = task.mmap(5 << 12)
    alloc = kernel.slab.alloc

    def kill_who_asks(name: str, **options: bool) -> int:
        done = alloc(name, **options)
        if name == "vm_area_struct" and task.alive:
            kernel.kill(task.pid, SIGKILL)
        return done

    monkeypatch.setattr(kernel.slab, "alloc", kill_who_asks)
    calls = {
        "mmap": lambda: task.mmap(1 << 12, PROT_READ),
        "munmap": lambda: task.munmap(addr + (2 << 12), 1 << 12),
        "mprotect": lambda: task.mprotect(addr + (2 << 12), 1 << 12, PROT_READ),
    }
    with pytest.raises(TaskKilled):
        calls[call]()
    assert not task.alive
    kernel.check()
