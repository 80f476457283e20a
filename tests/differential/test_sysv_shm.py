"""Segments of System V shared memory and fallocate(2), on a simulated machine and on a real 6.12."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cgroup_v2.conftest import BOTH
from tests.cgroup_v2.machine import MB, PAGE, Machine, Process, errno_of
from tests.differential.agent import Agent
from tests.differential.swap_machine import MEMORY_MB, made_for

pytestmark = pytest.mark.timeout(600)
PRIVATE, CREAT, EXCL, HUGETLB, NORESERVE = 0, 0o1000, 0o2000, 0o4000, 0o10000
RDONLY, KEEP_SIZE, PUNCH_HOLE = 0o10000, 1, 2
KERNEL = "/proc/sys/kernel/"
THP = "/sys/kernel/mm/transparent_hugepage/"
FILE, HUGE_FILE = "/dev/shm/f", "/dev/hugepages/f"
COLUMNS = (
    "key", "shmid", "perms", "size", "cpid", "lpid", "nattch", "uid", "gid", "cuid", "cgid", "atime", "dtime", "ctime",
    "rss", "swap",
)  # fmt: skip


@pytest.fixture(scope="module")
def agent() -> Iterator[Agent]:
    agent = Agent(memory_mb=MEMORY_MB)
    yield agent
    agent.close()


@pytest.fixture(params=BOTH)
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """1 GB with a cgroup `a`, without any segment."""
    made = made_for(request, seeks=False)
    limits = {name: made.read(KERNEL + name) for name in ("shmmax", "shmall", "shmmni", "shm_rmid_forced")}
    yield made
    for name, text in limits.items():
        made.write(KERNEL + name, text)
    remover = made.spawn()
    for shmid in segments(made):
        errno_of(remover.shmrm, shmid)
    made.tmpfs("huge=never")
    made.write(f"{THP}shmem_enabled", "never")
    errno_of(made.unlink, FILE)
    errno_of(made.unlink, HUGE_FILE)
    made.close()


def segments(machine: Machine) -> dict[int, dict[str, int]]:
    """The rows of /proc/sysvipc/shm, by identifier; what is a time is whether there was one."""
    header, *rows = machine.read("/proc/sysvipc/shm").splitlines()
    assert header.split() == list(COLUMNS)
    found = {}
    for row in rows:
        one = dict(zip(COLUMNS, map(int, row.split()), strict=True))
        one |= {name: int(one[name] > 0) for name in ("atime", "dtime", "ctime")}
        found[one["shmid"]] = one
    return found


def row(machine: Machine, shmid: int, *names: str) -> tuple[int, ...]:
    """Some columns of a segment."""
    return tuple(segments(machine)[shmid][name] for name in names)


def shmem(machine: Machine) -> int:
    """Pages of shared memory of the cgroup, as soon as they are counted."""
    machine.sleep(2.1)
    return machine.rows("a/memory.stat")["shmem"] // PAGE


def meminfo(machine: Machine, name: str) -> int:
    """A row of /proc/meminfo."""
    return int(machine.read("/proc/meminfo").split(f"{name}:", 1)[1].split(None, 1)[0])


def committed(machine: Machine) -> int:
    """What is promised, in kB."""
    return meminfo(machine, "Committed_AS")


def owner(machine: Machine) -> Process:
    """A process of the cgroup."""
    return machine.spawn("a")


def test_life(machine: Machine) -> None:
    """It is made, attached by two, marked to go, and goes with the last of them."""
    process = owner(machine)
    first = process.shmget(0x1234, MB + 5, CREAT | 0o640)
    assert process.shmget(0x1234, MB, 0o600) == process.shmget(0x1234, 0, CREAT | 0o640) == first
    found = segments(machine)[first]
    assert (found["key"], found["perms"], found["size"], found["nattch"]) == (0x1234, 640, MB + 5, 0)
    assert (found["cpid"], found["lpid"], found["atime"], found["dtime"], found["ctime"]) == (process.pid, 0, 0, 0, 1)
    process.shmat(first)
    process.dirty()
    assert row(machine, first, "nattch", "lpid", "atime", "dtime", "rss") == (1, process.pid, 1, 0, MB + PAGE)
    maps = [line for line in machine.read(f"/proc/{process.pid}/maps").splitlines() if "SYSV" in line]
    words = ["rw-s", "00000000", "00:01", str(first), "/SYSV00001234", "(deleted)"]
    assert [line.split()[1:] for line in maps] == [words]
    child = process.fork()
    assert row(machine, first, "nattch", "lpid") == (2, process.pid)
    process.shmrm(first)
    assert row(machine, first, "key", "perms", "nattch") == (0, 1640, 2)
    assert errno_of(process.shmget, 0x1234, MB, 0) == "ENOENT"
    process.shmdt()
    assert row(machine, first, "nattch", "lpid", "dtime") == (1, process.pid, 1)
    assert shmem(machine) == 257
    child.kill()
    assert machine.eventually(lambda: first not in segments(machine))
    assert shmem(machine) == 0


def test_identifiers(machine: Machine) -> None:
    """Places are taken in turn; a removed one's number means nothing."""
    process = owner(machine)
    ids = [process.shmget(PRIVATE, PAGE, 0o600) for _ in range(3)]
    places = [shmid % 32768 for shmid in ids]
    assert [(place - places[0]) % 64 for place in places] == [0, 1, 2]
    process.shmrm(ids[1])
    assert errno_of(process.shmat, ids[1]) == "EINVAL"
    new = process.shmget(PRIVATE, PAGE, 0o600)
    assert (new % 32768 - places[0]) % 64 == 3
    for _ in range(62):
        process.shmrm(process.shmget(PRIVATE, PAGE, 0o600))
    again = process.shmget(PRIVATE, PAGE, 0o600)
    assert again >> 15 == (new >> 15) + 1 or again % 32768 > new % 32768


