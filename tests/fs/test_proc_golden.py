"""Every system-wide file of /proc, on machines of the same shape as the captured ones, against every capture.

All bytes but the numbers must agree (tests/golden/compare.py). Files whose text depends on what was plugged
in or loaded are compared row by row instead, and say so.
"""

from __future__ import annotations

import errno
import stat
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

import pytest

import mmfs
from tests.golden.captures import MACHINES, Capture, ManifestRow, at_boot, captures, manifests
from tests.golden.compare import (
    Mask,
    addresses,
    assert_layout,
    assert_rows,
    columns,
    each,
    exact,
    only,
    words,
)

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel


@cache
def kernel_of(machine: str) -> Kernel:
    """A bare machine of the shape of a captured one, some seconds after boot. Tests here only read it."""
    kernel = mmfs.boot(preset="bare", seed=1, **MACHINES[machine])  # type: ignore[arg-type]
    kernel.run_for(15.0)
    return kernel


def ours(capture: Capture) -> str:
    """What our machine of that shape says."""
    return kernel_of(capture.machine).read(capture.path).decode()


# How numbers stand in each file. What no mask names is compared as it is.
LAYOUTS: dict[str, Mask] = {
    "/proc/meminfo": columns,
    "/proc/buddyinfo": only(r"(?<=zone)( +\w+) .*$", columns),
    "/proc/pagetypeinfo": only(r"(?<= )( +\d+ )+$", columns),
    "/proc/zoneinfo": only(r"^(?!Node).*$", words),
    "/proc/vmstat": words,
    "/proc/loadavg": words,
    "/proc/pressure/io": words,
    "/proc/pressure/cpu": words,
    "/proc/pressure/memory": words,
    "/proc/uptime": words,
    "/proc/stat": words,
    "/proc/version": exact,
    "/proc/cgroups": exact,
    "/proc/filesystems": exact,
    "/proc/misc": exact,
    "/proc/cpuinfo": only(r"^(cpu MHz|bogomips).*$", words),
    "/proc/interrupts": only(r"^ *\w+: (( *\d+ ){2}| +\d+$)", each(only(r":.*$", columns))),
    "/proc/softirqs": only(r":.*$", columns),
    "/proc/ioports": exact,
    "/proc/modules": only(r"0xf(fffffffc)?[0-9a-f]{7}", lambda text: "#" * len(text)),
}

# Files that some captures show after something that these machines did not do, and from which machine states.
SAME_STATE: dict[str, tuple[str, ...]] = {
    "/proc/cgroups": ("00-boot", "00-boot-hugepages"),  # cgroups were made later
    "/proc/misc": ("00-boot", "00-boot-hugepages"),  # zram's control device
    "/proc/modules": ("00-boot", "00-boot-hugepages"),  # zram was loaded later
    "/proc/interrupts": ("00-boot", "00-boot-hugepages"),
}


# What follows from the drivers that a kernel was built with: the one of this machine has few.
FEW_DRIVERS = "512M-7.0"
OF_DRIVERS = ("/proc/modules", "/proc/devices")


def layout_cases() -> list[tuple[str, Capture]]:
    """Every capture of every file in LAYOUTS."""
    return [
        (path, capture)
        for path in LAYOUTS
        for capture in captures(path)
        if capture.snapshot in SAME_STATE.get(path, (capture.snapshot,))
        and not (capture.machine == FEW_DRIVERS and path in OF_DRIVERS)
    ]


@pytest.mark.parametrize(("path", "golden"), layout_cases(), ids=[str(case[1]) for case in layout_cases()])
def test_layout(path: str, golden: Capture) -> None:
    assert_layout(ours(golden), golden.data, LAYOUTS[path], str(golden))


# Tables of which our machine has some rows of the captured one's: each row that both have must agree.
ROWS: dict[str, tuple[Mask, Callable[[str], str], int, int]] = {
    # path: mask, what names a row, lines of header, rows in common at least
    "/proc/slabinfo": (columns, lambda line: line.split()[0], 2, 100),
    "/proc/diskstats": (words, lambda line: line.split()[2], 0, 2),
    "/proc/partitions": (columns, lambda line: line.split()[-1] if line.strip() else "", 1, 3),
    "/proc/devices": (exact, str, 1, 25),
}


def row_cases() -> list[tuple[str, Capture]]:
    """Every capture of every file in ROWS."""
    return [
        (path, capture)
        for path in ROWS
        for capture in captures(path)
        if not (capture.machine == FEW_DRIVERS and path in OF_DRIVERS)
    ]


@pytest.mark.parametrize(("path", "golden"), row_cases(), ids=[str(case[1]) for case in row_cases()])
def test_rows(path: str, golden: Capture) -> None:
    mask, key, header, at_least = ROWS[path]
    assert_rows(ours(golden), golden.data, mask, key, header=header, at_least=at_least, name=str(golden))


