"""Every file of /proc/PID and /proc/PID/task/TID: names, order, modes, errors and layout as a real kernel has them."""

from __future__ import annotations

import errno
import os
import re
import stat
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import mmfs
from mmfs.kernfs import Caller
from mmfs.kernfs.entry import ROOT
from tests.golden.captures import CAPTURES, CMDLINE, GOLDEN, MACHINES, ManifestRow, manifests
from tests.golden.compare import Mask, assert_layout, each, exact, only, words

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task

# What a real kernel has in /proc/PID and we do not serve. It must shrink; what is served must leave it.
NOT_SERVED = {
    "net": "no network is simulated",
    "mem": "the contents of memory are not kept",
}
NOT_SERVED_OF_PROGRAMS = NOT_SERVED | {
    "syscall": "registers are not kept; a kernel thread's are zero and it has the file"
}


OTHER_KERNELS = {name for name, options in MACHINES.items() if options.keys() & {"profile", "arch"}}


@cache
def machine(name: str = "512M") -> tuple[Kernel, Task]:
    """A machine as a captured one, with a program on it; tests here only read."""
    kernel = mmfs.boot(preset="bare", seed=1, **MACHINES[name])  # type: ignore[arg-type]
    program = "probe" if name in OTHER_KERNELS else "golden"
    task = kernel.spawn(program, argv=[program, "zoo", "/dev/shm/zoo.ready", "/data", "s"])
    kernel.run_for(0.1)  # until it has started and sleeps
    return kernel, task


def of_kind(sort: str, name: str = "512M") -> tuple[Kernel, int]:
    """Our process like a captured one: init, a kernel thread, or a program."""
    kernel, task = machine(name)
    if sort == "kswapd0":
        return kernel, next(other.pid for other in kernel.tasks.processes() if other.comm == sort)
    return kernel, {"init": 1, "kthread": 2, "program": task.pid}[sort]


def section(name: str) -> str:
    """What the scenario printed under a heading."""
    text = (GOLDEN / "pid" / "output.txt").read_text()
    return re.split(r"(?m)^== ", text.split(f"== {name}\n", 1)[1])[0]


def ls_rows(text: str) -> dict[str, tuple[str, int, int]]:
    """Names to mode, links and size of `ls -la`."""
    rows = re.findall(r"^([dlrwx-]{10}) +(\d+) +\S+ +\S+ +(\d+) \S+ +\d+ [\d:]+ (\S+)(?: -> .*)?$", text, re.MULTILINE)
    return {name: (mode, int(nlink), int(size)) for mode, nlink, size, name in rows}


# ---- listings -----------------------------------------------------------------------------------------------------


def check_listing(kernel: Kernel, directory: str, real: dict[str, tuple[str, int, int]], missing: set[str]) -> None:
    names = kernel.listdir(directory)
    assert len(set(names)) == len(names)
    assert set(real) - {".", ".."} - set(names) == missing
    for name in names:
        found = kernel.vfs.lstat(f"{directory}/{name}")
        assert stat.filemode(found.mode) == real[name][0], name
        if name not in ("fd", "task"):
            assert (found.nlink, found.size) == real[name][1:], name


def test_listing_of_a_process() -> None:
    kernel, pid = of_kind("init")
    check_listing(kernel, f"/proc/{pid}", ls_rows(section("la 1")), set(NOT_SERVED_OF_PROGRAMS))
    check_listing(kernel, "/proc/2", ls_rows(section("la 1")), set(NOT_SERVED))


def test_listing_of_a_thread() -> None:
    kernel, pid = of_kind("init")
    real = ls_rows(section("la task").split("/proc/1/task/1:")[1])
    check_listing(kernel, f"/proc/{pid}/task/{pid}", real, set(NOT_SERVED_OF_PROGRAMS))
    check_listing(kernel, "/proc/2/task/2", real, set(NOT_SERVED))


