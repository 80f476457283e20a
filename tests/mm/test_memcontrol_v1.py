"""cgroup v1's limits do what a real kernel's did (tests/golden/cgroup1/behaviour), and tasks wait at them."""

from __future__ import annotations

import errno
import pickle
from functools import cache
from typing import TYPE_CHECKING

import pytest

from mmfs.kernel.signal import TaskKilled, TaskStopped
from tests.golden.captures import GOLDEN

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task

MEMORY = "/sys/fs/cgroup/memory/"
MB = 1 << 20
LIMIT_KB = 20 * 1024
CLOSE_KB = LIMIT_KB * 3 // 100
"""Three in a hundred of the limit: what is in batches, or still being written, when one looks."""

pytestmark = pytest.mark.machine(ram="512M", swap="256M", cpus=2, seed=1, preset="bare", cgroup="v1")


@cache
def recorded() -> dict[str, dict[str, dict[str, int]]]:
    """The rows of the recording: by section, label, and name of the number."""
    found: dict[str, dict[str, dict[str, int]]] = {}
    rows: dict[str, dict[str, int]] = {}
    for line in (GOLDEN / "cgroup1/behaviour.txt").read_text().splitlines():
        label, usage, rest = line.partition(" usage=")
        if line.startswith("# "):
            rows = found[line[2:]] = {}
        elif usage and " memsw=" in rest:
            rows[label] = {name: int(value) for name, _, value in (word.partition("=") for word in line.split()[1:])
                           if value.isdecimal()} | {"usage": int(rest.split()[0])}  # fmt: skip
    return found


@pytest.fixture
def kernel(kernel: Kernel) -> Kernel:
    kernel.write("/sys/kernel/mm/lru_gen/enabled", "0")
    kernel.mkdir(MEMORY + "a")
    return kernel


def number(kernel: Kernel, name: str, group: str = "a") -> int:
    return int(kernel.read(f"{MEMORY}{group}/memory.{name}"))


def stat(kernel: Kernel, group: str = "a") -> dict[str, int]:
    lines = kernel.read(f"{MEMORY}{group}/memory.stat").decode().splitlines()
    return {name: int(value) for name, value in (line.split() for line in lines)}


def oom_control(kernel: Kernel, group: str = "a") -> dict[str, int]:
    lines = kernel.read(f"{MEMORY}{group}/memory.oom_control").decode().splitlines()
    return {name: int(value) for name, value in (line.split() for line in lines)}


def put(kernel: Kernel, name: str, value: str, group: str = "a") -> None:
    kernel.write(f"{MEMORY}{group}/memory.{name}", value)


def refused(kernel: Kernel, name: str, value: str) -> int | None:
    with pytest.raises(OSError) as error:
        put(kernel, name, value)
    return error.value.errno


def hold(kernel: Kernel, megabytes: int, group: str = "a") -> Task:
    """A process that has so much, or dies of it."""
    task = kernel.spawn("hold", cgroup=f"memory:/{group}")
    task.touch(task.mmap(megabytes * MB), megabytes * MB, write=True)
    return task


def agrees(kernel: Kernel, section: str, label: str, group: str = "a") -> None:
    """The counters are the recorded ones, kills exactly."""
    real = recorded()[section][label]
    for name, file in (("usage", "usage_in_bytes"), ("memsw", "memsw.usage_in_bytes"), ("max", "max_usage_in_bytes"),
                       ("memsw_max", "memsw.max_usage_in_bytes")):  # fmt: skip
        assert number(kernel, file, group) // 1024 == pytest.approx(real[name], abs=CLOSE_KB), (label, name)
    assert stat(kernel, group)["swap"] // 1024 == pytest.approx(real["swap"], abs=CLOSE_KB), label
    assert oom_control(kernel, group) == {
        name: real[name] for name in ("oom_kill_disable", "under_oom", "oom_kill")
    }, label


def test_anonymous_memory_above_the_limit(kernel: Kernel) -> None:
    section = "anonymous memory above the limit"
    put(kernel, "limit_in_bytes", "20M")
    task = hold(kernel, 40)
    agrees(kernel, section, "full")
    # how often the limit was hit depends on how long writing takes
    assert number(kernel, "failcnt") == pytest.approx(recorded()[section]["full"]["failcnt"], rel=0.15)
    put(kernel, "failcnt", "0")
    put(kernel, "max_usage_in_bytes", "0")
    assert number(kernel, "failcnt") == 0 and number(kernel, "max_usage_in_bytes") == number(kernel, "usage_in_bytes")
    assert number(kernel, "memsw.max_usage_in_bytes") > 40 * MB, "that is a counter of its own"
    kernel.check()
    task.touch(task.mm.mmap[0].vm_start if task.mm else 0, 4096)
    task.exit(0)


