"""Contiguous memory areas, on a simulated machine and on a real 6.12 that was built with them.

Debian's has none, so the real one is asked if MMFS_KERNEL_6_12_CMA names its bzImage.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import mmfs
from tests.cgroup_v2.machine import KB, MB, PAGE, Linux, Machine, Simulated, errno_of
from tests.differential.agent import Agent
from tests.mm.test_gigantic_pages import meminfo, vmstat

AREA = "/sys/kernel/debug/cma/reserved"
COUNTS = "/sys/kernel/mm/cma/reserved"
PAGES = 64 * MB // PAGE


@pytest.fixture(scope="module")
def agent() -> Iterator[Agent]:
    agent = Agent(series="6.12-cma", cmdline="cma=64M")
    yield agent
    agent.close()


@pytest.fixture(params=["simulated", pytest.param("linux", marks=pytest.mark.differential)])
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """512 MB, 64 of them contiguous."""
    simulated = request.param == "simulated"
    made = (
        Simulated(profile="6.12-cma", cmdline="cma=64M") if simulated else Linux(request.getfixturevalue("agent"))
    )
    made.write("/sys/kernel/mm/transparent_hugepage/enabled", "never")
    yield made
    made.write(f"{AREA}/free", PAGES)
    made.close()


def taken(machine: Machine) -> tuple[int, int]:
    """Pages that are taken, and the longest run of others."""
    return machine.number(f"{AREA}/used"), machine.number(f"{AREA}/maxchunk")


def test_the_files(machine: Machine) -> None:
    assert machine.listdir(AREA) == {
        "alloc", "base_pfn", "bitmap", "count", "free", "maxchunk", "order_per_bit", "used",
    }  # fmt: skip
    modes = {name: machine.mode(f"{AREA}/{name}") & 0o777 for name in machine.listdir(AREA)}
    assert modes == dict.fromkeys(modes, 0o444) | {"alloc": 0o200, "free": 0o200}
    assert machine.listdir(COUNTS) == {"alloc_pages_fail", "alloc_pages_success", "release_pages_success"}
    assert (machine.number(f"{AREA}/count"), machine.number(f"{AREA}/order_per_bit")) == (PAGES, 0)
    assert machine.number(f"{AREA}/base_pfn") % 512 == 0
    assert machine.read(f"{AREA}/bitmap").split() == ["0"] * (PAGES // 32)
    assert meminfo(machine, "CmaTotal") == 64 * KB
    rows = [line.split(":")[0] for line in machine.read("/proc/meminfo").splitlines()]
    assert rows[rows.index("FilePmdMapped") + 1 :][:2] == ["CmaTotal", "CmaFree"]
    assert f"cma      {PAGES}" in machine.read("/proc/zoneinfo")
    types = machine.read("/proc/pagetypeinfo").splitlines()
    assert types[-3].split()[4:] == ["Unmovable", "Movable", "Reclaimable", "HighAtomic", "CMA", "Isolate"]
    assert types[-1].split()[-2:] == [str(PAGES // 512), "0"]


def test_runs_come_and_go(machine: Machine) -> None:
    before = vmstat(machine, "cma_alloc_success")
    success, released = (machine.number(f"{COUNTS}/{name}_success") for name in ("alloc_pages", "release_pages"))
    machine.write(f"{AREA}/alloc", 1000)
    assert taken(machine) == (1000, PAGES - 1000)
    machine.write(f"{AREA}/alloc", "0x12c")
    assert taken(machine) == (1300, PAGES - 1300)
    assert vmstat(machine, "cma_alloc_success") == before + 2
    assert machine.read(f"{AREA}/bitmap").split()[:42] == [*[str(2**32 - 1)] * 40, str(2**20 - 1), "0"]
    machine.write(f"{AREA}/free", 100)  # of the last run, its first pages
    assert taken(machine) == (1200, PAGES - 1300)
    machine.write(f"{AREA}/alloc", 50)
    assert taken(machine) == (1250, PAGES - 1300)
    assert machine.read(f"{AREA}/bitmap").split()[31:34] == ["4294967295", str((1 << 26) - 1), "0"]
    machine.write(f"{AREA}/free", 5000)
    assert taken(machine) == (0, PAGES)
    assert machine.number(f"{COUNTS}/alloc_pages_success") == success + 1350
    assert machine.number(f"{COUNTS}/release_pages_success") == released + 1350


@pytest.mark.parametrize("wrong", ["0", str(PAGES + 1), "-1", "4294967296", "4294967295", "x", ""])
def test_what_cannot_be_had(machine: Machine, wrong: str) -> None:
    fails, tried = vmstat(machine, "cma_alloc_fail"), machine.number(f"{COUNTS}/alloc_pages_fail")
    expected = {"x": "EINVAL", "-1": "EINVAL", "": ""}.get(wrong, "ENOMEM")
    assert errno_of(machine.write, f"{AREA}/alloc", wrong) == expected
    assert (vmstat(machine, "cma_alloc_fail"), machine.number(f"{COUNTS}/alloc_pages_fail")) == (fails, tried)
    assert errno_of(machine.read, f"{AREA}/alloc") == "EACCES"


def test_no_run_is_long_enough(machine: Machine) -> None:
    fails, tried = vmstat(machine, "cma_alloc_fail"), machine.number(f"{COUNTS}/alloc_pages_fail")
    machine.write(f"{AREA}/alloc", 10_000)
    assert errno_of(machine.write, f"{AREA}/alloc", 7000) == "ENOMEM"
    assert vmstat(machine, "cma_alloc_fail") == fails + 1
    assert machine.number(f"{COUNTS}/alloc_pages_fail") == tried + 7000


def test_movable_pages_live_there_and_move(machine: Machine) -> None:
    """They go there once it has over half of what is free, and leave it when it is taken."""
    free, process = meminfo(machine, "MemFree"), machine.spawn()
    size = free * KB - 48 * MB
    process.grow(size)
    left = meminfo(machine, "CmaFree")
    assert 0 < left <= meminfo(machine, "MemFree") / 2 + 2 * KB
    moved = vmstat(machine, "pgmigrate_success")
    machine.write(f"{AREA}/alloc", 8000)
    assert vmstat(machine, "pgmigrate_success") - moved > 2000
    assert taken(machine) == (8000, PAGES - 8000)
    assert meminfo(machine, "AnonPages") * KB >= size
    process.again()
    process.kill()


def test_pages_of_pools_live_there_and_leave(machine: Machine) -> None:
    """They can move, so they may. A pool whose free pages are in the way gets others for them."""
    machine.write("/proc/sys/vm/nr_hugepages", 1000)
    assert meminfo(machine, "CmaFree") < 4 * KB
    got = meminfo(machine, "HugePages_Total")
    machine.write("/proc/sys/vm/nr_hugepages", got - 20)
    machine.write(f"{AREA}/alloc", 4000)
    assert taken(machine)[0] == 4000 and meminfo(machine, "HugePages_Free") == got - 20
    machine.write("/proc/sys/vm/nr_hugepages", 0)
    assert meminfo(machine, "CmaFree") == pytest.approx(64 * KB - 4000 * 4, abs=2 * KB)


@pytest.mark.parametrize(
    ("cmdline", "names", "log"),
    [
        ("cma=64M", {"reserved": 64}, ["Reserved 64 MiB at 0x"]),
        ("cma=3M", {"reserved": 4}, ["Reserved 4 MiB at 0x"]),
        ("cma=16M@32M", {"reserved": 16}, ["Reserved 16 MiB at 0x0000000002000000 on node -1"]),
        ("cma=16M@33M", {}, ["Region at 0x0000000002100000 must be aligned", "Failed to reserve 16 MiB on node -1"]),
        ("cma=4G", {}, ["Size (0x0000000100000000) of region at 0x0000000000000000 exceeds", "Failed to reserve 4096"]),
        ("cma_pernuma=8M cma=4M", {"pernuma0": 8, "reserved": 4}, ["Reserved 8 MiB at 0x", "Reserved 4 MiB at 0x"]),
        ("numa_cma=0:6M,1:4M", {"numa0": 6}, ["Reserved 6 MiB at 0x"]),
        ("", {}, []),
    ],
)
def test_the_command_line(cmdline: str, names: dict[str, int], log: list[str]) -> None:
    kernel = mmfs.boot(ram="512M", preset="bare", seed=1, profile="6.12-cma", cmdline=cmdline)
    kernel.check()
    sizes = {name: int(kernel.read(f"/sys/kernel/debug/cma/{name}/count")) >> 8 for name in names}
    assert sizes == names and set(kernel.listdir("/sys/kernel/mm/cma")) == set(names)
    assert meminfo(kernel, "CmaTotal") == meminfo(kernel, "CmaFree") == sum(names.values()) << 10
    said = [text for *_, text in kernel.printk.records if text.startswith("cma: ")]
    assert len(said) == len(log) and all(part in text for part, text in zip(log, said, strict=True))


def test_above_4_gb_it_lies_low() -> None:
    kernel = mmfs.boot(ram="8G", preset="bare", seed=1, profile="6.12-cma", cmdline="cma=128M")
    kernel.check()
    assert int(kernel.read(f"{AREA}/base_pfn")) == 1 << 20


def test_most_kernels_have_none() -> None:
    kernel = mmfs.boot(ram="512M", preset="bare", seed=1, cmdline="cma=64M")
    assert "Cma" not in kernel.read("/proc/meminfo").decode()
    assert "cma" not in {*kernel.listdir("/sys/kernel/debug"), *kernel.listdir("/sys/kernel/mm")}
