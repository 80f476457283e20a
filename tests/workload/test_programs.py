"""Each program does what its parameters say, by system calls, in its own time, the same on every run."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mmfs.kernel.signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM
from mmfs.mm_types import MM_ANONPAGES, MM_SHMEMPAGES, NodeStatItem, VmEventItem
from mmfs.workload import WORKLOADS, Program, programs_of, spawn, stop
from mmfs.workload.parameters import duration, frequency, parameters_of, rate, share, size, skew
from mmfs.workload.pattern import PATTERNS, Pattern, scatter, zipf
from mmfs.workload.program import Pace

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel

MB = 1 << 20
SECOND = 1_000_000_000
Boot = Callable[..., "Kernel"]

# Small enough for a machine of 512 MB, and for the model uncompiled.
SMALL: dict[str, dict[str, str]] = {
    "leak": {"anon": "4M/s"},
    "hog": {"anon": "8M", "rate": "1M/s", "pattern": "zipf"},
    "mlock": {"anon": "4M"},
    "idle": {"anon": "1M", "interval": "200ms"},
    "cache-reader": {"file": "4M", "rate": "2M/s", "pattern": "random"},
    "file-writer": {"file": "4M", "rate": "2M/s"},
    "tmpfs": {"file": "4M", "rate": "4M/s"},
    "database": {"buffers": "1M", "file": "4M", "rate": "20/s", "workers": "2", "checkpoint": "1s"},
    "jvm": {"heap": "8M", "young": "1M", "live": "2M", "alloc": "4M/s", "survive": "50%"},
    "forkserver": {"anon": "2M", "rate": "5/s", "dirty": "64K", "life": "300ms"},
    "batch": {"jobs": "2", "memory": "1M", "cpu": "50ms", "sources": "1M", "object": "16K"},
}


def anon_pages(program: Program) -> int:
    assert program.task.mm is not None
    return program.task.mm.get_mm_counter(MM_ANONPAGES)


def run(kernel: Kernel, seconds: float) -> None:
    kernel.run_for(seconds)
    kernel.check()


def test_every_program_has_a_small_one() -> None:
    assert set(SMALL) == set(WORKLOADS)
    for kind in WORKLOADS.values():
        assert kind.__doc__ and all(one.help for one in parameters_of(kind).values())


@pytest.mark.parametrize("name", SMALL)
def test_lives_and_ends(kernel: Kernel, name: str) -> None:
    """It runs, is stopped and goes on, and ends with all it has started, giving back what it had."""
    before = len(kernel.tasks)
    program = spawn(kernel, name, SMALL[name])
    for _ in range(4):
        run(kernel, 0.5)
    assert program.task.alive and program.progress()
    kernel.kill(program.task.pid, SIGSTOP)
    stopped = program.progress()
    used = program.task.utime_ns + program.task.stime_ns
    run(kernel, 0.5)
    if name not in ("database", "forkserver", "batch"):  # their children go on
        assert program.progress() == stopped
    assert program.task.utime_ns + program.task.stime_ns == used
    kernel.kill(program.task.pid, SIGCONT)
    run(kernel, 0.5)
    assert program.task.alive
    stop(program)
    run(kernel, 0.5)
    assert len(kernel.tasks) == before
    assert programs_of(kernel).running() == []
    how = "exited with status 0" if name == "database" else "killed by SIGTERM"  # postgres catches it
    assert programs_of(kernel).ended[-1][1:] == (name, how)


@pytest.mark.parametrize("name", SMALL)
def test_same_on_every_run(boot: Boot, name: str) -> None:
    """The same seed gives the same bytes; another seed another run of what is random."""

    def play(seed: int) -> tuple[bytes, str]:
        kernel = boot(ram="256M", swap=None, cpus=2, seed=seed, preset="bare")
        program = spawn(kernel, name, SMALL[name])
        kernel.run_for(1.5)
        return kernel.read("/proc/vmstat") + kernel.read("/proc/stat"), program.progress()

    assert play(1) == play(1)


def test_leak_keeps_its_rate(kernel: Kernel) -> None:
    program = spawn(kernel, "leak", {"anon": "8M/s", "until": "20M"})
    kernel.run_for(1.0)
    before = anon_pages(program)
    run(kernel, 1.0)
    assert abs(anon_pages(program) - before - (8 * MB >> 12)) <= (8 * MB >> 12) // 10
    run(kernel, 3.0)
    assert program.progress() == "leaked 20M" and anon_pages(program) >= 20 * MB >> 12


def test_a_change_takes_effect(kernel: Kernel) -> None:
    program = spawn(kernel, "leak", {"anon": "1M/s"})
    kernel.run_for(1.0)
    program.set({"anon": "16M/s"})
    before = anon_pages(program)
    run(kernel, 1.0)
    assert anon_pages(program) - before >= 15 * MB >> 12
    with pytest.raises(ValueError, match="leak has no parameter 'x' \\(known: anon, until\\)"):
        program.set({"x": "1"})
    program.set({"anon": "0"})
    kernel.run_for(1.0)
    before = anon_pages(program)
    run(kernel, 1.0)
    assert anon_pages(program) == before


def test_hog_takes_all_at_once_and_grows(kernel: Kernel) -> None:
    program = spawn(kernel, "hog", {"anon": "24M"})
    program.settle()
    assert anon_pages(program) >= 24 * MB >> 12
    began = kernel.clock.now_ns
    program.set({"anon": "32M"})
    run(kernel, 0.2)
    assert anon_pages(program) >= 32 * MB >> 12 and began < kernel.clock.now_ns


def test_mlock_is_unevictable(kernel: Kernel) -> None:
    program = spawn(kernel, "mlock", {"anon": "8M"})
    program.settle()
    assert program.task.mm is not None and program.task.mm.locked_vm == 8 * MB >> 12
    unevictable = kernel.vmstat.global_node_page_state(NodeStatItem.NR_UNEVICTABLE)
    assert unevictable >= (8 * MB >> 12) - 1, "one may still be in a batch"
    kernel.check()


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("mmap", ["yes", "no"])
def test_reader_reads_from_the_disk_once(kernel: Kernel, pattern: str, mmap: str) -> None:
    texts = {"file": "2M", "rate": "0", "pattern": pattern, "mmap": mmap}
    program = spawn(kernel, "cache-reader", texts)
    sectors = kernel.read("/proc/diskstats").split()[5]
    run(kernel, 0.1)
    inode = kernel.namei.lookup("/data/cache")
    assert inode is not None
    if pattern == "sequential":
        assert inode.mapping.nrpages == 2 * MB >> 12
        assert int(kernel.read("/proc/diskstats").split()[5]) - int(sectors) >= 2 * MB >> 9
    cached, faults = inode.mapping.nrpages, program.task.maj_flt + program.task.io.read_bytes
    run(kernel, 0.02)
    if inode.mapping.nrpages == cached:
        assert program.task.maj_flt + program.task.io.read_bytes == faults
    assert program.task.utime_ns + program.task.stime_ns > 0


def test_writer_waits_for_the_disk(kernel: Kernel) -> None:
    dirty = []
    for number, fsync in enumerate(("0", "1M")):
        texts = {"path": f"/data/{number}", "file": "8M", "rate": "4M/s", "fsync": fsync}
        program = spawn(kernel, "file-writer", texts)
        kernel.run_for(2.05)
        inode = kernel.namei.lookup(f"/data/{number}")
        assert inode is not None
        dirty.append(inode.mapping.nr_dirty)
        stop(program)
    kernel.check()
    assert dirty[1] <= MB >> 12 < dirty[0]


def test_tmpfs_fills_memory(kernel: Kernel) -> None:
    before = kernel.vmstat.global_node_page_state(NodeStatItem.NR_SHMEM)
    program = spawn(kernel, "tmpfs", {"file": "6M", "rate": "0"})
    run(kernel, 1.0)
    assert kernel.vmstat.global_node_page_state(NodeStatItem.NR_SHMEM) - before == 6 * MB >> 12
    assert program.progress() == "filled 6M"


def test_database_shares_its_pool(kernel: Kernel) -> None:
    program = spawn(kernel, "database", SMALL["database"])
    program.settle()
    run(kernel, 3.0)
    workers = program.task.children
    assert len(workers) == 2 and all(worker.mm.get_mm_counter(MM_SHMEMPAGES) > 16 for worker in workers)
    assert "queries" in program.progress() and program.progress().split()[0] != "0"
    assert program.task.io.wchar > 0, "a checkpoint has been written"
    kernel.kill(program.task.pid, SIGKILL)
    run(kernel, 1.0)
    assert not any(worker.alive for worker in workers)


def test_jvm_grows_collects_and_shrinks(kernel: Kernel) -> None:
    program: Any = spawn(kernel, "jvm", SMALL["jvm"])
    sizes = []
    for _ in range(40):
        kernel.run_for(0.1)
        sizes.append(anon_pages(program))
    kernel.check()
    assert program.minor > 5 and program.full >= 1
    assert any(later < earlier - 100 for earlier, later in pairwise(sizes)), "it gave memory back"


def test_forkserver_copies_on_write(kernel: Kernel) -> None:
    program: Any = spawn(kernel, "forkserver", SMALL["forkserver"])
    program.settle()
    run(kernel, 1.0)
    assert program.served >= 4
    children = program.task.children
    assert children and all(child.min_flt >= 10 for child in children)


def test_batch_runs_so_many_jobs(kernel: Kernel) -> None:
    program: Any = spawn(kernel, "batch", SMALL["batch"] | {"total": "5"})
    kernel.run_for(0.05)
    assert len(program.task.children) == 2 and {child.comm for child in program.task.children} == {"cc1"}
    for _ in range(40):
        kernel.run_for(0.1)
    kernel.check()
    assert programs_of(kernel).running() == []
    assert programs_of(kernel).ended[-1].how == "exited with status 0"
    assert all(kernel.namei.lookup(f"/data/build/{n}.o") is not None for n in range(1, 6))


def test_a_call_that_fails_ends_the_program(kernel: Kernel) -> None:
    kernel.write("/proc/sys/vm/overcommit_memory", "2")
    program = spawn(kernel, "hog", {"anon": "10G"})
    kernel.run_for(0.1)
    assert not program.task.alive
    programs_of(kernel).prune()
    assert programs_of(kernel).ended[-1].how.startswith("exited with status 1: overcommit: ")


@pytest.mark.slow
def test_the_oom_killer_ends_a_leak(boot: Boot) -> None:
    kernel = boot(ram="128M", swap=None, cpus=1, preset="bare", seed=1)
    spared = spawn(kernel, "leak", {"anon": "5M/s", "until": "10M"}, oom_score_adj=-1000)
    leak = spawn(kernel, "leak", {"anon": "50M/s"}, oom_score_adj=500, uid=1000)
    run(kernel, 5.0)
    assert spared.task.alive and not leak.task.alive
    assert programs_of(kernel).running() == [spared]
    assert programs_of(kernel).ended[-1].how == "killed by SIGKILL"
    assert "oom_score_adj:500" in kernel.printk.dmesg()


# ---- parts ------------------------------------------------------------------------------------------------------


def test_ways_to_write_values() -> None:
    assert (rate("100M/s"), rate("60M/min"), rate("4096")) == (100 * MB, MB, 4096)
    assert (frequency("600/min"), frequency("50/s"), frequency("7")) == (10, 50, 7)
    assert (size("0"), size("1.5K"), duration("1.5s")) == (0, 1536, 3 * SECOND // 2)
    assert (share("20%"), share("0.5"), skew("0.9")) == (0.2, 0.5, 0.9)
    for parse, text in ((rate, "1M/y"), (rate, "x/s"), (share, "120%"), (share, "x"), (skew, "-1"), (duration, "5x")):
        with pytest.raises(ValueError):
            parse(text)


def test_pace_keeps_a_rate_and_does_not_catch_up_for_ever() -> None:
    pace = Pace()
    assert pace.take(10 * SECOND, 100, 0) == 0
    assert pace.take(10 * SECOND, 50, 100) == SECOND // 2
    assert pace.take(20 * SECOND, 50, 100) == 0, "it is ten seconds late, of which it catches up one"
    assert pace.take(20 * SECOND, 100, 100) == SECOND // 2


def test_zipf_is_as_skewed_as_it_says() -> None:
    """Rank r is drawn as often as a part of the distribution's mass lies between r and r + 1."""
    rng = np.random.Generator(np.random.PCG64(1))
    ranks = zipf(rng, 1000, 1.0, 100_000)
    assert ranks.min() == 0 and ranks.max() <= 999
    first, second = int((ranks == 0).sum()), int((ranks == 1).sum())
    # log(2) / log(1001) and log(3/2) / log(1001) of all; four standard deviations of 100,000 draws.
    assert abs(first - 10_033) < 380 and abs(second - 5_869) < 300
    assert zipf(rng, 10, 0.0, 1000).max() == 9