def test_order_is_the_kernels() -> None:
    """Of the table in fs/proc/base.c: some neighbours that sorting by name would part."""
    kernel, pid = of_kind("program")
    names = kernel.listdir(f"/proc/{pid}")
    assert names[:5] == ["task", "fd", "map_files", "fdinfo", "ns"]
    assert names[-4:] == ["patch_state", "arch_status", "ksm_merging_pages", "ksm_stat"]
    assert names.index("cwd") + 1 == names.index("root") == names.index("exe") - 1
    thread = kernel.listdir(f"/proc/{pid}/task/{pid}")
    assert thread[thread.index("maps") : thread.index("maps") + 3] == ["maps", "children", "numa_maps"]
    assert set(names) - set(thread) == {
        "task", "map_files", "autogroup", "timens_offsets", "mountstats", "coredump_filter", "timers", "timerslack_ns"
    }  # fmt: skip


def test_directories() -> None:
    """Modes and links of the directories; those that are not served are subdirectories less."""
    kernel, _ = machine()
    for path, mode, nlink, _ in re.findall(r"^(/proc/\S+) (\S+) (\d+) (\d+)$", section("stat"), re.MULTILINE):
        if path.rpartition("/")[2] in NOT_SERVED:
            continue
        found = kernel.stat(path)
        absent = 1 if path in ("/proc/1", "/proc/1/task/1") else 0  # net
        assert (stat.filemode(found.st_mode), found.st_nlink) == (mode, int(nlink) - absent), path
    assert kernel.stat("/proc/1/fd").st_size == len(kernel.listdir("/proc/1/fd"))


def test_namespaces_and_attr() -> None:
    kernel, _ = machine()
    links = dict(re.findall(r" (\w+) -> (\w+:\[\d+\])$", section("ns"), re.MULTILINE))
    assert {name: kernel.vfs.readlink(f"/proc/1/ns/{name}") for name in kernel.listdir("/proc/1/ns")} == links
    check_listing(kernel, "/proc/1/attr", ls_rows(section("attr").split("/proc/1/attr/apparmor:")[0]), set())
    assert kernel.read("/proc/1/attr/current") == b"unconfined\n"
    for name in ("exec", "fscreate", "keycreate", "prev", "sockcreate"):
        assert f"/proc/1/attr/{name}\ncat: read error: Invalid argument" in section("attr")
        with pytest.raises(OSError) as error:
            kernel.read(f"/proc/1/attr/{name}")
        assert error.value.errno == errno.EINVAL


# ---- the manifests ------------------------------------------------------------------------------------------------


def manifest_rows() -> list[tuple[str, str, ManifestRow]]:
    """Every row of a process in every manifest: which snapshot, what kind of process, the row."""
    found = []
    for name, snapshot, rows in manifests():
        kthreads = {path.rpartition("/")[0] for path, row in rows.items() if row.error == "ESRCH"}
        for row in rows.values():
            match = re.match(r"/proc/\d+(?=/|$)", row.path)
            if match and row.error != "ENOENT":
                sort = "init" if match[0] == "/proc/1" else "kthread" if match[0] in kthreads else "program"
                found.append((f"{name}/{snapshot}", sort, row))
    return found


def test_types_modes_and_errors() -> None:
    """Each captured path is of the same type, mode and size, and fails at open(2) or read(2) with the same error."""
    rows = manifest_rows()
    assert len(rows) > 500
    kinds = {"f": stat.S_IFREG, "d": stat.S_IFDIR, "l": stat.S_IFLNK}
    wrong = []
    for where, sort, row in rows:
        kernel, pid = of_kind(sort, name if (name := where.partition("/")[0]) in OTHER_KERNELS else "512M")
        path = re.sub(r"^/proc/\d+", f"/proc/{pid}", row.path)
        if path.rpartition("/")[2] in (NOT_SERVED if sort == "kthread" else NOT_SERVED_OF_PROGRAMS):
            continue
        found = kernel.vfs.lstat(path)
        if (stat.S_IFMT(found.mode), stat.S_IMODE(found.mode)) != (kinds[row.type], row.mode):
            wrong.append(f"{where}{row.path}: {stat.filemode(found.mode)}, {row.type}{row.mode:o} wanted")
        if found.size != row.st_size and not row.path.endswith("/fd"):
            wrong.append(f"{where}{row.path}: st_size {found.size}, {row.st_size} wanted")
        if row.type == "f" and row.note != "listing" and (error := failure(kernel, path)) != (row.error, row.note):
            wrong.append(f"{where}{row.path}: {error}, {row.error} of {row.note} wanted")
    assert not wrong, "\n".join(wrong)


