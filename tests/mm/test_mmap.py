"""mmap(), munmap(), brk() and stacks: what the recordings of a real kernel (test_vma_replay.py) do not reach."""

from __future__ import annotations

from errno import EAGAIN, EEXIST, EINVAL, ENOMEM, EPERM
from typing import Any

import pytest

from mmfs.arch import X86_64
from mmfs.mm import mmap
from mmfs.mm.mman import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MAP_GROWSDOWN,
    MAP_HUGETLB,
    MAP_LOCKED,
    MAP_POPULATE,
    MAP_PRIVATE,
    MAP_SHARED,
    PROT_NONE,
    PROT_READ,
    PROT_WRITE,
    RLIMIT_AS,
    RLIMIT_DATA,
    RLIMIT_MEMLOCK,
    RLIMIT_STACK,
    VM_SHARED,
)
from mmfs.mm.stack import expand_stack
from tests.mm.fakes import GB, KB, MB, PAGE, FakeFile, FakeKernel, FakeMemory, FakeTask, check_mm, layout, new_mm

RW, PA = PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS
AT = 0x10000000
STACK_TOP = X86_64.map_window


@pytest.fixture
def mm(fake_kernel: FakeKernel) -> Any:
    return new_mm(fake_kernel)


def refused(errno: int, call: Any, *args: Any) -> None:
    with pytest.raises(OSError) as error:
        call(*args)
    assert error.value.errno == errno


def fixed(mm: Any, addr: int, length: int, prot: int = RW, flags: int = PA) -> int:
    return mmap.do_mmap(mm, addr, length, prot, flags | MAP_FIXED)


def test_neighbours_merge_and_munmap_splits(mm: Any) -> None:
    fixed(mm, AT, 2 * PAGE)
    fixed(mm, AT + 4 * PAGE, 2 * PAGE)
    fixed(mm, AT + 2 * PAGE, 2 * PAGE)
    assert layout(mm) == [(AT, AT + 6 * PAGE)]
    mmap.do_munmap(mm, AT + 2 * PAGE, PAGE)
    assert layout(mm) == [(AT, AT + 2 * PAGE), (AT + 3 * PAGE, AT + 6 * PAGE)]
    check_mm(mm)


def test_every_change_is_counted(mm: Any) -> None:
    """Who mirrors the VMAs sees from vma_seq that something has changed."""
    seen = {mm.vma_seq}
    fixed(mm, AT, 4 * PAGE)
    seen.add(mm.vma_seq)
    mmap.do_munmap(mm, AT + PAGE, PAGE)
    seen.add(mm.vma_seq)
    fixed(mm, AT + PAGE, PAGE)
    seen.add(mm.vma_seq)
    assert len(seen) == 4


def test_touched_neighbours_merge_only_with_the_same_anon_vma(mm: Any, fake_memory: FakeMemory) -> None:
    """Two ranges that were touched apart stay apart when the hole between them is filled."""
    fixed(mm, AT, PAGE)
    fixed(mm, AT + 2 * PAGE, PAGE)
    fake_memory.access_range(mm, AT, AT + PAGE, True)
    fake_memory.access_range(mm, AT + 2 * PAGE, AT + 3 * PAGE, True)
    fixed(mm, AT + PAGE, PAGE)
    assert layout(mm) == [(AT, AT + 2 * PAGE), (AT + 2 * PAGE, AT + 3 * PAGE)]


def test_page_tables_are_freed_up_to_the_neighbours(mm: Any, fake_memory: FakeMemory) -> None:
    for number in range(3):
        fixed(mm, AT + 2 * number * PAGE, PAGE)
    mmap.do_munmap(mm, AT + 2 * PAGE, PAGE)
    assert fake_memory.calls[-1] == ("free_pgtables", AT + PAGE, AT + 4 * PAGE)
    mmap.do_munmap(mm, AT, 8 * PAGE)
    assert fake_memory.calls[-1] == ("free_pgtables", 0, mm.task_size)


def test_replacing_zaps(mm: Any, fake_memory: FakeMemory) -> None:
    fixed(mm, AT, 4 * PAGE)
    fake_memory.access_range(mm, AT, AT + 4 * PAGE, True)
    fixed(mm, AT + PAGE, PAGE)
    assert fake_memory.of(mm) == {AT, AT + 2 * PAGE, AT + 3 * PAGE}
    assert mm.hiwater_rss == 4
    check_mm(mm)