def test_what_is_refused(machine: Machine) -> None:
    process = owner(machine)
    shmid = process.shmget(77, 2 * PAGE, CREAT | 0o600)
    assert errno_of(process.shmget, 77, 2 * PAGE, CREAT | EXCL | 0o600) == "EEXIST"
    assert errno_of(process.shmget, 77, 2 * PAGE + 1, 0o600) == "EINVAL"
    assert errno_of(process.shmget, 78, PAGE, 0o600) == "ENOENT"
    assert errno_of(process.shmget, PRIVATE, 0, 0o600) == "EINVAL"
    assert errno_of(process.shmat, shmid + 1) == "EINVAL"
    process.shmat(shmid)
    process.shmdt()
    process.share(PAGE)
    assert errno_of(process.shmdt) == "EINVAL"


def test_limits(machine: Machine) -> None:
    """shmmax of one, shmall of all, in pages, shmmni of their number."""
    process = owner(machine)
    machine.write(KERNEL + "shmmax", MB)
    assert errno_of(process.shmget, PRIVATE, MB + 1, 0o600) == "EINVAL"
    process.shmget(PRIVATE, MB, 0o600)
    machine.write(KERNEL + "shmall", 300)
    assert errno_of(process.shmget, PRIVATE, 45 * PAGE, 0o600) == "ENOSPC"
    process.shmget(PRIVATE, 44 * PAGE - 3, 0o600)
    machine.write(KERNEL + "shmall", 1000)
    machine.write(KERNEL + "shmmni", 3)
    process.shmget(PRIVATE, PAGE, 0o600)
    assert errno_of(process.shmget, PRIVATE, PAGE, 0o600) == "ENOSPC"


def test_promised_memory(machine: Machine) -> None:
    """All of it is promised when it is made, unless that is not asked for."""
    process = owner(machine)
    before = committed(machine)
    shmid = process.shmget(PRIVATE, 64 * MB, 0o600)
    assert abs(committed(machine) - before - 65536) < 1024
    process.shmrm(shmid)
    assert abs(committed(machine) - before) < 1024
    process.shmget(PRIVATE, 64 * MB, NORESERVE | 0o600)
    assert abs(committed(machine) - before) < 1024


