"""The hardware: memory, nodes, processors, disks. A Machine is a value; booting it makes a Kernel.

    Machine.from_sizes(ram="8G", nodes=2, swap="2G")
    Machine.from_sizes(nodes=[{"memory": "3G", "cpus": 4}, {"memory": "512G", "cpus": 0, "slow": True}])
    Machine.from_toml("big.toml")
    Machine.like_host()

Everything wrong with a description is a ValueError whose text can be shown to the user as it is.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mmfs.arch import ARM64_64K, X86_64, Arch, arch_of
from mmfs.cpu_model import CPU_MODELS, CPU_MODELS_ARM64, CpuModel
from mmfs.mm_types import PAGE_SIZE
from mmfs.sizes import GB, MB, TB, format_size, parse_size

# Debian's 6.12 boots with 80 MB and panics with 72 MB (asked of the real kernel, with a small initramfs).
MIN_RAM = 80 * MB
LOCAL_DISTANCE = 10
REMOTE_DISTANCE = 21
DRAM = (100, 131_072)
"""How fast memory is: latency in ns, bandwidth in MB/s, from the processors that are nearest."""
SLOW_MEMORY = (250, 32_768)
"""The same of memory behind a CXL link."""
ROOT_DISK = 20 * GB
DISK_KINDS = ("ssd", "hdd", "nvme")
NODE_KEYS = ("memory", "cpus", "distances", "slow", "latency", "bandwidth")

TOML_KEYS = frozenset(
    {
        "arch", "cpu", "cpus", "disk", "disks", "distances", "hardware_name", "la57", "maxmem", "nodes", "ram",
        "sockets", "swap", "threads",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Node:
    """A NUMA node: its memory in bytes (0 for a CPU-only node), its CPUs (none for a memory-only node).

    `latency` (ns) and `bandwidth` (MB/s): how fast its memory is, as the firmware says (an HMAT); 0 if it does not.
    """

    memory: int
    cpus: tuple[int, ...] = ()
    distances: tuple[int, ...] = ()
    latency: int = 0
    bandwidth: int = 0


@dataclass(frozen=True)
class BlockDevice:
    """A whole disk."""

    name: str
    size: int
    major: int
    minor: int
    kind: str = DISK_KINDS[0]
    """How fast it is, one of DISK_KINDS."""

    @property
    def path(self) -> str:
        """Its device file."""
        return f"/dev/{self.name}"

    @property
    def nr_sectors(self) -> int:
        """Size in units of 512 bytes."""
        return self.size // 512


@dataclass(frozen=True)
class SwapDevice:
    """A swap area that is enabled at boot: the path of a block device or of a file, and its size in bytes."""

    name: str
    size: int


@dataclass(frozen=True)
class Topology:
    """How logical CPUs are arranged: sockets of cores of threads."""

    sockets: int
    cores: int
    threads: int


@dataclass(frozen=True)
class Machine:
    """A computer that can be booted."""

    nodes: tuple[Node, ...]
    topology: Topology
    cpu: CpuModel
    disks: tuple[BlockDevice, ...]
    swap: tuple[SwapDevice, ...] = ()
    maxmem: int = 0
    """How much memory it can have when more is plugged in; 0: it has no free slots."""
    hardware_name: str = "QEMU Standard PC (i440FX + PIIX, 1996)"
    bios: str = "BIOS 1.16.2-debian-1.16.2-1 04/01/2014"
    arch: str = X86_64.name
    """The architecture it is booted with, one of ARCHES."""

    # -- what it is made of ---------------------------------------------------------------------------

    @property
    def ram(self) -> int:
        """All memory in bytes."""
        return sum(node.memory for node in self.nodes)

    @property
    def nr_cpus(self) -> int:
        """Logical CPUs in all."""
        return sum(len(node.cpus) for node in self.nodes)

    @property
    def numa(self) -> bool:
        """Whether the firmware describes nodes (an SRAT)."""
        return len(self.nodes) > 1 or self.maxmem > 0

    @property
    def hmat(self) -> bool:
        """Whether it says how fast they are (an HMAT)."""
        return any(node.latency for node in self.nodes)

    @property
    def phys_bits(self) -> int:
        """Width of a physical address: the processor's, or more when the memory needs it."""
        return max(self.cpu.phys_bits, (self.ram + 2 * TB).bit_length() if self.ram > 1000 * GB else 0)

    @property
    def cpu_to_node(self) -> dict[int, int]:
        """The node of each CPU."""
        return {cpu: nid for nid, node in enumerate(self.nodes) for cpu in node.cpus}

    def socket_of(self, cpu: int) -> int:
        """The physical package of a CPU."""
        return cpu // (self.topology.cores * self.topology.threads)

    def core_of(self, cpu: int) -> int:
        """The core number of a CPU within its package."""
        return cpu // self.topology.threads % self.topology.cores

    # -- how to describe one ----------------------------------------------------------------------------

    @classmethod
    def from_sizes(
        cls,
        ram: str | int | None = None,
        nodes: int | Sequence[str | int | Mapping[str, Any]] | None = None,
        cpus: int | None = None,
        swap: str | int | Sequence[Any] | None = None,
        *,
        distances: Sequence[Sequence[int]] | int | None = None,
        sockets: int | None = None,
        threads: int = 1,
        cpu: str = "max",
        la57: bool | None = None,
        disk: str | int = ROOT_DISK,
        disks: str | Mapping[str, str] | None = None,
        maxmem: str | int | None = None,
        hardware_name: str | None = None,
        arch: str = X86_64.name,
    ) -> Machine:
        """A machine from sizes; what is left out is chosen as a server of that size would have it.

        `disks` says how fast they are: "hdd", "ssd" or "nvme" for all, or {"vda": "nvme", "vdb": "hdd"}.
        `maxmem` is what it can have in all when memory is plugged in while it runs.
        """
        limits = arch_of(arch)
        memories, wanted = _memories(ram, nodes, limits)
        cpu_lists = _distribute_cpus(wanted, _count(cpus, "cpus", limits.max_cpus))
        table = _distances(distances, nodes, len(memories))
        _check_ram(sum(memories), limits)
        model = _cpu_model(cpu, la57, limits)
        swaps, devices = _disks(swap, parse_size(disk, "disk"))
        machine = cls(
            nodes=tuple(Node(*row) for row in zip(memories, cpu_lists, table, *_speeds(nodes, memories), strict=True)),
            topology=_topology(cpu_lists, sockets, threads),
            cpu=model,
            disks=_disk_kinds(devices, disks),
            swap=swaps,
            maxmem=_maxmem(maxmem, sum(memories), limits),
            arch=arch,
        )
        if hardware_name is None and limits is ARM64_64K:
            hardware_name = "linux,dummy-virt (DT)"
        return replace(machine, hardware_name=hardware_name) if hardware_name else machine

    @classmethod
    def from_toml(cls, path: str | Path, **overrides: Any) -> Machine:
        """A machine from a TOML file whose keys are the arguments of from_sizes()."""
        try:
            table = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise ValueError(f"{path}: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{path}: {error}") from error
        table = table.get("machine", table)
        for key in table:
            if key not in TOML_KEYS:
                raise ValueError(f"{path}: unknown key {key!r} (known: {', '.join(sorted(TOML_KEYS))})")
        try:
            return cls.from_sizes(**{**table, **overrides})
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}: {error}") from error

    @classmethod
    def like_host(cls, **overrides: Any) -> Machine:
        """A machine shaped as the one this runs on: RAM, nodes, CPUs, swap."""
        from mmfs.host import describe_host

        shape = describe_host()
        if {"ram", "nodes", "cpus"} & overrides.keys():
            shape = {key: value for key, value in shape.items() if key not in ("nodes", "distances")} | (
                {} if "ram" in overrides or "nodes" in overrides else {"ram": host_ram(shape)}
            )
        if "nodes" in overrides:
            shape.pop("ram", None)
        return cls.from_sizes(**{**shape, **overrides})

    @classmethod
    def describe(cls, *, machine: Machine | str | Path | None = None, preset: str = "server", **sizes: Any) -> Machine:
        """The machine that mmfs.boot() was asked for: a Machine, a file, the host's likeness, or sizes."""
        given = {key: value for key, value in sizes.items() if value is not None}
        if isinstance(machine, Machine):
            if given:
                raise ValueError(f"{', '.join(given)}: cannot be given with a machine that is complete")
            return machine
        if machine is not None:
            return cls.from_toml(machine, **given)
        return cls.like_host(**given) if preset == "host" else cls.from_sizes(**given)


