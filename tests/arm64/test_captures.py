"""Every file of a machine of arm64 with pages of 64 KB, as a running 6.12 had it right after boot."""

from __future__ import annotations

import re
import stat

import pytest

from mmfs.kernel.kernel import Kernel
from tests.golden.captures import CAPTURES, manifest
from tests.golden.compare import Mask, assert_layout, each, exact, only, words

MACHINE, BOOT = "2G-arm64-64k", CAPTURES / "2G-arm64-64k" / "00-boot"
PROCESS = re.compile(r"/proc/\d+(/|$)")

# What is not served, on no architecture, and what a zram that nobody asked for has.
ABSENT = re.compile(
    r"/proc/(allocinfo|key-users|locks|sysvipc/shm|vmallocinfo)$|/sys/(kernel/(slab|debug)|module|fs/cgroup/(io|misc)\.)"
    r"|/sys/devices/system/cpu/(hotplug|modalias|smt|vulnerabilities)|/sys/devices/system/memory/memory[017]$"
    r"|/sys/devices/virtual/(bdi/253:0|block/zram0|workqueue)"
)


def squeezed(text: str) -> str:
    """Numbers at any width."""
    return re.sub(r" +#", " #", words(text))


def without(pattern: str) -> Mask:
    """What is left without the lines that match."""
    compiled = re.compile(pattern)
    return lambda text: "".join(line for line in text.splitlines(True) if not compiled.search(line))


# What has happened since boot: numbers differ.
COUNTED = re.compile(
    r"/proc/(buddyinfo|interrupts|loadavg|meminfo|pagetypeinfo|partitions|pressure/\w+|softirqs|stat|uptime|vmstat"
    r"|zoneinfo|sys/fs/(dentry-state|file-max|file-nr|inode-nr|inode-state)|sys/vm/user_reserve_kbytes)$"
    r"|/sys/devices/system/node/node0/(meminfo|numastat|vmstat)|/sys/devices/virtual/bdi/254:\d+/max_bytes"
    r"|/sys/fs/cgroup/(memory\.(numa_)?stat|cpu\.(stat|pressure)|io\.pressure)|khugepaged/full_scans"
)
# Who lives there: kernel threads, a swap area that is on from the start, the name, what loglevel= says.
OTHER: dict[str, Mask] = {
    "/proc/devices": without("zram"),
    "/proc/diskstats": each(without("zram"), squeezed),
    "/proc/swaps": without("/dev/vdb"),
    "/proc/sys/kernel/hostname": only(r"^\w+$", lambda _: "NAME"),
    "/proc/sys/kernel/printk": only(r"^\d", lambda _: "#"),
    "/sys/fs/cgroup/cgroup.controllers": only(r" (cpu|io|rdma|misc)\b", lambda _: ""),
    "/sys/fs/cgroup/cgroup.procs": only(r"^\d+\n", lambda _: ""),
    "/sys/fs/cgroup/cgroup.threads": only(r"^\d+\n", lambda _: ""),
}


def files() -> list[str]:
    """The captured files of the machine as a whole."""
    paths = (f"/{path.relative_to(BOOT)}" for path in BOOT.rglob("*") if path.is_file())
    return sorted(path for path in paths if not PROCESS.match(path) and not re.search(r"\.(LINK|tsv)$", path))


def mask_of(path: str) -> Mask:
    """How a file is compared: byte for byte, if it is not named above."""
    return OTHER.get(path, squeezed if COUNTED.search(path) else exact)


def test_enough_is_exact() -> None:
    served = [path for path in files() if not ABSENT.search(path)]
    assert len([path for path in served if mask_of(path) is exact]) > 400


@pytest.mark.parametrize("path", [path for path in files() if not ABSENT.search(path)])
def test_file(captured_machine: Kernel, path: str) -> None:
    golden = (BOOT / path.lstrip("/")).read_bytes()
    assert_layout(captured_machine.read(path), golden, mask_of(path), path)


def test_types_modes_and_sizes(captured_machine: Kernel) -> None:
    """What lstat(2) says of each path; a file of sysfs claims 65,536 bytes."""
    wrong = []
    for path, row in manifest(MACHINE, "00-boot").items():
        if PROCESS.match(path) or ABSENT.search(path) or row.mode is None:
            continue
        found = captured_machine.lstat(path)
        if stat.S_IMODE(found.st_mode) != row.mode or (row.type == "f" and found.st_size != row.st_size):
            wrong.append(f"{path}: {stat.filemode(found.st_mode)} {found.st_size}, {row.mode:o} {row.st_size} wanted")
    assert not wrong


MEMORY = {
    "MemTotal": 0, "CommitLimit": 0, "VmallocTotal": 0, "Percpu": 0, "Hugepagesize": 0, "SwapCached": 0,
    "Slab": 128, "KReclaimable": 128, "SUnreclaim": 128, "VmallocUsed": 256, "KernelStack": 256, "MemFree": 18432,
    "MemAvailable": 18432, "Buffers": 0, "Cached": 256,
}  # fmt: skip
"""How many kB a number of meminfo may be from the real one: init's pages, page tables and tables of the GIC differ.

And of what is free the real machine has 160 pages on its CPUs' lists, ours some 20.
"""


def test_numbers_of_meminfo(captured_machine: Kernel) -> None:
    def numbers(text: str) -> dict[str, int]:
        return {line.split(":")[0]: int(line.split()[1]) for line in text.splitlines()}

    ours, real = numbers(captured_machine.read("/proc/meminfo").decode()), numbers((BOOT / "proc/meminfo").read_text())
    swap = numbers(captured_machine.read("/proc/meminfo").decode())["SwapTotal"]
    ours["CommitLimit"] -= swap
    assert {name: ours[name] - real[name] for name in MEMORY if abs(ours[name] - real[name]) > MEMORY[name]} == {}


def test_watermarks(captured_machine: Kernel) -> None:
    """The same pages, from the same memory."""
    rows = re.compile(r"^ +(?:boost|min|low|high|promo|spanned|present|managed|batch:?|start_pfn:) +\d+$", re.MULTILINE)
    real = (BOOT / "proc/zoneinfo").read_text()
    assert rows.findall(captured_machine.read("/proc/zoneinfo").decode()) == rows.findall(real)


def test_checked(captured_machine: Kernel) -> None:
    captured_machine.check()
