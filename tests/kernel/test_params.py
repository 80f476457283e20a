"""Sysctl defaults are a real machine's."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest

from mmfs.kernel.params import IpcSysctl, KernelSysctl, fs_sysctl, kernel_sysctl
from mmfs.profile import load_profile

BOOT = Path(__file__).parents[1] / "golden/captures/512M/00-boot/proc/sys"


@pytest.mark.parametrize(
    ("pages", "nr_cpus", "file_max", "epoll", "inotify", "fanotify"),
    # Read from real 6.12 kernels of 512 MB with 2 CPUs, 4 GB with 2, 8 GB with 4, 2 GB with 16.
    [
        (116106, 2, 45849, 103379, 8192, 8192),
        (1001351, 2, 399941, 891636, 30883, 32863),
        (2031871, 4, 811924, 1809252, 62667, 66684),
        (501648, 16, 199140, 446686, 15471, 16462),
    ],
)
def test_limits_that_scale_with_memory(
    pages: int, nr_cpus: int, file_max: int, epoll: int, inotify: int, fanotify: int
) -> None:
    fs = fs_sysctl(pages, nr_cpus)
    assert fs.file_max == pytest.approx(file_max, rel=0.002)
    assert fs.epoll_max_user_watches == pytest.approx(epoll, abs=25)
    assert (fs.inotify_max_user_watches, fs.fanotify_max_user_marks) == (inotify, fanotify)


def test_defaults_are_golden() -> None:
    params, ipc = kernel_sysctl(1, "psi=1 panic=-1", 1, load_profile()), IpcSysctl()
    compared = 0
    for file in sorted((BOOT / "kernel").iterdir()):
        owner = ipc if hasattr(ipc, file.name) else params
        if hasattr(owner, file.name):
            value = getattr(owner, file.name)
            text = "\t".join(map(str, value)) if isinstance(value, list) else str(value)
            assert text + "\n" == file.read_text(), file.name
            compared += 1
    assert compared >= 35


def test_the_seed_makes_the_boot_id() -> None:
    one, same, other = (kernel_sysctl(seed, "", 1, load_profile()) for seed in (1, 1, 2))
    assert one.random_boot_id == same.random_boot_id != other.random_boot_id
    assert UUID(one.random_boot_id).version == 4
    assert one.random_uuid() != one.random_uuid()


def test_the_command_line_and_the_nodes_matter() -> None:
    params = kernel_sysctl(0, "norandmaps panic=10", 2, load_profile())
    assert (params.randomize_va_space, params.panic, params.numa_balancing) == (0, 10, 1)
    assert KernelSysctl.numa_balancing == 0
