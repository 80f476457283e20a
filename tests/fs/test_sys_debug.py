"""debugfs: what is told of every cgroup's generations, huge pages that are split on request, pages around a fault."""

from __future__ import annotations

import errno
import re

import pytest

import mmfs
from mmfs.kernel.kernel import Kernel
from mmfs.kernel.task import Task

MB = 1 << 20
DEBUG = "/sys/kernel/debug"
TOP = "/sys/fs/cgroup"


@pytest.fixture
def kernel() -> Kernel:
    return mmfs.boot(ram="1G", swap="256M", cpus=2, preset="bare", seed=1, disks="nvme")


def errno_of(kernel: Kernel, path: str, text: str) -> str:
    try:
        kernel.write(path, text)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    finally:
        kernel.check()
    return ""


# -- generations ---------------------------------------------------------------------------------------------------


def headings(kernel: Kernel) -> list[tuple[int, str]]:
    lines = kernel.read(f"{DEBUG}/lru_gen").decode().splitlines()
    return [(int(line.split()[1]), line.split()[2]) for line in lines if line.startswith("memcg")]


def generations(kernel: Kernel, path: str) -> list[tuple[int, int, int]]:
    """(number, anonymous pages, pages of files) of a cgroup on node 0."""
    text = kernel.read(f"{DEBUG}/lru_gen").decode()
    part = next(part for part in text.split("memcg ")[1:] if part.split()[1] == path)
    rows = [line.split() for line in part.splitlines()[2:]]
    return [(int(seq), int(anon), int(file)) for seq, _, anon, file in rows]


@pytest.fixture
def cgroups(kernel: Kernel) -> Kernel:
    kernel.write(f"{TOP}/cgroup.subtree_control", "+memory")
    for name in ("a", "b", "a2"):
        kernel.mkdir(f"{TOP}/{name}")
    return kernel


def test_each_cgroup_has_a_number(cgroups: Kernel) -> None:
    """As 6.12 gives them: from 1, and 0 to who is gone but for its pages."""
    kernel = cgroups
    assert headings(kernel) == [(1, "/"), (2, "/a"), (3, "/b"), (4, "/a2")]
    reader = kernel.spawn("reader", cgroup="/a")
    kernel.create_file("/data/f", 4 * MB)
    reader.read("/data/f", 0, 4 * MB)
    reader.exit()
    assert sum(file for _, _, file in generations(kernel, "/a")) >= 4 * MB >> 12
    kernel.rmdir(f"{TOP}/a")
    assert headings(kernel) == [(1, "/"), (0, "/a"), (3, "/b"), (4, "/a2")]
    kernel.mkdir(f"{TOP}/c")
    assert headings(kernel)[-1] == (2, "/c"), "the number is free again"
    kernel.write("/proc/sys/vm/drop_caches", "3")
    assert headings(kernel) == [(1, "/"), (3, "/b"), (4, "/a2"), (2, "/c")]


def test_swap_holds_the_number(cgroups: Kernel) -> None:
    kernel = cgroups
    task = kernel.spawn("task", cgroup="/b")
    task.touch(task.mmap(16 * MB), 16 * MB, write=True)
    kernel.write(f"{TOP}/b/memory.reclaim", "8M")
    kernel.write(f"{TOP}/cgroup.procs", str(task.pid))
    kernel.rmdir(f"{TOP}/b")
    assert (3, "/b") in headings(kernel)
    task.exit()
    kernel.run_for(1)
    kernel.write("/proc/sys/vm/drop_caches", "1")
    assert (3, "/b") in headings(kernel), "CPUs keep some slots that are free"
    kernel.mmu.swap.drain_swap_slots_cache()
    assert all(path != "/b" for _, path in headings(kernel))


def test_a_cgroup_is_aged_by_its_number(cgroups: Kernel) -> None:
    kernel = cgroups
    before = {path: generations(kernel, path)[-1][0] for path in ("/", "/a", "/b")}
    kernel.write(f"{DEBUG}/lru_gen", f"+ 3 0 {before['/b']}")
    after = {path: generations(kernel, path)[-1][0] for path in before}
    assert after == before | {"/b": before["/b"] + 1}


def test_a_cgroup_is_evicted_by_its_number(cgroups: Kernel) -> None:
    kernel = cgroups
    kernel.create_file("/data/f", 8 * MB)
    reader = kernel.spawn("reader", cgroup="/a")
    reader.read("/data/f", 0, 8 * MB)
    before, others = generations(kernel, "/a"), generations(kernel, "/")
    kernel.write(f"{DEBUG}/lru_gen", f"- 2 0 {before[1][0]}")
    after = generations(kernel, "/a")
    assert after[0][0] == before[2][0] and generations(kernel, "/") == others
    gone = sum(file for _, _, file in before) - sum(file for _, _, file in after)
    assert gone >= 2000 and "pgsteal_direct 0" not in kernel.read(f"{TOP}/a/memory.stat").decode()
    kernel.check()


