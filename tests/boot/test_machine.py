"""Descriptions of machines: sizes, nodes, CPUs, files, the host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil
import pytest

from mmfs.arch import X86_64
from mmfs.machine import MIN_RAM, Machine, Node
from mmfs.sizes import format_size, parse_size

G = 1 << 30


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("8G", 8 * G),
        ("8g", 8 * G),
        ("8GB", 8 * G),
        ("8GiB", 8 * G),
        (" 8G ", 8 * G),
        ("512M", G // 2),
        ("1.5G", 3 * G // 2),
        (".5G", G // 2),
        ("0.1G", G // 10),
        ("4096", 4096),
        ("64k", 65536),
        ("2T", 2048 * G),
        ("100B", 100),
        (12345, 12345),
    ],
)
def test_parse_size(text: str | int, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "-1",
        "-1G",
        "0",
        "0G",
        "1e9",
        "8 GB",
        "8X",
        "G",
        "1.5",
        "8 G B",
        "0x10",
        "1_000",
        "８G",
        "1,5G",
        0,
        -4096,
        True,
        None,
        1.5,
    ],
)
def test_parse_size_refuses(text: Any) -> None:
    with pytest.raises(ValueError, match="size"):
        parse_size(text)


@pytest.mark.parametrize("size", [1, 1000, 4096, 5 << 20, 3 * G, 1536 << 20, 12 << 40])
def test_format_size_reads_back(size: int) -> None:
    assert parse_size(format_size(size)) == size


def test_even_nodes() -> None:
    machine = Machine.from_sizes("12T", nodes=8, cpus=20)
    assert machine.ram == 12 << 40
    assert {node.memory for node in machine.nodes} == {1536 * G}
    assert [len(node.cpus) for node in machine.nodes] == [3, 3, 3, 3, 2, 2, 2, 2]
    assert [cpu for node in machine.nodes for cpu in node.cpus] == list(range(20))
    assert machine.nodes[1].distances == (21, 10, 21, 21, 21, 21, 21, 21)


def test_uneven_sizes_keep_every_page() -> None:
    machine = Machine.from_sizes("1000M", nodes=3)
    assert machine.ram == 1000 << 20
    assert [node.memory >> 20 for node in machine.nodes] == [256, 256, 488]


def test_nodes_with_memory_or_cpus_only() -> None:
    machine = Machine.from_sizes(
        nodes=[{"memory": "1G", "cpus": "0,2-3"}, {"memory": "4G", "cpus": 0}, {"memory": 0, "cpus": [1]}], distances=40
    )
    assert machine.nodes == (
        Node(G, (0, 2, 3), (10, 40, 40)),
        Node(4 * G, (), (40, 10, 40)),
        Node(0, (1,), (40, 40, 10)),
    )
    assert machine.nr_cpus == 4
    assert machine.cpu_to_node == {0: 0, 2: 0, 3: 0, 1: 2}


def test_disks_and_swap() -> None:
    machine = Machine.from_sizes("1G", swap=["2G", ("/swapfile", "1G"), {"name": "/dev/vdz", "size": "4G"}], disk="3G")
    assert [(disk.name, disk.nr_sectors) for disk in machine.disks] == [
        ("vda", 6291456),
        ("vdb", 4194304),
        ("vdz", 8388608),
    ]
    assert [(swap.name, swap.size >> 30) for swap in machine.swap] == [
        ("/dev/vdb", 2),
        ("/swapfile", 1),
        ("/dev/vdz", 4),
    ]
    assert Machine.from_sizes("1G").swap == ()


def test_topology() -> None:
    machine = Machine.from_sizes("4G", nodes=2, cpus=8, threads=2)
    assert (machine.topology.sockets, machine.topology.cores, machine.topology.threads) == (2, 2, 2)
    assert [(machine.socket_of(cpu), machine.core_of(cpu)) for cpu in range(8)] == [
        (0, 0), (0, 0), (0, 1), (0, 1), (1, 0), (1, 0), (1, 1), (1, 1),
    ]  # fmt: skip


def test_la57() -> None:
    assert Machine.from_sizes("1G").cpu.la57
    assert not Machine.from_sizes("1G", la57=False).cpu.la57
    assert Machine.from_sizes("1G", cpu="epyc-genoa", la57=True).cpu.flags.count("la57") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ram": MIN_RAM - 4096}, "too little"),
        ({"ram": X86_64.max_ram + 4096}, "more than the 15T"),
        ({"ram": "8 gigs"}, "not a size"),
        ({"ram": "8G", "cpus": 0}, "above zero"),
        ({"ram": "8G", "cpus": 10000}, "8192"),
        ({"ram": "8G", "nodes": 0}, "above zero"),
        ({"ram": "8G", "nodes": ["3G", "2G"]}, "not the sum"),
        ({"nodes": []}, "list of their sizes"),
        ({"nodes": "3G"}, "list of their sizes"),
        ({"nodes": [{"memory": "1G", "cpu": 2}]}, "unknown key 'cpu'"),
        ({"nodes": [{"memory": "1G", "cpus": [0, 0]}]}, "one node only"),
        ({"nodes": [{"memory": "1G", "cpus": [5]}]}, "no CPU 5"),
        ({"nodes": [{"memory": "1G", "cpus": "a-b"}]}, "list of CPUs"),
        ({"nodes": [{"memory": "1G", "cpus": 0}]}, "at least one CPU"),
        ({"nodes": [{"memory": "1G", "cpus": 2}], "cpus": 3}, "not the sum"),
        ({"nodes": ["1G", "1G"], "distances": [[10, 9], [9, 10]]}, "not a distance"),
        ({"nodes": ["1G", "1G"], "distances": [[10, 10], [10, 10]]}, "the node itself"),
        ({"nodes": ["1G", "1G"], "distances": [[10, 20]]}, "rows for 2 nodes"),
        ({"ram": "1G", "swap": "-1"}, "not a size"),
        ({"ram": "1G", "swap": "8K"}, "mkswap"),
        ({"ram": "1G", "swap": ["1G"] * 26}, "letters for disks"),
        ({"ram": "1G", "cpu": "z80"}, "unknown model 'z80'"),
        ({"ram": "1G", "cpus": 3, "threads": 2}, "not 1 sockets"),
    ],
)
def test_refusals_say_why_in_one_line(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        Machine.from_sizes(**arguments)
    assert "\n" not in str(caught.value)


def test_toml(tmp_path: Path) -> None:
    file = tmp_path / "big.toml"
    file.write_text(
        'swap = "1G"\ncpu = "epyc-genoa"\ndistances = [[10, 32], [32, 10]]\n'
        '[[nodes]]\nmemory = "3G"\ncpus = 2\n[[nodes]]\nmemory = "2G"\ncpus = [2, 3]\n'
    )
    machine = Machine.from_toml(file)
    assert machine == Machine.describe(machine=file)
    assert [(node.memory >> 30, node.cpus) for node in machine.nodes] == [(3, (0, 1)), (2, (2, 3))]
    assert machine.cpu.name == "epyc-genoa"
    assert Machine.describe(machine=str(file), swap="2G").swap[0].size == 2 * G


@pytest.mark.parametrize(
    ("text", "message"), [("ram = ", "big.toml"), ("rams = '1G'", "unknown key 'rams'"), ("ram = '1X'", "not a size")]
)
def test_bad_toml(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "big.toml"
    file.write_text(text)
    with pytest.raises(ValueError, match=message):
        Machine.from_toml(file)
    with pytest.raises(ValueError, match="No such file"):
        Machine.from_toml(tmp_path / "none.toml")


def test_describe() -> None:
    assert Machine.describe(ram="1G", cpus=None, swap=None, nodes=None) == Machine.from_sizes("1G")
    machine = Machine.from_sizes("2G")
    assert Machine.describe(machine=machine) is machine
    with pytest.raises(ValueError, match="complete"):
        Machine.describe(machine=machine, ram="1G")


def test_like_host() -> None:
    machine = Machine.like_host()
    total = psutil.virtual_memory().total
    # What a kernel keeps for itself, and the rounding up to what modules come in.
    assert total <= machine.ram <= total * 1.3 + (1 << 30)
    assert machine.nr_cpus == psutil.cpu_count()
    assert Machine.describe(preset="host", ram="2G").ram == 2 * G
    assert Machine.describe(preset="host", cpus=3).nr_cpus == 3