def test_orphans(machine: Machine) -> None:
    """Whoever made a segment may be gone; shm_rmid_forced has those go that nobody has attached, then and later."""
    process, other = owner(machine), owner(machine)
    kept, gone = process.shmget(PRIVATE, PAGE, 0o600), process.shmget(PRIVATE, PAGE, 0o600)
    other.shmat(kept)
    process.kill()
    assert machine.eventually(lambda: segments(machine).keys() >= {kept, gone})
    own = other.shmget(PRIVATE, PAGE, 0o600)
    machine.write(KERNEL + "shm_rmid_forced", 1)
    assert segments(machine).keys() == {kept, own}
    other.shmdt()
    assert segments(machine).keys() == {own}
    other.shmat(own)
    other.shmdt()
    assert segments(machine).keys() == set()


def test_parts(machine: Machine) -> None:
    """Unmapping the middle leaves two mappings, which shmdt() takes both; advice drops pages."""
    process = owner(machine)
    shmid = process.shmget(PRIVATE, 16 * PAGE, 0o600)
    process.shmat(shmid)
    process.dirty()
    process.cancel(4 * PAGE, PAGE)
    assert row(machine, shmid, "nattch", "rss") == (2, 16 * PAGE)
    process.drain(8 * PAGE, 2 * PAGE)
    assert row(machine, shmid, "rss") == (14 * PAGE,)
    process.shmdt()
    assert row(machine, shmid, "nattch") == (0,)
    assert errno_of(process.shmat, shmid, RDONLY) == ""


def test_swap(machine: Machine) -> None:
    """What is swapped out is counted so."""
    process = owner(machine)
    shmid = process.shmget(PRIVATE, 4 * MB, 0o600)
    process.shmat(shmid)
    process.dirty()
    for _ in range(3):
        errno_of(machine.write, "a/memory.reclaim", 8 * MB)
        machine.sleep(0.5)
    rss, swap = row(machine, shmid, "rss", "swap")
    assert rss + swap == 4 * MB and swap >= 3 * MB
    process.again()
    assert row(machine, shmid, "rss", "swap") == (4 * MB, 0)


@pytest.mark.parametrize("size", ["never", "always"])
def test_large_folios(machine: Machine, size: str) -> None:
    """A segment has huge pages as the kernel's tmpfs has them, and no other sizes: it is no anonymous memory."""
    machine.write(f"{THP}hugepages-64kB/shmem_enabled", size)
    machine.write(f"{THP}shmem_enabled", "always")
    process = owner(machine)
    process.thp(True)
    before = machine.rows("/proc/vmstat")
    alloc = machine.number(f"{THP}hugepages-64kB/stats/shmem_alloc")
    shmid = process.shmget(PRIVATE, 5 * MB, 0o600)
    process.shmat(shmid)
    process.dirty()
    rows = machine.rows("/proc/vmstat")
    machine.write(f"{THP}hugepages-64kB/shmem_enabled", "never")
    assert rows["thp_file_alloc"] - before["thp_file_alloc"] == rows["thp_file_mapped"] - before["thp_file_mapped"] == 2
    assert machine.number(f"{THP}hugepages-64kB/stats/shmem_alloc") == alloc
    assert row(machine, shmid, "rss") == (5 * MB,)


def pool(machine: Machine) -> tuple[int, ...]:
    """Huge pages: all, free, promised."""
    return tuple(meminfo(machine, f"HugePages_{name}") for name in ("Total", "Free", "Rsvd"))