@pytest.mark.parametrize("text", ["+ 77 0 3", "- 77 0 0", "+ 1 5 0", "x 1 0 0", "+ 1 0", "\n", "+ 0 0 0"])
def test_numbers_of_nobody(cgroups: Kernel, text: str) -> None:
    """What a real 6.12 refuses."""
    assert errno_of(cgroups, f"{DEBUG}/lru_gen", text) == "EINVAL"


# -- huge pages ----------------------------------------------------------------------------------------------------


@pytest.fixture
def huge(kernel: Kernel) -> tuple[Kernel, Task, int]:
    """A process with 64 MB in 32 huge pages."""
    task = kernel.spawn("hold")
    address = task.mmap(64 * MB)
    task.touch(address, 64 * MB, write=True)
    assert rows(kernel)["AnonHugePages"] == 65536
    return kernel, task, address


def rows(kernel: Kernel) -> dict[str, int]:
    """What tells of huge pages."""
    meminfo = (line.split() for line in kernel.read("/proc/meminfo").decode().splitlines())
    vmstat = (line.split() for line in kernel.read("/proc/vmstat").decode().splitlines())
    return {words[0].rstrip(":"): int(words[1]) for words in (*meminfo, *vmstat)}


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("\n", "EINVAL"), ("2", "EINVAL"), ("0", "EINVAL"), ("1,0x1000", "EINVAL"), ("99999,0x{0:x},0x{1:x}", "ESRCH"),
        ("2,0x{0:x},0x{1:x}", "EINVAL"), ("{pid}", "EINVAL"), ("{pid},0x{0:x}", "EINVAL"),
        ("{pid},{0:x},{1:x}", "EINVAL"), ("/nofile,0x0,0x10", "EINVAL"), ("/data/f,0x0,0x10", ""),
        ("{pid},0x{0:x},0x{1:x},9", ""), ("{pid},0x{0:x},0x{1:x},1", ""),
        ("-1,0x0,0x1", "ESRCH"), ("{pid},0x0,0x1000", ""), ("/nofile", "EINVAL"),
    ],
)  # fmt: skip
def test_what_splits_nothing(huge: tuple[Kernel, Task, int], text: str, error: str) -> None:
    """What a real 6.12 answers, but for the last, at which it ends in an oops."""
    kernel, task, address = huge
    kernel.create_file("/data/f", MB)
    where = text.format(address, address + 64 * MB, pid=task.pid)
    assert errno_of(kernel, f"{DEBUG}/split_huge_pages", where) == error
    assert rows(kernel)["AnonHugePages"] == 65536 and rows(kernel)["thp_split_page"] == 0


def test_a_part_of_a_process_is_split(huge: tuple[Kernel, Task, int]) -> None:
    """And then all: the figures are a real 6.12's."""
    kernel, task, address = huge
    kernel.write(f"{DEBUG}/split_huge_pages", f"{task.pid},0x{address:x},0x{address + 10 * MB:x}")
    kernel.check()
    now = rows(kernel)
    assert (now["AnonHugePages"], now["thp_split_page"], now["thp_split_pmd"]) == (55296, 5, 5)
    assert now["thp_deferred_split_page"] == 0
    kernel.write(f"{DEBUG}/split_huge_pages", "1abc")
    kernel.check()
    now = rows(kernel)
    assert (now["AnonHugePages"], now["thp_split_page"], now["thp_split_pmd"]) == (0, 32, 32)
    assert task.mm is not None and task.mm.rss >= 64 * MB >> 12


def test_it_is_only_written(kernel: Kernel) -> None:
    with pytest.raises(OSError, match="Invalid argument"):
        kernel.read(f"{DEBUG}/split_huge_pages")
    assert kernel.stat(f"{DEBUG}/split_huge_pages").st_mode & 0o7777 == 0o200


# -- pages around a fault ------------------------------------------------------------------------------------------


