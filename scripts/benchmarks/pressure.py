"""Under pressure: skewed accesses to twice the memory, reclaim, a busy server and an idle one, reads beside kswapd."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.measure import Row, Side, Unavailable, interleave, python, scratch
from benchmarks.mounts import Mount, mmfs_mount
from benchmarks.reading import Control, cat

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel

LISTS = {"classic": "n", "mglru": "y"}
ZIPF: dict[str, Any] = {"ram": "512M", "swap": "1200M", "cpus": 2, "preset": "bare", "disks": "nvme", "seed": 1}
ZIPF_PAGES = (1 << 30) // 4096
SERVER = {"ram": "64G", "swap": "8G", "cpus": 32, "seed": 1, "disks": "nvme"}
PROGRAMS = [
    (60, "idle", {"interval": "1s"}),
    (60, "idle", {"interval": "5s", "anon": "64M"}),
    (40, "hog", {"anon": "200M", "rate": "1M/s", "pattern": "zipf"}),
    (10, "jvm", {"heap": "1G", "live": "300M", "alloc": "20M/s"}),
    (4, "database", {"buffers": "1G", "file": "4G", "rate": "100/s"}),
    (8, "cache-reader", {"rate": "20M/s", "file": "1G"}),
    (4, "cache-reader", {"rate": "500K/s", "file": "1G", "pattern": "zipf"}),
    (8, "file-writer", {"rate": "2M/s", "file": "256M"}),
    (1, "batch", {"jobs": "4"}),
    (3, "forkserver", {"rate": "5/s"}),
    (1, "leak", {"anon": "5M/s"}),
]
"""How many of which program: over twenty forks a second in all."""
BUSY_KSWAPD = 50_000
"""Pages a second that it must take to be called busy."""
BUSY = """
import json, sys, time
import mmfs
from mmfs.workload import spawn
machine, programs, warm, seconds = json.loads(sys.argv[1])
kernel = mmfs.boot(**machine)
number = 0
for count, name, texts in programs:
    for _ in range(count):
        number += 1
        path = {"path": f"/data/{name}{number}"} if name in ("database", "cache-reader", "file-writer") else {}
        spawn(kernel, name, {**texts, **path})
kernel.run_for(warm)
forks, begin = kernel.scheduler.total_forks, time.process_time()
kernel.run_for(seconds)
took = time.process_time() - begin
kernel.check()
print(json.dumps([took, (kernel.scheduler.total_forks - forks) / seconds, len(kernel.tasks)]))
"""


def zipf_pages(exponent: float, accesses: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Page numbers in which the nth most popular is n**exponent times as rare as the first, spread at random."""
    rng = np.random.default_rng(1)
    share = np.cumsum(1 / np.arange(1, ZIPF_PAGES + 1) ** exponent)
    ranks = np.searchsorted(share / share[-1], rng.random(accesses))
    return rng.permutation(ZIPF_PAGES)[ranks].astype(np.int64)


