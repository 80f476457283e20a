"""Every file of a cgroup of processes and of those above it, against captures of other kernels than 6.12."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import mmfs
from tests.golden.captures import CAPTURES, MACHINES
from tests.golden.compare import assert_layout, words

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel

ROOT = "/sys/fs/cgroup"
MACHINES_WITH_CGROUPS = ("512M-6.1", "512M-7.0")
# Of controllers that are not modelled, and what names them.
OTHERS = ("io.", "misc.", "dmem.", "rdma.", "cpu.idle", "cpu.max", "cpu.weight")
NAMES_THEM = (
    "cgroup.controllers", "cgroup.subtree_control", "cgroup.procs", "cgroup.threads", "cpu.stat", "cgroup.stat"
)  # fmt: skip


@cache
def kernel_of(machine: str) -> Kernel:
    """A machine with the cgroups of its SCENARIO.sh. Tests here only read it."""
    kernel = mmfs.boot(preset="bare", seed=1, **MACHINES[machine])  # type: ignore[arg-type]
    kernel.write(f"{ROOT}/cgroup.subtree_control", "+memory +pids +cpuset +hugetlb")
    for group in ("g", "g/web"):
        kernel.mkdir(f"{ROOT}/{group}")
    kernel.write(f"{ROOT}/g/cgroup.subtree_control", "+memory")
    for name, value in (("max", "64M"), ("swap.max", "0"), ("low", "32M")):
        kernel.write(f"{ROOT}/g/web/memory.{name}", value)
    task = kernel.spawn("probe", cgroup="/g/web")
    task.touch(task.mmap("40M"), "40M", write=True)
    kernel.run_for(2.0)
    return kernel


def captured(machine: str) -> list[Path]:
    """The files that the machine has of its cgroups."""
    tree = CAPTURES / machine / "06-cgroup-running"
    return [file.relative_to(tree) for file in sorted((tree / ROOT.lstrip("/")).rglob("*")) if file.is_file()]


@pytest.mark.parametrize("machine", MACHINES_WITH_CGROUPS)
def test_layout(machine: str) -> None:
    kernel, compared = kernel_of(machine), 0
    for file in captured(machine):
        if file.name.startswith(OTHERS) or file.name.startswith(NAMES_THEM):
            continue
        golden = (CAPTURES / machine / "06-cgroup-running" / file).read_bytes()
        assert_layout(kernel.read(f"/{file}"), golden, words, str(file))
        compared += 1
    assert compared > 70
