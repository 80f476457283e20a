"""/sys/block/zramN and /sys/class/zram-control against a real kernel's, and what they refuse."""

from __future__ import annotations

import csv
import errno
import stat
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from tests.golden.captures import GOLDEN

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel

pytestmark = pytest.mark.machine(ram="1G", cpus=2, preset="bare", cmdline="zram.num_devices=1")
ZRAM = "/sys/devices/virtual/block/zram0"
KINDS = {"f": stat.S_ISREG, "d": stat.S_ISDIR, "l": stat.S_ISLNK}
OWN = ("diskseq", "runtime_", "uevent")
"""What goes by how many disks there are, and what a device's power management tells."""


def fails(number: int, function: Callable[..., Any], *arguments: Any) -> None:
    with pytest.raises(OSError) as caught:
        function(*arguments)
    assert caught.value.errno == number


def set_up(kernel: Kernel, size: str = "256M", algorithm: str = "lz4") -> None:
    kernel.write("/sys/block/zram0/comp_algorithm", algorithm)
    kernel.write("/sys/block/zram0/disksize", size)
    kernel.mkswap("/dev/zram0")
    kernel.swapon("/dev/zram0", 100)


def test_files_are_a_real_kernels(kernel: Kernel) -> None:
    """Of those that we serve kind, mode and content, on a disk of 256 MB that is swapped on and empty."""
    set_up(kernel)
    with (GOLDEN / "zram_files.tsv").open(newline="") as stream:
        table = {row["path"]: row for row in csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)}
    served = [path for path, _ in kernel.vfs.entries(ZRAM)]
    assert {path for path in served if path not in table} <= {f"{ZRAM}/queue/zoned"}
    compared = 0
    for path in served:
        row, status = table.get(path), kernel.vfs.lstat(path)
        if row is None:
            continue
        assert KINDS[row["type"]](status.mode), path
        assert f"{status.mode & 0o7777:04o}" == row["mode"], path
        name = path.rpartition("/")[2]
        if row["type"] == "l":
            assert kernel.vfs.readlink(path) == row["content"], path
        elif row["type"] == "f" and status.mode & 0o400 and not name.startswith(OWN) and name != "stat":
            content = kernel.read(path).decode().replace("\n", "\\n") if name != "autosuspend_delay_ms" else ""
            assert content == row["content"], path
            compared += 1
    assert compared > 20
    assert {"mm_stat", "io_stat", "bd_stat", "debug_stat"} <= {path.rpartition("/")[2] for path in served}


def test_links_and_tables(kernel: Kernel) -> None:
    assert kernel.vfs.readlink("/sys/block/zram0") == "../devices/virtual/block/zram0"
    assert kernel.vfs.readlink("/sys/class/block/zram0") == "../../devices/virtual/block/zram0"
    assert "253 zram\n" in kernel.read("/proc/devices").decode()
    assert "zram0" not in kernel.read("/proc/partitions").decode()
    assert " 253       0 zram0 0 0 0 " in kernel.read("/proc/diskstats").decode()
    set_up(kernel)
    assert " 253        0     262144 zram0\n" in kernel.read("/proc/partitions").decode()
    row = ["/dev/zram0", "partition", "262140", "0", "100"]
    assert row in [line.split() for line in kernel.read("/proc/swaps").decode().splitlines()]


def modules(kernel: Kernel) -> dict[str, list[str]]:
    rows = [row.split() for row in kernel.read("/proc/modules").decode().splitlines()]
    return {row[0]: row[1:4] for row in rows}


def test_module(kernel: Kernel) -> None:
    """What a real kernel shows, which is used by each disk that is swapped on; and what it says."""
    assert kernel.read("/proc/modules").startswith(b"zram ")
    loaded = modules(kernel)
    assert loaded["zram"] == ["49152", "0", "-"]
    assert loaded["lz4_compress"] == ["24576", "2", "zram,lz4,"]
    assert loaded["lz4hc_compress"] == ["20480", "1", "zram,"]
    set_up(kernel)
    assert modules(kernel)["zram"] == ["49152", "1", "-"]
    kernel.swapoff("/dev/zram0")
    assert modules(kernel)["zram"] == ["49152", "0", "-"]
    kernel.read("/sys/class/zram-control/hot_add")
    said = kernel.read("/dev/kmsg").decode()
    assert said.count("zram: Added device: zram0") == said.count("zram: Added device: zram1") == 1


@pytest.mark.parametrize(
    ("algorithm", "kb", "header"), [("lz4", 440, 63), ("lz4hc", 920, 61), ("zstd", 768, 58), ("deflate", 776, 67)]
)
def test_memory_of_a_compressor(kernel: Kernel, algorithm: str, kb: int, header: int) -> None:
    """A real kernel's VmallocUsed grew like this for 64 MB with two CPUs; and the header's size there."""
    before, areas = kernel.vmalloc.nr_pages, kernel.vmalloc.nr_areas
    set_up(kernel, "64M", algorithm)
    assert (kernel.vmalloc.nr_pages - before) * 4 == kb
    assert kernel.read("/sys/block/zram0/mm_stat").split()[1] == b"%d" % header
    kernel.check()
    kernel.swapoff("/dev/zram0")
    kernel.write("/sys/block/zram0/reset", "1")
    assert (kernel.vmalloc.nr_pages, kernel.vmalloc.nr_areas) == (before, areas)
    kernel.check()


def test_hot_add_and_remove(kernel: Kernel) -> None:
    control = "/sys/class/zram-control"
    assert kernel.listdir(control) == ["hot_remove", "hot_add"]
    assert kernel.read(f"{control}/hot_add") == b"1\n"
    assert "zram1" in kernel.listdir("/sys/block")
    fails(errno.ENODEV, kernel.write, f"{control}/hot_remove", "7")
    fails(errno.EINVAL, kernel.write, f"{control}/hot_remove", "-1")
    set_up(kernel)
    fails(errno.EBUSY, kernel.write, f"{control}/hot_remove", "0")
    kernel.write(f"{control}/hot_remove", "1")
    assert "zram1" not in kernel.listdir("/sys/block")
    kernel.swapoff("/dev/zram0")
    kernel.write(f"{control}/hot_remove", "0")
    assert "zram0" not in kernel.listdir("/sys/block")
    assert kernel.read(f"{control}/hot_add") == b"0\n", "the lowest number that is free"
    kernel.check()


def test_in_use(kernel: Kernel) -> None:
    """What swap has open keeps its size and its pages."""
    set_up(kernel)
    fails(errno.EBUSY, kernel.write, "/sys/block/zram0/reset", "1")
    fails(errno.EBUSY, kernel.write, "/sys/block/zram0/disksize", "64M")
    fails(errno.ENODEV, kernel.write, "/sys/block/zram0/writeback", "idle")
    kernel.swapoff("/dev/zram0")
    free = kernel.vmalloc.nr_pages
    kernel.write("/sys/block/zram0/reset", "1")
    assert kernel.vmalloc.nr_pages < free, "the table of its pages is given back"
    assert kernel.read("/sys/block/zram0/disksize") == b"0\n"
    fails(errno.EINVAL, kernel.swapon, "/dev/zram0")


@pytest.mark.machine(ram="256M", preset="bare")
def test_module_is_loaded_by_hand(kernel: Kernel) -> None:
    assert "zram-control" not in kernel.listdir("/sys/class")
    control = kernel.vfs.open("/sim/control", 2)
    control.write(b"modprobe zram num_devices=2")
    assert {"zram0", "zram1"} <= set(kernel.listdir("/sys/block"))
    fails(errno.ENOENT, control.write, b"modprobe nosuch")
