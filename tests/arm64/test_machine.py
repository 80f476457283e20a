"""What a machine with pages of 64 KB does: faults, huge pages, swap, cgroups, OOM kills; checked after each step."""

from __future__ import annotations

import re

import pytest

import mmfs
from mmfs.kernel.kernel import Kernel
from mmfs.kernel.signal import TaskKilled
from tests.golden.oom import LOGS, report

MB = 1 << 20


@pytest.fixture
def machine() -> Kernel:
    return mmfs.boot(ram="2G", cpus=2, swap="3G", arch="arm64-64k", preset="bare", seed=2)


def meminfo(kernel: Kernel) -> dict[str, int]:
    """Its rows in kB."""
    return {name: int(kb) for name, kb in re.findall(r"([\w()]+): +(\d+)", kernel.read("/proc/meminfo").decode())}


def test_a_fault_takes_a_page(machine: Kernel) -> None:
    machine.write("/sys/kernel/mm/transparent_hugepage/enabled", "never")
    task = machine.spawn("toucher")
    before = meminfo(machine)["AnonPages"]
    addr = task.mmap(MB)
    task.touch(addr, 1, write=True)
    assert meminfo(machine)["AnonPages"] - before == 64
    task.touch(addr, MB, write=True)
    assert meminfo(machine)["AnonPages"] - before == 1024
    machine.check()


def test_huge_pages_have_512_mb(machine: Kernel) -> None:
    assert machine.read("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size") == b"536870912\n"
    task = machine.spawn("hog")
    addr = task.mmap(1100 * MB)
    task.touch(addr, 1100 * MB, write=True)
    machine.check()
    rows = machine.read(f"/proc/{task.pid}/smaps").decode()
    assert "THPeligible:           1" in rows
    task.exit(0)
    machine.check()


def test_swap_and_back(machine: Kernel) -> None:
    tasks = [machine.spawn(f"hog{number}") for number in range(2)]
    places = [task.mmap(1200 * MB) for task in tasks]
    for task, addr in zip(tasks, places, strict=True):
        task.touch(addr, 1200 * MB, write=True)
        machine.check()
    assert meminfo(machine)["SwapFree"] < meminfo(machine)["SwapTotal"]
    tasks[0].touch(places[0], 300 * MB)
    machine.check()
    machine.run_for(5)
    machine.check()


def test_compaction_of_whole_pageblocks(machine: Kernel) -> None:
    """More pages of a block move at once than a block of 2 MB has."""
    tasks = [machine.spawn(f"hog{number}") for number in range(2)]
    for task in tasks:
        task.touch(task.mmap(1200 * MB), 1200 * MB, write=True)
    tasks[0].exit(0)
    machine.write("/proc/sys/vm/compact_memory", "1")
    machine.check()


def test_fork_and_copy(machine: Kernel) -> None:
    task = machine.spawn("parent")
    addr = task.mmap(100 * MB)
    task.touch(addr, 100 * MB, write=True)
    child = task.fork()
    child.touch(addr, 30 * MB, write=True)
    machine.check()
    child.exit(0)
    task.exit(0)
    machine.check()


def test_limit_of_a_cgroup(machine: Kernel) -> None:
    """Killed at 64 MB, as the real machine's: with not a page more."""
    machine.write("/sys/fs/cgroup/cgroup.subtree_control", "+memory")
    machine.mkdir("/sys/fs/cgroup/web")
    machine.write("/sys/fs/cgroup/web/memory.max", "64M")
    machine.write("/sys/fs/cgroup/web/memory.swap.max", "0")
    task = machine.spawn("hold", cgroup="/web")
    addr = task.mmap(100 * MB)
    with pytest.raises(TaskKilled):
        task.touch(addr, 100 * MB, write=True)
    assert machine.read("/sys/fs/cgroup/web/memory.peak") == b"67108864\n"
    assert b"oom_kill 1\n" in machine.read("/sys/fs/cgroup/web/memory.events")
    machine.check()


def test_report_is_a_real_kernels() -> None:
    """Every line of the report, in order, but for frames of the path."""
    kernel = mmfs.boot(ram="512M", cpus=2, arch="arm64-64k", preset="bare", seed=3)
    kernel.write("/proc/sys/vm/overcommit_memory", "1")
    parent = kernel.spawn("probe", oom_score_adj=-1000)
    child = parent.fork()
    child.oom_score_adj = 0
    seq = kernel.printk.next_seq
    addr = child.mmap(700 * MB)
    with pytest.raises(TaskKilled):
        child.touch(addr, 700 * MB, write=True)
    ours = report("".join(record.dmesg() for record in kernel.printk.since(seq)))
    golden = report((LOGS / "arm64-64k" / "anon_growth.dmesg").read_text())

    def told(lines: list[str]) -> list[str]:
        return [line for line in lines if not line.startswith("[##")]

    assert len(golden) > 40
    assert told(ours) == told(golden)
    kernel.check()