@pytest.mark.parametrize("length", [0, 1, PAGE])
def test_noreplace(length: int, mm: Any) -> None:
    fixed(mm, AT, PAGE)
    errno = EINVAL if length == 0 else EEXIST
    refused(errno, mmap.do_mmap, mm, AT, length, RW, PA | MAP_FIXED_NOREPLACE)
    assert mmap.do_mmap(mm, AT + PAGE, PAGE, RW, PA | MAP_FIXED_NOREPLACE) == AT + PAGE


def test_mmap_min_addr(fake_kernel: FakeKernel) -> None:
    """Only CAP_SYS_RAWIO maps the lowest pages; a hint there is moved up."""
    user, root = new_mm(fake_kernel, FakeTask(uid=1000)), new_mm(fake_kernel)
    refused(EPERM, fixed, user, PAGE, PAGE)
    assert fixed(root, PAGE, PAGE) == PAGE
    assert mmap.do_mmap(user, PAGE, PAGE, RW, PA) == 65536


def test_max_map_count(fake_kernel: FakeKernel, mm: Any) -> None:
    """As many VMAs as the sysctl says, and one; no split beyond that, but a cut from the middle may unmap."""
    fake_kernel.vm.max_map_count = 10
    for number in range(11):
        fixed(mm, AT + 4 * number * PAGE, 3 * PAGE)
    refused(ENOMEM, fixed, mm, AT + GB, PAGE)
    refused(ENOMEM, mmap.do_munmap, mm, AT + PAGE, PAGE)
    mmap.do_munmap(mm, AT + 2 * PAGE, PAGE)
    mmap.do_munmap(mm, AT + 2 * PAGE, 4 * PAGE)
    assert mm.map_count == 11
    check_mm(mm)


def test_65530_mappings(fake_kernel: FakeKernel, mm: Any) -> None:
    """Guard pages between them keep them apart; each is found again."""
    addrs = [mmap.do_mmap(mm, 0, PAGE, RW if number % 2 else PROT_READ, PA) for number in range(65531)]
    refused(ENOMEM, mmap.do_mmap, mm, 0, PAGE, RW, PA)
    assert mm.map_count == 65531
    assert addrs == [mm.mmap_base - (number + 1) * PAGE for number in range(65531)]
    assert all(mm.vma_lookup(addr).vm_start == addr for addr in addrs[::997])
    check_mm(mm)


def test_rlimit_as(mm: Any) -> None:
    mm.owner.rlimits[RLIMIT_AS] = (16 * PAGE, 16 * PAGE)
    fixed(mm, AT, 16 * PAGE, PROT_READ)
    refused(ENOMEM, fixed, mm, AT + 16 * PAGE, PAGE)
    fixed(mm, AT, 16 * PAGE)  # in place of what is there


def test_rlimit_data(mm: Any, fake_kernel: FakeKernel) -> None:
    """Private writable memory only; the first refusal is logged."""
    mm.owner.rlimits[RLIMIT_DATA] = (4 * PAGE, 8 * PAGE)
    fixed(mm, AT, 4 * PAGE)
    refused(ENOMEM, fixed, mm, AT + GB, PAGE)
    refused(ENOMEM, fixed, mm, AT + GB, PAGE)
    fixed(mm, AT + GB, 8 * PAGE, PROT_READ)
    fixed(mm, AT + 2 * GB, 8 * PAGE, RW, MAP_SHARED | MAP_ANONYMOUS)
    told = "Update limits or use boot option ignore_rlimit_data."
    assert fake_kernel.log == [(4, f"mmap: test (100): VmData 20480 exceed data ulimit 16384. {told}")]


def test_rlimit_data_zero_means_the_hard_limit(mm: Any) -> None:
    mm.owner.rlimits[RLIMIT_DATA] = (0, 2 * PAGE)
    fixed(mm, AT, 2 * PAGE)
    refused(ENOMEM, fixed, mm, AT + GB, PAGE)


def test_ignore_rlimit_data() -> None:
    kernel = FakeKernel(cmdline="ignore_rlimit_data")
    mm = new_mm(kernel)
    mm.owner.rlimits[RLIMIT_DATA] = (PAGE, PAGE)
    assert mm.may_expand_vm(2, 2)
    assert kernel.log[0][1].endswith("Update limits.")


def test_populate_and_lock(mm: Any, fake_memory: FakeMemory) -> None:
    addr = mmap.do_mmap(mm, 0, 8 * PAGE, RW, PA | MAP_POPULATE)
    assert len(fake_memory.of(mm)) == 8
    mmap.do_mmap(mm, 0, 4 * PAGE, PROT_READ, PA | MAP_LOCKED)
    assert len(fake_memory.of(mm)) == 12
    assert mm.locked_vm == 4
    assert addr + 8 * PAGE == mm.mmap_base
    mmap.do_mmap(mm, 0, 4 * PAGE, PROT_NONE, PA | MAP_POPULATE)
    assert len(fake_memory.of(mm)) == 12


