"""cgroup v1's files are a real kernel's: names, modes, contents, and what each write answers."""

from __future__ import annotations

import errno
import re
import stat
from functools import cache
from typing import TYPE_CHECKING

import pytest

import mmfs
from tests.golden.captures import GOLDEN

if TYPE_CHECKING:
    from collections.abc import Callable

    from mmfs.kernel.kernel import Kernel

TOP = "/sys/fs/cgroup/"
RECORDED = GOLDEN / "cgroup1/files.txt"
OWN_EVENTFD = "cgroup.event_control"
"""Answers EBADF for descriptors that are not open, which cannot be known here."""


@cache
def sections() -> dict[str, list[str]]:
    """What was printed, by the heading above it."""
    found: dict[str, list[str]] = {}
    for line in RECORDED.read_text().splitlines():
        if line.startswith("## "):
            lines = found.setdefault(line[3:], [])
        else:
            lines.append(line)
    return found


def contents(lines: list[str]) -> dict[str, str]:
    """Files and what cat said of them."""
    found: dict[str, str] = {}
    for line in lines:
        if line.startswith("--- "):
            name = line[4:]
            found[name] = ""
        else:
            found[name] += line + "\n"
    return found


def unescape(text: str) -> str:
    return text.encode().decode("unicode_escape")


@pytest.fixture
def kernel(boot: Callable[..., Kernel]) -> Kernel:
    kernel = boot(ram="512M", swap="256M", cpus=2, seed=1, preset="bare", cgroup="v1")
    for hierarchy in ("memory", "hugetlb", "pids"):
        kernel.mkdir(f"{TOP}{hierarchy}/t")
    return kernel


def read(kernel: Kernel, path: str) -> str:
    try:
        return kernel.read(TOP + path).decode()
    except OSError as error:
        return f"<read {errno.errorcode[error.errno or 0]}>"


@pytest.mark.parametrize("directory", [name[3:] for name in sections() if name.startswith("ls ")])
def test_names_and_modes(kernel: Kernel, directory: str) -> None:
    listed = set()
    for name in ["", *kernel.listdir(TOP + directory)]:
        found = kernel.stat(f"{TOP}{directory}/{name}".rstrip("/"))
        if not (name and stat.S_ISDIR(found.st_mode)):
            listed.add(f"{stat.S_IMODE(found.st_mode):o} {found.st_size} {directory}/{name}".rstrip("/"))
    assert sorted(listed) == sorted(sections()[f"ls {directory}"])


@pytest.mark.parametrize("directory", [name[4:] for name in sections() if name.startswith("cat ")])
def test_contents(kernel: Kernel, directory: str) -> None:
    """A new cgroup's byte for byte; the root's numbers are the machine's own."""
    for name, golden in contents(sections()[f"cat {directory}"]).items():
        text = read(kernel, f"{directory}/{name}").replace("<read EINVAL>", "cat: read error: Invalid argument\n")
        if not directory.endswith("/t"):
            golden, text = re.sub(r"\d+", "0", golden), re.sub(r"\d+", "0", text)
        assert text == golden, name


def test_writes(kernel: Kernel) -> None:
    """Each write in its order: errno, bytes taken, what is read afterwards; what was there first is put back."""
    rows = [line.split("\t") for line in sections()["write"][1:]]
    assert len(rows) > 150
    for path, given, open_errno, taken, error, before, after, restore in rows:
        assert open_errno == "0"
        where = f"{path} <- {given!r}"
        shown = read(kernel, path)
        if path != "memory/t/memory.stat":
            assert shown == unescape(before), where
        try:
            answer = (str(kernel.write(TOP + path, unescape(given))), "0")
        except OSError as failed:
            answer = ("-1", errno.errorcode[failed.errno or 0])
        if not path.endswith(OWN_EVENTFD) or error != "EBADF":
            assert answer == (taken, error), where
        if path != "memory/t/memory.stat":
            assert read(kernel, path) == unescape(after), where
        if restore == "ok":
            kernel.write(TOP + path, shown)
            assert read(kernel, path) == shown, where
    log = [line.partition(";")[2] for line in kernel.read("/dev/kmsg").decode().splitlines() if "deprecated" in line]
    assert log == sections()["log"]


