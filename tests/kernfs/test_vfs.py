"""Walking, reading and writing a toy tree in-process."""

from __future__ import annotations

import errno
import os
import select
import stat
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmfs.kernfs import Caller, Directory, Vfs
from mmfs.kernfs.rules import kernfs_name_hash
from tests.kernfs import toy

USER = Caller(pid=7, uid=1000, gid=1000)
GROUP = "/sys/fs/cgroup"


@pytest.fixture
def box() -> toy.Box:
    return toy.Box()


@pytest.fixture
def vfs(box: toy.Box) -> Vfs:
    return Vfs(toy.root, box)


def errno_of(call: Callable[..., object], *arguments: object) -> str:
    with pytest.raises(OSError) as caught:
        call(*arguments)
    assert caught.value.errno is not None
    return errno.errorcode[caught.value.errno]


def test_read(vfs: Vfs, box: toy.Box) -> None:
    assert vfs.read("/proc/meminfo") == box.text.encode()
    assert vfs.read("/proc/count") == b"2\n"
    assert vfs.read("/proc/kpagecount") == bytes(number % 251 for number in range(100_000))
    assert vfs.read("//proc/./sys/../7/stat") == b"7 (toy) S\n"


def test_listing_is_as_declared(vfs: Vfs, box: toy.Box) -> None:
    names = vfs.listdir("/proc")
    assert names[:3] == ["meminfo", "count", "slabinfo"]
    assert names[-3:] == ["sys", "1", "7"]
    assert "zram" not in names
    assert errno_of(vfs.read, "/proc/zram") == "ENOENT"
    box.zram = True
    assert vfs.listdir("/proc")[3] == "zram"
    assert vfs.read("/proc/zram") == b"here\n"


def test_members_come_and_go(vfs: Vfs, box: toy.Box) -> None:
    assert vfs.read("/proc/7/comm") == b"toy\n"
    del box.processes[7]
    assert errno_of(vfs.read, "/proc/7/comm") == "ENOENT"
    box.processes[7] = toy.Process(7, comm="other")
    assert vfs.read("/proc/7/comm") == b"other\n"
    assert errno_of(vfs.stat, "/proc/07") == "ENOENT"


def test_stat(vfs: Vfs) -> None:
    meminfo = vfs.stat("/proc/meminfo")
    assert (stat.S_IFMT(meminfo.mode), meminfo.mode & 0o7777, meminfo.size) == (stat.S_IFREG, 0o444, 0)
    assert vfs.stat("/proc/sys/vm/swappiness").mode == stat.S_IFREG | 0o644
    assert vfs.stat("/proc/sys/vm/drop_caches").mode == stat.S_IFREG | 0o200
    assert vfs.stat("/sys/kernel/mm/hugepages/nr_hugepages").size == 4096
    assert vfs.stat(GROUP + "/memory.max").size == 0
    assert vfs.stat("/proc/7/stat")[2:4] == (1000, 1000)
    assert vfs.stat("/proc/7/fd").uid == 1000
    assert vfs.stat("/proc").nlink == 2 + 1 + 2
    assert vfs.lstat("/proc/mounts").size == len("self/mounts")
    assert vfs.lstat("/proc/7/fd/0").mode == stat.S_IFLNK | 0o700
    assert vfs.stat("/dev/null").rdev == os.makedev(1, 3)
    assert vfs.stat(GROUP).ino == 1


def test_inode_numbers_are_of_the_path(vfs: Vfs) -> None:
    numbers = [entry.ino for _, entry in vfs.entries("/") if entry.path != GROUP]
    assert len(set(numbers)) == len(numbers)
    other = Vfs(toy.root, toy.Box())
    assert [other.lstat(path).ino for path, _ in other.entries("/")] == [entry.ino for _, entry in vfs.entries("/")]


def test_links(vfs: Vfs) -> None:
    caller = Caller(pid=7)
    assert vfs.readlink("/proc/self", caller) == "7"
    assert vfs.read("/proc/self/stat", caller) == b"7 (toy) S\n"
    assert errno_of(vfs.read, "/proc/self/stat") == "ENOENT"
    assert vfs.readlink("/proc/7/fd/1") == "/tmp/x"
    assert errno_of(vfs.readlink, "/proc/meminfo") == "EINVAL"
    assert errno_of(vfs.open, "/proc/mounts", os.O_NOFOLLOW) == "ELOOP"
    loop: Directory[None] = Directory()
    loop.symlink("a", "b")
    loop.symlink("b", "/a")
    assert errno_of(Vfs(loop, None).read, "/a") == "ELOOP"


