"""Segments of System V shared memory and fallocate(2): who may, what goes, what is left.

Linux: ipc/shm.c, ipc/util.c. What a real kernel does is asked in tests/differential/test_sysv_shm.py.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

import mmfs
from mmfs.kernel.checkpoint import restore, save
from mmfs.kernel.fallocate import FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE
from mmfs.kernel.ipc_ids import IPC_CREAT, IPC_PRIVATE
from mmfs.kernel.shm import (
    IPC_RMID,
    IPC_SET,
    IPC_STAT,
    SHM_HUGETLB,
    SHM_RDONLY,
    SHM_REMAP,
    SHM_RND,
    SHM_STAT,
    SHM_STAT_ANY,
)
from mmfs.kernel.signal import TaskKilled
from tests.golden.captures import MACHINES, captures

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task

MB, PAGE = 1 << 20, 4096
pytestmark = pytest.mark.machine(ram="128M", swap="64M")


@pytest.fixture
def task(kernel: Kernel) -> Task:
    return kernel.spawn("maker")


def refused(call: Callable[..., Any], *arguments: Any, **keywords: Any) -> str:
    """The errno of a call."""
    with pytest.raises(OSError, match=None) as error:
        call(*arguments, **keywords)
    assert error.value.errno is not None
    return errno.errorcode[error.value.errno]


def nr_shmem(kernel: Kernel) -> int:
    match = re.search(r"^nr_shmem (\d+)$", kernel.read("/proc/vmstat").decode(), re.MULTILINE)
    assert match is not None
    return int(match[1])


@pytest.mark.parametrize("machine", ["512M", "2G-686-pae"])
def test_the_file(machine: str) -> None:
    """As real kernels printed it: without a segment, and with one of 2 MB of which half was used, attached twice."""
    golden = {capture.snapshot: capture.data.decode() for capture in captures("/proc/sysvipc/shm", machine)}
    kernel = mmfs.boot(preset="bare", seed=1, **MACHINES[machine])  # type: ignore[arg-type]
    assert kernel.read("/proc/sysvipc/shm").decode() == golden["00-boot"]
    task = kernel.spawn("zoo")
    shmid = task.shmget(IPC_PRIVATE, 2 * MB, 0o600)
    task.touch(task.shmat(shmid), MB, write=True)
    task.shmat(shmid)
    mine = kernel.read("/proc/sysvipc/shm").decode()
    numbers = re.compile(r"\b1\d{9}\b| \d{3} +\d{3} (?= +2 )")  # times, the processes
    assert "02-zoo" not in golden or numbers.sub("#", mine) == numbers.sub("#", golden["02-zoo"])


def test_rights(kernel: Kernel, task: Task) -> None:
    """Owner, group and others by the mode; only the owner changes or removes it."""
    other = kernel.spawn("other", uid=1000)
    shmid = task.shmget(5, PAGE, IPC_CREAT | 0o640)
    assert refused(other.shmget, 5, PAGE, 0o400) == "EACCES"
    assert refused(other.shmat, shmid, 0, SHM_RDONLY) == "EACCES"
    assert refused(other.shmctl, shmid, IPC_STAT) == refused(other.shmctl, 0, SHM_STAT) == "EACCES"
    assert refused(other.shmctl, shmid, IPC_RMID) == refused(other.shmctl, shmid, IPC_SET) == "EPERM"
    found = other.shmctl(0, SHM_STAT_ANY)
    assert found is not None and (found.mode, found.segsz, found.key) == (0o640, PAGE, 5)
    task.shmctl(shmid, IPC_SET, 0, 0, 0o604)
    addr = other.shmat(shmid, 0, SHM_RDONLY)
    other.touch(addr)
    assert refused(other.shmat, shmid) == "EACCES"
    task.shmctl(shmid, IPC_SET, 1000, 1000, 0o600)
    other.touch(other.shmat(shmid), write=True)
    other.shmctl(shmid, IPC_RMID)
    kernel.check()
    other.exit()
    assert not kernel.shm.ids.objects and kernel.shm.tot == 0


def test_addresses(kernel: Kernel, task: Task) -> None:
    """Rounded down if that is asked for; what is mapped there is in the way, or (SHM_REMAP) goes."""
    shmid, addr = task.shmget(IPC_PRIVATE, 2 * PAGE, 0o600), 0x7000_0000_0000
    assert refused(task.shmat, shmid, addr + 5) == refused(task.shmat, shmid, 0, SHM_REMAP) == "EINVAL"
    assert task.shmat(shmid, addr + 5, SHM_RND) == addr
    assert refused(task.shmat, shmid, addr + PAGE) == "EINVAL"
    assert task.shmat(shmid, addr + PAGE, SHM_REMAP) == addr + PAGE
    kernel.check()
    task.touch(addr, 3 * PAGE, write=True)
    assert kernel.shm.ids.in_order()[0].nattch == 2
    task.shmdt(addr)
    task.shmdt(addr + PAGE)
    assert refused(task.shmdt, addr) == refused(task.shmdt, 5) == "EINVAL"


def test_moved_and_left_behind(kernel: Kernel, task: Task) -> None:
    """mremap() moves an attachment, exec and exit end them."""
    shmid = task.shmget(IPC_PRIVATE, 4 * PAGE, 0o600)
    addr = task.shmat(shmid)
    task.touch(addr, 4 * PAGE, write=True)
    task.mremap(addr, 4 * PAGE, 4 * PAGE, 3, addr - 64 * PAGE)
    kernel.check()
    assert kernel.shm.ids.in_order()[0].nattch == 1
    child = task.fork()
    child.execve("sleep")
    assert kernel.shm.ids.in_order()[0].nattch == 1
    task.shmctl(shmid, IPC_RMID)
    before = nr_shmem(kernel)
    task.exit()
    kernel.check()
    assert not kernel.shm.ids.objects and nr_shmem(kernel) == before - 4


def test_saved(kernel: Kernel, task: Task) -> None:
    """A kernel that was saved and goes on has its segments, attached."""
    shmid = task.shmget(9, 4 * PAGE, IPC_CREAT | 0o600)
    addr = task.shmat(shmid)
    task.touch(addr, 4 * PAGE, write=True)
    other = restore(save(kernel))
    other.check()
    assert other.read("/proc/sysvipc/shm") == kernel.read("/proc/sysvipc/shm")
    again = other.tasks[task.pid]
    again.shmctl(shmid, IPC_RMID)
    again.shmdt(addr)
    other.check()
    assert not other.shm.ids.objects and kernel.shm.ids.in_use == 1


def test_of_huge_pages(kernel: Kernel, task: Task) -> None:
    """Cut on their boundary, not within; promised until they are used."""
    kernel.write("/proc/sys/vm/nr_hugepages", "4")
    shmid = task.shmget(IPC_PRIVATE, 7 * MB, SHM_HUGETLB | 0o600)
    addr = task.shmat(shmid)
    task.touch(addr, 4 * MB, write=True)
    assert refused(task.munmap, addr + 4096, 4096) == "EINVAL"
    task.munmap(addr + 2 * MB, 2 * MB)
    kernel.check()
    child = task.fork()
    assert kernel.shm.ids.in_order()[0].rss_swap() == (1024, 0)
    task.shmctl(shmid, IPC_RMID)
    child.exit()
    task.shmdt(addr)
    kernel.check()
    assert b"HugePages_Free:        4\nHugePages_Rsvd:        0\n" in kernel.read("/proc/meminfo")


def test_no_huge_page_size(kernel: Kernel, task: Task) -> None:
    assert refused(task.shmget, IPC_PRIVATE, MB, SHM_HUGETLB | 20 << 26 | 0o600) == "EINVAL"
    assert refused(task.shmget, IPC_PRIVATE, MB, SHM_HUGETLB | 0o600) == "ENOMEM"
    assert not kernel.shm.ids.objects


def test_strict_mode(kernel: Kernel, task: Task) -> None:
    """Under strict overcommit all of a segment is promised, SHM_NORESERVE or not."""
    kernel.write("/proc/sys/vm/overcommit_memory", "2")
    assert refused(task.shmget, IPC_PRIVATE, "256M", 0o10600) == "ENOMEM"
    kernel.write("/proc/sys/vm/overcommit_memory", "1")
    shmid = task.shmget(IPC_PRIVATE, "256M", 0o600)
    task.shmctl(shmid, IPC_RMID)
    kernel.check()


def test_fallocate(kernel: Kernel, task: Task) -> None:
    """What is beyond the end goes with the file, or when it is cut, also to the size that it has."""
    before = nr_shmem(kernel)
    fd = task.open("/dev/shm/f", 0o102)
    task.fallocate(fd, FALLOC_FL_KEEP_SIZE, MB, MB)
    assert nr_shmem(kernel) == before + 256
    kernel.check()
    task.ftruncate(fd, 0)
    assert nr_shmem(kernel) == before
    task.fallocate(fd, FALLOC_FL_KEEP_SIZE, MB, MB)
    task.write(fd, 8192, 0)
    assert nr_shmem(kernel) == before + 258
    task.fallocate(fd, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, 100, 8000)
    assert nr_shmem(kernel) == before + 258  # no whole page is in it
    task.unlink("/dev/shm/f")
    task.close(fd)
    assert nr_shmem(kernel) == before
    kernel.check()
    fd = task.memfd_create("m")
    task.fallocate(fd, 0, 0, MB)
    task.touch(task.mmap(MB, flags=1, file=fd), MB)
    assert nr_shmem(kernel) == before + 256


def test_fallocate_above_a_limit(kernel: Kernel) -> None:
    """Who allocates more than its cgroup may have dies of it, and the file with it; if nobody can be killed, the call
    fails, and the file has what it had."""
    before = nr_shmem(kernel)
    kernel.write("/sys/fs/cgroup/cgroup.subtree_control", "+memory")
    kernel.mkdir("/sys/fs/cgroup/g")
    for name, text in (("memory.max", "4M"), ("memory.swap.max", "0")):
        kernel.write(f"/sys/fs/cgroup/g/{name}", text)
    task = kernel.spawn("maker", cgroup="/g")
    fd = task.memfd_create("m")
    task.write(fd, 8192, 5 * PAGE)
    kernel.write(f"/proc/{task.pid}/oom_score_adj", "-1000")
    assert refused(task.fallocate, fd, 0, 0, "16M") == "ENOMEM"
    kernel.check()
    assert nr_shmem(kernel) == before + 2
    kernel.write(f"/proc/{task.pid}/oom_score_adj", "0")
    with pytest.raises(TaskKilled):
        task.fallocate(fd, 0, 0, "16M")
    kernel.check()
    assert nr_shmem(kernel) == before


def test_fallocate_of_other_files(kernel: Kernel, task: Task) -> None:
    fd = task.open("/data", 0o102)
    assert refused(task.fallocate, fd, 0, 0, MB) == errno.errorcode[errno.EOPNOTSUPP]
    fd = task.open("/dev/shm/g", 0o100)
    assert refused(task.fallocate, fd, 0, 0, MB) == "EBADF"


def test_commands(kernel: Kernel, task: Task) -> None:
    """/sim/control knows the calls."""

    def control(text: str) -> str:
        file = kernel.vfs.open("/sim/control", 2)
        file.write(text.encode())
        return file.read(4096, 0).decode()

    shmid = int(control(f"shmget {task.pid} 0 1M flags=creat"))
    addr = control(f"shmat {task.pid} {shmid}").strip()
    control(f"touch {task.pid} {addr} 1M write")
    control(f"shmctl {task.pid} {shmid} rmid")
    assert kernel.read("/proc/sysvipc/shm").decode().splitlines()[1].split()[2] == "1600"
    control(f"shmdt {task.pid} {addr}")
    assert len(kernel.read("/proc/sysvipc/shm").decode().splitlines()) == 1
    before = nr_shmem(kernel)
    control(f"fallocate {task.pid} /dev/shm/x 0 1M")
    control(f"fallocate {task.pid} /dev/shm/x 0 64K mode=punch_hole,keep_size")
    assert nr_shmem(kernel) == before + 240