def failure(kernel: Kernel, path: str) -> tuple[str | None, str]:
    """The error of reading a file and where it came from, as a manifest notes it."""
    note = "open"
    try:
        opened = kernel.vfs.open(path)
        note = "read"
        opened.read(4096, 0)
    except OSError as error:
        return errno.errorcode[error.errno or 0], note
    return None, ""


# ---- layout -------------------------------------------------------------------------------------------------------


def width(text: str) -> str:
    """As many # as there were letters."""
    return "#" * len(text)


TMPFS_SIZE = r"size=\d+k(,nr_inodes=\d+)?"

# How numbers stand in each file. What no mask names is compared as it is.
LAYOUTS: dict[str, Mask] = {
    "stat": words,
    "statm": words,
    "io": words,
    "schedstat": words,
    "sched": each(only(r":.*$", width), only(r"\(\d+,", lambda text: "(#,")),
    "limits": only(r"^Max (processes|pending signals).*$", width),
    "oom_score": words,
    "cgroup": exact,
    "comm": exact,
    "cmdline": exact,
    "oom_adj": exact,
    "oom_score_adj": exact,
    "timerslack_ns": exact,
    "coredump_filter": exact,
    "cpuset": exact,
    "personality": exact,
    "loginuid": exact,
    "sessionid": exact,
    "autogroup": exact,
    "arch_status": exact,
    "cpu_resctrl_groups": exact,
    "setgroups": exact,
    "uid_map": exact,
    "gid_map": exact,
    "projid_map": exact,
    "patch_state": exact,
    "timens_offsets": exact,
    "ksm_stat": each(words, only(r"(?<=: )(yes|no)$", lambda answer: "#")),
    "ksm_merging_pages": words,
    "wchan": exact,
    "mounts": only(TMPFS_SIZE, lambda text: "#"),
    "mountinfo": only(TMPFS_SIZE, lambda text: "#"),
    "mountstats": exact,
    "smaps_rollup": each(only(r"^[0-9a-f]+-[0-9a-f]+", width), only(r":.*kB$", width)),
    "status": each(
        only(r"^(Vm\w+|Rss\w+|HugetlbPages):.*$", lambda text: f"{text[:text.index(':')]}:{'#' * len(text)}"),
        only(r"^(Tgid|Pid|PPid|NStgid|NSpid|NSpgid|NSsid|SigQ|\w+_ctxt_switches):\t.*$", words),
        only(r"^SigQ:\t.*$", lambda text: "SigQ:\t#"),
        only(r"^Sig(Ign|Cgt):\t[0-9a-f]{16}$", lambda text: text[:8] + "#" * 16),
    ),
}  # fmt: skip
PIDS = {
    ("512M", "kthread"): ("00-boot", "2"),
    ("512M", "kswapd0"): ("00-boot", "51"),
    ("512M", "program"): ("02-zoo", "262"),
    ("512M-6.1", "kthread"): ("00-boot", "2"),
    ("512M-6.1", "kswapd0"): ("00-boot", "44"),
    ("512M-6.1", "program"): ("02-zoo", "211"),
    ("512M-7.0", "kthread"): ("00-boot", "2"),
    ("512M-7.0", "kswapd0"): ("00-boot", "45"),
    ("512M-7.0", "program"): ("02-zoo", "177"),
    ("2G-686-pae", "kthread"): ("00-boot", "2"),
    ("2G-686-pae", "program"): ("02-zoo", "214"),
}