def test_paths(vfs: Vfs) -> None:
    assert errno_of(vfs.read, "") == "ENOENT"
    assert errno_of(vfs.read, "/proc/none") == "ENOENT"
    assert errno_of(vfs.read, "/proc/meminfo/x") == "ENOTDIR"
    assert errno_of(vfs.read, "/proc/meminfo/") == "ENOTDIR"
    assert errno_of(vfs.read, "/proc/" + "n" * 256) == "ENAMETOOLONG"
    assert errno_of(vfs.read, "/proc") == "EISDIR"
    assert errno_of(vfs.listdir, "/proc/meminfo") == "ENOTDIR"
    assert errno_of(vfs.open, "/proc/meminfo", os.O_DIRECTORY) == "ENOTDIR"
    assert errno_of(vfs.open, "/proc/meminfo", os.O_CREAT | os.O_EXCL) == "EEXIST"
    assert errno_of(vfs.open, "/proc/none", os.O_CREAT | os.O_WRONLY) == "ENOENT"
    assert errno_of(vfs.open, "/sys/none", os.O_CREAT | os.O_WRONLY) == "EACCES"


def test_modes(vfs: Vfs) -> None:
    assert errno_of(vfs.read, "/proc/slabinfo", USER) == "EACCES"
    assert errno_of(vfs.write, "/proc/sys/vm/swappiness", "5", USER) == "EACCES"
    assert errno_of(vfs.listdir, "/proc/1/fd", USER) == "EACCES"
    assert errno_of(vfs.readlink, "/proc/1/fd/0", USER) == "EACCES"
    assert vfs.read("/proc/7/environ", USER) == b"HOME=/\0"
    assert errno_of(vfs.read, "/proc/1/environ", USER) == "EACCES"
    assert errno_of(vfs.mkdir, GROUP + "/a", 0o755, USER) == "EACCES"
    in_group = Directory[None](rules=None)
    in_group.attributes("file", lambda _: "x", mode=0o040, gid=5)
    inner = Vfs(in_group, None)
    assert inner.read("/file", Caller(uid=9, gid=5)) == b"x"
    assert inner.read("/file", Caller(uid=9, groups=(4, 5))) == b"x"
    assert errno_of(inner.read, "/file", Caller(uid=9)) == "EACCES"


def test_files_without_a_method(vfs: Vfs, box: toy.Box) -> None:
    assert errno_of(vfs.write, "/proc/meminfo", "x") == "EIO"
    assert errno_of(vfs.read, "/proc/sysrq-trigger") == "EIO"
    assert errno_of(vfs.write, "/proc/7/stat", "x") == "EINVAL"
    assert errno_of(vfs.read, "/proc/7/clear_refs") == "EINVAL"
    assert errno_of(vfs.read, "/proc/sys/vm/drop_caches") == "EACCES"
    assert errno_of(vfs.read, "/sys/kernel/mm/hugepages/demote") == "EACCES"
    assert errno_of(vfs.write, "/sys/kernel/mm/hugepages/free_hugepages", "1") == "EACCES"
    assert errno_of(vfs.read, GROUP + "/memory.reclaim") == "EINVAL"
    assert errno_of(vfs.write, GROUP + "/cgroup.events", "x") == "EINVAL"


def test_writes(vfs: Vfs, box: toy.Box) -> None:
    assert vfs.write("/proc/sys/vm/swappiness", b"10\n") == 3
    assert box.swappiness == 10
    assert errno_of(vfs.write, "/proc/sys/vm/swappiness", "201") == "EINVAL"
    assert vfs.write("/proc/sysrq-trigger", b"") == 0
    assert box.writes == [("", 0)]
    assert vfs.write("/sys/kernel/mm/hugepages/nr_hugepages", b"") == 0
    assert vfs.write("/sys/kernel/mm/hugepages/nr_hugepages", "0" * 4095 + "5" + "x" * 100) == 4096
    assert box.nr_hugepages == 5
    assert errno_of(vfs.write, GROUP + "/memory.max", " " * 4097) == "E2BIG"
    assert vfs.write(GROUP + "/memory.max", " " * 4094 + "1M") == 4096
    assert box.group.max == 2**20
    assert vfs.write("/proc/7/comm", "\udcff\n") == 2
    assert vfs.read("/proc/7/comm") == b"\xff\n"
    handle = vfs.open("/proc/sysrq-trigger", os.O_WRONLY | os.O_APPEND)
    handle.write(b"a", 17)
    assert box.writes[-1] == ("a", 0)
    reader = vfs.open("/proc/meminfo")
    assert errno_of(reader.write, b"x") == "EBADF"
    assert errno_of(vfs.open("/proc/sys/vm/swappiness", os.O_WRONLY).read, 1) == "EBADF"


def test_a_read_in_pieces_is_of_one_moment(vfs: Vfs, box: toy.Box) -> None:
    handle = vfs.open("/proc/meminfo")
    old = box.text.encode()
    assert handle.read(100, 0) == old[:100]
    box.text = "short\n"
    assert handle.read(100, 100) == old[100:200]
    assert handle.read(1 << 20, 200) == old[200:]
    assert handle.read(10, len(old)) == b""
    assert handle.read(100, 0) == b"short\n"
    assert handle.read(100, 6) == b""
    assert handle.read(100, 3) == b"rt\n"
    assert handle.read(100, 7) == b""
    assert handle.read(0, 0) == b""