@pytest.mark.parametrize("machine", MACHINES)
def test_iomem(machine: str) -> None:
    """The firmware's ranges and the devices' are the captured ones; the kernel lies where KASLR put it."""

    def fixed(text: str) -> str:
        lines = text.splitlines(keepends=True)
        return "".join(addresses(line) if " Kernel " in line else line for line in lines if " Kernel " not in line)

    golden = at_boot(machine, "/proc/iomem").decode()
    mine = kernel_of(machine).read("/proc/iomem").decode()
    assert fixed(mine) == fixed(golden)

    def kernel_rows(text: str) -> list[tuple[str, int]]:
        rows = [line.split(" : ") for line in text.splitlines() if " Kernel " in line]
        return [(name, int(span.split("-")[1], 16) - int(span.split("-")[0], 16)) for span, name in rows]

    assert kernel_rows(mine) == kernel_rows(golden)


@pytest.mark.parametrize("machine", MACHINES)
def test_swaps(machine: str) -> None:
    """One swap partition, enabled at boot."""
    (golden,) = [capture for capture in captures("/proc/swaps", "512M") if capture.snapshot == "10-listing"]
    lines = golden.data.decode().splitlines(keepends=True)
    mine = kernel_of(machine).read("/proc/swaps").decode()
    assert_layout(mine, "".join(lines[:2]), only(r"\t.*$", words))
    assert "/dev/vdb" in mine
    assert "\t262140\t" in mine


# -- types, modes, sizes ----------------------------------------------------------------------------------------

# What the captures have and we do not serve yet. This list must shrink; a path that is served must leave it.
NOT_SERVED = {
    "/proc/key-users",
    "/proc/locks",
    "/proc/vmallocinfo",
}


def system_wide(path: str) -> bool:
    """Files of /proc that belong to the machine: no process, no sysctl."""
    parts = path.split("/")
    return parts[1] == "proc" and not parts[2].isdigit() and parts[2] not in ("sys", "self")


def manifest_cases() -> list[tuple[str, str, dict[str, ManifestRow]]]:
    """Every manifest of a snapshot."""
    return list(manifests())


@pytest.mark.parametrize(
    ("machine", "snapshot", "rows"), manifest_cases(), ids=[f"{m}/{s}" for m, s, _ in manifest_cases()]
)
def test_types_modes_and_sizes(machine: str, snapshot: str, rows: dict[str, ManifestRow]) -> None:
    """Each path is what it was on the real machine, and none is missing but those listed."""
    kernel = kernel_of(machine)
    kinds = {"f": stat.S_IFREG, "d": stat.S_IFDIR, "l": stat.S_IFLNK}
    wrong, missing = [], set()
    for row in filter(lambda row: system_wide(row.path), rows.values()):
        try:
            found = kernel.vfs.lstat(row.path)
        except OSError as error:
            if row.error != errno.errorcode[error.errno]:
                missing.add(row.path)
            continue
        assert row.mode is not None
        expected = (kinds[row.type] | row.mode, row.st_size)
        if (found.mode, found.size) != expected:
            wrong.append(f"{row.path}: {found.mode:o} {found.size}, {expected[0]:o} {expected[1]} wanted")
    assert not wrong, "\n".join(wrong)
    assert missing == NOT_SERVED & set(rows)


def test_all_that_a_real_kernel_lists() -> None:
    """Names in /proc with type, mode and owner as `ls -la /proc` printed them; ours are a part of them."""
    (listing,) = [c for c in captures("/ls-la-proc.txt") if c.snapshot == "10-listing"]
    real = {}
    for line in listing.data.decode().splitlines():
        word = line.split()
        if len(word) >= 9 and not word[8].isdigit() and word[8] not in (".", ".."):
            real[word[8]] = (word[0], word[2], word[3])
    kernel = kernel_of("512M")
    names = [name for name in kernel.listdir("/proc") if not name.isdigit()]
    assert set(names) <= set(real)
    for name in names:
        found = kernel.vfs.lstat(f"/proc/{name}")
        owner = {0: "root"}
        assert (stat.filemode(found.mode), owner.get(found.uid), owner.get(found.gid)) == real[name], name


def test_cmdline_has_its_length() -> None:
    """The one file of /proc whose size is known: ls printed 41 for these 40 letters and a newline."""
    (golden,) = captures("/proc/cmdline")
    kernel = mmfs.boot(ram="512M", preset="bare", cmdline=golden.data.decode().rstrip("\n"))
    assert kernel.read("/proc/cmdline") == golden.data
    assert kernel.stat("/proc/cmdline").st_size == len(golden.data) == 41
