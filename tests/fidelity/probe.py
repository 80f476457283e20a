"""The workloads of the recorded curves, played on mmfs: what the program that recorded them did, call by call."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import mmfs
from mmfs.kernel.signal import TaskKilled
from mmfs.mm.mman import VM_EXEC
from mmfs.mm_types import PAGE_SIZE

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task

MB = 1 << 20
READ_SIZE = 128 << 10
FAULT_AROUND = 64 << 10
FILLED = 2 * MB
RAND_SECONDS = 1e-6
"""What it takes to make a page of random numbers: 512 times three shifts, each of the result of the last."""
Sample = dict[str, int]
Curve = dict[str, Sample]
CMDLINE = "console=ttyS0 psi=1 panic=-1 loglevel=7"


class Probe:
    """One machine like the recorded one, and what is done on it; `sample()` reads the counters as a program would."""

    def __init__(self, swap: str | None = "256M", ram: str = "512M", **machine: object) -> None:
        options = {"ram": ram, "cpus": 2, "swap": swap, "preset": "bare", "cmdline": CMDLINE, "seed": 1, **machine}
        self.kernel: Kernel = mmfs.boot(**options)  # type: ignore[arg-type]
        self.shell: Task = self.kernel.spawn("busybox")
        self.curve: Curve = {}
        self.runs(self.shell)

    def runs(self, *tasks: Task) -> None:
        """The programs that drive a step execute: their text, which lies on the disk, stays in use."""
        for task in tasks:
            for vma in task.mm.mt:
                if vma.vm_file is not None and vma.vm_flags & VM_EXEC:
                    task.touch(vma.vm_start, vma.vm_end - vma.vm_start, stride=FAULT_AROUND)

    def program(self, **options: object) -> Task:
        """The recording program, started by the shell."""
        task = self.kernel.spawn("probe", **options)
        self.runs(self.shell, task)
        return task

    def sample(self, label: str) -> None:
        """All of meminfo (kB) and vmstat under a label."""
        text = self.kernel.read("/proc/meminfo").decode() + self.kernel.read("/proc/vmstat").decode()
        self.curve[label] = {name: int(value) for name, value in re.findall(r"^(\S+?):?\s+(\d+)", text, re.M)}

    def sysctl(self, name: str, value: int) -> None:
        """Write a tunable of /proc/sys/vm."""
        self.kernel.write(f"/proc/sys/vm/{name}", f"{value}\n")

    def bigfile(self, path: str, size_mb: int) -> None:
        """`dd if=/dev/zero of=path bs=1M; sync`: the file's pages stay cached, clean."""
        from mmfs.kernel.namei import O_CREAT, O_TRUNC, O_WRONLY

        fd = self.shell.open(path, O_WRONLY | O_CREAT | O_TRUNC)
        for _ in range(size_mb):
            self.shell.write(fd, MB)
        self.shell.close(fd)
        self.kernel.sync()

    def readfile(self, path: str, size_mb: int, offset_mb: int = 0) -> None:
        """Read a part of a file from a program of its own, 128 KB a call."""
        reader = self.program()
        fd = reader.open(path)
        reader.lseek(fd, offset_mb * MB)
        left = size_mb * MB
        while left > 0 and (got := reader.read(fd, READ_SIZE)):
            left -= got
        reader.exit()

    def hold(self, size_mb: int, rand: bool = False) -> Task:
        """A process that has so much anonymous memory, written once, and sleeps; `rand`: with random numbers."""
        holder = self.program()
        addr = holder.mmap(size_mb * MB)
        for offset in range(0, size_mb * MB, FILLED):
            holder.touch(addr + offset, FILLED, write=True)
            if rand:
                self.kernel.run_for(FILLED // PAGE_SIZE * RAND_SECONDS)
        return holder

    def anon(self, step_mb: int, max_mb: int) -> None:
        """A child grows by steps of untouched memory, written once, until it is killed."""
        parent = self.program(oom_score_adj=-1000)
        child = parent.fork()
        child.signal.oom_score_adj = 0
        self.sample("start")
        reached = 0
        try:
            for reached in range(0, max_mb, step_mb):
                child.touch(child.mmap(step_mb * MB), step_mb * MB, write=True)
                self.runs(child)
                self.sample(f"{reached + step_mb}MB")
        except TaskKilled:
            parent.wait()
            self.sample(f"end_sig9_at_{reached}MB")
        parent.exit()

    def file(self, path: str, size_mb: int, hot_mb: int, rounds: int) -> None:
        """A hot part read twice, the rest once in order, then both again."""
        self.sample("start")
        for label in ("hot_read1", "hot_read2"):
            self.readfile(path, hot_mb)
            self.sample(label)
        for offset in range(hot_mb, size_mb, 64):
            self.readfile(path, 64, offset)
            self.sample(f"seq_{offset + 64}MB")
        for number in range(rounds):
            self.readfile(path, hot_mb)
            self.sample(f"hot_reread{number}")
            self.readfile(path, size_mb - hot_mb, hot_mb)
            self.sample(f"scan{number}")

    def take(self) -> Curve:
        """What was sampled since the last call."""
        curve, self.curve = self.curve, {}
        return curve


def anon_growth() -> Iterator[tuple[str, Curve]]:
    """curves/anon-growth-512M/SCENARIO.sh, in its order on one machine."""
    probe = Probe()
    for swappiness in (60, 0, 100):
        probe.sysctl("swappiness", swappiness)
        probe.bigfile("/data/f", 100)
        probe.readfile("/data/f", 100)
        probe.readfile("/data/f", 100)
        probe.anon(16, 1200)
        yield f"anon_growth_swap256_swappiness{swappiness}", probe.take()
        probe.kernel.swapoff("/dev/vdb")
        probe.kernel.swapon("/dev/vdb")
    probe.kernel.swapoff("/dev/vdb")
    probe.sysctl("swappiness", 60)
    probe.sysctl("drop_caches", 3)
    probe.bigfile("/data/f", 100)
    probe.readfile("/data/f", 100)
    probe.anon(16, 1200)
    yield "anon_growth_noswap", probe.take()
    probe.kernel.write("/sys/kernel/mm/lru_gen/enabled", "n\n")
    probe.kernel.swapon("/dev/vdb")
    probe.readfile("/data/f", 100)
    probe.anon(16, 1200)
    yield "anon_growth_swap256_classic", probe.take()


def file_reads() -> Iterator[tuple[str, Curve]]:
    """curves/file-512M/SCENARIO.sh."""
    probe = Probe()
    probe.bigfile("/data/big", 1024)
    probe.sysctl("drop_caches", 3)
    probe.file("/data/big", 1024, 100, 1)
    yield "file_2xram_hot100", probe.take()
    probe.sysctl("drop_caches", 3)
    holder = probe.hold(200)
    probe.file("/data/big", 1024, 100, 1)
    yield "file_2xram_hot100_anon200", probe.take()
    probe.kernel.kill(holder.pid, 9)
    probe.sysctl("drop_caches", 3)
    probe.file("/data/big", 1024, 350, 1)
    yield "file_2xram_hot350", probe.take()
    probe.kernel.write("/sys/kernel/mm/lru_gen/enabled", "n\n")
    probe.sysctl("drop_caches", 3)
    probe.file("/data/big", 1024, 100, 1)
    yield "file_2xram_hot100_classic", probe.take()


def swappiness_mix() -> Iterator[tuple[str, Curve]]:
    """curves/swappiness-512M/SCENARIO.sh."""
    probe = Probe(swap="512M")
    probe.bigfile("/data/f", 260)
    probe.bigfile("/data/g", 300)
    for swappiness in (0, 1, 10, 60, 100, 150, 200):
        probe.kernel.swapoff("/dev/vdb")
        probe.kernel.swapon("/dev/vdb")
        probe.sysctl("drop_caches", 3)
        probe.sysctl("swappiness", swappiness)
        first = probe.hold(200, rand=True)
        probe.readfile("/data/f", 180)
        probe.readfile("/data/f", 180)
        probe.sample(f"s{swappiness}_before")
        second = probe.hold(120, rand=True)
        probe.sample(f"s{swappiness}_after_anon120")
        probe.readfile("/data/g", 300)
        probe.sample(f"s{swappiness}_after_file300")
        for holder in (first, second):
            probe.kernel.kill(holder.pid, 9)
        probe.kernel.run_for(0.3)
    yield "swappiness_mix", probe.take()


@dataclass(frozen=True)
class Machine:
    """A machine of another size, and how large what runs on it is, in MB."""

    name: str
    ram: str
    swap: str
    hot: int
    held: int
    big: int
    first: int
    second: int
    last: int


MACHINES = (
    Machine("300M", "300M", "128M", 60, 100, 600, 90, 70, 180),
    Machine("1G", "1G", "512M", 200, 400, 1536, 360, 240, 600),
)


def growth(machine: Machine) -> Iterator[tuple[str, Curve]]:
    """curves/growth-MACHINE/SCENARIO.sh."""
    probe, size = Probe(machine.swap, machine.ram), machine.hot
    for swappiness in (60, 100):
        if swappiness == 100:
            probe.kernel.swapon("/dev/vdb")
        probe.sysctl("swappiness", swappiness)
        probe.bigfile("/data/f", size)
        probe.readfile("/data/f", size)
        probe.readfile("/data/f", size)
        probe.anon(16, 2400)
        yield f"anon_growth_swappiness{swappiness}", probe.take()
        probe.kernel.swapoff("/dev/vdb")
    probe.sysctl("swappiness", 60)
    probe.sysctl("drop_caches", 3)
    probe.bigfile("/data/f", size)
    probe.readfile("/data/f", size)
    probe.anon(16, 2400)
    yield "anon_growth_noswap", probe.take()
    probe.kernel.write("/sys/kernel/mm/lru_gen/enabled", "n\n")
    probe.kernel.swapon("/dev/vdb")
    probe.readfile("/data/f", size)
    probe.anon(16, 2400)
    yield "anon_growth_classic", probe.take()


def reads(machine: Machine) -> Iterator[tuple[str, Curve]]:
    """curves/file-MACHINE/SCENARIO.sh."""
    probe = Probe(machine.swap, machine.ram)
    probe.bigfile("/data/big", machine.big)
    probe.sysctl("drop_caches", 3)
    probe.file("/data/big", machine.big, machine.hot, 1)
    yield "file_hot", probe.take()
    probe.sysctl("drop_caches", 3)
    holder = probe.hold(machine.held)
    probe.file("/data/big", machine.big, machine.hot, 1)
    yield "file_hot_anon", probe.take()
    probe.sysctl("drop_caches", 3)
    probe.kernel.kill(holder.pid, 9)
    probe.kernel.run_for(0.3)
    probe.kernel.write("/sys/kernel/mm/lru_gen/enabled", "n\n")
    probe.file("/data/big", machine.big, machine.hot, 1)
    yield "file_hot_classic", probe.take()


def mix(machine: Machine) -> Iterator[tuple[str, Curve]]:
    """curves/mix-MACHINE/SCENARIO.sh."""
    probe = Probe(machine.swap, machine.ram)
    probe.bigfile("/data/f", machine.first)
    probe.bigfile("/data/g", machine.last)
    for name in ("10", "100", "200", "classic"):
        if name == "classic":
            probe.kernel.write("/sys/kernel/mm/lru_gen/enabled", "n\n")
        probe.kernel.swapoff("/dev/vdb")
        probe.kernel.swapon("/dev/vdb")
        probe.sysctl("drop_caches", 3)
        probe.sysctl("swappiness", 60 if name == "classic" else int(name))
        holders = [probe.hold(machine.held, rand=True)]
        probe.readfile("/data/f", machine.first)
        probe.readfile("/data/f", machine.first)
        probe.sample("before")
        holders.append(probe.hold(machine.second, rand=True))
        probe.sample("after_anon")
        probe.readfile("/data/g", machine.last)
        probe.sample("after_file")
        for holder in holders:
            probe.kernel.kill(holder.pid, 9)
        probe.kernel.run_for(0.3)
        yield f"mix_swappiness{name}", probe.take()


SCENARIOS: dict[str, Callable[[], Iterator[tuple[str, Curve]]]] = {
    "anon-growth-512M": anon_growth,
    "file-512M": file_reads,
    "swappiness-512M": swappiness_mix,
} | {
    f"{kind}-{machine.name}": partial(play, machine)
    for machine in MACHINES
    for kind, play in (("growth", growth), ("file", reads), ("mix", mix))
}
