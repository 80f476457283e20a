"""The FUSE adapter over a toy tree: what programs see through a real mount."""

# System calls are what is tested.
# ruff: noqa: PTH115, PTH116, PTH123, PTH208

from __future__ import annotations

import errno
import logging
import os
import select
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from mmfs.kernfs import Vfs
from mmfs.mount import fuse
from tests.kernfs import toy
from tests.mount.toy_mount import mounted, unmount

pytestmark = pytest.mark.mounted
NULL = os.open("/dev/null", os.O_WRONLY)


@pytest.fixture
def box() -> toy.Box:
    return toy.Box()


@pytest.fixture(params=["shortcut", "libfuse only"])
def mount(
    request: pytest.FixtureRequest, box: toy.Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    if request.param == "libfuse only":
        monkeypatch.setattr(fuse, "Shortcut", lambda session, operations: None)
    with mounted(Vfs(toy.root, box), tmp_path) as path:
        yield path


def errno_of(call: Callable[..., object], *arguments: object, **keywords: Any) -> str:
    with pytest.raises(OSError) as caught:
        call(*arguments, **keywords)
    return errno.errorcode[caught.value.errno or 0]


def send(path: Path) -> bytes:
    """The content as sendfile(2) gives it."""
    reader, writer = os.pipe()
    descriptor = os.open(path, os.O_RDONLY)
    pieces: list[bytes] = []
    try:
        while sent := os.sendfile(writer, descriptor, None, 65536):
            while sent:
                pieces.append(os.read(reader, sent))
                sent -= len(pieces[-1])
    finally:
        for one in (reader, writer, descriptor):
            os.close(one)
    return b"".join(pieces)


def as_user(uid: int, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, user=uid, group=uid, extra_groups=[], capture_output=True, text=True, check=False)


# ------------------------------------------------------------------------------------------------- names


def test_listing(mount: Path) -> None:
    assert sorted(os.listdir(mount)) == ["dev", "proc", "sys"]
    names = os.listdir(mount / "proc")
    assert "zram" not in names
    assert names[:2] == ["meminfo", "count"]
    assert {"1", "7"} < set(names)
    with os.scandir(mount / "proc") as entries:
        for entry in entries:
            assert entry.inode() == entry.stat(follow_symlinks=False).st_ino
    assert errno_of(os.listdir, mount / "proc/none") == "ENOENT"
    assert errno_of(os.listdir, mount / "proc/meminfo") == "ENOTDIR"


def test_stat(mount: Path, box: toy.Box) -> None:
    inside = Vfs(toy.root, box)
    for path, entry in inside.entries("/"):
        seen, known = os.lstat(f"{mount}{path}"), entry.stat()
        assert (seen.st_mode, seen.st_nlink, seen.st_uid, seen.st_gid, seen.st_size, seen.st_ino, seen.st_rdev) == (
            *known[:2],
            known.uid or os.geteuid(),
            known.gid or os.getegid(),
            *known[4:],
        ), path


def test_members_come_and_go_at_once(mount: Path, box: toy.Box) -> None:
    member = mount / "proc/42"
    for _ in range(3):
        assert not member.exists()
        box.processes[42] = toy.Process(42, comm="new")
        assert (member / "comm").read_text() == "new\n"
        assert os.stat(member / "stat").st_uid == os.geteuid()
        del box.processes[42]
        assert not member.exists()
        assert errno_of(os.stat, member / "comm") == "ENOENT"
    assert not (mount / "proc/zram").exists()
    box.zram = True
    assert (mount / "proc/zram").read_text() == "here\n"
    box.zram = False
    assert not (mount / "proc/zram").exists()


def test_an_open_file_outlives_its_name(mount: Path, box: toy.Box) -> None:
    with open(mount / "proc/7/comm", "rb", buffering=0) as comm:
        del box.processes[7]
        assert comm.read(100) == b"toy\n"
    assert errno_of(open, mount / "proc/7/comm") == "ENOENT"


def test_links(mount: Path) -> None:
    assert os.readlink(mount / "proc/mounts") == "self/mounts"
    assert os.readlink(mount / "proc/7/fd/1") == "/tmp/x"
    assert errno_of(os.readlink, mount / "proc/self") == "ENOENT"


class Host:
    """Stands for the real procfs: one process, 77."""

    def readlink(self, path: str, pid: int) -> str | None:
        assert pid == os.getpid()
        return f".host/{path[6:]}" if path in ("/proc/self", "/proc/77", "/proc/7") else None

    def mode(self, path: str, pid: int) -> int | None:
        if path == "/proc/.host":
            return stat.S_IFDIR | 0o555
        return stat.S_IFLNK | 0o777 if path == "/proc/77" else None


def test_host_proc(box: toy.Box, tmp_path: Path) -> None:
    with mounted(Vfs(toy.root, box), tmp_path, host_proc=Host()) as mount:
        assert os.readlink(mount / "proc/self") == ".host/self"
        assert os.readlink(mount / "proc/77") == ".host/77"
        assert (mount / "proc/7/comm").read_text() == "toy\n"
        assert os.listdir(mount / "proc/.host") == []
        assert not {"77", ".host"} & set(os.listdir(mount / "proc"))
        assert errno_of(os.lstat, mount / "proc/78") == "ENOENT"


# ------------------------------------------------------------------------------------------------- reading


def test_read(mount: Path, box: toy.Box) -> None:
    text = box.text.encode()
    with open(mount / "proc/meminfo", "rb", buffering=0) as meminfo:
        descriptor = meminfo.fileno()
        assert meminfo.read(100) == text[:100]
        box.text = "short\n"
        assert meminfo.readall() == text[100:]
        assert os.pread(descriptor, 100, 0) == b"short\n"
        assert os.pread(descriptor, 100, 3) == b"rt\n"
        assert os.pread(descriptor, 100, 6) == os.pread(descriptor, 100, 1 << 40) == b""
        assert meminfo.seek(0) == 0
        assert meminfo.read(3) == b"sho"
    assert (mount / "proc/huge").read_bytes() == b"0123456789abcde\n" * 20_000
    with open(mount / "proc/kpagecount", "rb") as binary:
        binary.seek(5000)
        assert binary.read(16) == bytes(number % 251 for number in range(5000, 5016))


def test_content_is_never_old(mount: Path, box: toy.Box) -> None:
    for number in range(50):
        box.text = f"{number}\n"
        reader = (Path.read_bytes, send)[number % 2]
        assert reader(mount / "proc/meminfo") == b"%d\n" % number


def test_rendered_once(mount: Path, box: toy.Box) -> None:
    (mount / "proc/meminfo").read_bytes()
    assert box.renders == 1
    subprocess.run(["cat", mount / "proc/meminfo"], check=True, capture_output=True)
    assert box.renders == 2


# st_size says 0, and yet the whole file is read: as on procfs.


def stats(path: Path) -> None:
    assert os.stat(path).st_size == 0


def reads(path: Path) -> None:
    path.read_bytes()


def opens(path: Path) -> None:
    os.close(os.open(path, os.O_RDONLY))


def opens_and_stats(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    for _ in range(3):
        assert os.fstat(descriptor).st_size == 0
    os.close(descriptor)


def seeks_the_end(path: Path) -> None:
    with open(path, "rb", buffering=0) as file:
        assert file.seek(0, os.SEEK_END) == 0


@pytest.mark.parametrize("before", [stats, reads, opens, opens_and_stats, seeks_the_end, send])
@pytest.mark.parametrize("name", ["proc/meminfo", "proc/7/stat", "proc/huge", "proc/kpagecount"])
def test_sendfile_reads_all(mount: Path, name: str, before: Callable[[Path], object]) -> None:
    path = mount / name
    content = path.read_bytes()
    for _ in range(2):
        before(path)
        assert send(path) == content
    assert os.stat(path).st_size == 0


def test_sendfile_and_stat_at_the_same_time(mount: Path, box: toy.Box) -> None:
    path = mount / "proc/meminfo"
    text = box.text.encode()
    reader, writer = os.pipe()
    for look in (os.fstat, lambda descriptor: os.stat(path), lambda descriptor: path.read_bytes()):
        descriptor = os.open(path, os.O_RDONLY)
        look(descriptor)
        assert os.sendfile(writer, descriptor, None, 65536) == len(text)
        look(descriptor)
        assert os.sendfile(writer, descriptor, None, 65536) == 0
        assert os.read(reader, 65536) == text
        os.close(descriptor)
    os.close(reader)
    os.close(writer)


def test_after_a_second(box: toy.Box, tmp_path: Path) -> None:
    with mounted(Vfs(toy.root, box), tmp_path, attr_timeout="0.05", entry_timeout="0.05") as mount:
        for _ in range(3):
            assert send(mount / "proc/meminfo") == box.text.encode()
            time.sleep(0.1)
            assert os.stat(mount / "proc/meminfo").st_size == 0


def test_sysfs_sizes(mount: Path) -> None:
    path = mount / "sys/kernel/mm/hugepages/nr_hugepages"
    for value in ("5", "123456", "7", "70"):
        path.write_text(value)
        assert send(path) == value.encode() + b"\n"
        assert os.stat(path).st_size == 4096


def test_programs_read_all(mount: Path, box: toy.Box, tmp_path_factory: pytest.TempPathFactory) -> None:
    path, copy = mount / "proc/meminfo", tmp_path_factory.mktemp("copy") / "meminfo"
    programs = [
        ["cat"],
        ["head", "-c", "9999"],
        ["tail", "-n", "+1"],
        ["grep", ""],
        ["dd", "status=none", "bs=7"],
        ["awk", "1"],
    ]
    if shutil.which("busybox"):
        programs += [["busybox", "cat"], ["busybox", "head", "-n", "999"]]
    for program in programs:
        last = f"if={path}" if program[0] == "dd" else str(path)
        assert subprocess.run([*program, last], capture_output=True, check=True).stdout == box.text.encode(), program
    for function in (shutil.copyfile, lambda source, target: subprocess.run(["cp", source, target], check=True)):
        function(path, copy)
        assert copy.read_text() == box.text
        copy.unlink()


# ------------------------------------------------------------------------------------------------- writing


def test_write(mount: Path, box: toy.Box) -> None:
    swappiness = mount / "proc/sys/vm/swappiness"
    subprocess.run(["sh", "-c", f"echo 10 > {swappiness}"], check=True)
    assert box.swappiness == 10
    subprocess.run(["sh", "-c", f"echo 11 >> {swappiness}; echo 12 >> {swappiness}"], check=True)
    assert box.swappiness == 12
    subprocess.run(["sh", "-c", f"echo 13 | tee {swappiness}"], check=True, stdout=subprocess.DEVNULL)
    assert swappiness.read_text() == "13\n"
    failed = subprocess.run(["bash", "-c", f"echo 201 > {swappiness}"], capture_output=True, text=True)
    assert failed.returncode == 1
    assert "Invalid argument" in failed.stderr
    descriptor = os.open(swappiness, os.O_RDWR | os.O_TRUNC)
    assert os.write(descriptor, b"60 70") == 3
    assert os.pread(descriptor, 1, 0) == b"6"
    assert os.pread(descriptor, 1, 1) == b""
    os.close(descriptor)
    os.truncate(swappiness, 0)
    os.utime(swappiness)
    assert swappiness.read_text() == "60\n"


def test_one_write_is_one_store(mount: Path, box: toy.Box) -> None:
    descriptor = os.open(mount / "proc/sysrq-trigger", os.O_WRONLY)
    for text in (b"a", b"b" * 100_000, b"c\0d\n"):
        os.write(descriptor, text)
    os.close(descriptor)
    assert box.writes == [("a", 0), ("b" * 100_000, 1), ("c\0d\n", 100_001)]


def test_append_is_at_the_end_of_an_empty_file(mount: Path, box: toy.Box) -> None:
    trigger = mount / "proc/sysrq-trigger"
    other = os.open(mount / "proc/meminfo", os.O_RDONLY)
    for _ in range(2):
        with open(trigger, "ab", buffering=0) as file:
            file.write(b"x")
    os.close(other)
    assert box.writes == [("x", 0)] * 2


def test_transaction(mount: Path) -> None:
    descriptor = os.open(mount / "proc/control", os.O_RDWR)
    os.write(descriptor, b"spawn a\n")
    assert os.read(descriptor, 100) == b"did spawn a\n"
    assert os.read(descriptor, 100) == b""
    os.write(descriptor, b"kill\n")
    assert os.read(descriptor, 3) + os.read(descriptor, 100) == b"did kill\n"
    os.close(descriptor)


def test_errors(mount: Path) -> None:
    proc, group = mount / "proc", mount / "sys/fs/cgroup"
    assert errno_of((proc / "meminfo").write_text, "x") == "EIO"
    assert errno_of((proc / "7/stat").write_text, "x") == "EINVAL"
    assert errno_of((proc / "sysrq-trigger").read_bytes) == "EIO"
    assert errno_of((proc / "sys/vm/drop_caches").read_bytes) == "EACCES"
    assert errno_of((mount / "sys/kernel/mm/hugepages/free_hugepages").write_text, "1") == "EACCES"
    assert errno_of((group / "memory.reclaim").write_text, "1M") == "EAGAIN"
    assert errno_of((group / "memory.max").write_text, "x" * 5000) == "E2BIG"
    assert errno_of((proc / "gone").read_bytes) == "ESRCH"
    assert errno_of((proc / "new").write_text, "x") == "ENOENT"
    assert errno_of((mount / "sys/new").write_text, "x") == "EACCES"
    assert errno_of((proc / "new").mkdir) == "ENOENT"
    assert errno_of((mount / "sys/new").mkdir) == "EPERM"
    assert errno_of((proc / "meminfo").unlink) == "EPERM"
    assert errno_of((proc / "sys").rmdir) == "EPERM"
    assert errno_of((proc / "meminfo").rename, proc / "new") == "EPERM"
    assert errno_of((proc / "new").symlink_to, "x") == "EPERM"
    assert errno_of((proc / "meminfo").chmod, 0o600) == "EPERM"
    assert errno_of(os.chown, proc / "meminfo", 5, 5) == "EPERM"
    assert errno_of(os.stat, proc / ("n" * 300)) == "ENAMETOOLONG"
    assert errno_of(os.stat, os.fsencode(proc) + b"/\xff\xfe") == "ENOENT"


def test_a_defect_is_eio_and_logged(mount: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "mmfs"):
        assert errno_of((mount / "proc/broken").read_bytes) == "EIO"
        assert errno_of((mount / "proc/wrong").read_bytes) == "EIO"
        assert errno_of((mount / "proc/broken").read_bytes) == "EIO"
    assert "a defect of the model" in caplog.text
    assert "cannot be a list" in caplog.text
    assert (mount / "proc/meminfo").exists()


def test_directories(mount: Path) -> None:
    group = mount / "sys/fs/cgroup"
    (group / "a").mkdir()
    (group / "a/b").mkdir()
    assert errno_of((group / "a").mkdir) == "EEXIST"
    (group / "a/b/memory.max").write_text("1M")
    assert (group / "a/b/memory.max").read_text() == "1048576\n"
    assert (group / "a").stat().st_nlink == 3
    assert errno_of((group / "a").rmdir) == "EBUSY"
    (group / "a/b").rmdir()
    assert not (group / "a/b").exists()
    (group / "a").rmdir()
    assert sorted(os.listdir(group)) == ["cgroup.events", "memory.max", "memory.reclaim"]


def test_xattrs(mount: Path, box: toy.Box) -> None:
    group = mount / "sys/fs/cgroup"
    os.setxattr(group, "user.invocation", b"abc")
    assert os.getxattr(group, "user.invocation") == b"abc"
    assert os.listxattr(group) == ["user.invocation"]
    os.removexattr(group, "user.invocation")
    assert box.group.iattrs[""].xattrs == {}
    assert errno_of(os.getxattr, group, "user.invocation") == "ENODATA"
    assert errno_of(os.getxattr, mount / "proc", "user.x") in ("EOPNOTSUPP", "ENOTSUP")


def test_statfs(mount: Path) -> None:
    found = os.statvfs(mount)
    assert (found.f_blocks, found.f_namemax) == (0, 255)


# ------------------------------------------------------------------------------------------------- who


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become others")
def test_permissions(mount: Path, tmp_path: Path) -> None:
    for path in tmp_path.parents:
        if path.stat().st_uid == 0 and not path.stat().st_mode & 0o001:
            path.chmod(path.stat().st_mode | 0o001)
    assert as_user(1000, "cat", f"{mount}/proc/slabinfo").stderr.strip().endswith("Permission denied")
    assert as_user(1000, "cat", f"{mount}/proc/whoami").stdout == "1000\n"
    assert as_user(1000, "sh", "-c", f"echo 5 > {mount}/proc/sys/vm/swappiness").returncode != 0
    assert as_user(1000, "cat", f"{mount}/proc/7/environ").stdout == "HOME=/\0"
    assert as_user(1000, "cat", f"{mount}/proc/1/environ").returncode != 0
    assert as_user(1001, "cat", f"{mount}/proc/7/environ").returncode != 0
    assert (mount / "proc/slabinfo").read_text() == "secret\n"


# ------------------------------------------------------------------------------------------------- events


def test_poll(mount: Path, box: toy.Box) -> None:
    descriptor = os.open(mount / "sys/fs/cgroup/cgroup.events", os.O_RDONLY)
    assert os.read(descriptor, 100) == b"events 0\n"
    poller = select.poll()
    poller.register(descriptor, select.POLLPRI)
    assert poller.poll(20) == []
    timer = threading.Timer(0.05, lambda: setattr(box.group, "events", 1))
    timer.start()
    begin = time.monotonic()
    ((_, events),) = poller.poll(5000)
    assert events & select.POLLPRI
    assert time.monotonic() - begin < 2
    assert os.pread(descriptor, 100, 0) == b"events 1\n"
    assert poller.poll(20) == []
    timer.join()
    os.close(descriptor)
    plain = os.open(mount / "proc/meminfo", os.O_RDONLY)
    poller.unregister(descriptor)
    poller.register(plain, select.POLLPRI | select.POLLIN)
    assert poller.poll(20) == [(plain, select.POLLIN)]
    os.close(plain)


def test_many_at_once(mount: Path, box: toy.Box) -> None:
    """read(2) by many of the same files, sendfile(2) by each of his own."""
    for number in range(100, 108):
        box.processes[number] = toy.Process(number)
    contents = {"proc/meminfo": box.text.encode(), "proc/huge": b"0123456789abcde\n" * 20_000}

    def look(number: int) -> tuple[str, int] | None:
        own = 100 + number % 8
        for name, reader in (
            ("proc/meminfo", Path.read_bytes),
            ("proc/huge", Path.read_bytes),
            (f"proc/{own}/stat", send),
        ):
            for _ in range(20):
                content = reader(mount / name)
                if content != contents.get(name, f"{own} (toy) S\n".encode()):
                    return name, len(content)
        return None

    with ThreadPoolExecutor(8) as pool:
        assert [wrong for wrong in pool.map(look, range(8)) if wrong] == []


def test_handles_are_given_back(box: toy.Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[fuse.Operations] = []
    original = fuse.Shortcut

    def spy(session: Any, operations: fuse.Operations) -> Any:
        seen.append(operations)
        return original(session, operations)

    monkeypatch.setattr(fuse, "Shortcut", spy)
    with mounted(Vfs(toy.root, box), tmp_path) as mount:
        for number in range(200):
            box.processes[number + 100] = toy.Process(number + 100)
            (mount / f"proc/{number + 100}/stat").read_bytes()
            send(mount / f"proc/{number + 100}/comm")
            os.listdir(mount / "proc")
            del box.processes[number + 100]
            assert not (mount / f"proc/{number + 100}").exists()
        (operations,) = seen
        deadline = time.monotonic() + 5
        while (
            operations.handles or operations.directories or len(operations.by_nodeid) > 20
        ) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not operations.handles
        assert not operations.directories
        assert len(operations.inodes) <= len(operations.by_nodeid) <= 20


# ------------------------------------------------------------------------------------------------- life

SERVE = """
import sys, threading
from mmfs.kernfs import Vfs
from mmfs.mount import fuse
from tests.kernfs import toy
fuse.serve(Vfs(toy.root, toy.Box()), sys.argv[1], threading.Lock(), {"default_permissions": True, "fsname": "mmfs"},
           on_ready=lambda operations: print("ready", flush=True), binding=sys.argv[2] if len(sys.argv) > 2 else None)
print("ended", flush=True)
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """A server in a process of its own."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", SERVE, str(tmp_path), *arguments]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent.parent.parent)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
    unmount(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_signals_end_it_cleanly(server: Callable[..., subprocess.Popen[str]], tmp_path: Path, number: int) -> None:
    process = server()
    assert (tmp_path / "proc/count").read_text() == "1\n"
    time.sleep(0.1)
    process.send_signal(number)
    assert process.communicate(timeout=10)[0] == "ended\n"
    assert process.returncode == 0
    assert not os.path.ismount(tmp_path)


def test_unmounting_ends_it(server: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    process = server()
    unmount(tmp_path)
    assert process.communicate(timeout=10)[0] == "ended\n"
    assert process.returncode == 0


def test_without_a_loop_of_our_own(box: toy.Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A libfuse that lacks what our loop calls: all works but sendfile(2)."""
    monkeypatch.setattr(fuse.Session, "can_loop", False)
    with mounted(Vfs(toy.root, box), tmp_path) as mount:
        assert (mount / "proc/meminfo").read_text() == box.text
        (mount / "proc/sys/vm/swappiness").write_text("10\n")
        assert box.swappiness == 10
        assert errno_of((mount / "proc/broken").read_bytes) == "EIO"
        assert (mount / "proc/whoami").read_text() == "0\n"
        del box.processes[7]
        assert not (mount / "proc/7").exists()


def test_fusepy(server: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    probe = subprocess.run([sys.executable, "-c", "import fuse"], capture_output=True, text=True)
    if probe.returncode:
        pytest.skip(f"no fusepy on libfuse 2: {probe.stderr.strip().splitlines()[-1]}")
    server("fusepy")
    assert os.stat(tmp_path / "proc/meminfo").st_ino == Vfs(toy.root, toy.Box()).stat("/proc/meminfo").ino
    assert (tmp_path / "proc/meminfo").read_text() == toy.Box().text
    swappiness = tmp_path / "proc/sys/vm/swappiness"
    swappiness.write_text("10\n")
    assert swappiness.read_text() == "10\n"
    assert errno_of(swappiness.write_text, "x") == "EINVAL"
    assert errno_of((tmp_path / "proc/broken").read_bytes) == "EIO"
    assert errno_of((tmp_path / "proc/new").write_text, "x") == "ENOENT"
    (tmp_path / "sys/fs/cgroup/a").mkdir()
    assert "a" in os.listdir(tmp_path / "sys/fs/cgroup")
    (tmp_path / "sys/fs/cgroup/a").rmdir()
    assert os.readlink(tmp_path / "proc/mounts") == "self/mounts"
