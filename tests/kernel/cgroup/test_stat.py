"""What every cgroup counts, without any controller: CPU time, pressure; who is told of changes."""

from __future__ import annotations

import errno
import select
from typing import TYPE_CHECKING

import pytest

import mmfs
from mmfs.kernel.psi import PsiRes

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel

TOP = "/sys/fs/cgroup"
SECOND = 10**9
MSEC = 10**6


@pytest.fixture
def kernel() -> Kernel:
    kernel = mmfs.boot(ram="256M", preset="bare", seed=1)
    kernel.cgroups.makedirs("/a/b")
    kernel.cgroups.makedirs("/other")
    return kernel


def usage(kernel: Kernel, path: str) -> dict[str, int]:
    pairs = (line.split() for line in kernel.read(f"{TOP}/{path}/cpu.stat").decode().splitlines())
    return {name: int(value) for name, value in pairs}


def test_cpu_time_goes_up_the_tree_and_stays_when_tasks_leave(kernel: Kernel) -> None:
    task = kernel.spawn("worker")
    kernel.write(f"{TOP}/a/b/cgroup.procs", str(task.pid))
    kernel.clock.run_for(SECOND)
    before = {path: usage(kernel, path) for path in ("a", "a/b", "other")}
    kernel.scheduler.charge(task, user_ns=300 * MSEC, system_ns=200 * MSEC)
    kernel.clock.run_for(SECOND)
    for path in ("a/b", "a"):
        grown = {name: value - before[path][name] for name, value in usage(kernel, path).items()}
        assert grown == {"usage_usec": 500_000, "user_usec": 300_000, "system_usec": 200_000, "nice_usec": 0}
    kernel.write(f"{TOP}/other/cgroup.procs", str(task.pid))
    task.setpriority(5)
    kernel.scheduler.charge(task, user_ns=100 * MSEC)
    kernel.clock.run_for(SECOND)
    assert usage(kernel, "other")["nice_usec"] == usage(kernel, "other")["user_usec"] == 100_000
    assert usage(kernel, "a")["user_usec"] == before["a"]["user_usec"] + 300_000
    task.exit(0)
    assert usage(kernel, "other")["user_usec"] == 100_000