def test_a_limit_below_what_is_used(kernel: Kernel) -> None:
    section = "a limit below what is used"
    hold(kernel, 40)
    agrees(kernel, section, "full")
    put(kernel, "limit_in_bytes", "20M")
    agrees(kernel, section, "lowered")


def test_memory_and_swap_together(kernel: Kernel) -> None:
    put(kernel, "limit_in_bytes", "20M")
    put(kernel, "memsw.limit_in_bytes", "30M")
    with pytest.raises(TaskKilled):
        hold(kernel, 40)
    agrees(kernel, "memory and swap together", "full")
    assert number(kernel, "memsw.failcnt") > 0
    report = [line.partition(";")[2] for line in kernel.read("/dev/kmsg").decode().splitlines()]
    assert any(line.startswith("memory+swap: usage 30") and "limit 30720kB" in line for line in report)
    assert any(line.startswith("kmem: usage ") for line in report)
    assert any(line.startswith("total_rss ") for line in report), "the rows are v1's"


def test_memory_and_swap_in_use_then_a_limit_on_both(kernel: Kernel) -> None:
    put(kernel, "limit_in_bytes", "20M")
    hold(kernel, 40)
    assert refused(kernel, "memsw.limit_in_bytes", "30M") == errno.EBUSY
    agrees(kernel, "memory and swap in use, then a limit on both", "refused")


def test_force_empty(kernel: Kernel) -> None:
    kernel.create_file("/data/f", "30M")
    task = kernel.spawn("prog", cgroup="memory:/a")
    task.read(task.open("/data/f"), 30 * MB)
    task.exit(0)
    assert stat(kernel)["cache"] > 30 * MB
    put(kernel, "force_empty", "0")
    assert number(kernel, "usage_in_bytes") < 100 * 1024 and stat(kernel)["cache"] == 0
    hold(kernel, 20)
    put(kernel, "force_empty", "0")
    assert stat(kernel)["swap"] // 1024 == pytest.approx(recorded()["force_empty"]["swapped"]["swap"], abs=CLOSE_KB)
    assert number(kernel, "usage_in_bytes") < MB < 20 * MB < number(kernel, "memsw.usage_in_bytes")


def test_swappiness_0_kills_before_it_swaps(kernel: Kernel) -> None:
    put(kernel, "swappiness", "0")
    put(kernel, "limit_in_bytes", "20M")
    with pytest.raises(TaskKilled):
        hold(kernel, 40)
    agrees(kernel, "swappiness 0", "full")


def test_a_limit_that_cannot_be_reached(kernel: Kernel) -> None:
    kernel.swapoff("/dev/vdb")
    hold(kernel, 40)
    assert refused(kernel, "limit_in_bytes", "20M") == errno.EBUSY
    agrees(kernel, "a limit that cannot be reached", "refused")


def test_a_limit_above(kernel: Kernel) -> None:
    kernel.swapoff("/dev/vdb")
    kernel.mkdir(MEMORY + "a/b")
    put(kernel, "limit_in_bytes", "20M")
    with pytest.raises(TaskKilled):
        hold(kernel, 40, "a/b")
    agrees(kernel, "a limit above", "above")
    agrees(kernel, "a limit above", "below", "a/b")
    assert number(kernel, "failcnt") and not number(kernel, "failcnt", "a/b")


# -- waiting instead of being killed -----------------------------------------------------------------------------------


def waiting(kernel: Kernel, megabytes: int = 40) -> tuple[Task, int]:
    """A process that has come to the limit, and what it has mapped."""
    put(kernel, "limit_in_bytes", "20M")
    put(kernel, "oom_control", "1")
    task = kernel.spawn("hold", cgroup="memory:/a")
    start = task.mmap(megabytes * MB)
    with pytest.raises(TaskStopped):
        task.touch(start, megabytes * MB, write=True)
    return task, start


def test_a_process_waits_at_the_limit(kernel: Kernel) -> None:
    section = "a process that waits at the limit"
    kernel.swapoff("/dev/vdb")
    task, start = waiting(kernel)
    agrees(kernel, section, "waits")
    assert b"State:\tD (disk sleep)\n" in kernel.read(f"/proc/{task.pid}/status")
    assert kernel.read(f"/proc/{task.pid}/wchan") == b"mem_cgroup_oom_synchronize"
    kernel.run_for(1)
    agrees(kernel, section, "waits")
    put(kernel, "limit_in_bytes", "30M")
    with pytest.raises(TaskStopped):
        task.touch(start, 40 * MB, write=True)
    agrees(kernel, section, "more room")
    put(kernel, "limit_in_bytes", "60M")
    task.touch(start, 40 * MB, write=True)
    agrees(kernel, section, "enough room")
    assert b"State:\tS (sleeping)\n" in kernel.read(f"/proc/{task.pid}/status")


