"""The same files read, listed, written and dropped as on a real machine of 512 MB, step by step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mmfs.kernel.namei import O_CREAT, O_RDWR, O_TRUNC

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task

CURVE = Path(__file__).parent.parent / "golden/curves/drop-caches-overcommit-512M/drop_caches.tsv"
RAM_KB = 512 << 10
MB = 1 << 20
TOLERANCE = {
    "MemFree": 0.03 * RAM_KB,
    "MemAvailable": 0.03 * RAM_KB,
    "Buffers": 260,  # directories' blocks, which programs of the guest looked at, too
    "Cached": 1200,  # the guest's own programs
    "Inactive(file)": 2600,  # the guest's programs are active, as its lists are of another kind
    "SReclaimable": 2800,  # after 2: slabs that hold something still
    "Dirty": 48,
    "drop_pagecache": 0,
    "drop_slab": 0,
}


def curve() -> dict[str, dict[str, int]]:
    head, *rows = [line.split("\t") for line in CURVE.read_text().splitlines()]
    return {row[0]: dict(zip(head[2:], map(int, row[2:]), strict=True)) for row in rows}


def sample(kernel: Kernel) -> dict[str, int]:
    found = {}
    for row in (kernel.read("/proc/meminfo") + kernel.read("/proc/vmstat")).decode().splitlines():
        name, value = row.split()[:2]
        found[name.rstrip(":")] = int(value)
    return found


def fill(task: Task, path: str, megabytes: int) -> None:
    fd = task.open(path, O_RDWR | O_CREAT | O_TRUNC)
    for _ in range(megabytes):
        task.write(fd, MB)
    task.close(fd)


@pytest.mark.slow
def test_drop_caches(boot: Callable[..., Kernel]) -> None:
    kernel, real = boot(ram="512M", swap="256M", cpus=1, preset="bare", seed=1), curve()
    task = kernel.tasks[1]
    names = [f"/data/many/file{number:06d}" for number in range(8000)]
    for name in names:
        task.close(task.open(name, O_RDWR | O_CREAT))
    fill(task, "/data/f", 150)
    task.sync()
    kernel.write("/proc/sys/vm/drop_caches", "3")
    wrong = []

    def compare(label: str) -> None:
        kernel.check()
        mine = sample(kernel)
        for name, tolerance in TOLERANCE.items():
            if abs(mine[name] - real[label][name]) > tolerance:
                wrong.append(f"{label}: {name} {mine[name]}, on the real machine {real[label][name]}")

    for step in ("1", "2", "3", "dirty1", "sync3"):
        fd = task.open("/data/f")
        for _ in range(150):
            task.read(fd, MB)
        task.close(fd)
        for name in names:
            task.stat(name)
        if step == "dirty1":
            fill(task, "/data/dirty", 30)
        compare(f"before_{step}")
        if step == "sync3":
            task.sync()
        kernel.write("/proc/sys/vm/drop_caches", step[-1])
        compare(f"after_{step}")
    assert not wrong, "\n".join(wrong)
    scanned, on_real = sample(kernel)["slabs_scanned"], real["after_sync3"]["slabs_scanned"]
    assert scanned == pytest.approx(on_real, rel=0.15)