def host_ram(shape: dict[str, Any]) -> int:
    """All memory of a described host."""
    nodes = shape.get("nodes")
    return sum(node["memory"] for node in nodes) if nodes else int(shape["ram"])


# -- pieces of from_sizes ------------------------------------------------------------------------------


def _count(value: int | None, what: str, limit: int) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{what}: {value!r} is not a number of {what} above zero")
    if value > limit:
        raise ValueError(f"{what}: {value} is more than the {limit} that the kernel supports")
    return value


def _check_ram(total: int, arch: Arch) -> None:
    if total < MIN_RAM:
        raise ValueError(
            f"ram: {format_size(total)} is too little, Linux 6.12 does not boot below {format_size(MIN_RAM)}"
        )
    if total > arch.max_ram:
        reach = "that mmfs simulates" if arch is X86_64 else f"that {arch.name} can address"
        raise ValueError(f"ram: {format_size(total)} is more than the {format_size(arch.max_ram)} {reach}")


def _maxmem(maxmem: str | int | None, ram: int, arch: Arch) -> int:
    if maxmem is None:
        return 0
    size = parse_size(maxmem, "maxmem")
    if arch is not X86_64 and size > ram:
        raise ValueError(f"maxmem: no memory can be plugged into a machine of {arch.name}")
    if size < ram or size > arch.max_ram:
        allowed = f"{format_size(ram)}, which is ram, and {format_size(arch.max_ram)}"
        raise ValueError(f"maxmem: {format_size(size)} is not between {allowed}")
    return size if size > ram else 0


