"""Every file below /proc/sys and /sys that we serve, on machines of the captured shapes, against every capture."""

from __future__ import annotations

import errno
import re
import stat
from functools import cache
from typing import TYPE_CHECKING

import pytest

import mmfs
from tests.golden.captures import CAPTURES, MACHINES, ManifestRow, manifests, snapshots
from tests.golden.compare import Mask, assert_layout, columns, exact

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel

TREES = ("proc/sys", "sys/devices/system", "sys/kernel/mm")

# What the captures have and we do not serve yet. This list must shrink; a path that is served must leave it.
NOT_SERVED = (
    "/sys/devices/system/cpu/cpufreq",
    "/sys/devices/system/cpu/cpuidle",
    "/sys/devices/system/cpu/hotplug",
    "/sys/devices/system/cpu/modalias",
    "/sys/devices/system/cpu/smt",
    "/sys/devices/system/cpu/vulnerabilities",
)


def numbers(text: str) -> str:
    """Mask numbers of any width."""
    return re.sub(r"\d+", "#", text)


# Numbers that are the machine's own; everything else is compared to the last byte.
MASKS: tuple[tuple[str, Mask], ...] = (
    (r"/sys/devices/system/node/node\d/meminfo", columns),
    (r"/sys/devices/system/node/node\d/(vmstat|numastat)", numbers),
    (r"/proc/sys/fs/(dentry-state|file-max|file-nr|inode-nr|inode-state)", numbers),
    (r"/proc/sys/kernel/threads-max", numbers),
    # run, and what ksmd had done by then in the guests
    (r"/sys/kernel/mm/ksm/(run|full_scans|general_profit|pages_\w+|stable_node_(chains|dups))", numbers),
    (r"/sys/kernel/mm/transparent_hugepage/khugepaged/full_scans", numbers),
    (r"/proc/sys/vm/(user_reserve_kbytes|min_free_kbytes)", numbers),
)

# What a scenario changed before a later snapshot.
AT_BOOT_ONLY = re.compile(r".*(hugepages|min_free_kbytes).*|/proc/sys/(kernel/(numa_balancing|printk)|vm/.*)")


@cache
def kernel_of(machine: str) -> Kernel:
    """A bare machine of the shape of a captured one. Tests here only read it."""
    kernel = mmfs.boot(preset="bare", seed=1, **MACHINES[machine])  # type: ignore[arg-type]
    kernel.uts.nodename = "golden"
    kernel.run_for(15.0)
    return kernel


def cases() -> list[tuple[str, str, str]]:
    """Machine, snapshot and path of every captured file and link."""
    found = []
    for machine in MACHINES:
        for number, snapshot in enumerate(snapshots(machine)):
            root = CAPTURES / machine / snapshot
            for tree in TREES:
                for file in sorted((root / tree).rglob("*")):
                    path = f"/{file.relative_to(root)}"
                    if file.is_dir() or path.startswith(NOT_SERVED) or (number and AT_BOOT_ONLY.match(path)):
                        continue
                    found.append((machine, snapshot, path))
    return found


def test_there_are_captures() -> None:
    assert len(cases()) > 1000
    assert {machine for machine, _, _ in cases()} == set(MACHINES)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("tree", TREES)
def test_contents(machine: str, tree: str) -> None:
    """Contents of files, targets of links."""
    kernel = kernel_of(machine)
    for of, snapshot, path in cases():
        if of != machine or not path.startswith(f"/{tree}"):
            continue
        golden = (CAPTURES / machine / snapshot / path.lstrip("/")).read_bytes()
        name = f"{machine}/{snapshot}{path}"
        if path.endswith(".LINK"):
            assert kernel.vfs.readlink(path.removesuffix(".LINK")) == golden.decode().rstrip("\n"), name
            continue
        mask = next((mask for pattern, mask in MASKS if re.fullmatch(pattern, path)), exact)
        assert_layout(kernel.read(path), golden, mask, name)


def ours_to_serve(path: str) -> bool:
    """Paths of this test."""
    return path.startswith(tuple(f"/{tree}/" for tree in TREES)) and not path.startswith(NOT_SERVED)


@pytest.mark.parametrize(
    ("machine", "snapshot", "rows"), list(manifests()), ids=[f"{m}/{s}" for m, s, _ in manifests()]
)
def test_types_modes_and_sizes(machine: str, snapshot: str, rows: dict[str, ManifestRow]) -> None:
    """Each path is what it was on the real machine, and none is missing."""
    kernel = kernel_of(machine)
    kinds = {"f": stat.S_IFREG, "d": stat.S_IFDIR, "l": stat.S_IFLNK}
    wrong = []
    for row in rows.values():
        if not ours_to_serve(row.path):
            continue
        try:
            found = kernel.vfs.lstat(row.path)
        except OSError as error:
            if row.mode is not None:
                wrong.append(f"{row.path}: {errno.errorcode[error.errno]}")
            continue
        if row.mode is None:
            wrong.append(f"{row.path}: there, {row.error} on the real machine")
        elif (found.mode, found.size) != (kinds[row.type] | row.mode, row.st_size):
            wrong.append(f"{row.path}: {found.mode:o} {found.size}, {row.type} {row.mode:o} {row.st_size} wanted")
        elif row.error is not None and row.error != read_error(kernel, row.path):
            wrong.append(f"{row.path}: {read_error(kernel, row.path)}, {row.error} wanted")
    assert not wrong, "\n".join(wrong)


def read_error(kernel: Kernel, path: str) -> str | None:
    """The errno of opening and reading a file."""
    try:
        kernel.read(path)
    except OSError as error:
        return errno.errorcode[error.errno]
    return None


@pytest.mark.parametrize("path", NOT_SERVED)
def test_the_list_is_true(path: str) -> None:
    """What the list names is in a capture, and not in our tree."""
    assert any(row.startswith(path) for _, _, rows in manifests() for row in rows) or any(
        (CAPTURES / machine).glob(f"*{path}*") for machine in MACHINES
    )
    with pytest.raises(FileNotFoundError):
        kernel_of("512M").stat(path)


def test_order() -> None:
    """Names are listed as a real readdir(2) gives them."""
    kernel = kernel_of("512M")
    block = "uevent node0 power online phys_device phys_index valid_zones subsystem state removable"
    assert kernel.listdir("/sys/devices/system/memory/memory3") == block.split()
    pool = "free_hugepages surplus_hugepages nr_hugepages"
    assert kernel.listdir("/sys/devices/system/node/node0/hugepages/hugepages-2048kB") == pool.split()


def test_nothing_but_what_a_real_kernel_has() -> None:
    """All names of a directory that the captures list completely."""
    kernel = kernel_of("5G-numa2")
    known = {row for _, _, rows in manifests() for row in rows}
    for directory in ("/sys/devices/system/node", "/sys/devices/system/node/node0", "/proc/sys/vm"):
        extra = [name for name in kernel.listdir(directory) if f"{directory}/{name}" not in known]
        assert not extra, f"{directory}: {extra}"
