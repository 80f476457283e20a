"""Sockets' buffers and large tables of files: pages that are really taken, charged and given back."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

import mmfs
from mmfs.kernel.sched import RLIMIT_NOFILE
from mmfs.kernel.socket import MAX_DATAGRAM, SO_RCVBUF, SO_RCVBUFFORCE

if TYPE_CHECKING:
    from collections.abc import Callable

    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task

TOP = "/sys/fs/cgroup"


def free_pages(kernel: Kernel) -> int:
    return int(kernel.read("/proc/vmstat").split()[1])


@pytest.fixture
def task(kernel: Kernel) -> Task:
    return kernel.spawn("peer")


def errno_of(call: Callable[..., object], *arguments: object) -> int | None:
    try:
        call(*arguments)
    except OSError as error:
        return error.errno
    return None


def test_in_order_and_empty(kernel: Kernel, task: Task) -> None:
    """Datagrams come out in the order in which they went in."""
    fd = task.socket()
    for length in (10, 20_000, 0):
        assert task.send(fd, length) == length
    assert [task.recv(fd) for _ in range(3)] == [10, 20_000, 0]
    assert errno_of(task.recv, fd) == errno.EAGAIN


def test_errors(kernel: Kernel, task: Task) -> None:
    """What send(2) and setsockopt(2) refuse."""
    fd = task.socket()
    file = task.open("/data/f", 0o102)
    assert errno_of(task.send, fd, MAX_DATAGRAM + 1) == errno.EMSGSIZE
    assert errno_of(task.send, file, 1) == errno.ENOTSOCK
    assert errno_of(task.send, 99, 1) == errno.EBADF
    assert errno_of(task.setsockopt, fd, 2, 1) == errno.ENOPROTOOPT
    assert errno_of(kernel.spawn("user", uid=1000).setsockopt, fd, SO_RCVBUFFORCE, 1) == errno.EBADF
    user = kernel.spawn("user", uid=1000)
    assert errno_of(user.setsockopt, user.socket(), SO_RCVBUFFORCE, 1) == errno.EPERM


def test_the_data_takes_memory(kernel: Kernel, task: Task) -> None:
    """10 MB of large datagrams take as much of free memory, and give it back."""
    fd = task.socket()
    task.setsockopt(fd, SO_RCVBUFFORCE, 16 << 20)
    before = free_pages(kernel)
    for _ in range(160):
        task.send(fd, 65_507)
    kernel.check()
    assert 160 * 16 <= before - free_pages(kernel) <= 160 * 17
    task.close(fd)
    task.exit()
    kernel.check()
    assert not kernel.udp_prot.page_frag.users and not kernel.udp_prot.memory_allocated


def test_no_more_than_the_protocol_may_have(kernel: Kernel, task: Task) -> None:
    """Above net.ipv4.udp_mem what comes in is dropped."""
    proto = kernel.udp_prot
    proto.mem = 100, 150, 200
    for _ in range(2):
        fd = task.socket()
        task.setsockopt(fd, SO_RCVBUFFORCE, 16 << 20)
        for _ in range(20):
            task.send(fd, 65_507)
    assert 84 <= proto.memory_allocated <= 117
    kernel.check()


def test_so_rcvbuf_has_a_limit(kernel: Kernel, task: Task) -> None:
    """SO_RCVBUF is doubled, and at most net.core.rmem_max."""
    fd = task.socket()
    sock = task._socket(fd)
    for asked, got in ((1 << 20, 425_984), (10_000, 20_000), (1, 2304)):
        task.setsockopt(fd, SO_RCVBUF, asked)
        assert sock.rcvbuf == got


def test_a_socket_is_shared_by_fork(kernel: Kernel, task: Task) -> None:
    """It goes with the last process that has it open."""
    fd = task.socket()
    task.send(fd, 1000)
    child = task.fork()
    task.close(fd)
    assert child.recv(fd) == 1000
    child.exit()
    assert not kernel.udp_prot.sockets


def test_a_removed_cgroup_stays_with_its_socket(kernel: Kernel) -> None:
    """A socket holds the cgroup in which it was made, until it is closed."""
    kernel.write(f"{TOP}/cgroup.subtree_control", "+memory")
    kernel.mkdir(f"{TOP}/a")
    task = kernel.spawn("peer")
    kernel.write(f"{TOP}/a/cgroup.procs", str(task.pid))
    fd = task.socket()
    kernel.write(f"{TOP}/cgroup.procs", str(task.pid))
    kernel.rmdir(f"{TOP}/a")
    task.send(fd, 5000)
    kernel.check()
    assert b"nr_dying_descendants 1\n" in kernel.read(f"{TOP}/cgroup.stat")
    task.close(fd)
    task.exit()
    kernel.check()


def test_v1_counts_after_a_limit_was_set() -> None:
    """memory.kmem.tcp.*: only of sockets made after a limit, which drops what is above."""
    kernel = mmfs.boot(ram="256M", cgroup="v1", seed=1)
    group = f"{TOP}/memory/a"
    kernel.mkdir(group)
    task = kernel.spawn("peer")
    kernel.write(f"{group}/cgroup.procs", str(task.pid))

    def number(name: str) -> int:
        return int(kernel.read(f"{group}/memory.kmem.tcp.{name}"))

    task.send(task.socket(), 5000)
    assert number("usage_in_bytes") == 0
    kernel.write(f"{group}/memory.kmem.tcp.limit_in_bytes", "64K")
    fd = task.socket()
    for _ in range(100):
        task.send(fd, 1000)
    kernel.check()
    assert (number("usage_in_bytes"), number("max_usage_in_bytes")) == (64 << 10, 64 << 10)
    assert number("failcnt") == 100 - (64 << 10) // 2304
    task.exit()
    kernel.check()
    assert number("usage_in_bytes") == 0


def test_a_large_table_of_files(kernel: Kernel, task: Task) -> None:
    """It grows with the number, a fork copies what is used of it, and a full machine says ENOMEM."""
    task.setrlimit(RLIMIT_NOFILE, 1 << 20, 1 << 20)
    fd = task.open("/data/f", 0o102)
    areas = kernel.vmalloc.nr_pages
    task.dup2(fd, (1 << 20) - 1)
    assert task.files is not None and task.files.fdsize == 1 << 20
    assert kernel.vmalloc.nr_pages - areas == 2048
    child = task.fork()
    assert kernel.vmalloc.nr_pages - areas == 2 * 2048 + 4
    task.close((1 << 20) - 1)
    small = task.fork()
    assert small.files is not None and small.files.fdsize == 64
    kernel.check()
    for one in (small, child, task):
        one.exit()
    assert kernel.vmalloc.nr_pages <= areas