def accesses_per_second(pages: np.ndarray[Any, np.dtype[np.int64]], lists: str) -> tuple[float, int]:
    """Writes a second of CPU to memory twice as large as the machine's, and the major faults among them."""
    import mmfs
    from mmfs.mm.mman import MADV_NOHUGEPAGE

    kernel = mmfs.boot(**ZIPF)
    kernel.write("/sys/kernel/mm/lru_gen/enabled", LISTS[lists])
    task = kernel.spawn("zipf")
    addr = task.mmap(ZIPF_PAGES * 4096)
    task.madvise(addr, ZIPF_PAGES * 4096, MADV_NOHUGEPAGE)
    task.touch(addr, ZIPF_PAGES * 4096, write=True)
    faults, begin = task.maj_flt, time.process_time()
    for batch in np.array_split(pages, max(len(pages) // 1_000_000, 1)):
        task.touch(batch * 4096 + addr, write=True)
    took = time.process_time() - begin
    kernel.check()
    return len(pages) / took / 1e6, task.maj_flt - faults


def reference(pages: np.ndarray[Any, np.dtype[np.int64]]) -> Side | None:
    """The same trace in libcachesim's LRU, which has no kernel around it; None if it is not installed."""
    try:
        libcachesim: Any = import_module("libcachesim")
    except ImportError:
        return None
    requests = np.zeros(len(pages), [("time", "u4"), ("id", "u8"), ("size", "u4"), ("next", "i8")])
    requests["id"], requests["size"], requests["next"] = pages + 1, 1, -2
    requests.tofile(scratch() / "zipf.oracleGeneral")
    reader = libcachesim.TraceReader(
        str(scratch() / "zipf.oracleGeneral"), trace_type=libcachesim.TraceType.ORACLE_GENERAL_TRACE
    )
    cache = libcachesim.LRU(cache_size=ZIPF_PAGES // 2)
    begin = time.process_time()
    cache.process_trace(reader)
    return Side("libcachesim's LRU", len(pages) / (time.process_time() - begin) / 1e6)


def zipf(accesses: int = 4_000_000) -> Iterator[Row]:
    """Memory overcommitted twofold: faults, swap-ins, reclaim and swap writes included."""
    for exponent in (1.0, 0.8):
        pages = zipf_pages(exponent, accesses)
        theirs = reference(pages)
        for lists in LISTS:
            speed, faults = accesses_per_second(pages, lists)
            yield Row(
                f"zipf {exponent:g} on twice the memory, {lists}", "M accesses/s of CPU", Side("mmfs", speed),
                theirs, notes=[f"{faults / accesses:.1%} of them are swapped in"],
            )  # fmt: skip


def reclaimed(lists: str, megabytes: int = 2048) -> float:
    """Cold pages of a file that memory.reclaim's kin take back: M pages a second of CPU."""
    import mmfs

    kernel = mmfs.boot(ram="4G", cpus=2, preset="bare", disks="nvme", seed=1)
    kernel.write("/sys/kernel/mm/lru_gen/enabled", LISTS[lists])
    kernel.create_file("/data/cold", megabytes << 20)
    task = kernel.spawn("reader")
    task.read("/data/cold", 0, megabytes << 20)
    kernel.run_for(1)
    hog = kernel.spawn("hog")
    size = 3 << 30
    addr, before = hog.mmap(size), steals(kernel)
    begin = time.process_time()
    hog.touch(addr, size, write=True)
    kernel.run_for(1)
    both = time.process_time() - begin
    taken = steals(kernel) - before
    hog.munmap(addr, size)
    addr, begin = hog.mmap(size), time.process_time()
    hog.touch(addr, size, write=True)
    kernel.run_for(1)
    return taken / max(both - (time.process_time() - begin), 1e-9) / 1e6


def steals(kernel: Kernel) -> int:
    """Pages that were reclaimed so far."""
    rows = dict(line.split() for line in kernel.read("/proc/vmstat").decode().splitlines())
    return int(rows["pgsteal_kswapd"]) + int(rows["pgsteal_direct"])


def reclaim(rounds: int = 3) -> Iterator[Row]:
    """Clean pages of a file that make room for new memory, whose own cost is taken off."""
    samples = interleave(rounds, classic=lambda: reclaimed("classic"), mglru=lambda: reclaimed("mglru"))
    for lists, taken in samples.items():
        yield Row(f"reclaim of cold pages, {lists}", "M pages/s of CPU", Side.of("mmfs", taken), least=2)


def server(seconds: int = 30) -> Iterator[Row]:
    """A server of 64 GB and 32 CPUs, with 200 busy programs and with none but its services."""
    took, forks, tasks = json.loads(python(BUSY, json.dumps([SERVER, PROGRAMS, 20, seconds])))
    yield Row(
        "busy 64 GB server, 200 programs", "simulated s/s of CPU", Side("mmfs", seconds / took), least=10,
        notes=[f"{tasks} tasks, {forks:.0f} forks a second"],
    )  # fmt: skip
    took, _, tasks = json.loads(python(BUSY, json.dumps([SERVER, [], 5, 120])))
    yield Row("idle 64 GB server", "% of a CPU", Side(f"{tasks} tasks", took / 120 * 100), most=1)


def kswapd(rounds: int = 5) -> Iterator[Row]:
    """`cat meminfo` through the mount while kswapd has all hands full, next to a machine at rest.

    A file eight times as large as memory is read as fast as its disk gives it: kswapd makes room for all of it.
    """
    machine = ("--ram", "512M", "--swap", "1G", "--preset", "bare")
    with mmfs_mount(*machine, name="rest") as rest, mmfs_mount(*machine, name="kswapd") as busy:
        Control(busy)("spawn cache-reader file=4G rate=0")
        time.sleep(2)
        before, begin = vmstat(busy), time.monotonic()
        samples = interleave(
            rounds, busy=cat(busy.path / "proc/meminfo", busy.pid), rest=cat(rest.path / "proc/meminfo", rest.pid)
        )
        a_second = (vmstat(busy)["pgsteal_kswapd"] - before["pgsteal_kswapd"]) / (time.monotonic() - begin)
    if a_second < BUSY_KSWAPD:
        raise Unavailable(f"kswapd took only {a_second:.0f} pages a second")
    yield Row(
        "cat proc/meminfo while kswapd works", "us", Side.of("busy", samples["busy"]),
        Side.of("at rest", samples["rest"]), most=3,
        notes=[f"kswapd takes {a_second / 1000:.0f} thousand pages a second meanwhile"],
    )  # fmt: skip


def vmstat(mount: Mount) -> dict[str, int]:
    """The counters of a mounted machine."""
    rows = (line.split() for line in (mount.path / "proc/vmstat").read_text().splitlines())
    return {name: int(value) for name, value in rows}