def test_locking_needs_the_limit(fake_kernel: FakeKernel) -> None:
    mm = new_mm(fake_kernel, FakeTask(uid=1000))
    refused(EAGAIN, mmap.do_mmap, mm, 0, 8 * MB + PAGE, RW, PA | MAP_LOCKED)
    mm.owner.rlimits[RLIMIT_MEMLOCK] = (0, 0)
    refused(EPERM, mmap.do_mmap, mm, 0, PAGE, RW, PA | MAP_LOCKED)


def test_shared_anonymous_memory_is_a_file(mm: Any, fake_kernel: FakeKernel) -> None:
    addr = mmap.do_mmap(mm, 0, 4 * PAGE, RW, MAP_SHARED | MAP_ANONYMOUS)
    vma = mm.vma_lookup(addr)
    assert vma.vm_file.path == "/dev/zero"
    assert vma.vm_file.inode.shmem
    assert (vma.vm_pgoff, vma.vm_flags & VM_SHARED) == (0, VM_SHARED)
    assert mmap.do_mmap(mm, 0, 4 * PAGE, RW, MAP_SHARED | MAP_ANONYMOUS) == addr - 4 * PAGE
    assert mm.map_count == 2, "two files never merge"
    assert fake_kernel.overcommit.vm_committed_as == 8
    mmap.do_munmap(mm, addr, 2 * PAGE)
    assert fake_kernel.overcommit.vm_committed_as == 8, "the file is still there"
    mmap.do_munmap(mm, addr - 4 * PAGE, 8 * PAGE)
    assert fake_kernel.overcommit.vm_committed_as == 0


def test_a_file_knows_who_maps_it(mm: Any) -> None:
    file = FakeFile()
    assert file.mapping is not None
    addr = mmap.do_mmap(mm, 0, 8 * PAGE, PROT_READ, MAP_SHARED, file)  # type: ignore[arg-type]
    mmap.do_munmap(mm, addr + 2 * PAGE, 2 * PAGE)
    assert sorted((vma.vm_pgoff, vma.pages) for vma in file.mapping.i_mmap) == [(0, 2), (4, 4)]
    assert file.count == 3
    child = mmap.dup_mm(mm, FakeTask())
    assert (file.count, len(file.mapping.i_mmap)) == (5, 4)
    mmap.mmput(child)
    mmap.mmput(mm)
    assert (file.count, file.mapping.i_mmap) == (1, [])


def test_no_huge_pages(mm: Any) -> None:
    """Without a pool the reservation fails, after what was there has gone."""
    refused(ENOMEM, mmap.do_mmap, mm, 0, 2 * MB, RW, PA | MAP_HUGETLB)
    refused(EINVAL, mmap.do_mmap, mm, 0, 2 * MB, RW, PA | MAP_HUGETLB | 16 << 26)
    refused(EINVAL, mmap.do_mmap, mm, AT + PAGE, 2 * MB, RW, PA | MAP_HUGETLB | MAP_FIXED)
    fixed(mm, AT, 4 * MB)
    refused(ENOMEM, mmap.do_mmap, mm, AT, 2 * MB, RW, PA | MAP_HUGETLB | MAP_FIXED)
    assert layout(mm) == [(AT + 2 * MB, AT + 4 * MB)]
    check_mm(mm)
    mmap.mmput(mm)
    assert mm.kernel.overcommit.vm_committed_as == 0
    assert mm.kernel.nr_vmas == 0


# ---- the heap ---------------------------------------------------------------------------------------------------


@pytest.fixture
def heap(mm: Any) -> Any:
    mm.start_brk = mm.brk = AT
    return mm


def test_brk_grows_and_shrinks(heap: Any, fake_memory: FakeMemory) -> None:
    assert mmap.do_brk(heap, 0) == AT
    assert mmap.do_brk(heap, AT + 5) == AT + 5
    assert layout(heap) == [(AT, AT + PAGE)]
    assert mmap.do_brk(heap, AT + 3 * PAGE) == AT + 3 * PAGE
    assert layout(heap) == [(AT, AT + 3 * PAGE)]
    assert heap.mmap[0].name == "[heap]"
    fake_memory.access_range(heap, AT, AT + 3 * PAGE, True)
    assert mmap.do_brk(heap, AT + 1) == AT + 1
    assert (layout(heap), fake_memory.of(heap)) == ([(AT, AT + PAGE)], {AT})
    assert mmap.do_brk(heap, AT) == AT
    assert layout(heap) == []
    check_mm(heap)