def test_limits_in_the_wrong_order_and_what_is_inherited(kernel: Kernel) -> None:
    """As the section "order" of the recording."""

    def refused(name: str, value: str) -> None:
        with pytest.raises(OSError) as error:
            kernel.write(f"{TOP}memory/t/{name}", value)
        assert error.value.errno == errno.EINVAL

    refused("memory.memsw.limit_in_bytes", "64M")
    kernel.write(TOP + "memory/t/memory.limit_in_bytes", "64M")
    kernel.write(TOP + "memory/t/memory.memsw.limit_in_bytes", "64M")
    refused("memory.limit_in_bytes", "80M")
    refused("memory.memsw.limit_in_bytes", "32M")
    assert "hierarchical_memory_limit 67108864\nhierarchical_memsw_limit 67108864\n" in read(
        kernel, "memory/t/memory.stat"
    )
    for name, value in (("memory.swappiness", "70"), ("memory.oom_control", "1"), ("notify_on_release", "1")):
        kernel.write(f"{TOP}memory/t/{name}", value)
    kernel.mkdir(TOP + "memory/t/u")
    assert read(kernel, "memory/t/u/memory.swappiness") == "70\n"
    assert read(kernel, "memory/t/u/memory.oom_control").startswith("oom_kill_disable 1\n")
    assert read(kernel, "memory/t/u/notify_on_release") == "1\n"
    with pytest.raises(OSError) as error:
        kernel.rmdir(TOP + "memory/t")
    assert error.value.errno == errno.EBUSY
    kernel.rmdir(TOP + "memory/t/u")
    task = kernel.spawn("sleep", cgroup="memory:/t")
    with pytest.raises(OSError) as error:
        kernel.rmdir(TOP + "memory/t")
    assert error.value.errno == errno.EBUSY
    assert kernel.read(f"/proc/{task.pid}/cgroup") == b"3:pids:/\n2:hugetlb:/\n1:memory:/t\n"
    child = task.fork()
    child.exit(0)
    assert kernel.read(f"/proc/{child.pid}/cgroup").splitlines()[2] == b"1:memory:/", "a zombie is nowhere"
    task.exit(0)
    kernel.rmdir(TOP + "memory/t")


def test_proc_agrees(kernel: Kernel) -> None:
    golden = sections()["proc"]
    lines = kernel.read("/proc/cgroups").decode().splitlines()
    modelled = [line.split("\t") for line in lines if line.split("\t")[0] in ("memory", "hugetlb", "pids")]
    assert modelled == [["memory", "1", "2", "1"], ["hugetlb", "2", "2", "1"], ["pids", "3", "2", "1"]]
    assert lines[0] == golden[0]
    mounts = kernel.read("/proc/mounts").decode().splitlines()
    assert [line for line in mounts if line.startswith("cgroup ")] == golden[-3:]
    assert kernel.read("/proc/1/cgroup").decode().splitlines() == ["3:pids:/", "2:hugetlb:/", "1:memory:/"]


def test_the_tmpfs_is_read_only(kernel: Kernel) -> None:
    with pytest.raises(OSError) as error:
        kernel.mkdir(TOP + "more")
    assert error.value.errno == errno.EROFS
    assert kernel.listdir(TOP) == ["memory", "hugetlb", "pids"]


def test_systemd_and_containers(boot: Callable[..., Kernel]) -> None:
    kernel = boot(ram="1G", cpus=2, cgroup="v1", containers=2)
    assert kernel.listdir(TOP) == ["systemd", "memory", "hugetlb", "pids"]
    lines = kernel.read("/proc/1/cgroup").decode().splitlines()
    assert lines == ["4:pids:/init.scope", "3:hugetlb:/", "2:memory:/init.scope", "1:name=systemd:/init.scope"]
    for hierarchy in ("systemd", "memory", "pids"):
        assert {"init.scope", "system.slice", "user.slice"} <= set(kernel.listdir(TOP + hierarchy))
    shell = next(task for task in kernel.tasks.processes() if task.cgroup.endswith("session-1.scope"))
    assert str(shell.pid).encode() in kernel.read(f"{TOP}systemd{shell.cgroup}/tasks").split()
    pods = [group for group in kernel.listdir(TOP + "memory/kubepods.slice") if group.endswith(".slice")]
    assert len(pods) == 2
    mounts = kernel.read("/proc/mounts").decode()
    assert "xattr,release_agent=/usr/lib/systemd/systemd-cgroups-agent,name=systemd 0 0\n" in mounts


def test_only_v1_and_v2(boot: Callable[..., Kernel]) -> None:
    with pytest.raises(ValueError, match="known: v2, v1"):
        mmfs.boot(ram="128M", preset="bare", cgroup="v3")
