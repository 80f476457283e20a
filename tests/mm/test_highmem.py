"""A machine with HighMem: which zone pages come from, three-level page tables, longs of 32 bits."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from mmfs.mm.mman import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE
from mmfs.mm_types import (
    GFP_ATOMIC,
    GFP_HIGHUSER,
    GFP_HIGHUSER_MOVABLE,
    GFP_KERNEL,
    ZONE_HIGHMEM,
    ZONE_MOVABLE,
    ZONE_NORMAL,
)

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel

MB = 1 << 20
FIXED = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED
Boot = Callable[..., "Kernel"]


def kb(kernel: Kernel, path: str = "/proc/meminfo") -> dict[str, int]:
    return {name: int(value) for name, value in re.findall(r"(\w+):\s+(\d+)", kernel.read(path).decode())}


@pytest.fixture
def machine(boot: Boot) -> Any:
    kernel = boot(ram="1G", cpus=2, preset="bare", arch="i386-pae")
    yield kernel
    kernel.check()


def test_the_zones_of_flags(machine: Kernel, boot: Boot) -> None:
    """What kernels with and without HighMem make of the same flags."""
    of = machine.page_alloc.gfp_zone
    assert [of(gfp) for gfp in (GFP_KERNEL, GFP_ATOMIC)] == [ZONE_NORMAL] * 2
    assert (of(GFP_HIGHUSER), of(GFP_HIGHUSER_MOVABLE)) == (ZONE_HIGHMEM, ZONE_MOVABLE)
    other = boot(ram="128M", cpus=1, preset="bare").page_alloc
    assert (other.gfp_zone(GFP_HIGHUSER), other.gfp_zone(GFP_HIGHUSER_MOVABLE)) == (ZONE_NORMAL, ZONE_MOVABLE)


def test_programs_take_high_memory_first_and_low_memory_next(machine: Kernel) -> None:
    before, task = kb(machine), machine.spawn("hog")
    task.touch(task.mmap("100M"), "100M", write=True)
    now = kb(machine)
    assert before["HighFree"] - now["HighFree"] >= 100 << 10
    assert before["LowFree"] - now["LowFree"] < 64, "a task's own objects"
    task.touch(task.mmap("100M"), "100M", write=True)
    now = kb(machine)
    assert now["HighFree"] < 4 << 10 and before["LowFree"] - now["LowFree"] > 40 << 10
    assert now["HighTotal"] + now["LowTotal"] == now["MemTotal"]


def test_the_page_cache_lies_high_and_its_inodes_low(machine: Kernel) -> None:
    task, before = machine.spawn("tar"), kb(machine)
    task.write("/data/archive", 0, 32 * MB)
    now = kb(machine)
    assert before["HighFree"] - now["HighFree"] > 31 << 10
    assert before["LowFree"] - now["LowFree"] < 1 << 10
    assert "pgalloc_high" in machine.read("/proc/vmstat").decode()


def test_page_tables_have_three_levels(machine: Kernel) -> None:
    """Three tables of 512 entries from the start, and one for each 2 MB; the root is 32 bytes of a slab."""
    task = machine.spawn("sparse")
    status = f"/proc/{task.pid}/status"
    first, used = kb(machine, status)["VmPTE"], machine.slab["pgd_cache"].nr_objects_inuse
    for address in (0x2000_0000, 0x2020_0000, 0x6000_0000, 0x9000_0000):
        task.touch(task.mmap(4096, addr=address, flags=FIXED), 4096, write=True)
    assert kb(machine, status)["VmPTE"] == first + 4 * 4
    with pytest.raises(OSError) as error:
        task.mmap(4096, addr=0xC000_0000, flags=FIXED)
    assert error.value.errno == errno.ENOMEM
    child = task.fork()
    assert machine.slab["pgd_cache"].nr_objects_inuse == used + 1
    child.exit()


def test_long_is_32_bits(machine: Kernel) -> None:
    machine.write("/proc/sys/vm/overcommit_kbytes", "4294967295")
    with pytest.raises(OSError) as error:
        machine.write("/proc/sys/vm/overcommit_kbytes", "4294967296")
    assert error.value.errno == errno.EINVAL
    with pytest.raises(OSError) as error:
        machine.write("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_overcommit_hugepages", str(1 << 32))
    assert error.value.errno == errno.ERANGE


@pytest.mark.parametrize("profile", ["6.1", "6.12"])
@pytest.mark.parametrize("ram", ["256M", "2G", "64G"])
def test_every_size_and_kernel_boots(boot: Boot, ram: str, profile: str) -> None:
    kernel = boot(ram=ram, cpus=2, preset="bare", arch="i386-pae", profile=profile)
    kernel.check()
    rows = kb(kernel)
    assert rows["LowTotal"] <= 880 << 10 and (rows["HighTotal"] > 0) == (ram != "256M")
    assert f"{profile}." in kernel.read("/proc/version").decode().split()[2]