def test_the_root_counts_all(kernel: Kernel) -> None:
    total = sum(cpu.user + cpu.nice + cpu.system + cpu.irq + cpu.softirq for cpu in kernel.scheduler.cpus)
    assert abs(usage(kernel, "")["usage_usec"] - total // 1000) <= 1, "rounded down twice"


def totals(kernel: Kernel, path: str, name: str) -> list[int]:
    return [int(line.rpartition("=")[2]) for line in kernel.read(f"{TOP}/{path}/{name}").decode().splitlines()]


def test_pressure_nests(kernel: Kernel) -> None:
    """Who waits for a disk in one cgroup is no loss in another; a busy neighbour is none of its business."""
    task, busy = kernel.spawn("worker", cgroup="/a/b"), kernel.spawn("worker", cgroup="/other")
    kernel.clock.run_for(SECOND)
    kernel.scheduler.wait(task, SECOND, io=True, memstall=True)
    kernel.scheduler.charge(busy, user_ns=SECOND)
    kernel.clock.run_for(3 * SECOND)
    for name in ("memory.pressure", "io.pressure"):
        assert totals(kernel, "a/b", name) == totals(kernel, "a", name)
        some, full = totals(kernel, "a/b", name)
        assert some == full >= 10**6
        assert totals(kernel, "other", name) == [0, 0]
    kernel.check()


def test_pressure_moves_with_the_task(kernel: Kernel) -> None:
    task = kernel.spawn("worker", cgroup="/a/b")
    kernel.clock.run_for(SECOND)
    kernel.scheduler.wait(task, 2 * SECOND, io=True)
    kernel.clock.run_for(SECOND)
    before = totals(kernel, "a", "io.pressure")[0]
    kernel.write(f"{TOP}/other/cgroup.procs", str(task.pid))
    kernel.clock.run_for(5 * SECOND)
    assert totals(kernel, "a", "io.pressure")[0] == before
    assert totals(kernel, "other", "io.pressure")[0] >= 10**6 - 10**4, "and no tick more or less"
    kernel.check()


def test_full_cpu_pressure_is_defined_below_the_root(kernel: Kernel) -> None:
    """All tasks of a cgroup wait while the CPU is another's."""
    tasks = [kernel.spawn("worker", cgroup=group) for group in ("/a", "/other")]
    for task in tasks:
        task.set_cpus_allowed(frozenset({0}))
    kernel.clock.run_for(SECOND)
    for task in tasks:
        kernel.scheduler.charge(task, user_ns=SECOND)
    kernel.clock.run_for(4 * SECOND)
    some, full = totals(kernel, "a", "cpu.pressure")
    assert some == full > 500_000
    assert totals(kernel, "", "cpu.pressure")[1] == 0


def test_hiding_pressure(kernel: Kernel) -> None:
    names = {"cpu.pressure", "io.pressure", "memory.pressure"}
    task = kernel.spawn("worker", cgroup="/a")
    kernel.clock.run_for(SECOND)
    file = kernel.vfs.open(f"{TOP}/a/io.pressure", 0)
    kernel.write(f"{TOP}/a/cgroup.pressure", "0")
    assert not names & set(kernel.listdir(f"{TOP}/a")) and names <= set(kernel.listdir(f"{TOP}/a/b"))
    with pytest.raises(OSError) as caught:
        file.read(4096)
    assert caught.value.errno == errno.ENODEV
    kernel.scheduler.wait(task, SECOND, io=True)
    kernel.clock.run_for(2 * SECOND)
    kernel.write(f"{TOP}/a/cgroup.pressure", "1")
    assert names <= set(kernel.listdir(f"{TOP}/a")) and totals(kernel, "a", "io.pressure") == [0, 0]
    for wrong, number in (("2", errno.ERANGE), ("-1", errno.ERANGE), ("x", errno.EINVAL)):
        with pytest.raises(OSError) as caught:
            kernel.write(f"{TOP}/a/cgroup.pressure", wrong)
        assert caught.value.errno == number
    kernel.check()


def test_a_trigger_on_a_cgroup(kernel: Kernel) -> None:
    task = kernel.spawn("worker", cgroup="/a/b")
    file = kernel.vfs.open(f"{TOP}/a/memory.pressure", 2)
    file.write(b"some 100000 1000000")
    assert not file.poll() & select.POLLPRI
    kernel.scheduler.wait(task, SECOND, io=False, memstall=True)
    kernel.clock.run_for(2 * SECOND)
    assert file.poll() & select.POLLPRI
    assert any(one.comm == "psimon" for one in kernel.tasks.values())
    file.release()
    assert not any(one.comm == "psimon" for one in kernel.tasks.values())
    kernel.check()


def test_a_removed_cgroup(kernel: Kernel) -> None:
    """Its open files are ENODEV, and who polls them is woken."""
    group = kernel.cgroups.makedirs("/other")
    file, trigger = (kernel.vfs.open(f"{TOP}/other/{name}", 2) for name in ("cgroup.max.depth", "cpu.pressure"))
    trigger.write(b"some 100000 1000000")
    file.read(4096)
    kernel.cgroups.rmdir(group)
    assert file.poll() & select.POLLPRI and not group.psi.triggers
    for call in (lambda: file.read(4096), lambda: file.write(b"1"), lambda: trigger.read(4096)):
        with pytest.raises(OSError) as caught:
            call()
        assert caught.value.errno == errno.ENODEV
    file.release()
    trigger.release()


def test_events_wake_who_polls(kernel: Kernel) -> None:
    """As kernfs does: at once before the first read, then after each change until the file is read again."""
    file = kernel.vfs.open(f"{TOP}/a/cgroup.events", 0)
    woken = select.POLLPRI | select.POLLERR
    assert file.poll() & woken == woken
    file.read(4096)
    assert not file.poll() & woken
    task = kernel.spawn("worker", cgroup="/a/b")
    assert file.poll() & woken == woken
    assert file.read(4096) == b"populated 1\nfrozen 0\n" and not file.poll() & woken
    task.exit(0)
    kernel.clock.run_for(20 * MSEC)
    assert file.poll() & woken == woken
    file.read(4096)
    kernel.spawn("worker", cgroup="/other")
    assert not file.poll() & woken


def test_events_come_at_most_every_ten_milliseconds(kernel: Kernel) -> None:
    group = kernel.cgroups.makedirs("/a")
    kernel.clock.run_for(SECOND)
    for _ in range(5):
        group.file_notify("cgroup.events")
    assert group.events == {"cgroup.events": 1}
    kernel.clock.run_for(11 * MSEC)
    assert group.events == {"cgroup.events": 2}
    kernel.clock.run_for(SECOND)
    assert group.events == {"cgroup.events": 2}


def test_the_system_wide_pressure_is_the_roots(kernel: Kernel) -> None:
    assert kernel.cgroups.root.psi is kernel.scheduler.psi_system
    assert kernel.read(f"{TOP}/io.pressure").decode() == kernel.scheduler.psi_system.show(PsiRes.IO)
