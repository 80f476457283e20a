"""Who may read and write which file of /proc/PID, what writes do, and what is open."""

from __future__ import annotations

import errno
import re
import stat
from typing import TYPE_CHECKING

import pytest

from mmfs.kernfs import Caller
from mmfs.kernfs.entry import ROOT
from tests.fs.test_pid_golden import NOT_SERVED_OF_PROGRAMS, errno_of, machine, section
from tests.golden.compare import assert_layout, only, words

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel

# ---- permissions and writes ---------------------------------------------------------------------------------------

OTHER = Caller(uid=1000, gid=1000)


def test_another_user() -> None:
    """Which files of root's process user 1000 may read, and how the others refuse."""
    kernel, _ = machine()
    seen = 0
    for name, text in re.findall(r"^-- (\w+)\n((?:(?!-- |ls:).*\n)*)", section("other uid"), re.MULTILINE):
        if name in NOT_SERVED_OF_PROGRAMS:
            continue
        seen += 1
        if "Permission denied" in text or "Operation not permitted" in text:
            assert errno_of(kernel, f"/proc/1/{name}", OTHER) == ("EACCES" if "denied" in text else "EPERM"), name
        else:
            kernel.vfs.read(f"/proc/1/{name}", OTHER)
    assert seen == 38
    for link in ("exe", "cwd", "root", "ns/net"):
        with pytest.raises(PermissionError):
            kernel.vfs.readlink(f"/proc/1/{link}", OTHER)
    assert kernel.vfs.read("/proc/1/wchan", OTHER) == b"0"
    line = kernel.vfs.read("/proc/1/stat", OTHER).decode().split()
    (real,) = re.findall(r"^1 \(init\) S .* 17 .*$", section("other uid"), re.MULTILINE)
    for index in (25, 26, 27, 34, *range(44, 52)):
        assert line[index] == real.split()[index], index


def test_kernel_threads_are_open_to_all() -> None:
    """Who has no memory hides none: maps opens and is empty."""
    kernel, _ = machine()
    for name in ("maps", "smaps", "numa_maps"):
        assert kernel.vfs.read(f"/proc/2/{name}", OTHER) == b""


def test_own_process_of_a_user(kernel: Kernel) -> None:
    """A user sees its own processes' memory but no frame numbers, and may not do what takes a capability."""
    task = kernel.spawn("cat", uid=1000)
    own, beside = Caller(pid=task.pid, uid=1000, gid=1000), Caller(uid=1000, gid=1000)
    path = f"/proc/{task.pid}"
    names = set(kernel.listdir(path)) - {"task", "fd", "map_files", "fdinfo", "ns", "cwd", "root", "exe", "attr"}
    for name in names - {"clear_refs", "pagemap", "stack", "timerslack_ns"}:
        kernel.vfs.read(f"{path}/{name}", beside)
    assert errno_of(kernel, f"{path}/stack", beside) == "EACCES"
    assert errno_of(kernel, f"{path}/timerslack_ns", beside) == "EPERM"
    assert kernel.vfs.read(f"{path}/timerslack_ns", own) == b"50000\n"
    assert kernel.vfs.readlink(f"{path}/exe", beside) == task.exe
    mm = task.mm
    assert mm is not None
    opened = kernel.vfs.open(f"{path}/pagemap", 0, beside)
    (entry,) = [int.from_bytes(opened.read(8, (mm.start_stack >> 12) * 8), "little")]
    assert entry >> 63 == 1
    assert entry & (1 << 55) - 1 == 0

    def write(name: str, data: str, caller: Caller) -> str | None:
        return written(kernel, f"{path}/{name}", data, caller)

    assert write("comm", "abc", beside) == "EINVAL"
    assert write("comm", "abc", own) is None
    assert kernel.read(f"{path}/comm") == b"abc\n"
    assert write("timerslack_ns", "4", beside) == "EPERM"
    assert write("timerslack_ns", "4", own) is None
    assert write("oom_score_adj", "-5", own) == "EACCES"
    assert write("oom_score_adj", "5", own) is None
    assert write("oom_score_adj", "0", own) is None
    assert write("oom_adj", "3", own) is None
    assert write("oom_adj", "2", own) == "EACCES"
    kernel.write(f"{path}/oom_score_adj", "100")
    assert write("oom_score_adj", "99", own) == "EACCES", "root has set the floor"
    assert "oom_adj is deprecated" in "".join(record[3] for record in kernel.printk.records)


