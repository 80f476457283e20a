"""What the machine that this runs on is made of, in the words of Machine.from_sizes()."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped, unused-ignore]

NODES = Path("/sys/devices/system/node")
MEMORY_BLOCKS = Path("/sys/devices/system/memory")
MB = 1 << 20


def describe_host() -> dict[str, Any]:
    """RAM, nodes, CPUs and swap of the host."""
    shape: dict[str, Any] = {"swap": _swap()}
    nodes = _nodes()
    if len(nodes) > 1:
        shape["nodes"] = nodes
        shape["distances"] = [_numbers(NODES / f"node{nid}/distance") for nid in _node_ids()]
    else:
        shape["ram"] = _ram()
        shape["cpus"] = psutil.cpu_count(logical=True) or 1
    return shape


def _numbers(path: Path) -> list[int]:
    return [int(word) for word in path.read_text().split()]


def _node_ids() -> list[int]:
    return sorted(int(entry.name[4:]) for entry in NODES.glob("node[0-9]*"))


def _ram() -> int:
    """Installed memory: the memory blocks if /sys shows them, else MemTotal and what a kernel takes of it."""
    total: int = psutil.virtual_memory().total
    try:
        block = int((MEMORY_BLOCKS / "block_size_bytes").read_text(), 16)
        blocks = len(list(MEMORY_BLOCKS.glob("memory[0-9]*")))
    except OSError:
        block = blocks = 0
    if blocks and block * blocks >= total:
        # The last block is present even if only part of it is memory.
        return block * blocks if block * blocks < total * 1.25 else _round_up(total)
    return _round_up(total)


def _round_up(total: int) -> int:
    step = 64 * MB if total < 4096 * MB else 1024 * MB
    return -(-(total + total // 64) // step) * step


def _nodes() -> list[dict[str, Any]]:
    """Memory and CPUs of each node; CPUs are renumbered, as the machine's count from 0 without gaps."""
    nodes = []
    for nid in _node_ids():
        memory = 0
        for line in (NODES / f"node{nid}/meminfo").read_text().splitlines():
            if "MemTotal:" in line:
                memory = int(line.split()[-2]) * 1024
        nodes.append({"memory": _round_up(memory) if memory else 0, "cpus": _count(NODES / f"node{nid}/cpulist")})
    return nodes


def _count(path: Path) -> int:
    total = 0
    for part in path.read_text().strip().split(","):
        if part:
            first, _, last = part.partition("-")
            total += int(last or first) - int(first) + 1
    return total


def _swap() -> list[tuple[str, int]]:
    devices = []
    try:
        for line in Path("/proc/swaps").read_text().splitlines()[1:]:
            name, _, size, *_ = line.split()
            devices.append((name.replace("\\040", " "), (int(size) + 4) * 1024))
    except (OSError, ValueError):
        pass
    total: int = psutil.swap_memory().total
    if not devices and total:
        return [("/dev/vdb", total)]
    return devices
