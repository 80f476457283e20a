"""What a reader pays: meminfo through the mount, alone and under load, `ps aux`, and a mount itself."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.measure import ROOT, Row, Side, Unavailable, interleave, numbers, percentile, pinned, program, scratch
from benchmarks.mounts import Mount, bare_mount, lxcfs_mount, mmfs, mmfs_mount

CPU = max(os.sched_getaffinity(0))


def cat(path: Path, pid: int | None, times: int = 300) -> Callable[[], float]:
    """A measurement: the median of reading a file whole, in us, client and daemon on one CPU."""

    def measure() -> float:
        with pinned(CPU, *([pid] if pid else [])):
            return statistics.median(numbers(program("client"), "cat", path, str(times))) / 1000

    return measure


def meminfo(rounds: int = 9) -> Iterator[Row]:
    """`cat meminfo` next to a bare mfusepy file of the same size and to lxcfs's, all mounted at once."""
    with ExitStack() as stack:
        ours = stack.enter_context(mmfs_mount("--ram", "8G", "--swap", "2G"))
        file = ours.path / "proc/meminfo"
        bare = stack.enter_context(bare_mount(len(file.read_bytes())))
        sides = {"ours": cat(file, ours.pid), "bare": cat(bare.path / "meminfo", bare.pid)}
        missing = ""
        try:
            lxcfs = stack.enter_context(lxcfs_mount())
            sides["lxcfs"] = cat(lxcfs.path / "proc/meminfo", lxcfs.pid)
        except Unavailable as reason:
            missing = str(reason)
        sides["procfs"] = cat(Path("/proc/meminfo"), None)
        samples = interleave(rounds, **sides)
    note = f"real procfs: {statistics.median(samples['procfs']):.0f} us; client and daemon on one CPU; an idle machine"
    us = Side.of("mmfs", samples["ours"])
    yield Row("cat proc/meminfo", "us", us, Side.of("bare mfusepy file", samples["bare"]), most=1.3, notes=[note])
    if "lxcfs" in samples:
        yield Row("cat proc/meminfo", "us", us, Side.of("lxcfs", samples["lxcfs"]), most=1.0)
    else:
        yield Row("cat proc/meminfo against lxcfs", "us", us, notes=[f"not measured: {missing}"])


class Control:
    """A mounted machine's sim/control: one command, its answer."""

    def __init__(self, mount: Mount) -> None:
        self.path = mount.path / "sim/control"

    def __call__(self, command: str) -> str:
        """Write a command and read the answer from the same open file."""
        descriptor = os.open(self.path, os.O_RDWR)
        try:
            os.write(descriptor, command.encode())
            return os.pread(descriptor, 1 << 16, 0).decode().strip()
        finally:
            os.close(descriptor)


LOAD = """
import itertools, os, sys
path, pid, addr, size, step = sys.argv[1], *(int(word, 0) for word in sys.argv[2:])
for what in itertools.cycle(("touch {} {} {} write", "madvise {} {} {} DONTNEED")):
    for at in range(addr, addr + size, step):
        descriptor = os.open(path, os.O_RDWR)
        os.write(descriptor, what.format(pid, at, step).encode())
        os.close(descriptor)
"""


@contextmanager
def load(mount: Mount, size: int = 256 << 20, step: int = 2 << 20) -> Iterator[None]:
    """A process that touches `size` of memory and gives it back, for ever, a system call for each `step`."""
    control = Control(mount)
    pid = control("spawn load")
    addr = control(f"mmap {pid} {size}")
    command = [sys.executable, "-c", LOAD, str(control.path), pid, addr, str(size), str(step)]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as loader:
        time.sleep(0.3)
        if loader.poll() is not None:
            assert loader.stderr
            raise Unavailable(f"the load ended: {loader.stderr.read().decode().strip()}")
        try:
            yield
        finally:
            loader.kill()


def under_load(rounds: int = 5, times: int = 1500) -> Iterator[Row]:
    """The same while the engine is kept busy: where the daemon runs is left to the scheduler, in both."""
    idle: list[float] = []
    busy: list[float] = []
    with mmfs_mount("--ram", "8G", "--swap", "2G") as mount:
        for _ in range(rounds):
            idle += numbers(program("client"), "cat", mount.path / "proc/meminfo", str(times))
            with load(mount):
                busy += numbers(program("client"), "cat", mount.path / "proc/meminfo", str(times))
    loaded, alone = (
        Side.of("mmfs, loaded", [value / 1000 for value in busy]),
        Side.of("mmfs, idle", [v / 1000 for v in idle]),
    )
    note = "the load: system calls that touch and give back 2 MB each, as fast as they are answered"
    yield Row("cat proc/meminfo under load, median", "us", loaded, alone, most=3, notes=[note])
    tail = Side("mmfs, loaded", percentile(busy, 99) / 1e6)
    yield Row(
        "cat proc/meminfo under load, 99th percentile", "ms", tail, most=5, notes=[f"worst {max(busy) / 1e6:.1f} ms"]
    )


class Shell:
    """A process that runs a command among sleeping ones, once for each call, and says how long it took."""

    def __init__(self, stack: ExitStack, *command: str) -> None:
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        self.process = stack.enter_context(
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        )
        stack.callback(self.process.kill)
        if self._line().strip() != "ready":
            raise Unavailable(f"{command[0]} did not start")

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def __call__(self) -> float:
        """Milliseconds."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return int(self._line()) / 1e6


def ps(rounds: int = 7, processes: int = 1000) -> Iterator[Row]:
    """`ps aux` on a machine with 1,000 processes next to real procfs with as many."""
    client = str(program("client"))
    with mmfs_mount("--ram", "8G", "--preset", "bare") as mount, ExitStack() as stack:
        control = Control(mount)
        for _ in range(processes):
            control("spawn sleeper")
        samples = interleave(
            rounds,
            ours=Shell(stack, *mmfs("run", "--mount", str(mount.path), "--", client, "among", "0", "ps", "aux")),
            theirs=Shell(
                stack, "unshare", "--pid", "--fork", "--mount-proc", client, "among", str(processes), "ps", "aux"
            ),
        )
    ours, theirs = Side.of("mmfs", samples["ours"]), Side.of("real procfs", samples["theirs"])
    yield Row(f"ps aux, {processes:,} processes", "ms", ours, theirs, most=12)


def mounting(rounds: int = 5) -> Iterator[Row]:
    """`mmfs mount` until it returns, which is when the mount answers."""
    path = scratch() / "mount-ready"
    path.mkdir(exist_ok=True)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    took = []
    for _ in range(rounds):
        begin = time.perf_counter()
        subprocess.run(mmfs("mount", str(path), "--ram", "8G", "--swap", "2G"), check=True, env=environment)
        took.append(time.perf_counter() - begin)
        present = (path / "proc/meminfo").exists()
        subprocess.run(mmfs("umount", str(path)), check=True, env=environment)
        if not present:
            raise Unavailable("mmfs mount returned before the mount answered")
    yield Row("mmfs mount to ready", "s", Side.of("mmfs", took), most=1.0)