def golden_file(where: str, sort: str, name: str) -> Path:
    """A captured file of a process of a kind."""
    snapshot, pid = PIDS[where, sort]
    return CAPTURES / where / snapshot / "proc" / pid / name


def layout_cases() -> list[tuple[str, str, str]]:
    """Every file in LAYOUTS that a process of that kind could be read."""
    return [(*kind, name) for kind in PIDS for name in LAYOUTS if golden_file(*kind, name).exists()]


@pytest.mark.parametrize(("where", "sort", "name"), layout_cases())
def test_layout(where: str, sort: str, name: str) -> None:
    kernel, pid = of_kind(sort, where)
    file = golden_file(where, sort, name)
    assert_layout(kernel.read(f"/proc/{pid}/{name}"), file.read_bytes(), LAYOUTS[name], str(file))


@pytest.mark.parametrize("where", ["512M", "512M-6.1", "512M-7.0", "2G-686-pae"])
def test_rows_of_smaps(where: str) -> None:
    """Of the heap, which both programs have."""
    kernel, pid = of_kind("program", where)

    def heap(text: str) -> str:
        return re.split(r"(?m)^.*\[heap\]$", text)[1].partition("VmFlags")[0]

    mask = only(r"(?<=:)\s*\d+(?= kB$)", width)
    real = golden_file(where, "program", "smaps").read_text()
    assert_layout(heap(kernel.read(f"/proc/{pid}/smaps").decode()), heap(real), mask)


def test_sched_of_two_nodes() -> None:
    """A row a node."""
    kernel = mmfs.boot(ram="5G", nodes=["3G", "2G"], cpus=2, preset="bare", seed=1, cmdline=CMDLINE)
    file = CAPTURES / "5G-numa2" / "00-boot" / "proc" / "1" / "sched"
    assert_layout(kernel.read("/proc/1/sched"), file.read_bytes(), LAYOUTS["sched"], str(file))


def test_auxv() -> None:
    """The same entries in the same order; those that are no addresses have the same values."""
    kernel, pid = of_kind("program")
    real = (CAPTURES / "512M" / "02-zoo" / "proc" / "262" / "auxv").read_bytes()
    mine = kernel.read(f"/proc/{pid}/auxv")

    def entries(data: bytes) -> list[tuple[int, int]]:
        numbers = [int.from_bytes(data[at : at + 8], "little") for at in range(0, len(data), 8)]
        return list(zip(numbers[::2], numbers[1::2], strict=True))

    assert [key for key, _ in entries(mine)] == [key for key, _ in entries(real)]
    differ = {key for (key, value), (_, other) in zip(entries(mine), entries(real), strict=True) if value != other}
    assert differ <= {9, 15, 25, 31, 33}, "entry, platform, random, file name, vDSO"


# ---- kernel threads and zombies -----------------------------------------------------------------------------------


def errno_of(kernel: Kernel, path: str, caller: Caller = ROOT) -> str:
    with pytest.raises(OSError) as error:
        kernel.vfs.read(path, caller)
    assert error.value.errno
    return errno.errorcode[error.value.errno]


def test_kernel_thread() -> None:
    kernel, _ = machine()
    with pytest.raises(FileNotFoundError):
        kernel.vfs.readlink("/proc/2/exe")
    assert kernel.vfs.readlink("/proc/2/cwd") == kernel.vfs.readlink("/proc/2/root") == "/"
    assert kernel.read("/proc/2/syscall") == (CAPTURES / "512M/00-boot/proc/2/syscall").read_bytes()
    assert kernel.listdir("/proc/2/fd") == kernel.listdir("/proc/2/map_files") == []
    with pytest.raises(ProcessLookupError):
        kernel.write("/proc/2/coredump_filter", "1")
    kernel.write("/proc/2/clear_refs", "1")


