"""Machines: what a boot costs, what terabytes cost, what a file costs on each, and how soon the command answers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator

from benchmarks.measure import ROOT, Row, Side, python

BOOT = """
import json, resource, sys
import mmfs
kernel = mmfs.boot(**json.loads(sys.argv[1]))
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps([used.ru_utime + used.ru_stime, used.ru_maxrss / 1024]))
"""
USE = """
import json, sys
import mmfs
def rss():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmRSS")).split()[1]) / 1024
kernel = mmfs.boot(ram="12T", nodes=8, seed=1)
before = rss()
each = (2 << 40) // 200 & -(2 << 20)
for i in range(200):
    task = kernel.spawn(f"user{i}")
    task.touch(task.mmap(each), each, write=True)
used = dict(line.split(":") for line in kernel.read("/proc/meminfo").decode().splitlines())
kernel.check()
print(json.dumps([rss() - before, int(used["AnonPages"].split()[0]) / (1 << 30)]))
"""
READ = """
import json, sys, time
import mmfs
kernel = mmfs.boot(**json.loads(sys.argv[1]))
task = kernel.spawn("toucher")
addr = task.mmap("64M")
def cost(path):
    samples = []
    for turn in range(200):
        task.touch(addr + turn * 4096, write=True)  # what the file shows has changed each time
        begin = time.perf_counter_ns()
        kernel.read(path)
        samples.append((time.perf_counter_ns() - begin) / 1000)
    return sorted(samples)[len(samples) // 2]
costs = [cost(path) for path in ("/proc/meminfo", "/proc/zoneinfo", "/proc/buddyinfo")]
print(json.dumps([costs, len(kernel.node_data)]))
"""
SMALL = {"ram": "8G"}
LARGE = {"ram": "12T", "nodes": 8}


def boot(rounds: int = 5) -> Iterator[Row]:
    """CPU time of a process that boots a machine, the interpreter and all imports included, and its memory."""
    small: list[list[float]] = []
    large: list[list[float]] = []
    for _ in range(rounds):
        small.append(json.loads(python(BOOT, json.dumps(SMALL))))
        large.append(json.loads(python(BOOT, json.dumps(LARGE))))
    ours = Side.of("8 GB", [run[0] for run in small])
    yield Row("boot 8 GB, imports included", "s of CPU", ours, most=0.5)
    yield Row("boot 12 TB on 8 nodes", "s of CPU", Side.of("12 TB", [run[0] for run in large]), ours, most=2)
    bare, server = ([one[0] for one in samples] for samples in interleaved_presets(rounds))
    yield Row(
        "boot a server with its services, beyond a bare machine", "s of CPU",
        Side("server", min(server) - min(bare)), Side.of("bare", bare), most=0.15, notes=["best of the passes"],
    )  # fmt: skip
    yield Row("memory of a booted 12 TB machine", "MB", Side.of("12 TB", [run[1] for run in large]), most=400)


def interleaved_presets(rounds: int) -> list[list[list[float]]]:
    """What booting 4 GB costs, bare and as a server, in turn."""
    samples: list[list[list[float]]] = [[], []]
    for _ in range(rounds):
        for preset, taken in zip(("bare", "server"), samples, strict=True):
            taken.append(json.loads(python(BOOT, json.dumps({"ram": "4G", "cpus": 4, "preset": preset}))))
    return samples


def terabytes() -> Iterator[Row]:
    """2 TB touched by 200 processes of a 12 TB machine."""
    added, touched = json.loads(python(USE))
    yield Row(
        "2 TB in use by 200 processes: memory added",
        "MB",
        Side("mmfs", added),
        most=300,
        notes=[f"{touched:.2f} TB touched"],
    )


def files() -> Iterator[Row]:
    """A file on a large machine next to the same on a small one, in process, while memory is touched in between."""
    large, nodes = json.loads(python(READ, json.dumps(LARGE)))
    small, _ = json.loads(python(READ, json.dumps(SMALL)))
    for name, most, theirs, ours in zip(
        ("meminfo", "zoneinfo", "buddyinfo"), (1.5, None, None), small, large, strict=True
    ):
        notes = [] if most else [f"{nodes} nodes to print instead of one"]
        yield Row(f"read {name}", "us", Side("12 TB", ours), Side("8 GB", theirs), most=most, notes=notes)


def answering(rounds: int = 9) -> Iterator[Row]:
    """How soon the command answers."""
    took = []
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    for _ in range(rounds):
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-m", "mmfs", "--help"], check=True, stdout=subprocess.DEVNULL, env=environment)
        took.append(time.perf_counter() - begin)
    yield Row("mmfs --help", "s", Side.of("mmfs", took), most=0.2)