def test_of_huge_pages(machine: Machine) -> None:
    """SHM_HUGETLB promises them when the segment is made."""
    machine.write("/proc/sys/vm/nr_hugepages", 4)
    process = owner(machine)
    assert errno_of(process.shmget, PRIVATE, 9 * MB, HUGETLB | 0o600) == "ENOMEM"
    shmid = process.shmget(PRIVATE, 3 * MB, HUGETLB | 0o600)
    assert pool(machine) == (4, 4, 2)
    assert row(machine, shmid, "size", "rss") == (3 * MB, 0)
    process.shmat(shmid)
    process.dirty()
    assert pool(machine) == (4, 2, 0) and row(machine, shmid, "nattch", "rss", "swap") == (1, 4 * MB, 0)
    process.shmrm(shmid)
    process.shmdt()
    assert pool(machine) == (4, 4, 0) and not segments(machine)
    machine.write("/proc/sys/vm/nr_hugepages", 0)


# ---- fallocate(2) ------------------------------------------------------------------------------------------------


def test_fallocate(machine: Machine) -> None:
    """Pages are there at once; the file grows, unless it keeps its size; a hole takes whole pages."""
    process = owner(machine)
    process.fallocate(FILE, 0, 5000, MB)
    assert shmem(machine) == 257
    process.map(FILE, MB + 5000)
    process.dirty()
    assert shmem(machine) == 258
    process.release()
    process.fallocate(FILE, KEEP_SIZE, 2 * MB, MB)
    assert shmem(machine) == 258 + 256
    process.fallocate(FILE, KEEP_SIZE | PUNCH_HOLE, 5000, 5 * PAGE)
    assert shmem(machine) == 258 + 256 - 4
    machine.cut(FILE, MB + 5000)  # its size, which has what is beyond go
    assert shmem(machine) == 258 - 4
    machine.unlink(FILE)
    assert shmem(machine) == 0


def test_fallocate_refused(machine: Machine) -> None:
    process = owner(machine)
    assert errno_of(process.fallocate, FILE, 0, 0, 0) == "EINVAL"
    assert errno_of(process.fallocate, FILE, PUNCH_HOLE, 0, PAGE) == "EOPNOTSUPP"
    assert errno_of(process.fallocate, FILE, 0x10, 0, PAGE) == "EOPNOTSUPP"
    assert errno_of(process.fallocate, FILE, 0, -1, PAGE) == "EINVAL"


def test_fallocate_in_huge_pages(machine: Machine) -> None:
    """Where a tmpfs has them; what was allocated is swapped, not dropped, when memory is short."""
    machine.tmpfs("huge=always")
    process = owner(machine)
    before = machine.rows("/proc/vmstat")["thp_file_alloc"]
    process.fallocate(FILE, 0, 0, 4 * MB)
    assert machine.rows("/proc/vmstat")["thp_file_alloc"] - before == 2
    for _ in range(3):
        errno_of(machine.write, "a/memory.reclaim", 8 * MB)
        machine.sleep(0.5)
    assert machine.number("a/memory.swap.current") == 4 * MB
    process.fallocate(FILE, 0, 0, 4 * MB)
    assert machine.number("a/memory.swap.current") <= 128 * PAGE  # slots that CPUs keep
    assert shmem(machine) == 1024


def test_fallocate_of_hugetlbfs(machine: Machine) -> None:
    """Huge pages from the pool; a hole gives back those that it holds whole."""
    machine.write("/proc/sys/vm/nr_hugepages", 4)
    process = owner(machine)
    process.fallocate(HUGE_FILE, 0, MB, 4 * MB)
    assert pool(machine) == (4, 1, 0)
    assert errno_of(process.fallocate, HUGE_FILE, 0, 0, 10 * MB) in ("ENOSPC", "ENOMEM")
    assert pool(machine) == (4, 0, 0)
    process.fallocate(HUGE_FILE, KEEP_SIZE | PUNCH_HOLE, MB, 4 * MB)
    assert pool(machine) == (4, 1, 0)
    process.fallocate(HUGE_FILE, KEEP_SIZE | PUNCH_HOLE, 0, 8 * MB)
    assert pool(machine) == (4, 4, 0)
    machine.unlink(HUGE_FILE)
    machine.write("/proc/sys/vm/nr_hugepages", 0)