def _memories(
    ram: str | int | None, nodes: int | Sequence[str | int | Mapping[str, Any]] | None, arch: Arch
) -> tuple[list[int], list[Any]]:
    """Bytes of each node, and what was asked of its CPUs (None, a count, a list)."""
    if nodes is None or isinstance(nodes, int):
        count = _count(1 if nodes is None else nodes, "nodes", arch.max_nodes) or 1
        total = parse_size("8G" if ram is None else ram, "ram")
        total -= total % PAGE_SIZE
        granule = 128 * MB if total >= count * 128 * MB else MB if total >= count * MB else PAGE_SIZE
        share = total // count // granule * granule
        return [*[share] * (count - 1), total - share * (count - 1)], [None] * count
    if isinstance(nodes, (str, bytes)) or not nodes:
        raise ValueError("nodes: expected a number of nodes or a list of their sizes")
    if len(nodes) > arch.max_nodes:
        raise ValueError(f"nodes: {len(nodes)} is more than the {arch.max_nodes} that the kernel supports")
    memories, wanted = [], []
    for nid, node in enumerate(nodes):
        table = node if isinstance(node, Mapping) else {"memory": node}
        for key in table:
            if key not in NODE_KEYS:
                raise ValueError(f"nodes[{nid}]: unknown key {key!r} (known: {', '.join(NODE_KEYS)})")
        memory = table.get("memory", 0)
        size = 0 if memory in (0, "0") else parse_size(memory, f"nodes[{nid}].memory")
        memories.append(size - size % PAGE_SIZE)
        wanted.append(table.get("cpus"))
    if ram is not None and parse_size(ram, "ram") // PAGE_SIZE * PAGE_SIZE != sum(memories):
        raise ValueError(f"ram: {ram} is not the sum of the nodes' memory, {format_size(sum(memories))}")
    return memories, wanted


def _parse_cpu_list(text: str, what: str) -> list[int]:
    cpus: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise ValueError(f"{what}: {text!r} is not a list of CPUs such as 0-3,8")
        cpus.extend(range(int(first), int(last or first) + 1))
    return cpus


