"""Memory: what is tracked, and memory.current, peak, reclaim

Not modelled: reclaim does not bear on the memory of sockets.
"""

from __future__ import annotations

import pytest

from tests.cgroup_v2.machine import MB, PAGE, Machine, errno_of

BATCH = 64 * PAGE
"""A CPU charges 64 pages at a time, and there are two."""


@pytest.fixture
def tree(machine: Machine) -> Machine:
    """A cgroup `a` with the memory controller."""
    machine.enable("memory")
    machine.make("a")
    return machine


def test_anonymous_memory_and_page_cache(tree: Machine) -> None:
    """Anonymous memory and page cache are tracked."""
    process = tree.spawn("a")
    process.grow(8 * MB)
    process.read("/data/f", 0, 4 * MB)
    stat = tree.rows("a/memory.stat")
    assert stat["anon"] >= 8 * MB - BATCH and stat["file"] >= 4 * MB - BATCH


def test_kernel_memory(tree: Machine) -> None:
    """So are the kernel's structures for the processes: stacks and page tables."""
    process = tree.spawn("a")
    child = process.fork()
    child.grow(8 * MB)
    stat = tree.rows("a/memory.stat")
    assert stat["kernel_stack"] > 0 and stat["pagetables"] >= 4 * PAGE
    assert stat["kernel"] >= stat["kernel_stack"] + stat["pagetables"]


@pytest.mark.parametrize("name", ["min", "low", "high", "max", "swap.max", "swap.high", "zswap.max"])
def test_amounts_are_bytes_in_whole_pages(tree: Machine, name: str) -> None:
    """Amounts are bytes; what is no multiple of a page is rounded (down, in fact) when it is read back."""
    for text, shown in (("1000000", 999424), ("4097", 4096), ("2M", 2 * MB), ("1g", 1 << 30), ("12k", 12288), ("1", 0)):
        tree.write(f"a/memory.{name}", text)
        assert tree.number(f"a/memory.{name}") == shown, text


def test_current_is_of_the_subtree(tree: Machine) -> None:
    """memory.current is what the cgroup and those below it use, in bytes."""
    tree.enable("memory", "a")
    for name in ("x", "y"):
        tree.make(f"a/{name}")
        tree.spawn(f"a/{name}").grow(4 * MB)
    parts = [tree.number(f"a/{name}/memory.current") for name in ("x", "y")]
    assert min(parts) >= 4 * MB and tree.number("a/memory.current") >= sum(parts)
    assert errno_of(tree.write, "a/memory.current", "0") in ("EACCES", "EINVAL")


def test_current_falls_when_memory_is_given_back(tree: Machine) -> None:
    """What is given back is no longer counted."""
    process = tree.spawn("a")
    process.grow(8 * MB)
    process.release()
    assert tree.number("a/memory.current") < 8 * MB


def test_peak(tree: Machine) -> None:
    """memory.peak is the most that memory.current has been since the cgroup was made."""
    process = tree.spawn("a")
    process.grow(8 * MB)
    process.release()
    peak = tree.number("a/memory.peak")
    assert peak >= 8 * MB > tree.number("a/memory.current")
    process.grow(4 * MB)
    assert tree.number("a/memory.peak") == peak


def test_peak_is_reset_by_file(tree: Machine) -> None:
    """Any text that is written resets it to the present usage, for that open file only."""
    process = tree.spawn("a")
    process.grow(8 * MB)
    process.release()
    file, other = tree.open("a/memory.peak"), tree.open("a/memory.peak")
    before = tree.number("a/memory.peak")
    file.write("whatever")
    assert int(file.read()) < 8 * MB <= before == int(other.read()) == tree.number("a/memory.peak")
    process.grow(4 * MB)
    assert 4 * MB <= int(file.read()) < 8 * MB
    file.close()
    other.close()


def test_reclaim(tree: Machine) -> None:
    """memory.reclaim takes so many bytes from the cgroup; it can only be written, and is in the root, too."""
    tree.spawn("a").read("/data/f", 0, 16 * MB)
    before = tree.number("a/memory.current")
    tree.write("a/memory.reclaim", "8M")
    assert before - 16 * MB <= tree.number("a/memory.current") <= before - 6 * MB
    assert errno_of(tree.read, "a/memory.reclaim") == "EINVAL"
    assert "memory.reclaim" in tree.listdir("")


def test_reclaim_that_falls_short(tree: Machine) -> None:
    """If less than that was reclaimed, it is EAGAIN."""
    tree.write("a/memory.swap.max", 0)
    tree.spawn("a").grow(4 * MB)
    assert errno_of(tree.write, "a/memory.reclaim", "8M") == "EAGAIN"


def test_reclaim_is_no_pressure(tree: Machine) -> None:
    """It is not a sign of memory pressure: no limit is hit, and nobody has waited for memory."""
    tree.spawn("a").read("/data/f", 0, 16 * MB)
    tree.write("a/memory.reclaim", "8M")
    assert set(tree.rows("a/memory.events").values()) == {0}


def test_reclaim_with_swappiness(tree: Machine) -> None:
    """swappiness=N reclaims as with that vm.swappiness, whatever it is: with 0 no anonymous memory is swapped."""
    tree.spawn("a").grow(16 * MB)
    assert errno_of(tree.write, "a/memory.reclaim", "4M swappiness=0") == "EAGAIN"
    assert tree.number("a/memory.swap.current") == 0
    tree.write("a/memory.reclaim", "4M swappiness=200")
    assert tree.number("a/memory.swap.current") >= 3 * MB


@pytest.mark.parametrize("text", ["", "x", "1M swappiness=", "1M swappiness=201", "1M swappiness=-1", "1M other=1"])
def test_reclaim_knows_no_other_keys(tree: Machine, text: str) -> None:
    """swappiness is the only key, from 0 to 200; anything else is EINVAL."""
    assert errno_of(tree.write, "a/memory.reclaim", text or " ") == "EINVAL"