def test_it_is_killed_after_all(kernel: Kernel) -> None:
    kernel.swapoff("/dev/vdb")
    task, start = waiting(kernel)
    put(kernel, "oom_control", "0")
    with pytest.raises(TaskKilled):
        task.touch(start, 40 * MB, write=True)
    agrees(kernel, "it is killed after all", "killed")


def test_it_can_be_killed_and_leaves_nobody_waiting(kernel: Kernel) -> None:
    kernel.swapoff("/dev/vdb")
    task, _ = waiting(kernel)
    kernel.kill(task.pid, 9)
    kernel.run_for(0.1)
    agrees(kernel, "it can be killed", "gone")
    kernel.rmdir(MEMORY + "a")
    kernel.check()


def test_room_that_another_leaves_wakes_a_program(kernel: Kernel) -> None:
    """A program goes on by itself; a saved machine too."""
    kernel.swapoff("/dev/vdb")
    put(kernel, "limit_in_bytes", "20M")
    other = hold(kernel, 10)
    put(kernel, "oom_control", "1")
    kernel.write("/sim/control", "spawn hog anon=14M cgroup=memory:/a")
    kernel.run_for(1)
    assert oom_control(kernel)["under_oom"] == 1
    copy: Kernel = pickle.loads(pickle.dumps(kernel))
    other.exit(0)
    kernel.run_for(1)
    assert oom_control(kernel)["under_oom"] == 0 and stat(kernel)["rss"] >= 14 * MB
    assert oom_control(copy)["under_oom"] == 1
    copy.write(MEMORY + "a/memory.limit_in_bytes", "40M")
    copy.run_for(1)
    assert oom_control(copy)["under_oom"] == 0
    copy.check()


def test_only_who_faults_sleeps(kernel: Kernel) -> None:
    """Others in the cgroup go on, and what they give back is room for it."""
    kernel.swapoff("/dev/vdb")
    reader = kernel.spawn("prog", cgroup="memory:/a")
    waiting(kernel)
    assert reader.alive and oom_control(kernel)["under_oom"] == 1
    reader.exit(0)
    kernel.run_for(1)
    assert oom_control(kernel)["under_oom"] == 0, "what it had is room"


# -- what moves with a process ---------------------------------------------------------------------------------------


def test_what_moves_with_a_process(kernel: Kernel) -> None:
    section = "what moves with a process"
    kernel.swapoff("/dev/vdb")
    for group in "bc":
        kernel.mkdir(MEMORY + group)
    task = hold(kernel, 20)

    def move(group: str) -> None:
        kernel.write(f"{MEMORY}{group}/cgroup.procs", str(task.pid))

    move("b")
    assert number(kernel, "usage_in_bytes") > 20 * MB and stat(kernel, "b")["rss"] == 0, "nobody has asked for it"
    move("a")
    put(kernel, "move_charge_at_immigrate", "1", "b")
    move("b")
    assert stat(kernel)["rss"] == 0
    assert stat(kernel, "b")["rss"] // 1024 == pytest.approx(recorded()[section]["b moved"]["rss"], abs=CLOSE_KB)
    assert number(kernel, "usage_in_bytes", "b") // 1024 == pytest.approx(
        recorded()[section]["b moved"]["usage"], abs=CLOSE_KB
    )
    assert number(kernel, "usage_in_bytes") < MB
    kernel.check()
    put(kernel, "move_charge_at_immigrate", "1", "c")
    put(kernel, "limit_in_bytes", "10M", "c")
    with pytest.raises(OSError) as error:
        move("c")
    assert error.value.errno == errno.ENOMEM
    assert number(kernel, "usage_in_bytes", "c") == 0 and number(kernel, "max_usage_in_bytes", "c") == 10 * MB
    assert task.pid in map(int, kernel.read(MEMORY + "b/cgroup.procs").split())
    kernel.check()


def test_slots_and_mapped_files_move_too(kernel: Kernel) -> None:
    kernel.mkdir(MEMORY + "b")
    kernel.create_file("/data/f", "4M")
    put(kernel, "limit_in_bytes", "20M")
    task = hold(kernel, 30)
    start = task.mmap(4 * MB, file="/data/f")
    task.touch(start, 4 * MB)
    swapped, cached = stat(kernel)["swap"], stat(kernel)["mapped_file"]
    assert swapped > 8 * MB and cached > MB
    put(kernel, "move_charge_at_immigrate", "3", "b")
    kernel.write(MEMORY + "b/cgroup.procs", str(task.pid))
    kernel.check()
    assert stat(kernel, "b")["swap"] == pytest.approx(swapped, abs=2 * MB), "but what is in the swap cache"
    assert stat(kernel, "b")["mapped_file"] == cached
    task.exit(0)
    kernel.check()
