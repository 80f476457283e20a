"""The recorded curves of cgroups (curves/cgroup-512M), played on mmfs call by call."""

from __future__ import annotations

import re
from collections.abc import Iterator

from mmfs.kernel.signal import TaskKilled
from tests.fidelity.probe import MB, Curve, Probe

TOP = "/sys/fs/cgroup"
FILES = ("memory.current", "memory.peak", "memory.swap.current", "memory.events", "memory.stat")


class CgroupProbe(Probe):
    """A machine like the recorded one, whose memory controller is on."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel.write(f"{TOP}/cgroup.subtree_control", "+memory")

    def make(self, name: str, **limits: str) -> str:
        """A cgroup with memory.NAME set."""
        path = f"{TOP}/{name}"
        self.kernel.mkdir(path)
        for limit, value in limits.items():
            self.kernel.write(f"{path}/memory.{limit.replace('_', '.')}", value)
        return path

    def read(self, path: str, name: str) -> dict[str, int]:
        """A file of one number, or of rows."""
        text = self.kernel.read(f"{path}/{name}").decode()
        if text.strip().isdigit():
            return {name: int(text)}
        return {f"{name}.{key}": int(value) for key, value in re.findall(r"^(\S+) (\d+)$", text, re.M)}

    def sample_group(self, path: str, label: str) -> None:
        """What the memory files of a cgroup say."""
        self.curve[label] = {
            key: value for name in FILES if name in self.kernel.listdir(path)
            for key, value in self.read(path, name).items()
        }  # fmt: skip

    def anon_in(self, path: str, step_mb: int, max_mb: int) -> None:
        """`probe anon` with its child in a cgroup."""
        parent = self.kernel.spawn("probe", oom_score_adj=-1000)
        child = parent.fork()
        child.signal.oom_score_adj = 0
        self.kernel.write(f"{path}/cgroup.procs", f"{child.pid}")
        self.sample_group(path, "start")
        reached = 0
        try:
            for reached in range(0, max_mb, step_mb):
                child.touch(child.mmap(step_mb * MB), step_mb * MB, write=True)
                self.sample_group(path, f"{reached + step_mb}MB")
            child.exit()
            parent.wait()
        except TaskKilled:
            parent.wait()
            self.sample_group(path, f"end_sig9_at_{reached}MB")
        parent.exit()

    def readfile_in(self, path: str, file: str, size_mb: int, offset_mb: int = 0) -> None:
        """`sh -c "echo 0 > cgroup.procs; exec probe readfile ..."`."""
        reader = self.kernel.spawn("sh")
        self.kernel.write(f"{path}/cgroup.procs", f"{reader.pid}")
        fd = reader.open(file)
        reader.lseek(fd, offset_mb * MB)
        left = size_mb * MB
        while left > 0 and (got := reader.read(fd, 128 << 10)):
            left -= got
        reader.exit()


def growth() -> Iterator[tuple[str, Curve]]:
    """Anonymous memory under memory.max and memory.high."""
    probe = CgroupProbe()
    probe.anon_in(probe.make("a", max="64M", swap_max="0"), 4, 200)
    yield "cg_max64_noswap", probe.take()
    probe.anon_in(probe.make("b", max="64M", swap_max="64M"), 4, 200)
    yield "cg_max64_swap64", probe.take()
    probe.anon_in(probe.make("c", high="32M"), 4, 96)
    yield "cg_high32_swap", probe.take()
    probe.anon_in(probe.make("d", high="32M", swap_max="0"), 1, 38)
    yield "cg_high32_noswap", probe.take()
