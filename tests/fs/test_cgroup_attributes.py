"""Owners, modes and extended attributes of cgroups and their files; delegation, which follows from them."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

import mmfs
from mmfs.kernfs import Caller

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel

TOP = "/sys/fs/cgroup"
USER = Caller(uid=1000, gid=1000)


@pytest.fixture
def kernel() -> Kernel:
    kernel = mmfs.boot(ram="256M", preset="bare", seed=1)
    kernel.mkdir(f"{TOP}/d")
    return kernel


def errno_of(function: Callable[..., Any], *arguments: Any) -> str:
    with pytest.raises(OSError) as caught:
        function(*arguments)
    assert caught.value.errno
    return errno.errorcode[caught.value.errno]


def delegate(kernel: Kernel) -> None:
    for name in ("", "/cgroup.procs", "/cgroup.threads", "/cgroup.subtree_control"):
        kernel.vfs.chown(f"{TOP}/d{name}", 1000, 1000)


def test_delegation(kernel: Kernel) -> None:
    """A user may arrange what is below his cgroup, but bring nothing in or out."""
    vfs = kernel.vfs
    assert errno_of(vfs.mkdir, f"{TOP}/d/x", 0o755, USER) == "EACCES"
    delegate(kernel)
    vfs.mkdir(f"{TOP}/d/x", 0o755, USER)
    vfs.mkdir(f"{TOP}/d/y", 0o755, USER)
    assert vfs.stat(f"{TOP}/d/x/cgroup.procs")[2:4] == (1000, 1000)
    assert vfs.stat(f"{TOP}/d/cgroup.max.depth")[2:4] == (0, 0)
    outside, inside = kernel.spawn("worker"), kernel.spawn("worker", cgroup="/d/x")
    vfs.write(f"{TOP}/d/y/cgroup.procs", str(inside.pid), USER)
    assert inside.cgroup == "/d/y"
    assert errno_of(vfs.write, f"{TOP}/d/x/cgroup.procs", str(outside.pid), USER) == "EACCES"
    assert errno_of(vfs.write, f"{TOP}/d/cgroup.max.depth", "1", USER) == "EACCES"
    vfs.chmod(f"{TOP}/cgroup.procs", 0o666)
    vfs.write(f"{TOP}/d/x/cgroup.procs", str(outside.pid), USER)
    assert outside.cgroup == "/d/x"


def test_a_file_descriptor_keeps_its_openers_rights(kernel: Kernel) -> None:
    """The writer's credentials are those of open(2): an inherited descriptor gives no more."""
    delegate(kernel)
    kernel.vfs.mkdir(f"{TOP}/d/x", 0o755, USER)
    outside = kernel.spawn("worker")
    file = kernel.vfs.open(f"{TOP}/d/x/cgroup.procs", os.O_WRONLY, USER)
    assert errno_of(file.write, str(outside.pid).encode()) == "EACCES"


def test_changing_mode_and_owner(kernel: Kernel) -> None:
    vfs, path = kernel.vfs, f"{TOP}/d/cgroup.freeze"
    assert errno_of(vfs.chmod, path, 0o600, USER) == "EPERM"
    assert errno_of(vfs.chown, path, 1000, -1, USER) == "EPERM"
    vfs.chown(path, 1000, -1)
    assert vfs.stat(path)[2:4] == (1000, 0)
    vfs.chmod(path, 0o600, USER)
    assert vfs.stat(path).mode == 0o100600
    assert errno_of(vfs.chown, path, 1001, -1, USER) == "EPERM"
    vfs.chown(path, -1, 1000, USER)
    assert vfs.stat(path)[2:4] == (1000, 1000)
    assert errno_of(vfs.chmod, "/proc/meminfo", 0o600) == "EPERM", "nothing else can be changed"
    kernel.rmdir(f"{TOP}/d")
    kernel.mkdir(f"{TOP}/d")
    assert vfs.stat(path) == vfs.stat(f"{TOP}/d/cgroup.type")[:5] + vfs.stat(path)[5:], "a new one is as new"


@pytest.mark.parametrize("path", [f"{TOP}/d", f"{TOP}/d/cgroup.procs", TOP])
def test_extended_attributes(kernel: Kernel, path: str) -> None:
    vfs = kernel.vfs
    assert vfs.listxattr(path) == []
    for name in ("user.b", "trusted.a", "security.c", "user.a"):
        vfs.setxattr(path, name, name.encode())
    assert vfs.listxattr(path) == ["security.c", "trusted.a", "user.a", "user.b"]
    assert vfs.listxattr(path, USER) == ["security.c", "user.a", "user.b"]
    assert vfs.getxattr(path, "user.b") == b"user.b"
    vfs.setxattr(path, "user.b", b"", os.XATTR_REPLACE)
    assert vfs.getxattr(path, "user.b", USER) == b""
    vfs.removexattr(path, "user.b")
    for wrong, arguments in (
        ("ENODATA", (vfs.getxattr, path, "user.b")),
        ("ENODATA", (vfs.removexattr, path, "user.b")),
        ("ENODATA", (vfs.setxattr, path, "user.b", b"", os.XATTR_REPLACE)),
        ("EEXIST", (vfs.setxattr, path, "user.a", b"", os.XATTR_CREATE)),
        ("ENODATA", (vfs.getxattr, path, "trusted.a", USER)),
        ("EPERM", (vfs.setxattr, path, "trusted.a", b"", 0, USER)),
        ("EACCES", (vfs.setxattr, path, "user.a", b"", 0, USER)),
        ("ENOTSUP", (vfs.setxattr, path, "system.a", b"")),
        ("ENOTSUP", (vfs.setxattr, "/proc/meminfo", "user.a", b"")),
        ("EINVAL", (vfs.setxattr, path, "user.", b"")),
    ):
        assert errno_of(arguments[0], *arguments[1:]) == wrong, arguments


def test_limits_of_users_attributes(kernel: Kernel) -> None:
    """128 of them and 128 KB: one more, or a replacement beyond, is ENOSPC; others' are not limited."""
    vfs, path = kernel.vfs, f"{TOP}/d"
    for number in range(128):
        vfs.setxattr(path, f"user.{number}", b"x")
    assert errno_of(vfs.setxattr, path, "user.128", b"") == "ENOSPC"
    assert errno_of(vfs.setxattr, path, "user.0", b"y") == "ENOSPC", "for a moment there would be 129"
    vfs.setxattr(path, "trusted.more", b"x")
    path = f"{TOP}/d/cgroup.procs"
    vfs.setxattr(path, "user.a", bytes(65536))
    vfs.setxattr(path, "user.b", bytes(65535))
    assert errno_of(vfs.setxattr, path, "user.c", b"xx") == "ENOSPC"
    assert errno_of(vfs.setxattr, path, "user.d", bytes(65537)) == "E2BIG"
    vfs.setxattr(path, "user.c", b"x")