def test_fault_around_bytes(kernel: Kernel) -> None:
    """What a real 6.12 makes of it."""
    path = f"{DEBUG}/fault_around_bytes"
    assert kernel.read(path) == b"65536\n"
    for text, value in (
        ("4096", 4096), ("0", 4096), ("1", 4096), ("8191", 4096), ("2097152", 2097152), ("2097153", 2097152),
        ("0x10000", 65536),
    ):  # fmt: skip
        kernel.write(path, text)
        assert int(kernel.read(path)) == value
    for text in ("4194304", "abc", "-1", "\n"):
        assert errno_of(kernel, path, text) == "EINVAL"
    assert int(kernel.read(path)) == 65536


@pytest.mark.parametrize(("size", "mapped"), [(4096, 1), (16384, 4), (65536, 16), (2 * MB, 512)])
def test_a_fault_maps_so_much(kernel: Kernel, size: int, mapped: int) -> None:
    kernel.create_file("/data/f", 4 * MB)
    task = kernel.spawn("reader")
    task.read("/data/f", 0, 4 * MB)
    kernel.write(f"{DEBUG}/fault_around_bytes", str(size))
    assert task.mm is not None
    address, before = task.mmap(4 * MB, prot=1, file="/data/f", addr=1 << 40), task.mm.rss
    task.touch(address + 1 * MB)
    assert task.mm.rss - before == mapped
    kernel.check()


# -- writeback -----------------------------------------------------------------------------------------------------

STATS_AFTER_OOM = """\
BdiWriteback:                0 kB
BdiReclaimable:             64 kB
BdiDirtyThresh:          87968 kB
DirtyThresh:             87968 kB
BackgroundThresh:        43928 kB
BdiDirtied:             233664 kB
BdiWritten:             233600 kB
BdiWriteBandwidth:           0 kBps
b_dirty:                     0
b_io:                        0
b_more_io:                   0
b_dirty_time:                0
bdi_list:                    1
state:                       1
"""
WB_STATS = """\
WbCgIno:                    1
WbWriteback:                0 kB
WbReclaimable:             64 kB
WbDirtyThresh:          87968 kB
WbDirtied:             233664 kB
WbWritten:             233600 kB
WbWriteBandwidth:       56108 kBps
b_dirty:                    0
b_io:                       0
b_more_io:                  0
b_dirty_time:               0
state:                      1

"""
"""What 6.12 prints."""


def bdi_rows(kernel: Kernel, disk: str, name: str = "stats") -> dict[str, int]:
    text = kernel.read(f"{DEBUG}/bdi/{disk}/{name}").decode()
    return {line.split()[0].rstrip(":"): int(line.split()[1], 16 if "state" in line else 10)
            for line in text.splitlines() if line}  # fmt: skip


@pytest.mark.parametrize(("name", "printed"), [("stats", STATS_AFTER_OOM), ("wb_stats", WB_STATS)])
def test_bdi_layout(kernel: Kernel, name: str, printed: str) -> None:
    def masked(text: str) -> str:
        return re.sub(r" *\d+( kB|$)", lambda found: " " * (len(found[0]) - len(found[1]) - 1) + "#" + found[1], text)

    ours = kernel.read(f"{DEBUG}/bdi/254:0/{name}").decode()
    assert [masked(line) for line in ours.splitlines()] == [masked(line) for line in printed.splitlines()]


def test_bdi_follows_writeback(kernel: Kernel) -> None:
    """What is written is dirty, then under way, then written; the swap disk has no files."""
    before = bdi_rows(kernel, "254:0")
    task = kernel.spawn("writer")
    fd = task.open("/data/f", 0o102)
    task.write(fd, 8 * MB, 0)
    dirty = bdi_rows(kernel, "254:0")
    assert dirty["BdiDirtied"] - before["BdiDirtied"] == 8 << 10
    assert dirty["BdiReclaimable"] + dirty["BdiWriteback"] + dirty["BdiWritten"] - before["BdiWritten"] >= 8 << 10
    assert dirty["b_dirty"] >= 1 and dirty["state"] & 4
    assert dirty["BdiWriteBandwidth"] == bdi_rows(kernel, "254:0", "wb_stats")["WbWriteBandwidth"]
    task.fsync(fd)
    kernel.sync()
    clean = bdi_rows(kernel, "254:0")
    assert clean["BdiReclaimable"] == clean["BdiWriteback"] == clean["BdiWriteBandwidth"] == 0
    assert clean["BdiWritten"] - before["BdiWritten"] >= 8 << 10
    assert clean["state"] == 1
    assert set(list(bdi_rows(kernel, "254:16").values())[:3]) == {0}
    limits = kernel.read("/proc/vmstat").decode()
    assert f"nr_dirty_threshold {clean['DirtyThresh'] // 4}\n" in limits
    assert f"nr_dirty_background_threshold {clean['BackgroundThresh'] // 4}\n" in limits