def test_brk_stops_at_a_mapping(heap: Any) -> None:
    fixed(heap, AT + 4 * PAGE, PAGE)
    assert mmap.do_brk(heap, AT + 4 * PAGE) == AT
    assert mmap.do_brk(heap, AT + 3 * PAGE) == AT + 3 * PAGE, "a page stays free between"


def test_brk_stops_at_the_gap_of_a_stack(heap: Any) -> None:
    fixed(heap, AT + MB + 4 * PAGE, PAGE, RW, PA | MAP_GROWSDOWN)
    assert mmap.do_brk(heap, AT + 4 * PAGE) == AT
    assert mmap.do_brk(heap, AT + 3 * PAGE) == AT + 3 * PAGE


def test_brk_limits(heap: Any, fake_kernel: FakeKernel) -> None:
    heap.start_data, heap.end_data = 0x600000, 0x600000 + 100
    heap.owner.rlimits[RLIMIT_DATA] = (PAGE, PAGE)
    assert mmap.do_brk(heap, AT + PAGE) == AT
    assert mmap.do_brk(heap, AT + PAGE - 100) == AT + PAGE - 100
    heap.owner.rlimits[RLIMIT_DATA] = (GB, GB)
    fake_kernel.overcommit.sysctl_overcommit_memory = 2
    fake_kernel.overcommit.sysctl_overcommit_ratio = 0
    assert mmap.do_brk(heap, AT + 4 * PAGE) == AT + PAGE - 100
    check_mm(heap)


def test_bss(mm: Any) -> None:
    fixed(mm, AT, 4 * PAGE)
    mmap.vm_brk_flags(mm, AT + PAGE, 5 * PAGE)
    assert sum(vma.pages for vma in mm.mmap) == 6
    refused(EINVAL, mmap.vm_brk_flags, mm, AT, PAGE, 2)
    check_mm(mm)


# ---- stacks -----------------------------------------------------------------------------------------------------


@pytest.fixture
def stack(mm: Any) -> Any:
    mmap.setup_arg_pages(mm, STACK_TOP)
    mm.start_stack = STACK_TOP - 64
    return mm


def test_stack_grows_to_its_limit(stack: Any) -> None:
    assert stack.mmap[0].name == "[stack]"
    vma = expand_stack(stack, STACK_TOP - MB - 1)
    assert vma is stack.mmap[0]
    assert layout(stack) == [(STACK_TOP - MB - PAGE, STACK_TOP)]
    assert expand_stack(stack, STACK_TOP - 8 * MB) is not None
    assert expand_stack(stack, STACK_TOP - 8 * MB - 1) is None
    stack.owner.rlimits[RLIMIT_STACK] = (9 * MB, 9 * MB)
    assert expand_stack(stack, STACK_TOP - 8 * MB - 1) is not None
    assert stack.stack_vm == 8 * MB // PAGE + 1
    check_mm(stack)


def test_stack_keeps_its_guard_gap(stack: Any) -> None:
    below = STACK_TOP - 4 * MB
    fixed(stack, below, PAGE)
    assert expand_stack(stack, below + PAGE + 256 * PAGE) is not None
    assert expand_stack(stack, below + PAGE + 256 * PAGE - 1) is None


def test_stack_may_touch_a_guard_or_a_stack(stack: Any) -> None:
    below = STACK_TOP - 4 * MB
    fixed(stack, below, PAGE, PROT_NONE)
    assert expand_stack(stack, below + PAGE) is not None
    assert stack.mmap[1].vm_start == below + PAGE


def test_nothing_is_placed_in_the_gap_of_a_stack(fake_kernel: FakeKernel) -> None:
    """256 pages below a stack stay free as long as there is room elsewhere."""
    mm = new_mm(fake_kernel)
    top = mmap.do_mmap(mm, 0, 16 * KB, RW, PA | MAP_GROWSDOWN)
    assert mmap.do_mmap(mm, 0, PAGE, RW, PA) == top - MB - PAGE
    assert expand_stack(mm, top - PAGE) is None, "it would come closer than the gap"


def test_growth_is_promised_and_locked(stack: Any, fake_kernel: FakeKernel) -> None:
    stack.mmap[0].flags_reset(stack.mmap[0].vm_flags | 0x2000)
    stack.locked_vm = stack.mmap[0].pages
    before = fake_kernel.overcommit.vm_committed_as
    expand_stack(stack, STACK_TOP - MB)
    grown = 256 - 33
    assert fake_kernel.overcommit.vm_committed_as - before == grown
    check_mm(stack)
