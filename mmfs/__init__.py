"""mmfs: a Linux memory subsystem that you can mount.

    import mmfs
    kernel = mmfs.boot(ram="512M", swap="256M", cpus=2, seed=1)
    print(kernel.read("/proc/meminfo").decode())

`boot()` switches a simulated machine on and returns its kernel. Importing this package is cheap; the
simulation is imported when a machine is booted.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from mmfs.kernel.kernel import Kernel
    from mmfs.machine import Machine

__version__ = "0.1.0"
__all__ = ["__version__", "boot"]


def boot(
    ram: str | int | None = None,
    swap: str | int | None = None,
    cpus: int | None = None,
    *,
    seed: int | None = None,
    nodes: int | Sequence[Any] | None = None,
    disks: str | dict[str, str] | None = None,
    maxmem: str | int | None = None,
    machine: Machine | str | Path | None = None,
    arch: str | None = None,
    preset: str | None = None,
    containers: int | None = None,
    profile: str | None = None,
    cmdline: str | None = None,
    cgroup: str | None = None,
    realtime: int | None = None,
    scenario: str | Path | Mapping[str, Any] | None = None,
) -> Kernel:
    """Boot a simulated machine and return its running kernel.

    Sizes are numbers of bytes or strings such as "512M". `nodes` is a number of NUMA nodes or a list of their
    descriptions; `disks` says how fast they are ("hdd", "ssd", "nvme", or each by its name: {"vda": "nvme"});
    `maxmem` how much memory it can have when more is plugged in;
    `machine` is a TOML file's path or a `Machine`; `arch` what processor it has ("x86_64" [default], "i386-pae": 32
    bits and high memory, or "arm64-64k": pages of 64 KB, for which Python is started with MMFS_PAGE_SIZE=64K in the
    environment). `preset` says who lives on the machine ("bare",
    "server" [default], "host"), `containers` how many containers run in cgroups of their own,
    `profile` which kernel it runs, `cmdline` its command line, `cgroup` which cgroups are mounted ("v2" [default], or
    "v1": a hierarchy for each controller). `seed` decides all that is
    random, `realtime` (seconds since 1970) when the machine is switched on. `scenario` is a TOML file's path (or what
    such a file says): a machine, of which the other arguments override parts, and what happens on it. Raises
    ValueError with one line.
    """
    _import_numpy()
    arguments: dict[str, Any] = {
        "ram": ram, "swap": swap, "cpus": cpus, "nodes": nodes, "disks": disks, "maxmem": maxmem, "machine": machine,
        "arch": arch, "preset": preset, "containers": containers, "seed": seed, "profile": profile, "cmdline": cmdline,
        "realtime": realtime, "cgroup": cgroup,
    }  # fmt: skip
    arguments = {key: value for key, value in arguments.items() if value is not None}
    if scenario is None:
        return _boot(**arguments)
    from mmfs.workload import Scenario

    plan = Scenario.load(scenario)
    kernel = _boot(**{**plan.machine, **arguments})
    plan.play(kernel)
    return kernel


def _boot(
    *, seed: int = 0, preset: str = "server", profile: str | None = None, cmdline: str = "",
    realtime: int | None = None, containers: int = 0, cgroup: str = "v2", **hardware: Any,
) -> Kernel:  # fmt: skip
    from mmfs.kernel.kernel import Kernel
    from mmfs.machine import Machine
    from mmfs.profile import load_profile

    machine = Machine.describe(preset=preset, **hardware)
    kernel = Kernel(
        machine, load_profile(profile, machine.arch), _mount_files, seed=seed, cmdline=cmdline, preset=preset,
        realtime=realtime, cgroup=cgroup,
    )  # fmt: skip
    if containers:
        from mmfs.kernel.presets.containers import start_containers

        start_containers(kernel, containers)
    return kernel


def _mount_files(kernel: Kernel) -> None:
    """Hang the tree of files into the kernel, when the first of them is looked at."""
    from mmfs import fs

    fs.mount(kernel)


def _import_numpy() -> None:
    """Import numpy without the threads of its BLAS, which nothing here uses and whose start costs more than a boot.

    A program that wants them imports numpy before it boots a machine, or sets OPENBLAS_NUM_THREADS.
    """
    if "numpy" in sys.modules or "OPENBLAS_NUM_THREADS" in os.environ:
        return
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    try:
        import numpy  # noqa: F401
    finally:
        del os.environ["OPENBLAS_NUM_THREADS"]