@pytest.mark.parametrize(
    ("name", "data", "wanted"),
    [
        ("autogroup", "1", "EINVAL"),
        ("autogroup", "x", "EINVAL"),
        ("sched", "\n", None),
        ("uid_map", "0 0 1", "EPERM"),
        ("setgroups", "allow", None),
        ("setgroups", "x", "EINVAL"),
        ("timens_offsets", "monotonic 1 1", "EACCES"),
        ("timens_offsets", "x", "EINVAL"),
        ("limits", "x", "EINVAL"),
    ],
)
def test_writes(name: str, data: str, wanted: str | None) -> None:
    """As the scenario's last section found them."""
    kernel, _ = machine()
    assert written(kernel, f"/proc/1/{name}", data, ROOT) == wanted


def written(kernel: Kernel, path: str, data: str, caller: Caller) -> str | None:
    """The errno of one write(2), None if it went well."""
    try:
        kernel.vfs.write(path, data, caller)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return None


def test_long_numbers_are_cut(kernel: Kernel) -> None:
    """Twelve bytes fit; write(2) says so."""
    task = kernel.spawn("cat")
    opened = kernel.vfs.open(f"/proc/{task.pid}/oom_score_adj", 1)
    assert opened.write(b"         100000", 0) == 12
    assert kernel.read(f"/proc/{task.pid}/oom_score_adj") == b"100\n"


# ---- open files ---------------------------------------------------------------------------------------------------


def test_fd_and_fdinfo(kernel: Kernel) -> None:
    task = kernel.spawn("cat")
    read = task.open("/data/x", 0o102)
    assert task.open("/data/x", 0o2000000) == read + 1
    task.write(read, 5000)
    task.unlink("/data/x")
    path = f"/proc/{task.pid}"
    assert kernel.stat(f"{path}/fd").st_size == len(task.fdtable) == len(kernel.listdir(f"{path}/fd"))
    assert stat.filemode(kernel.vfs.lstat(f"{path}/fd/{read}").mode) == "lrwx------"
    assert stat.filemode(kernel.vfs.lstat(f"{path}/fd/{read + 1}").mode) == "lr-x------"
    assert kernel.vfs.lstat(f"{path}/fd/{read}").size == 64
    assert kernel.vfs.readlink(f"{path}/fd/{read}") == "/data/x (deleted)"
    info = kernel.read(f"{path}/fdinfo/{read + 1}").decode()
    assert info.startswith("pos:\t0\nflags:\t02100000\nmnt_id:\t")
    assert kernel.read(f"{path}/fdinfo/{read}").startswith(b"pos:\t5000\nflags:\t0100002\n")
    golden = re.findall(r"/proc/1/fdinfo/10\n((?:.*\n){4})", section("fd"))[0]
    assert_layout(info, golden, only(r"^(pos|mnt_id|ino):.*$", words))
    assert errno_of(kernel, f"{path}/fdinfo/{read}", OTHER) == "EACCES"


def test_map_files(kernel: Kernel) -> None:
    task = kernel.spawn("bash")
    assert task.mm is not None
    path = f"/proc/{task.pid}/map_files"
    names = kernel.listdir(path)
    assert names == [f"{v.vm_start:x}-{v.vm_end:x}" for v in task.mm.mmap if v.vm_file is not None]
    found = kernel.vfs.lstat(f"{path}/{names[0]}")
    (real,) = set(re.findall(r"^(l\S+) .* 64 .* -> /bin/busybox$", section("map_files"), re.MULTILINE))
    assert (stat.filemode(found.mode), found.size) == (real, 64)
    assert kernel.vfs.readlink(f"{path}/{names[0]}") == task.exe
    with pytest.raises(FileNotFoundError):
        kernel.vfs.readlink(f"{path}/0-1000")


def test_in_process_calls_are_inits(kernel: Kernel) -> None:
    """What Python reads and writes it does as init: /proc/self is /proc/1, and what leads through it is there."""
    assert kernel.readlink("/proc/self") == "1"
    assert kernel.readlink("/proc/thread-self") == "1/task/1"
    assert kernel.read("/proc/self/maps") == kernel.read("/proc/1/maps") != b""
    assert kernel.read("/proc/mounts") == kernel.read("/proc/1/mounts") != b""


def test_stat_follows_and_lstat_does_not(kernel: Kernel) -> None:
    assert stat.S_ISDIR(kernel.stat("/proc/self").st_mode)
    assert stat.S_ISLNK(kernel.lstat("/proc/self").st_mode)
    assert kernel.lstat("/proc/self/stat") == kernel.stat("/proc/1/stat")
    assert (kernel.stat("/proc/meminfo").st_size, kernel.stat("/sys/devices/system/node/online").st_size) == (0, 4096)