def test_zombie(kernel: Kernel) -> None:
    """A dead process that its parent has not asked for shows what a real one shows."""
    parent = kernel.spawn("sh", uid=1000)
    child = parent.fork()
    child.exit(3)
    pid = child.pid
    real = section("zombie")
    parts = dict(re.findall(r"^-- (\w+)\n((?:(?!-- |/proc/).*\n)*)", real, re.MULTILINE))
    check_listing(kernel, f"/proc/{pid}", ls_rows(real.split("-- stat")[0]), set(NOT_SERVED_OF_PROGRAMS))
    assert kernel.stat(f"/proc/{pid}").st_uid == kernel.stat(f"/proc/{pid}/task").st_uid == 1000
    assert {kernel.stat(f"/proc/{pid}/{name}").st_uid for name in ("stat", "fd", "ns", "comm")} == {0}
    for name in ("statm", "maps", "smaps", "numa_maps", "cmdline", "comm", "cgroup", "cpuset", "oom_score",
                 "stack", "autogroup", "timens_offsets", "coredump_filter", "ksm_stat", "ksm_merging_pages",
                 "personality", "timerslack_ns", "arch_status", "patch_state", "timers"):  # fmt: skip
        assert kernel.read(f"/proc/{pid}/{name}").decode() == parts[name], name
    for name in ("smaps_rollup", "environ", "auxv", "pagemap"):
        assert "No such process" in parts[name]
        assert errno_of(kernel, f"/proc/{pid}/{name}") == "ESRCH"
    for name in ("mounts", "mountinfo", "mountstats"):
        assert "Invalid argument" in parts[name]
        assert errno_of(kernel, f"/proc/{pid}/{name}") == "EINVAL"
    for name in ("cwd", "root", "exe"):
        with pytest.raises(FileNotFoundError):
            kernel.vfs.readlink(f"/proc/{pid}/{name}")
    assert_layout(kernel.read(f"/proc/{pid}/stat"), parts["stat"], words)
    assert kernel.read(f"/proc/{pid}/stat").endswith(b" 768\n")
    mine = kernel.read(f"/proc/{pid}/status").decode()
    assert re.findall(r"(?m)^\w+:", mine) == re.findall(r"(?m)^\w+:", parts["status"])
    assert mine.startswith("Name:\tsh\nState:\tZ (zombie)\n")
    assert parent.wait() == (pid, 3 << 8)
    assert str(pid) not in kernel.listdir("/proc")


OUTLIVE = {"auxv": 368, "environ": 0, "pagemap": 0, "uid_map": 33, "gid_map": 33, "projid_map": 33, "setgroups": 6}
"""Files that a real 6.12 lets one read when whoever they are of has been reaped, and how many bytes; all others: ESRCH.
mounts, mountinfo and mountstats go on, too."""


def test_open_files_of_the_reaped(kernel: Kernel) -> None:
    """What was opened while the process lived, and is read, or written to, after it has been waited for."""
    parent = kernel.spawn("sh")
    child = parent.fork()
    directory = f"/proc/{child.pid}"
    opened = {
        name: kernel.vfs.open(f"{directory}/{name}", os.O_RDONLY)
        for name in kernel.listdir(directory)
        if stat.S_ISREG(kernel.vfs.lstat(f"{directory}/{name}").mode) and name not in ("clear_refs", "children")
    }
    written = [kernel.vfs.open(f"{directory}/{name}", os.O_WRONLY) for name in ("comm", "autogroup", "coredump_filter")]
    kernel.kill(child.pid, 9)
    parent.wait()
    for name, file in opened.items():
        if name in OUTLIVE:
            assert len(file.read(4096)) == OUTLIVE[name], name
        elif name.startswith("mount"):
            assert file.read(4096)
        else:
            with pytest.raises(ProcessLookupError):
                file.read(4096)
    for file in written:
        with pytest.raises(ProcessLookupError):
            file.write(b"1")
    assert {"status", "maps", "smaps", "io", "stat", *OUTLIVE} <= set(opened)
