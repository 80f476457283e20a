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

    def __init__(self, seed: int = 1) -> None:
        # The recorded machine's disk answered out of its host's memory, faster than its emulated CPU asked.
        super().__init__(disks={"vdb": "nvme"}, seed=seed)
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

    def sample_pair(self, label: str, kept: str, reads: str) -> None:
        """What two cgroups hold."""
        self.curve[label] = {}
        for letter, path in (("P", kept), ("Q", reads)):
            self.curve[label][f"{letter}_current"] = self.read(path, "memory.current")["memory.current"]
            self.curve[label][f"{letter}_file"] = self.read(path, "memory.stat")["memory.stat.file"]
            for key, value in self.read(path, "memory.events").items():
                self.curve[label][f"{letter} {key}"] = value

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


def page_cache() -> Iterator[tuple[str, Curve]]:
    """A file read through memory.max, which is lowered then."""
    probe = CgroupProbe()
    probe.bigfile("/data/f", 256)
    probe.sysctl("drop_caches", 3)
    group = probe.make("e", max="64M")
    for step in range(1, 9):
        probe.readfile_in(group, "/data/f", 32, (step - 1) * 32)
        probe.sample_group(group, f"{step * 32}MB")
    for label in ("reread48", "reread48b"):
        probe.readfile_in(group, "/data/f", 48)
        probe.sample_group(group, label)
    yield "cg_pagecache_max64", probe.take()
    for limit in ("48M", "32M", "8M"):
        probe.kernel.write(f"{group}/memory.max", limit)
        probe.sample_group(group, f"max={limit}")
    yield "cg_lower_max_pagecache", probe.take()


def protection(kind: str, seed: int = 1) -> Iterator[tuple[str, Curve]]:
    """A cgroup with 100 MB of cache beside one that reads 900 MB: what memory.low and memory.min keep for it."""
    probe = CgroupProbe(seed)
    probe.bigfile("/data/f", 256)
    probe.bigfile("/data/g", 900)
    probe.sysctl("drop_caches", 3)
    kept = probe.make("P", **({} if kind == "none" else {kind: "120M"}))
    reads = probe.make("Q")
    probe.readfile_in(kept, "/data/f", 100)
    probe.readfile_in(kept, "/data/f", 100)
    for step in range(9):
        probe.sample_pair(f"{step * 100}", kept, reads)
        probe.readfile_in(reads, "/data/g", 100, step * 100)
    holder = probe.kernel.spawn("probe")
    probe.kernel.write(f"{reads}/cgroup.procs", f"{holder.pid}")
    holder.touch(holder.mmap(330 * MB), 330 * MB, write=True)
    holder.exit()
    probe.sample_pair("anon330", kept, reads)
    yield f"cg_protect_{kind}", probe.take()


def nested() -> Iterator[tuple[str, Curve]]:
    """Growth in a child without a limit, below one that has one."""
    probe = CgroupProbe()
    top = probe.make("n")
    probe.kernel.write(f"{top}/cgroup.subtree_control", "+memory")
    child, other = probe.make("n/k1"), probe.make("n/k2")
    probe.kernel.write(f"{top}/memory.max", "64M")
    probe.kernel.write(f"{top}/memory.swap.max", "0")
    probe.anon_in(child, 8, 200)
    yield "cg_nested_growth_k1", probe.take()
    for group in (top, child, other):
        name = group.removeprefix(f"{TOP}/")
        probe.curve[name] = {**probe.read(group, "memory.events"), **probe.read(group, "memory.events.local")}
    yield "cg_nested_events_after", probe.take()


def reclaim() -> Iterator[tuple[str, Curve]]:
    """memory.reclaim on 60 MB of cache and 60 MB of anonymous memory."""
    probe = CgroupProbe()
    probe.bigfile("/data/f", 256)
    group = probe.make("r")
    probe.readfile_in(group, "/data/f", 60)
    holder = probe.kernel.spawn("probe")
    probe.kernel.write(f"{group}/cgroup.procs", f"{holder.pid}")
    holder.touch(holder.mmap(60 * MB), 60 * MB, write=True)
    for number, size in enumerate(("10M", "10M", "20M", "40M", "100M")):
        try:
            probe.kernel.write(f"{group}/memory.reclaim", size)
            failed = 0
        except OSError as error:
            failed = error.errno or 1
        probe.sample_group(group, f"{number} {size}")
        probe.curve[f"{number} {size}"]["rc"] = failed
    yield "cg_reclaim", probe.take()
