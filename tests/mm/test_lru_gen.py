"""The multi-generational LRU: where pages join, what the aging finds, what switching it off and on does."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from mmfs.mm.lru_gen import ANON, FILE, CtrlPos, positive_ctrl_err
from mmfs.mm.mman import MADV_FREE, MADV_PAGEOUT
from mmfs.mm_types import MAX_NR_GENS, MIN_NR_GENS

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task
    from mmfs.mm.lru_gen import LruGenLruvec

pytestmark = pytest.mark.machine(ram="512M", preset="bare")
MB = 1 << 20
PAGES = MB >> 12
ENABLED = "/sys/kernel/mm/lru_gen/enabled"


@pytest.fixture
def lruvec(kernel: Kernel) -> LruGenLruvec:
    """The only lruvec of the machine."""
    return kernel.lru_gen.lruvecs[0]


@pytest.fixture
def task(kernel: Kernel) -> Task:
    """A process with nothing of its own yet."""
    return kernel.spawn("hog")


def sizes(lruvec: LruGenLruvec, kind: int) -> list[int]:
    """Pages by generation, the oldest first."""
    return [lruvec.size(kind, seq) for seq in range(lruvec.min_seq(kind), lruvec.max_seq + 1)]


def meminfo(kernel: Kernel, name: str) -> int:
    """A row of /proc/meminfo in pages."""
    rows = dict(line.split(":") for line in kernel.read("/proc/meminfo").decode().splitlines())
    return int(rows[name].split()[0]) >> 2


def test_begins_with_four_generations(lruvec: LruGenLruvec) -> None:
    assert (lruvec.max_seq, lruvec.min_seq(ANON), lruvec.min_seq(FILE)) == (MIN_NR_GENS + 1, 0, 0)


def test_faulted_memory_is_youngest(kernel: Kernel, task: Task, lruvec: LruGenLruvec) -> None:
    before = sizes(lruvec, ANON)
    task.touch(task.mmap(31 * 4096), 31 * 4096, write=True)
    kernel.lru.lru_add_drain_all()
    after = sizes(lruvec, ANON)
    assert after[:-1] == before[:-1]
    assert after[-1] >= before[-1] + 31


def test_aging_keeps_what_was_used_young(kernel: Kernel, task: Task, lruvec: LruGenLruvec) -> None:
    address = task.mmap(4 * MB)
    task.touch(address, 4 * MB, write=True)
    lruvec.try_to_inc_max_seq(can_swap=True)
    kernel.check()
    assert sizes(lruvec, ANON)[-1] == 0
    task.touch(address, MB)
    lruvec.try_to_inc_max_seq(can_swap=True)
    kernel.check()
    young = lruvec.size(ANON, lruvec.max_seq - 1)
    assert PAGES <= young < 2 * PAGES
    assert lruvec.size(ANON, lruvec.max_seq - 2) >= 3 * PAGES


def test_aging_takes_written_memory_for_no_file_s(kernel: Kernel, task: Task, lruvec: LruGenLruvec) -> None:
    """Anonymous pages that MADV_FREE has given up and that are written again have an anon_vma, not a file, to tell."""
    addr = task.mmap(MB)
    task.touch(addr, MB, write=True)
    task.madvise(addr, MB, MADV_FREE)
    task.touch(addr, MB, write=True)
    dirty = meminfo(kernel, "Dirty")
    lruvec.try_to_inc_max_seq(can_swap=True)
    assert meminfo(kernel, "Dirty") == dirty
    kernel.check()


def test_aging_skips_who_did_not_run(kernel: Kernel, task: Task, lruvec: LruGenLruvec) -> None:
    task.touch(task.mmap(MB), MB, write=True)
    lruvec.try_to_inc_max_seq(can_swap=True)
    looked = lruvec.try_to_inc_max_seq(can_swap=True)
    assert looked == 0


def test_filter_skips_tables_with_few_used_entries(kernel: Kernel, task: Task, lruvec: LruGenLruvec) -> None:
    address = task.mmap(8 * MB)
    task.touch(address, 8 * MB, write=True)
    lruvec.try_to_inc_max_seq(can_swap=True)
    task.touch(address, 8 * MB, stride=2 * MB)
    lruvec.try_to_inc_max_seq(can_swap=True)
    found = int(kernel.lru_gen.walk.stats[0][2])
    task.touch(address, 8 * MB, stride=2 * MB)
    lruvec.try_to_inc_max_seq(can_swap=True)
    assert int(kernel.lru_gen.walk.stats[0][2]) < found


def test_oldest_generation_merges_when_four_are_full(kernel: Kernel, task: Task, lruvec: LruGenLruvec) -> None:
    task.touch(task.mmap(4 * MB), 4 * MB, write=True)
    total = sum(sizes(lruvec, ANON))
    for _ in range(2 * MAX_NR_GENS):
        lruvec.try_to_inc_max_seq(can_swap=True)
        assert lruvec.nr_gens(ANON) <= MAX_NR_GENS
        kernel.check()
    assert sum(sizes(lruvec, ANON)) == total
    assert sizes(lruvec, ANON)[0] >= 4 * PAGES


def test_anonymous_memory_stays_behind_without_swap(kernel: Kernel, task: Task, lruvec: LruGenLruvec) -> None:
    task.touch(task.mmap(4 * MB), 4 * MB, write=True)
    for _ in range(2 * MAX_NR_GENS):
        lruvec.try_to_inc_max_seq(can_swap=False)
        kernel.check()
    assert meminfo(kernel, "Active(anon)") + meminfo(kernel, "Inactive(anon)") >= 4 * PAGES


def test_empty_old_generations_end(kernel: Kernel, task: Task, lruvec: LruGenLruvec) -> None:
    for _ in range(2):
        lruvec.try_to_inc_max_seq(can_swap=True)
    anon = lruvec.min_seq(ANON)
    assert lruvec.try_to_inc_min_seq(can_swap=True) == (lruvec.min_seq(ANON) != anon)
    assert lruvec.min_seq(ANON) <= lruvec.min_seq(FILE) <= lruvec.max_seq - 1
    kernel.check()


def test_switching_lists_keeps_every_page(kernel: Kernel, task: Task) -> None:
    task.touch(task.mmap(8 * MB), 8 * MB, write=True)
    kernel.lru.lru_add_drain_all()
    before = {name: meminfo(kernel, name) for name in ("Active", "Inactive")}
    kernel.write(ENABLED, "n")
    kernel.check()
    assert kernel.read(ENABLED) == b"0x0000\n"
    assert sum(meminfo(kernel, name) for name in before) == sum(before.values())
    inactive = meminfo(kernel, "Inactive(anon)")
    task.touch(task.mmap(31 * 4096), 31 * 4096, write=True)
    kernel.lru.lru_add_drain_all()
    assert meminfo(kernel, "Inactive(anon)") >= inactive + 31
    kernel.write(ENABLED, "0x0003")
    kernel.check()
    assert kernel.read(ENABLED) == b"0x0003\n"


@pytest.mark.machine(ram="128M", swap="64M", preset="bare", disks="nvme")
def test_aging_finds_changed_pages_of_the_swap_cache(kernel: Kernel, task: Task) -> None:
    """They are dirty, but no file's."""
    addr = task.mmap(8 * MB)
    task.touch(addr, 8 * MB, write=True)
    task.madvise(addr, 8 * MB, MADV_PAGEOUT)
    task.touch(addr, 8 * MB)
    task.touch(addr, 8 * MB, write=True)
    assert meminfo(kernel, "SwapCached") == 8 * PAGES
    kernel.write("/sys/kernel/debug/lru_gen", f"+ 1 0 {kernel.lru_gen.lruvecs[0].max_seq} 1 1")
    assert meminfo(kernel, "Dirty") == 0
    kernel.check()


def test_min_ttl_is_kept_in_jiffies(kernel: Kernel) -> None:
    kernel.write("/sys/kernel/mm/lru_gen/min_ttl_ms", "1001\n")
    assert kernel.read("/sys/kernel/mm/lru_gen/min_ttl_ms") == b"1004\n"
    with pytest.raises(OSError) as refused:
        kernel.write("/sys/kernel/mm/lru_gen/min_ttl_ms", "-1")
    assert refused.value.errno == errno.EINVAL


def test_controller_tolerates_few_refaults() -> None:
    set_point = CtrlPos(refaulted=0, total=1000, gain=1)
    assert positive_ctrl_err(set_point, CtrlPos(63, 64, 1))
    assert not positive_ctrl_err(set_point, CtrlPos(64, 64, 1))
    assert positive_ctrl_err(CtrlPos(500, 1000, 1), CtrlPos(400, 1000, 1))
