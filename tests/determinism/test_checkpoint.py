"""A machine that was saved goes on byte for byte as the original: every file of the tree, whatever runs on it."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mmfs import workload
from mmfs.kernel.panic import KernelPanicError
from mmfs.kernel.signal import TaskKilled
from mmfs.kernfs import Caller
from mmfs.mm.mman import MAP_SHARED
from tests.determinism.lives import boot as boot_lives
from tests.determinism.lives import contents, live

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel

Boot = Callable[..., "Kernel"]
MB = 1 << 20
HERE = Path(__file__).resolve()
ROOT = HERE.parent.parent.parent
SCENARIOS = [ROOT / "docs" / "scenarios" / f"{name}.toml" for name in ("leak", "swap-storm")]


def digests(kernel: Kernel) -> dict[str, str]:
    """Every file of the tree."""
    kernel.check()
    return {path: hashlib.sha256(said).hexdigest() for path, said in contents(kernel)}


def differing(one: Kernel, other: Kernel) -> list[str]:
    """Paths that only one has, or with other content."""
    return sorted({path for path, _ in set(digests(one).items()) ^ set(digests(other).items())})


def busy(boot: Boot, lru_gen: str) -> Kernel:
    """A machine in the middle of things: it swaps, reads ahead, writes back, and programs run."""
    kernel = boot(ram="128M", swap="96M", cpus=2, seed=3, disks="ssd", preset="bare", cmdline="zram.num_devices=1")
    kernel.write("/sys/kernel/mm/lru_gen/enabled", lru_gen)
    if lru_gen == "y":
        kernel.write("/sys/module/zswap/parameters/enabled", "1")
        kernel.write("/sys/module/zswap/parameters/max_pool_percent", "5")
    else:
        kernel.write("/sys/block/zram0/disksize", "20M")
        kernel.mkswap("/dev/zram0")
        kernel.swapon("/dev/zram0", 1)
    kernel.create_file("/data/cold", 100 * MB)
    for name, texts in (
        ("cache-reader", {"file": "80M", "rate": "200M/s"}),
        ("file-writer", {"rate": "40M/s"}),
        ("leak", {"anon": "15M/s"}),
        ("database", {}),
    ):
        with suppress(ValueError):
            workload.spawn(kernel, name, texts)
    task = kernel.spawn("reader")
    mapped = task.mmap(20 * MB, file="/data/cold", flags=MAP_SHARED)
    task.touch(mapped, 10 * MB, write=True)
    task.touch(task.mmap(60 * MB), 60 * MB, write=True)
    kernel.run_for(2.3)
    return kernel


def go_on(kernel: Kernel) -> None:
    """What both futures have in common."""
    task = next(task for task in kernel.tasks.processes() if task.comm == "reader")
    kernel.run_for(1.0)
    with suppress(TaskKilled, OSError):
        child = task.fork()
        child.touch(child.mmap(30 * MB), 30 * MB, write=True)
        child.read("/data/cold", 0, 40 * MB)
        child.write("/data/new", 5 * MB)
        kernel.sync()
    kernel.write("/proc/sys/vm/swappiness", "150")
    kernel.run_for(3.0)
    kernel.write("/proc/sys/vm/drop_caches", "3")
    kernel.run_for(2.0)


@pytest.mark.slow
@pytest.mark.parametrize("lru_gen", ["y", "n"])
def test_two_futures_of_a_busy_machine(boot: Boot, lru_gen: str) -> None:
    kernel = busy(boot, lru_gen)
    saved = pickle.dumps(kernel)
    other = pickle.loads(saved)
    assert differing(kernel, pickle.loads(saved)) == []
    go_on(kernel)
    assert differing(pickle.loads(saved), other) == [], "what one does is nothing to the other"
    go_on(other)
    assert differing(kernel, other) == []
    assert len(workload.programs_of(other).running()) == len(workload.programs_of(kernel).running()) > 0


@pytest.mark.slow
def test_after_every_kind_of_call() -> None:
    """The life of test_determinism, saved at its end, and saved again."""
    kernel = boot_lives(1)
    live(kernel)
    other = pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(kernel))))
    kernel.run_for(5.0)
    other.run_for(5.0)
    assert differing(kernel, other) == []


@pytest.mark.slow
@pytest.mark.parametrize("file", SCENARIOS, ids=lambda path: path.stem)
def test_a_scenario_goes_on(boot: Boot, file: Path) -> None:
    kernel = boot(scenario=file)
    kernel.run_for(3.0)
    other = pickle.loads(pickle.dumps(kernel))
    kernel.run_for(4.0)
    other.run_for(4.0)
    assert differing(kernel, other) == []


@pytest.mark.slow
def test_in_another_process(boot: Boot, tmp_path: Path) -> None:
    """Nothing of the first process is needed: not its addresses, not its hashes."""
    kernel = busy(boot, "y")
    (tmp_path / "saved").write_bytes(pickle.dumps(kernel))
    environ = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "77", "PYTHONMALLOC": "malloc"}
    command = [sys.executable, str(HERE), str(tmp_path / "saved")]
    ran = subprocess.run(command, env=environ, capture_output=True, check=True, text=True)
    go_on(kernel)
    assert json.loads(ran.stdout) == digests(kernel)


def test_small(kernel: Kernel) -> None:
    """Uncompiled too."""
    task = kernel.spawn("task")
    task.touch(task.mmap(MB), MB, write=True)
    other = pickle.loads(pickle.dumps(kernel))
    for one in (kernel, other):
        one.tasks[task.pid].touch(one.tasks[task.pid].mmap(MB), MB, write=True)
        one.run_for(1.0)
        one.check()
    for path in ("/proc/meminfo", "/proc/vmstat", "/proc/buddyinfo", f"/proc/{task.pid}/smaps", "/proc/stat"):
        assert other.read(path) == kernel.read(path)


def test_deepcopy_is_a_machine_of_its_own(kernel: Kernel) -> None:
    other = copy.deepcopy(kernel)
    free = kernel.read("/proc/meminfo")
    task = other.spawn("hog")
    task.touch(task.mmap(64 * MB), 64 * MB, write=True)
    other.check()
    assert task.pid not in kernel.tasks and kernel.read("/proc/meminfo") == free


@pytest.mark.machine(ram="2T", swap=None)
def test_size_follows_use(kernel: Kernel, compiled: bool) -> None:
    """Two terabytes, of which hardly anything is in use."""
    if not compiled:
        pytest.skip("takes minutes uncompiled")
    saved = pickle.dumps(kernel)
    assert len(saved) < 400 * MB
    other = pickle.loads(saved)
    assert other.read("/proc/zoneinfo") == kernel.read("/proc/zoneinfo")


def test_open_files_stay_with_who_opened_them(kernel: Kernel) -> None:
    trigger = kernel.vfs.open("/proc/pressure/memory", os.O_RDWR, Caller(1, 0, 0))
    trigger.write(b"some 150000 2000000")
    other = pickle.loads(pickle.dumps(kernel))
    other.run_for(3.0)
    assert other.read("/proc/pressure/memory").startswith(b"some avg10=0.00")
    trigger.release()


def test_a_panicked_kernel_stays_panicked(kernel: Kernel) -> None:
    with pytest.raises(KernelPanicError):
        kernel.panic("for a test")
    other = pickle.loads(pickle.dumps(kernel))
    with pytest.raises(KernelPanicError, match="for a test"):
        other.run_for(1)
    assert other.read("/proc/meminfo") == kernel.read("/proc/meminfo")


def test_not_from_within_a_wakeup(kernel: Kernel) -> None:
    failures = []

    def wakeup() -> None:
        try:
            pickle.dumps(kernel)
        except RuntimeError as error:
            failures.append(error)

    kernel.clock.add_timer(0, wakeup)
    kernel.run_for(0.001)
    assert len(failures) == 1


if __name__ == "__main__":
    machine = pickle.loads(Path(sys.argv[1]).read_bytes())
    go_on(machine)
    print(json.dumps(digests(machine)))