def _distribute_cpus(wanted: list[Any], total: int | None) -> list[tuple[int, ...]]:
    """CPU numbers of each node: those asked for by name, by count, or an even share in blocks."""
    lists: list[list[int] | None] = []
    counts: list[int] = []
    for nid, ask in enumerate(wanted):
        what = f"nodes[{nid}].cpus"
        if isinstance(ask, str):
            ask = _parse_cpu_list(ask, what)
        if ask is None or (isinstance(ask, int) and not isinstance(ask, bool) and ask >= 0):
            lists.append(None)
            counts.append(-1 if ask is None else ask)
        elif isinstance(ask, Sequence) and all(isinstance(cpu, int) and cpu >= 0 for cpu in ask):
            lists.append(list(ask))
            counts.append(len(ask))
        else:
            raise ValueError(f"{what}: {ask!r} is neither a number of CPUs nor a list of them")
    open_nodes = [nid for nid, count in enumerate(counts) if count < 0]
    fixed = sum(count for count in counts if count > 0)
    if total is None:
        total = fixed + 2 * len(open_nodes)
    rest = total - fixed
    if rest < 0 or (rest > 0 and not open_nodes):
        raise ValueError(f"cpus: {total} is not the sum of the nodes' CPUs, {fixed}")
    for place, nid in enumerate(open_nodes):
        counts[nid] = rest // len(open_nodes) + (place < rest % len(open_nodes))
    if total < 1:
        raise ValueError("cpus: a machine needs at least one CPU")
    named = [cpu for cpus in lists if cpus for cpu in cpus]
    if len(set(named)) != len(named):
        raise ValueError("cpus: a CPU can be in one node only")
    if any(cpu >= total for cpu in named):
        raise ValueError(f"cpus: there is no CPU {max(named)}, they count from 0 to {total - 1}")
    numbers = iter(sorted(set(range(total)) - set(named)))
    return [
        tuple(sorted(cpus)) if cpus is not None else tuple(next(numbers) for _ in range(count))
        for cpus, count in zip(lists, counts, strict=True)
    ]


def _distances(given: Sequence[Sequence[int]] | int | None, nodes: Any, count: int) -> list[tuple[int, ...]]:
    """The node distance table (ACPI SLIT): 10 at home, 21 elsewhere unless given."""
    remote = given if isinstance(given, int) else REMOTE_DISTANCE
    table = [[LOCAL_DISTANCE if a == b else remote for b in range(count)] for a in range(count)]
    rows: list[Any] = list(given) if isinstance(given, Sequence) else [None] * count
    if isinstance(nodes, Sequence):
        for nid, node in enumerate(nodes):
            if isinstance(node, Mapping) and "distances" in node:
                rows[nid] = node["distances"]
    if len(rows) != count:
        raise ValueError(f"distances: {len(rows)} rows for {count} nodes")
    for a, row in enumerate(rows):
        if row is None:
            continue
        if len(row) != count:
            raise ValueError(f"distances: row {a} has {len(row)} entries for {count} nodes")
        table[a] = list(row)
    for a, row in enumerate(table):
        for b, distance in enumerate(row):
            if not isinstance(distance, int) or not LOCAL_DISTANCE <= distance <= 254:
                raise ValueError(f"distances: {distance!r} is not a distance (10 to 254)")
            if (distance == LOCAL_DISTANCE) != (a == b):
                raise ValueError(f"distances: node {a} to {b} is {distance} (10 means the node itself)")
    return [tuple(row) for row in table]


def _speeds(nodes: Any, memories: list[int]) -> tuple[list[int], list[int]]:
    """Latency (ns) and bandwidth (MB/s) of each node's memory; none if nothing is said of any node.

    A node can be {"slow": True}, or have a "latency" in ns and a "bandwidth" per second; others are DRAM.
    """
    tables = [node if isinstance(node, Mapping) else {} for node in nodes] if isinstance(nodes, Sequence) else []
    speeds = []
    for nid, table in enumerate(tables):
        latency, bandwidth = SLOW_MEMORY if table.get("slow") else DRAM
        latency = table.get("latency", latency)
        if isinstance(latency, bool) or not isinstance(latency, int) or not 1 <= latency <= 65_535:
            raise ValueError(f"nodes[{nid}].latency: {latency!r} is not a number of ns (1 to 65535)")
        if "bandwidth" in table:
            bandwidth = parse_size(table["bandwidth"], f"nodes[{nid}].bandwidth") // MB
            if not bandwidth:
                raise ValueError(f"nodes[{nid}].bandwidth: less than 1M a second")
        told = any(table.get(key) for key in ("slow", "latency", "bandwidth"))
        speeds.append((latency, bandwidth) if memories[nid] or told else (0, 0))
    if not any(table.get(key) for table in tables for key in ("slow", "latency", "bandwidth")):
        return [0] * len(memories), [0] * len(memories)
    return [latency for latency, _ in speeds], [bandwidth for _, bandwidth in speeds]


