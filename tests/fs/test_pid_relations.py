"""What the files of a process say about its memory fits together, whatever it does; and with the kernel's own state."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pytest

from mmfs.mm.huge_memory import states_of
from mmfs.mm.mman import MADV_DONTNEED, MADV_FREE, MAP_ANONYMOUS, MAP_PRIVATE, MAP_SHARED, PROT_READ
from tests.fs.pid_zoo import zoo

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task

MB = 1 << 20
PRESENT, FILE, EXCLUSIVE = 1 << 63, 1 << 61, 1 << 56
PFN = (1 << 55) - 1


def read(task: Task, name: str) -> str:
    """A file of a task."""
    return task.kernel.read(f"/proc/{task.pid}/{name}").decode()


def rows(text: str) -> dict[str, int]:
    """The kB rows of a file, added up over all mappings."""
    sums: dict[str, int] = {}
    for name, kb in re.findall(r"^(\w+):\s+(\d+) kB$", text, re.MULTILINE):
        sums[name] = sums.get(name, 0) + int(kb)
    return sums


def mapping(task: Task, addr: int) -> dict[str, int]:
    """The rows of smaps of the mapping at an address."""
    parts = re.split(r"(?m)^(?=[0-9a-f]{8,}-)", read(task, "smaps"))
    return next(rows(part) for part in parts if part.startswith(f"{addr:08x}-") or _holds(part, addr))


def _holds(part: str, addr: int) -> bool:
    match = re.match(r"([0-9a-f]+)-([0-9a-f]+) ", part)
    return match is not None and int(match[1], 16) <= addr < int(match[2], 16)


def pagemap(task: Task) -> np.ndarray:
    """The entries of all mappings, read a mapping at a time."""
    assert task.mm is not None
    opened = task.kernel.vfs.open(f"/proc/{task.pid}/pagemap")
    parts = [opened.read((v.vm_end - v.vm_start) >> 9, v.vm_start >> 9) for v in task.mm.mmap]
    return np.frombuffer(b"".join(parts), np.uint64)


def check(task: Task) -> None:
    """Every relation between the files of a living process."""
    kernel, mm = task.kernel, task.mm
    assert mm is not None
    status, smaps, rollup = rows(read(task, "status")), rows(read(task, "smaps")), rows(read(task, "smaps_rollup"))
    statm = [int(word) * 4 for word in read(task, "statm").split()]
    stat = [int(word) for word in read(task, "stat").rpartition(")")[2].split()[1:]]
    rss = status["VmRSS"]
    assert status["RssAnon"] + status["RssFile"] + status["RssShmem"] == rss
    assert rss == statm[1] == stat[20] * 4 == smaps["Rss"] == rollup["Rss"]
    assert status["VmSize"] == statm[0] == stat[19] // 1024 == smaps["Size"]
    assert statm[2] == status["RssFile"] + status["RssShmem"]
    assert statm[5] == status["VmData"] + status["VmStk"]
    assert status["VmHWM"] >= rss
    assert status["VmPeak"] >= status["VmSize"]
    assert smaps["Anonymous"] == rollup["Anonymous"] == status["RssAnon"]
    assert sum(smaps[f"{who}_{how}"] for who in ("Shared", "Private") for how in ("Clean", "Dirty")) == rss
    for name in set(rollup) - {"Pss", "Pss_Dirty", "Pss_Anon", "Pss_File", "Pss_Shmem", "Locked"}:
        assert rollup[name] == smaps[name], name
    nr_maps = len(mm.mmap)
    for name in ("Pss", "Pss_Dirty", "Locked"):
        assert 0 <= rollup[name] - smaps[name] < nr_maps, "each mapping rounds down"
    assert 0 <= rollup["Pss"] - rollup["Pss_Anon"] - rollup["Pss_File"] - rollup["Pss_Shmem"] <= 2
    assert rollup["Pss"] <= rss
    assert read(task, "maps").count("\n") == nr_maps == read(task, "numa_maps").count("\n") == mm.map_count
    assert sum(int(count) for count in re.findall(r" N\d+=(\d+)", read(task, "numa_maps"))) * 4 == rss
    check_pagemap(task, status)
    locked = sum(v.vm_end - v.vm_start for v in mm.mmap if v.vm_flags & 0x2000)
    assert status["VmLck"] * 1024 == locked
    kernel.check()


def check_pagemap(task: Task, status: dict[str, int]) -> None:
    """Present pages are resident or the zero page; file pages are those of RssFile and RssShmem."""
    kernel, entries = task.kernel, pagemap(task)
    present = entries[entries & np.uint64(PRESENT) != 0]
    pfns = (present & np.uint64(PFN)).astype(np.int64)
    mapped = present[pfns != kernel.mmu.anon.zero_pfn]
    assert len(mapped) * 4 == status["VmRSS"]
    assert np.count_nonzero(mapped & np.uint64(FILE)) * 4 == status["RssFile"] + status["RssShmem"]
    anon, _ = states_of(kernel.frames, (mapped & np.uint64(PFN)).astype(np.int64))
    assert np.array_equal(~anon, mapped & np.uint64(FILE) != 0)
    assert not np.any(present[pfns == kernel.mmu.anon.zero_pfn] & np.uint64(FILE | EXCLUSIVE))


def test_spawned_programs(boot: Callable[..., Kernel]) -> None:
    """Every process of a server."""
    kernel = boot(ram="2G", cpus=2, seed=1, preset="server")
    tasks = [task for task in kernel.tasks.processes() if task.mm is not None]
    assert len(tasks) > 10
    for task in tasks[:: max(len(tasks) // 8, 1)]:
        check(task)
    pss = sum(rows(read(task, "smaps_rollup"))["Pss_Anon"] for task in tasks)
    anon = {int(e) & PFN for task in tasks for e in pagemap(task) if int(e) & PRESENT and not int(e) & FILE}
    anon.discard(kernel.mmu.anon.zero_pfn)
    assert abs(pss - 4 * len(anon)) <= len(tasks), "all processes' shares of anonymous pages are those pages"


def test_zoo(kernel: Kernel) -> None:
    made = zoo(kernel)
    check(made.task)
    assert made.child is not None
    check(made.child)


def test_numa(boot: Callable[..., Kernel]) -> None:
    """numa_maps names the nodes that pages are on."""
    kernel = boot(ram="2G", nodes=["1G", "1G"], cpus=2, seed=1, preset="bare")
    task = kernel.spawn("hog")
    addr = task.mmap("1200M")
    task.touch(addr, "1200M", write=True)
    check(task)
    (line,) = re.findall(rf"^{addr:x} default (anon=.*)$", read(task, "numa_maps"), re.MULTILINE)
    words = dict(word.split("=") for word in line.split())
    assert int(words["N0"]) + int(words["N1"]) == 1200 << 8 == int(words["anon"]) == int(words["dirty"])
    assert int(words["N0"]) > 0
    assert int(words["N1"]) > 0


def test_fork_shares_and_writing_parts(kernel: Kernel) -> None:
    task = kernel.spawn("hog")
    addr = task.mmap(8 * MB)
    task.touch(addr, 8 * MB, write=True)
    alone = mapping(task, addr)
    assert (alone["Private_Dirty"], alone["Shared_Dirty"], alone["Pss"]) == (8192, 0, 8192)
    child = task.fork()
    for one in (task, child):
        both = mapping(one, addr)
        assert (both["Private_Dirty"], both["Shared_Dirty"], both["Pss"]) == (0, 8192, 4096)
    assert " mapmax=2 " in read(task, "numa_maps")
    child.touch(addr, 2 * MB, write=True)
    for one in (task, child):
        parted = mapping(one, addr)
        assert (parted["Private_Dirty"], parted["Shared_Dirty"], parted["Pss"]) == (2048, 6144, 5120)
        check(one)
    assert rows(read(child, "status"))["VmRSS"] == rows(read(child, "smaps"))["Rss"]
    child.exit(0)
    assert task.wait()[0] == child.pid
    again = mapping(task, addr)
    assert (again["Private_Dirty"], again["Shared_Dirty"], again["Pss"]) == (8192, 0, 8192)
    check(task)


def test_shared_memory(kernel: Kernel) -> None:
    task = kernel.spawn("hog")
    addr = task.mmap(4 * MB, flags=MAP_SHARED | MAP_ANONYMOUS)
    task.touch(addr, 4 * MB, write=True)
    child = task.fork()
    assert rows(read(task, "status"))["RssShmem"] == 4096
    assert rows(read(child, "status"))["RssShmem"] == 0, "mapped at the child's own first touch"
    child.touch(addr, MB)
    shared = rows(read(child, "status"))["RssShmem"]
    assert shared in range(1024, 1024 + 64), "and the pages around"
    assert rows(read(child, "smaps_rollup"))["Pss_Shmem"] == shared // 2
    assert rows(read(task, "smaps_rollup"))["Pss_Shmem"] == 4096 - shared // 2
    for one in (task, child):
        check(one)


def test_high_water(kernel: Kernel) -> None:
    """HWM and Peak stay when memory goes; clear_refs 5 brings HWM down."""
    task = kernel.spawn("hog")
    before = rows(read(task, "status"))
    addr = task.mmap(16 * MB)
    task.touch(addr, 16 * MB, write=True)
    task.madvise(addr, 12 * MB, MADV_DONTNEED)
    mid = rows(read(task, "status"))
    assert mid["VmHWM"] == mid["VmRSS"] + 12 * 1024 == before["VmRSS"] + 16 * 1024
    task.munmap(addr, 16 * MB)
    after = rows(read(task, "status"))
    assert (after["VmPeak"], after["VmSize"]) == (before["VmSize"] + 16 * 1024, before["VmSize"])
    assert (after["VmHWM"], after["VmRSS"]) == (mid["VmHWM"], before["VmRSS"])
    kernel.write(f"/proc/{task.pid}/clear_refs", "5\n")
    assert rows(read(task, "status"))["VmHWM"] == before["VmRSS"]
    check(task)


def test_zero_page_is_not_resident(kernel: Kernel) -> None:
    task = kernel.spawn("hog")
    addr = task.mmap(MB)
    before = rows(read(task, "status"))["VmRSS"]
    task.touch(addr, MB)
    assert rows(read(task, "status"))["VmRSS"] == before
    assert mapping(task, addr)["Rss"] == 0
    opened = kernel.vfs.open(f"/proc/{task.pid}/pagemap")
    entries = np.frombuffer(opened.read(256 * 8, addr >> 9), np.uint64)
    assert set((entries & np.uint64(PFN)).tolist()) == {kernel.mmu.anon.zero_pfn}
    assert np.all(entries & np.uint64(PRESENT))
    check(task)


def test_locked(kernel: Kernel) -> None:
    task = kernel.spawn("hog")
    addr = task.mmap(4 * MB)
    task.touch(addr, MB, write=True)
    task.mlock(addr, 2 * MB)
    status = rows(read(task, "status"))
    assert status["VmLck"] == 2048
    locked = mapping(task, addr)
    assert locked["Locked"] == locked["Rss"] == locked["Size"] == 2048
    assert f"{addr:x} default anon=512 dirty=512 N0=512 " in read(task, "numa_maps"), "all active: not said"
    assert mapping(task, addr + 2 * MB)["Locked"] == 0
    check(task)
    task.munlock(addr, 2 * MB)
    assert rows(read(task, "status"))["VmLck"] == 0
    check(task)


def test_large_locked(kernel: Kernel) -> None:
    """Whole blocks are counted as locked too."""
    task = kernel.spawn("hog")
    addr = task.mmap(16 * MB)
    task.touch(addr, 16 * MB, write=True)
    task.mlock(addr, 16 * MB)
    assert mapping(task, addr)["Locked"] == 16384
    assert " anon=4096 dirty=4096 N0=4096 " in read(task, "numa_maps")
    check(task)


def test_lazyfree(kernel: Kernel) -> None:
    task = kernel.spawn("hog")
    addr = task.mmap(2 * MB)
    task.touch(addr, 2 * MB, write=True)
    task.madvise(addr, MB, MADV_FREE)
    assert mapping(task, addr)["LazyFree"] == 8 * 31 * 4  # the rest of 256 pages waits in the CPU's batch
    task.touch(addr, MB // 2, write=True)
    assert mapping(task, addr)["LazyFree"] == (8 * 31 - 128) * 4
    check(task)


def test_clear_refs(kernel: Kernel) -> None:
    """Referenced counts what was touched since; soft-dirty what was written since."""
    task = kernel.spawn("hog")
    addr = task.mmap(MB)
    data = task.mmap(MB, PROT_READ, MAP_PRIVATE, file=_file(kernel, "/data/f", MB))
    task.touch(addr, MB, write=True)
    task.touch(data, MB)
    path = f"/proc/{task.pid}"
    assert (mapping(task, addr)["Referenced"], mapping(task, data)["Referenced"]) == (1024, 1024)
    kernel.write(f"{path}/clear_refs", "3")
    assert (mapping(task, addr)["Referenced"], mapping(task, data)["Referenced"]) == (1024, 0)
    kernel.write(f"{path}/clear_refs", "2")
    assert mapping(task, addr)["Referenced"] == 0
    task.touch(addr, 64 << 10)
    assert mapping(task, addr)["Referenced"] == 64
    kernel.write(f"{path}/clear_refs", "1")
    assert rows(read(task, "smaps"))["Referenced"] == 0
    kernel.write(f"{path}/clear_refs", "4")
    soft_dirty = np.uint64(1 << 55)
    assert not np.any(pagemap(task) & soft_dirty)
    assert " sd" not in read(task, "smaps")
    task.touch(addr + 4096, 4096, write=True)
    assert np.count_nonzero(pagemap(task) & soft_dirty) == 1
    new = task.mmap(MB)
    assert np.count_nonzero(pagemap(task) & soft_dirty) >= 256, "a new mapping is dirty as a whole"
    assert new
    check(task)


def _file(kernel: Kernel, path: str, size: int) -> str:
    kernel.namei.create(path, size)
    return path


def test_threads(kernel: Kernel) -> None:
    """Threads share memory and files, and have their own faults, names and times."""
    task = kernel.spawn("hog")
    thread = task.pthread_create("worker")
    addr = thread.mmap(MB)
    before = thread.min_flt
    thread.touch(addr, MB, write=True)
    path = f"/proc/{task.pid}"
    assert kernel.listdir(f"{path}/task") == [str(task.pid), str(thread.pid)]
    assert kernel.stat(f"{path}/task").st_nlink == 4
    assert str(thread.pid) not in kernel.listdir("/proc")
    assert kernel.read(f"/proc/{thread.pid}/comm") == b"worker\n", "found though not listed"
    assert kernel.read(f"{path}/task/{thread.pid}/comm") == b"worker\n"
    with pytest.raises(FileNotFoundError):
        kernel.stat(f"{path}/task/1")
    for name in ("maps", "smaps", "statm", "pagemap", "numa_maps"):
        if name != "pagemap":
            assert kernel.read(f"{path}/task/{thread.pid}/{name}") == kernel.read(f"{path}/{name}")
    whole, leader, other = (
        kernel.read(file).decode().split()
        for file in (f"{path}/stat", f"{path}/task/{task.pid}/stat", f"{path}/task/{thread.pid}/stat")
    )
    assert int(whole[9]) == int(leader[9]) + int(other[9])
    assert int(other[9]) >= before + 256
    assert whole[19] == leader[19] == other[19] == "2"
    assert "Threads:\t2\n" in read(task, "status")
    assert f"Tgid:\t{task.pid}\n" in read(thread, "status")
    check(task)
    thread.exit_thread()
    assert kernel.listdir(f"{path}/task") == [str(task.pid)]
    check(task)


def test_children(kernel: Kernel) -> None:
    task = kernel.spawn("sh")
    children = [task.fork(), task.fork()]
    assert read(task, f"task/{task.pid}/children") == "".join(f"{child.pid} " for child in children)
    for child in children:
        assert f"\nPPid:\t{task.pid}\n" in read(child, "status")
        child.exit(0)
    task.wait()
    task.wait()
    assert read(task, f"task/{task.pid}/children") == ""


def test_oom_score(kernel: Kernel) -> None:
    """More memory scores higher; the adjustment moves the score by thousandths of the machine."""
    task = kernel.spawn("hog")
    before = int(read(task, "oom_score"))
    task.touch(task.mmap("100M"), "100M", write=True)
    grown = int(read(task, "oom_score"))
    assert grown > before
    kernel.write(f"/proc/{task.pid}/oom_score_adj", "500")
    assert 320 <= int(read(task, "oom_score")) - grown <= 335
    assert read(task, "oom_adj") == "8\n"
    kernel.write(f"/proc/{task.pid}/oom_score_adj", "-1000")
    assert (read(task, "oom_score"), read(task, "oom_adj")) == ("0\n", "-17\n")


def test_io(kernel: Kernel) -> None:
    """A process's sum holds what its threads did, also those that are gone."""
    task = kernel.spawn("hog")
    thread = task.pthread_create()
    fd = thread.open("/data/x", 0o102)
    before = read(task, "io")
    thread.write(fd, MB)
    assert f"wchar: {MB}\n" in kernel.read(f"/proc/{task.pid}/task/{thread.pid}/io").decode()
    assert "wchar: 0\n" in kernel.read(f"/proc/{task.pid}/task/{task.pid}/io").decode()
    assert before != read(task, "io")
    after = read(task, "io")
    thread.exit_thread()
    assert read(task, "io") == after
