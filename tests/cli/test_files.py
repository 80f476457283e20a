"""show, export and translate: a machine's files with no mount."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SMALL = ("--ram", "512M", "--preset", "bare", "--cpus", "2", "--seed", "1")


def test_show(mmfs: Callable[..., Any]) -> None:
    """A file as it is, several one after the other."""
    result = mmfs("show", "/proc/meminfo", "proc/version", *SMALL)
    assert result.status == 0
    assert result.err == ""
    lines = result.out.splitlines()
    assert lines[0].startswith("MemTotal:")
    assert 400_000 < int(lines[0].split()[1]) < 512 * 1024
    assert lines[-1].startswith("Linux version 6.12")


def test_show_is_what_the_machine_says(mmfs: Callable[..., Any]) -> None:
    """The same machine in Python prints the same bytes."""
    import mmfs as package

    kernel = package.boot(ram="512M", preset="bare", cpus=2, seed=1)
    for path in ("/proc/zoneinfo", "/proc/buddyinfo", "/proc/1/maps"):
        assert mmfs("show", path, *SMALL).out.encode() == kernel.read(path)


def test_show_directory(mmfs: Callable[..., Any]) -> None:
    """A directory prints its names."""
    names = mmfs("show", "/proc", *SMALL).out.split("\n")
    assert {"meminfo", "1", "sys"} <= set(names)


def test_show_errors(mmfs: Callable[..., Any]) -> None:
    """What cannot be read is named, the rest is printed, the status says so."""
    result = mmfs("show", "/proc/nope", "/proc/uptime", *SMALL)
    assert result.status == 1
    assert result.err == "mmfs show: /proc/nope: No such file or directory\n"
    assert len(result.out.split()) == 2


def test_show_sizes_and_nodes(mmfs: Callable[..., Any]) -> None:
    """The options reach the machine."""
    result = mmfs("show", "/proc/buddyinfo", "--ram", "64GB", "--nodes", "2", "--preset", "bare")
    assert [line.split()[:2] for line in result.out.splitlines() if "Normal" in line] == [
        ["Node", "0,"],
        ["Node", "1,"],
    ]
    swap = mmfs("show", "/proc/swaps", *SMALL, "--swap", "1.5G").out
    assert str(1536 * 1024 - 4) in swap


def test_export(mmfs: Callable[..., Any], tmp_path: Path) -> None:
    """Plain files with their contents and modes; links are links."""
    import mmfs as package

    target = tmp_path / "tree"
    result = mmfs("export", str(target), "-v", *SMALL)
    assert result.status == 0
    kernel = package.boot(ram="512M", preset="bare", cpus=2, seed=1)
    for path in ("/proc/meminfo", "/proc/sys/vm/swappiness", "/proc/1/status", "/proc/zoneinfo"):
        assert (target / path[1:]).read_bytes() == kernel.read(path)
        assert stat.S_IMODE((target / path[1:]).stat().st_mode) == stat.S_IMODE(kernel.stat(path).st_mode)
    drop_caches = target / "proc/sys/vm/drop_caches"
    if drop_caches.exists():
        assert stat.S_IMODE(drop_caches.stat().st_mode) == 0o200
        assert drop_caches.stat().st_size == 0
    assert (target / "proc/mounts").readlink() == Path("self/mounts")
    assert (target / "proc/self").readlink() == Path("1")
    assert stat.S_IMODE((target / "proc").stat().st_mode) == 0o555
    assert not (target / "proc/1/pagemap").exists()
    assert "/proc/1/pagemap: left out" in result.err
    count = sum(len(files) for _, _, files in os.walk(target))
    assert int(result.out.split()[0]) + int(result.out.split(" symbolic")[0].split()[-1]) == count + sum(
        1 for folder, names, _ in os.walk(target) for name in names if (Path(folder) / name).is_symlink()
    )


def test_export_into_an_empty_directory(mmfs: Callable[..., Any], tmp_path: Path) -> None:
    """An empty directory will do, a second export will not."""
    assert mmfs("export", str(tmp_path), *SMALL).status == 0
    again = mmfs("export", str(tmp_path), *SMALL)
    assert again.status == 2
    assert "not empty" in again.err


def test_translate(mmfs: Callable[..., Any]) -> None:
    """The walk of an address that is mapped, and of one that is not."""
    import mmfs as package

    kernel = package.boot(ram="512M", preset="bare", cpus=2, seed=1)
    rows = [line.split() for line in kernel.read("/proc/1/maps").decode().splitlines()]
    stack = next(row for row in rows if row[-1] == "[stack]")
    top = int(stack[0].split("-")[1], 16) - 4096
    result = mmfs("translate", "1", hex(top), *SMALL)
    assert result.status == 0
    assert result.out.rstrip("\n") == kernel.translate(1, top).rstrip("\n")
    assert "frame" in result.out


@pytest.mark.parametrize(
    ("pid", "address", "word"),
    [("999999", "0x1000", "999999"), ("2", "0x1000", "address space"), ("1", "0xffff888000000000", "user space")],
)
def test_translate_refused(mmfs: Callable[..., Any], pid: str, address: str, word: str) -> None:
    """A pid that nobody has, a kernel thread, an address of the kernel."""
    result = mmfs("translate", pid, address, *SMALL)
    assert result.status == 1
    assert result.err.startswith("mmfs translate: ")
    assert word in result.err
    assert result.err.count("\n") == 1


def test_translate_unmapped(mmfs: Callable[..., Any]) -> None:
    """Where nothing is mapped, the level that is empty is named."""
    result = mmfs("translate", "1", "0x1000", *SMALL)
    assert result.status == 0
    assert "empty" in result.out