def _topology(cpu_lists: list[tuple[int, ...]], sockets: int | None, threads: int) -> Topology:
    """Sockets of cores of threads: one socket a node where nodes have several CPUs."""
    total = sum(map(len, cpu_lists))
    with_cpus = [cpus for cpus in cpu_lists if cpus]
    if sockets is None:
        even = len({len(cpus) for cpus in with_cpus}) == 1 and len(with_cpus[0]) > 1
        sockets = len(with_cpus) if even else 1
    if sockets < 1 or threads < 1 or total % (sockets * threads):
        raise ValueError(f"cpus: {total} CPUs are not {sockets} sockets of cores with {threads} threads")
    return Topology(sockets, total // sockets // threads, threads)


def _cpu_model(name: str, la57: bool | None, arch: Arch) -> CpuModel:
    models = CPU_MODELS_ARM64 if arch is ARM64_64K else CPU_MODELS
    if name not in models:
        raise ValueError(f"cpu: unknown model {name!r} (known: {', '.join(models)})")
    if la57 is not None and arch is ARM64_64K:
        raise ValueError(f"la57: processors of {arch.name} have no such thing")
    model = models[name]
    return model if la57 is None else model.with_flags(la57=la57)


def _disks(swap: Any, root: int) -> tuple[tuple[SwapDevice, ...], tuple[BlockDevice, ...]]:
    """vda holds the root file system, the swap devices follow as vdb, vdc ..."""
    asked = [] if swap in (None, 0, "0", "") else [swap] if isinstance(swap, (str, int, Mapping)) else list(swap)
    if len(asked) > 25:
        raise ValueError(f"swap: {len(asked)} devices are more than there are letters for disks")
    swaps = []
    disks = [BlockDevice("vda", root // 512 * 512, 254, 0)]
    for number, one in enumerate(asked, 1):
        letter = chr(ord("a") + number)
        if isinstance(one, Mapping):
            name, size = one.get("name", f"/dev/vd{letter}"), one.get("size")
        elif isinstance(one, (list, tuple)) and len(one) == 2:
            name, size = one[0], one[1]
        else:
            name, size = f"/dev/vd{letter}", one
        swap_size = parse_size(size if size is not None else "", "swap") // PAGE_SIZE * PAGE_SIZE
        if swap_size < 10 * PAGE_SIZE:
            raise ValueError(f"swap: {size} is too little, mkswap wants at least 40K")
        swaps.append(SwapDevice(name, swap_size))
        if name.startswith("/dev/"):
            disks.append(BlockDevice(name[5:], swap_size, 254, 16 * number))
    return tuple(swaps), tuple(disks)


def _disk_kinds(devices: tuple[BlockDevice, ...], kinds: Any) -> tuple[BlockDevice, ...]:
    """The disks, each of the kind that was asked for."""
    table = dict.fromkeys((device.name for device in devices), kinds) if isinstance(kinds, str) else dict(kinds or {})
    for name, kind in table.items():
        if kind not in DISK_KINDS:
            raise ValueError(f"disks: {kind!r} is not a kind of disk (known: {', '.join(DISK_KINDS)})")
        if name.removeprefix("/dev/") not in {device.name for device in devices}:
            raise ValueError(f"disks: there is no disk {name!r}")
    chosen = {name.removeprefix("/dev/"): kind for name, kind in table.items()}
    return tuple(replace(device, kind=chosen.get(device.name, device.kind)) for device in devices)
