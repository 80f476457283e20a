"""The machines of tests/golden/boot and tests/golden/captures: how mmfs describes them and what a real kernel said."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from mmfs.machine import Machine
from mmfs.mm.memblock import Memblock, boot_memory
from mmfs.mm_types import ZONE_NAMES
from mmfs.profile import Profile, load_profile
from tests.golden.captures import MACHINES, at_boot, has_our_pages

BOOT = Path(__file__).parent.parent / "golden" / "boot"
TWO = {"nodes": ["3G", "2G"]}

# What differs from a machine of the folder's size with two CPUs; see tests/golden/boot/README.md.
SHAPES: dict[str, dict[str, Any]] = {
    "80M": {},
    "96M": {},
    "128M": {},
    "256M": {},
    "512M": {},
    "700M": {},
    "1024M": {},
    "2048M": {},
    "3072M": {},
    "3500M": {},
    "3584M": {},
    "4096M": {},
    "6144M": {},
    "8192M": {},
    "16G": {},
    "64G": {},
    "1009G": {},
    "1024M-c1": {"ram": "1G", "cpus": 1},
    "1024M-c4": {"ram": "1G", "cpus": 4},
    "1024M-c8": {"ram": "1G", "cpus": 8},
    "1024M-movablecore": {"ram": "1G"},
    "1024M-crash": {"ram": "1G"},
    "2048M-mem1G": {"ram": "2G"},
    "4096M-1Gpages": {"ram": "4G"},
    "4096M-nogb": {"ram": "4G"},
    "2T-e820": {"ram": "2T"},
    "12T8": {"ram": "12T", "nodes": 8, "cpus": 8},
    "numa3+2": TWO,
    "numa3+2-kernelcore": TWO,
    "numa1+1": {"nodes": ["1G", "1G"], "cpus": 4, "sockets": 1},
    "numa4": {"nodes": ["1G", "512M", "2G", "512M"], "cpus": 4},
    "numa768+3": {"nodes": [{"memory": "768M", "cpus": 1}, {"memory": "3G", "cpus": 2}], "cpus": 3},
    "memonly": {"nodes": [{"memory": "1G", "cpus": 2}, {"memory": "1G", "cpus": 0}], "distances": 40},
    "cpuonly": {"nodes": [{"memory": "1G", "cpus": 1}, {"memory": 0, "cpus": 1}]},
    "nocpu0": {"nodes": [{"memory": 0, "cpus": 1}, {"memory": "1G", "cpus": 1}]},
}
SHAPES |= {f"6.1/{name}": {"ram": name} | SHAPES[name] for name in ("128M", "512M", "1024M-c4", "4096M")}
SHAPES["6.1/numa3+2"] = TWO
SHAPES |= {
    f"7.0/1024M{cpus}": {"ram": "1G", "swap": "256M"} | SHAPES[f"1024M{cpus}"] for cpus in ("-c1", "-c4")
}
SHAPES["7.0/1024M"] = {"ram": "1G", "swap": "256M"}
SHAPES |= {f"686-pae/{name}": {"ram": name, "arch": "i386-pae"} for name in ("128M", "512M", "896M", "2048M", "60G")}
SHAPES |= {
    "686-pae/2048M-c4": {"ram": "2G", "cpus": 4, "arch": "i386-pae"},
    "686-pae/4096M": {"ram": "4G", "arch": "i386-pae"},
}
SHAPES |= {
    f"arm64-64k/{name}": {"ram": name, "arch": "arm64-64k", "swap": "256M"}
    for name in ("512M", "1024M", "4096M", "8192M")
}
SHAPES["arm64-64k/2048M-c4"] = {"ram": "2G", "cpus": 4, "arch": "arm64-64k", "swap": "256M"}
SHAPES["arm64-64k/numa3+2"] = {"nodes": ["3G", "2G"], "arch": "arm64-64k", "swap": "256M"}
SHAPES = {name: shape for name, shape in SHAPES.items() if has_our_pages(shape)}
KERNELS = {"6.1": "6.1", "686-pae": "6.1", "7.0": "7.0.0", "arm64-64k": "6.12"}
"""By folder; 6.12 has none of its own."""


@dataclass
class RealZone:
    """What zoneinfo said of one zone."""

    numbers: dict[str, int] = field(default_factory=dict)
    protection: tuple[int, ...] = ()
    pcp_high: list[int] = field(default_factory=list)


@dataclass
class RealMachine:
    """A machine that a real kernel booted."""

    name: str
    machine: Machine
    profile_name: str
    cmdline: str
    meminfo: str
    zoneinfo: str
    iomem: str
    dmesg: list[str] | None = None
    min_free_kbytes: int | None = None

    @property
    def profile(self) -> Profile:
        """The kernel that booted it."""
        return load_profile(self.profile_name, self.machine.arch)

    @cached_property
    def memblock(self) -> Memblock:
        """Ours, with the kernel loaded where the real one was."""
        code = re.search(r"([0-9a-f]+)-[0-9a-f]+ : Kernel code", self.iomem)
        assert code
        return boot_memory(self.machine, self.profile, self.cmdline, 1, int(code[1], 16))

    @cached_property
    def zones(self) -> dict[tuple[int, str], RealZone]:
        """Zoneinfo, parsed."""
        zones: dict[tuple[int, str], RealZone] = {}
        zone = RealZone()
        for line in self.zoneinfo.splitlines():
            if match := re.match(r"Node (\d+), zone +(\w+)", line):
                zone = zones[int(match[1]), match[2]] = RealZone()
            elif match := re.match(
                r" +(boost|min|low|high|promo|spanned|present|managed|start_pfn:|batch:) +(\d+)", line
            ):
                zone.numbers.setdefault(match[1].rstrip(":"), int(match[2]))
            elif match := re.match(r" +high: +(\d+)", line):
                zone.pcp_high.append(int(match[1]))
            elif match := re.match(r" +vm stats threshold: (\d+)", line):
                zone.numbers["threshold"] = int(match[1])
            elif match := re.match(r" +protection: \((.*)\)", line):
                zone.protection = tuple(int(word) for word in match[1].split(","))
        return zones

    def zone(self, nid: int, zone_type: int) -> RealZone:
        """The real zone; Linux prints nothing about zones of nodes without memory."""
        return self.zones.get((nid, ZONE_NAMES[zone_type]), RealZone())


@cache
def booted(name: str) -> RealMachine:
    """A machine of tests/golden/boot."""
    folder = BOOT / name
    shape = {"cpus": 2, "swap": ["256M", "4M"], "disk": "3G", **SHAPES[name]}
    if "nodes" not in SHAPES[name]:
        shape.setdefault("ram", name)
    machine = Machine.from_sizes(**shape)
    if name == "4096M-nogb":
        machine = replace(machine, cpu=machine.cpu.with_flags(la57=False, pdpe1gb=False))
    file = folder / "sysctl"
    sysctl = dict(line.split(None, 1) for line in file.read_text().splitlines()) if file.exists() else {}
    return RealMachine(
        name,
        machine,
        KERNELS.get(name.rpartition("/")[0], "6.12-deb12"),
        (folder / "cmdline").read_text().rstrip("\n"),
        (folder / "meminfo").read_text(),
        (folder / "zoneinfo").read_text(),
        (folder / "iomem").read_text(),
        (folder / "dmesg").read_text().splitlines(),
        int(sysctl["min_free_kbytes"]) if sysctl else None,
    )


@cache
def captured(name: str) -> RealMachine:
    """A machine of tests/golden/captures, right after boot."""
    shape = dict(MACHINES[name])
    cmdline, kernel = str(shape.pop("cmdline")), str(shape.pop("profile", "6.12"))
    if "nodes" in shape:
        shape.pop("ram")
    texts = {file: at_boot(name, f"/proc/{file}").decode() for file in ("meminfo", "zoneinfo", "iomem")}
    return RealMachine(
        name,
        Machine.from_sizes(**shape),  # type: ignore[arg-type]
        kernel,
        cmdline,
        texts["meminfo"],
        texts["zoneinfo"],
        texts["iomem"],
    )


def real_machine(name: str) -> RealMachine:
    """A machine of either kind."""
    return booted(name.removeprefix("boot:")) if name.startswith("boot:") else captured(name)


ALL = [*(f"boot:{name}" for name in SHAPES), *MACHINES]