@pytest.mark.parametrize("n", [1, 2, 7, 4096, 131_072, 1_000_003])
def test_scatter_is_a_permutation(n: int) -> None:
    ranks = np.arange(min(n, 20_000), dtype=np.int64)
    placed = scatter(ranks, n)
    assert len(np.unique(placed)) == len(ranks) and placed.min() >= 0 and placed.max() < n


def test_sequential_goes_round() -> None:
    way = Pattern("sequential", 5, 1, np.random.Generator(np.random.PCG64(1)))
    assert [way.take(3).tolist() for _ in range(3)] == [[0, 1, 2], [3, 4, 0], [1, 2, 3]]


def test_signals_are_noticed(kernel: Kernel) -> None:
    program = spawn(kernel, "idle", {"anon": "64K"})
    kernel.run_for(0.5)
    kernel.kill(program.task.pid, SIGTERM)
    assert not program.task.alive
    run(kernel, 2.0)


@pytest.mark.slow
@pytest.mark.parametrize("lru_gen", ["y", "n"])
def test_a_full_cache_does_not_slow_reading(boot: Callable[..., Kernel], lru_gen: str) -> None:
    """Reclaim keeps up with a reader of a fast disk: it reads as fast with memory full as with memory free."""
    kernel = boot(ram="512M", swap="128M", cpus=2, seed=1, disks="ssd", preset="bare")
    kernel.write("/sys/kernel/mm/lru_gen/enabled", lru_gen)
    spawn(kernel, "cache-reader", {"file": "768M", "rate": "200M/s"})
    kernel.run_for(4.0)
    sectors = int(kernel.vmstat.event[VmEventItem.PGPGIN])
    kernel.run_for(4.0)
    assert 180 < (int(kernel.vmstat.event[VmEventItem.PGPGIN]) - sectors) // 2048 / 4 < 220