@given(st.integers(0, 2500), st.integers(0, 2500))
def test_any_offset(offset: int, size: int) -> None:
    box = toy.Box()
    assert Vfs(toy.root, box).open("/proc/meminfo").read(size, offset) == box.text.encode()[offset : offset + size]


def test_rendered_once_per_pass(vfs: Vfs, box: toy.Box) -> None:
    handle = vfs.open("/proc/meminfo")
    offset = 0
    while piece := handle.read(64, offset):
        offset += len(piece)
    assert box.renders == 1


def test_made_anew_when_its_version_differs() -> None:
    box = toy.Box()
    directory: Directory[toy.Box] = Directory()
    directory.attributes("file", toy.count.show, version=lambda box: (box.swappiness, box.ratios[0]))
    vfs = Vfs(directory, box)
    entry = vfs.walk("/file")
    assert [entry.open().read(9), entry.open().read(9)] == [b"1\n"] * 2
    box.swappiness = 61
    assert entry.open().read(9) == b"2\n"
    box.ratios[0] = 1
    assert [entry.open().read(9), entry.open().read(9)] == [b"3\n"] * 2


def test_transaction(vfs: Vfs) -> None:
    handle = vfs.open("/proc/control", os.O_RDWR)
    assert handle.read(100, 0) == b"no command\n"
    assert handle.write(b"spawn a\n", 0) == 8
    assert handle.read(4, 8) + handle.read(100, 12) == b"did spawn a\n"
    assert handle.read(100, 20) == b""
    assert handle.write(b"kill\n", 20) == 5
    assert handle.read(100, 0) == b"did kill\n"
    assert errno_of(handle.write, b" ", 25) == "EINVAL"
    assert handle.read(100, 25) == b"did kill\n", "what stands after a command that was refused is read from its start"


def test_directories_made_and_removed(vfs: Vfs) -> None:
    vfs.mkdir(GROUP + "/a")
    vfs.mkdir(GROUP + "/a/b/")
    assert "a" in vfs.listdir(GROUP)
    assert vfs.read(GROUP + "/a/b/cgroup.events") == b"events 0\n"
    assert vfs.stat(GROUP + "/a").nlink == 3
    assert errno_of(vfs.mkdir, GROUP + "/a") == "EEXIST"
    assert errno_of(vfs.mkdir, GROUP + "/x/y") == "ENOENT"
    assert errno_of(vfs.rmdir, GROUP + "/a") == "EBUSY"
    assert errno_of(vfs.rmdir, GROUP + "/memory.max") == "ENOTDIR"
    assert errno_of(vfs.rmdir, GROUP + "/none") == "ENOENT"
    vfs.rmdir(GROUP + "/a/b")
    vfs.rmdir(GROUP + "/a")
    assert errno_of(vfs.stat, GROUP + "/a") == "ENOENT"
    assert errno_of(vfs.mkdir, "/proc/new") == "ENOENT"
    assert errno_of(vfs.mkdir, "/proc/meminfo") == "EEXIST"
    assert errno_of(vfs.mkdir, "/sys/new") == "EPERM"
    assert errno_of(vfs.rmdir, "/sys/kernel") == "EPERM"


def test_order_of_sysfs() -> None:
    """As `find` listed a real /sys/devices/system/memory/memory3, unsorted."""
    names = "uevent node0 power online phys_device phys_index valid_zones subsystem state removable".split()
    assert sorted(names, key=kernfs_name_hash) == names


def test_poll(vfs: Vfs, box: toy.Box) -> None:
    handle = vfs.open(GROUP + "/cgroup.events")
    assert handle.polls
    handle.read(100)
    assert handle.poll() == select.POLLIN
    box.group.events += 1
    assert handle.poll() & select.POLLPRI
    assert not vfs.open("/proc/meminfo").polls


def test_walk_is_the_adapters(vfs: Vfs, box: toy.Box) -> None:
    first = vfs.walk("/proc/sys/vm/swappiness")
    assert vfs.walk("/proc/sys/vm/swappiness") is first
    stat = vfs.walk("/proc/7/stat")
    assert vfs.walk("/proc/7/stat") is stat
    before = box.processes.pop(7)
    assert errno_of(vfs.walk, "/proc/7/stat") == "ENOENT"
    box.processes[7] = before
    assert vfs.walk("/proc/7/stat").obj is before
    box.processes[7] = toy.Process(7)
    assert vfs.walk("/proc/7/stat").obj is box.processes[7]
    assert vfs.walk("/").directory is toy.root
    assert errno_of(vfs.walk, "/proc/zram") == "ENOENT"
    assert errno_of(vfs.walk, "/none") == "ENOENT"
    assert errno_of(vfs.walk, "/proc/meminfo/x") == "ENOTDIR"


def test_a_name_twice_is_refused() -> None:
    directory: Directory[None] = Directory()
    directory.symlink("a", "b")
    with pytest.raises(ValueError):
        directory.symlink("a", "c")
