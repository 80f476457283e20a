"""/sys/fs/cgroup: making and removing cgroups, moving and killing what is in them."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

import pytest

import mmfs
from mmfs.kernfs import Caller

if TYPE_CHECKING:
    from collections.abc import Callable

    from mmfs.kernel.kernel import Kernel

TOP = "/sys/fs/cgroup"


@pytest.fixture
def kernel() -> Kernel:
    return mmfs.boot(ram="256M", preset="bare", seed=1)


def errno_of(function: Callable[..., Any], *arguments: Any) -> str:
    with pytest.raises(OSError) as caught:
        function(*arguments)
    assert caught.value.errno
    return errno.errorcode[caught.value.errno]


def lines(kernel: Kernel, path: str) -> list[str]:
    return kernel.read(f"{TOP}/{path}").decode().splitlines()


def test_the_tree(kernel: Kernel) -> None:
    """As a real one answered: see the rows of write_semantics.tsv with mkdir(2) and rmdir(2)."""
    kernel.mkdir(f"{TOP}/t1")
    kernel.mkdir(f"{TOP}/t1/a")
    assert errno_of(kernel.rmdir, f"{TOP}/t1") == "EBUSY"
    assert errno_of(kernel.mkdir, f"{TOP}/nosuch/a") == "ENOENT"
    assert errno_of(kernel.mkdir, f"{TOP}/t1/a") == "EEXIST"
    for name in ("\n", "a\nb"):
        assert errno_of(kernel.mkdir, f"{TOP}/t1/{name}") == "EINVAL"
    for name in ("with space", "tab\tx", ".hidden", "cgroup.foo", "n" * 255):
        kernel.mkdir(f"{TOP}/t1/{name}")
        kernel.rmdir(f"{TOP}/t1/{name}")
    assert errno_of(kernel.vfs.open, f"{TOP}/t1/file", 0o100 | 1) == "EACCES"
    assert [line for line in lines(kernel, "cgroup.stat") if "subsys" not in line] == [
        "nr_descendants 2",
        "nr_dying_descendants 0",
    ]
    assert kernel.stat(f"{TOP}/t1").st_mode == 0o40755
    assert kernel.stat(TOP).st_mode == 0o40555
    assert "cgroup.events" not in kernel.listdir(TOP)
    kernel.rmdir(f"{TOP}/t1/a")
    kernel.rmdir(f"{TOP}/t1")
    assert errno_of(kernel.rmdir, f"{TOP}/t1") == "ENOENT"


def test_limits(kernel: Kernel) -> None:
    kernel.mkdir(f"{TOP}/t1")
    kernel.write(f"{TOP}/t1/cgroup.max.depth", "1")
    kernel.mkdir(f"{TOP}/t1/d1")
    assert errno_of(kernel.mkdir, f"{TOP}/t1/d1/e") == "EAGAIN"
    kernel.write(f"{TOP}/t1/cgroup.max.depth", "max")
    kernel.write(f"{TOP}/t1/cgroup.max.descendants", "1")
    assert errno_of(kernel.mkdir, f"{TOP}/t1/d2") == "EAGAIN"
    kernel.write(f"{TOP}/t1/cgroup.max.descendants", "max\n")
    kernel.mkdir(f"{TOP}/t1/d2")


def test_members(kernel: Kernel) -> None:
    kernel.mkdir(f"{TOP}/web")
    kernel.mkdir(f"{TOP}/web/one")
    task = kernel.spawn("worker", cgroup="/web/one")
    thread = task.pthread_create()
    assert lines(kernel, "web/one/cgroup.procs") == [str(task.pid)]
    assert lines(kernel, "web/one/cgroup.threads") == [str(task.pid), str(thread.pid)]
    assert lines(kernel, "web/cgroup.events") == ["populated 1", "frozen 0"]
    assert errno_of(kernel.rmdir, f"{TOP}/web/one") == "EBUSY"
    kernel.write(f"{TOP}/web/cgroup.procs", f"{task.pid}\n")
    assert kernel.read(f"/proc/{thread.pid}/cgroup") == b"0::/web\n"
    kernel.rmdir(f"{TOP}/web/one")
    kernel.vfs.write(f"{TOP}/cgroup.procs", b"0", Caller(pid=task.pid))
    assert str(task.pid) in lines(kernel, "cgroup.procs")
    for wrong, name in (("x", "EINVAL"), ("-1", "EINVAL"), ("2", "EINVAL"), ("1 2", "EINVAL"), ("99999", "ESRCH")):
        assert errno_of(kernel.write, f"{TOP}/web/cgroup.procs", wrong) == name
    assert errno_of(kernel.vfs.write, f"{TOP}/web/cgroup.procs", b"1", Caller(uid=1000, gid=1000)) == "EACCES"


def test_kill(kernel: Kernel) -> None:
    kernel.mkdir(f"{TOP}/web")
    kernel.mkdir(f"{TOP}/web/one")
    tasks = [kernel.spawn("worker", cgroup=cgroup) for cgroup in ("/web", "/web/one", "/web/one")]
    kernel.write(f"{TOP}/web/cgroup.kill", "1")
    assert not any(task.alive for task in tasks)
    assert lines(kernel, "web/cgroup.events")[0] == "populated 0"
    assert errno_of(kernel.write, f"{TOP}/web/cgroup.kill", "2") == "ERANGE"
    assert errno_of(kernel.read, f"{TOP}/web/cgroup.kill") == "EINVAL"


def test_controllers(kernel: Kernel) -> None:
    """Linux's errno for one that is not there, and for what does not exist at all."""
    assert b"pids" in kernel.read(f"{TOP}/cgroup.controllers").split()
    assert errno_of(kernel.write, f"{TOP}/cgroup.subtree_control", "+misc") == "ENOENT"
    for wrong in ("+foo", "memory", "+memory +foo", "+ memory", "+memory,+pids", "++memory"):
        assert errno_of(kernel.write, f"{TOP}/cgroup.subtree_control", wrong) == "EINVAL"
    assert kernel.write(f"{TOP}/cgroup.subtree_control", "-memory\n") == 8
    kernel.mkdir(f"{TOP}/t1")
    assert "pids.max" not in kernel.listdir(f"{TOP}/t1")
    assert kernel.write(f"{TOP}/cgroup.subtree_control", "-pids +pids") == 11
    assert kernel.read(f"{TOP}/t1/cgroup.controllers") == b"pids\n" and "pids.max" in kernel.listdir(f"{TOP}/t1")
    assert kernel.write(f"{TOP}/t1/cgroup.subtree_control", "+pids") == 5
    assert errno_of(kernel.write, f"{TOP}/cgroup.subtree_control", "-pids") == "EBUSY"
    kernel.write(f"{TOP}/t1/cgroup.subtree_control", "-pids")
    kernel.write(f"{TOP}/cgroup.subtree_control", "-pids")
    assert "pids.max" not in kernel.listdir(f"{TOP}/t1")
