"""The same files, rows and answers on a real kernel of another series and on mmfs with its profile.

Every directory below /proc and /sys that mmfs serves is listed on both: what mmfs serves must be there, and in the
directories of memory nothing may be missing. Rows are compared by name and order, writes by their error.
"""

from __future__ import annotations

import errno
import re
import stat
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

import mmfs
from tests.differential import realkernel
from tests.differential.agent import Agent

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernfs.entry import Entry

pytestmark = [pytest.mark.differential, pytest.mark.timeout(600)]
GROUP = "/sys/fs/cgroup/g"
# Directories of which mmfs has every file that Linux has.
WHOLE = re.compile(r"/proc/sys/vm$|/sys/kernel/mm/|/sys/devices/system/node/node\d/(hugepages|memory_failure)")
# In those, what a kernel of any series has and mmfs has not, or the other way round.
NOT_ALIKE = {"/sys/kernel/mm/page_idle", "/sys/kernel/mm/page_idle/bitmap"}
# What follows from processes, disks and the modules that were loaded for them.
OURS = re.compile(
    r"/(sim|dev)(/|$)|/sys/kernel/(tracing|debug)|/proc/\d|/sys/fs/cgroup/g/|/sys/devices/(virtual/bdi|pci)|/sys/module"
    r"|/sys/kernel/slab/(:a-\d+|ext4_groupinfo)"
)
# Files whose rows are a name and numbers; GROUP's as of a cgroup with memory enabled.
ROWS = (
    "/proc/meminfo", "/proc/vmstat", "/proc/zoneinfo", "/proc/1/status", "/proc/1/smaps", "/proc/1/smaps_rollup",
    "/proc/1/ksm_stat", "/sys/devices/system/node/node0/meminfo", "/sys/devices/system/node/node0/vmstat",
    "/sys/fs/cgroup/cgroup.stat", "/sys/fs/cgroup/cpu.stat", "/sys/fs/cgroup/memory.stat",
    "/sys/fs/cgroup/memory.numa_stat", f"{GROUP}/memory.stat", f"{GROUP}/memory.events", f"{GROUP}/memory.swap.events",
)  # fmt: skip
SAME = ("/sys/kernel/mm/lru_gen/enabled", "/sys/module/zswap/parameters/zpool", "/sys/kernel/cgroup/features")
WRITES = (
    ("/proc/sys/vm/compact_memory", "0"), ("/proc/sys/vm/compact_memory", "x"), ("/proc/sys/vm/page-cluster", "32"),
    ("/sys/fs/cgroup/memory.reclaim", "0 swappiness=0"), (f"{GROUP}/memory.reclaim", "0"),
    (f"{GROUP}/memory.peak", "x"), ("/proc/sys/kernel/sched_energy_aware", "1"),
    ("/sys/kernel/mm/lru_gen/enabled", "x"), (f"{GROUP}/memory.zswap.writeback", "0"),
)  # fmt: skip


@pytest.fixture(scope="module", params=["6.1", "6.12", "7.0", "6.1-686-pae"])
def machines(request: pytest.FixtureRequest) -> Iterator[tuple[Agent, Kernel]]:
    """A real machine and one of ours, each with a cgroup that has memory enabled."""
    version, pae, _ = request.param.partition(realkernel.PAE)
    arch, ram = ("i386-pae", 1200) if pae else ("x86_64", 512)
    agent = Agent(series=request.param, memory_mb=ram)
    kernel = mmfs.boot(
        ram=f"{ram}M", swap="256M", cpus=2, preset="bare", seed=1, arch=arch,
        profile="7.0.0" if version == "7.0" else version,  # what MMFS_KERNEL_7_0 names has few drivers
    )
    for write in (lambda *words: agent.call("write", *words), kernel.write):
        write("/sys/fs/cgroup/cgroup.subtree_control", "+memory +pids")
    agent.call("mkdir", GROUP)
    kernel.vfs.mkdir(GROUP)
    yield agent, kernel
    kernel.check()
    agent.close()


def directories(entry: Entry, path: str = "") -> Iterator[tuple[str, list[str]]]:
    """Each directory that has fixed names, and these."""
    inside = list(entry.readdir())
    yield path, [name for name, _ in inside]
    for name, child in inside:
        if child.type == stat.S_IFDIR and not OURS.match(f"{path}/{name}"):
            yield from directories(child, f"{path}/{name}")


def test_files_are_those_of_the_kernel(machines: tuple[Agent, Kernel]) -> None:
    agent, kernel = machines
    wrong, compared = [], 0
    for path, names in directories(kernel.vfs.walk("/")):
        try:
            real = set(agent.call("list", path or "/").split("\n")) - {".", "..", ""}
        except FileNotFoundError:
            real = set()
        more = {name for name in set(names) - real if not OURS.match(f"{path}/{name}")}
        fewer = real - set(names) if WHOLE.match(path) else set()
        wrong += [f"{path}/{name}: not there" for name in more if f"{path}/{name}" not in NOT_ALIKE]
        wrong += [f"{path}/{name}: not served" for name in fewer if f"{path}/{name}" not in NOT_ALIKE]
        compared += len(names)
    assert not wrong, "\n".join(sorted(wrong))
    assert compared > 2000


def labels(text: str) -> list[str]:
    """What stands in front of the numbers, line by line, without what depends on the processes and the disks."""
    end = r":\t|[:\s]\s*(?=[\d(-]|N\d|$)"
    return [re.split(end, line, maxsplit=1)[0].strip() for line in text.splitlines()]


def refusal(call: Any) -> str:
    """The name of the error of a call, if any."""
    try:
        call()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return ""


@pytest.mark.parametrize("path", ROWS)
def test_rows(machines: tuple[Agent, Kernel], path: str) -> None:
    agent, kernel = machines
    if "numa" in path or "/node/" in path:  # not every kernel has CONFIG_NUMA
        there = [refusal(lambda: kernel.read(path)), refusal(lambda: agent.call("read", path))]
        if any(there):
            assert there == ["ENOENT"] * 2
            return
    ours, theirs = (labels(text) for text in (kernel.read(path).decode(), agent.call("read", path)))
    if path.endswith("/smaps"):  # the rows of one mapping
        ours, theirs = ([label for label in rows if not re.match(r"[0-9a-f]+-", label)] for rows in (ours, theirs))
        ours, theirs = (list(dict.fromkeys(label.split()[0].rstrip(":") for label in rows)) for rows in (ours, theirs))
    if path.endswith("rollup"):
        ours, theirs = ours[1:], theirs[1:]
    assert ours == theirs


@pytest.mark.parametrize("path", SAME)
def test_contents(machines: tuple[Agent, Kernel], path: str) -> None:
    agent, kernel = machines
    there = [refusal(lambda: kernel.read(path)), refusal(lambda: agent.call("read", path))]
    if any(there):
        assert there == ["ENOENT"] * 2
        return
    assert kernel.read(path).decode() == agent.call("read", path)


def answer(write: Any, path: str, text: str) -> str:
    """The name of the error of a write, if any."""
    return refusal(lambda: write(path, text))


@pytest.mark.parametrize(("path", "text"), WRITES)
def test_writes(machines: tuple[Agent, Kernel], path: str, text: str) -> None:
    agent, kernel = machines
    assert answer(kernel.write, path, text) == answer(lambda *words: agent.call("write", *words), path, text)
