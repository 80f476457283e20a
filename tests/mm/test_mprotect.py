"""mprotect(): rights, splits and merges, and what becomes of the promise of memory."""

from __future__ import annotations

from errno import EACCES, EINVAL, ENOMEM
from typing import Any

import pytest

from mmfs.mm import mlock, mmap
from mmfs.mm.mman import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_GROWSDOWN,
    MAP_NORESERVE,
    MAP_PRIVATE,
    MAP_SHARED,
    PROT_EXEC,
    PROT_GROWSDOWN,
    PROT_NONE,
    PROT_READ,
    PROT_WRITE,
    READ_IMPLIES_EXEC,
    RLIMIT_DATA,
    VM_ACCOUNT,
    VM_EXEC,
)
from mmfs.mm.mprotect import do_mprotect
from tests.mm.fakes import PAGE, FakeFile, FakeKernel, FakeMemory, check_mm, layout, new_mm

RW, PA = PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS
AT = 0x10000000


@pytest.fixture
def mm(fake_kernel: FakeKernel) -> Any:
    return new_mm(fake_kernel)


def fixed(mm: Any, addr: int, pages: int, prot: int = RW, flags: int = PA, file: Any = None) -> int:
    return mmap.do_mmap(mm, addr, pages * PAGE, prot, flags | MAP_FIXED, file)


def refused(errno: int, *args: Any) -> None:
    with pytest.raises(OSError) as error:
        do_mprotect(*args)
    assert error.value.errno == errno


def test_split_and_merge_again(mm: Any) -> None:
    fixed(mm, AT, 6)
    do_mprotect(mm, AT + 2 * PAGE, 2 * PAGE, PROT_READ)
    assert layout(mm) == [(AT, AT + 2 * PAGE), (AT + 2 * PAGE, AT + 4 * PAGE), (AT + 4 * PAGE, AT + 6 * PAGE)]
    do_mprotect(mm, AT + 2 * PAGE, PAGE, RW)
    assert layout(mm) == [(AT, AT + 3 * PAGE), (AT + 3 * PAGE, AT + 4 * PAGE), (AT + 4 * PAGE, AT + 6 * PAGE)]
    do_mprotect(mm, AT + 3 * PAGE, PAGE, RW)
    assert layout(mm) == [(AT, AT + 6 * PAGE)]
    check_mm(mm)


def test_a_touched_part_keeps_its_promise(mm: Any, fake_kernel: FakeKernel, fake_memory: FakeMemory) -> None:
    """Untouched memory that becomes read-only is no longer promised; touched memory is."""
    committed = lambda: fake_kernel.overcommit.vm_committed_as  # noqa: E731
    fixed(mm, AT, 4)
    do_mprotect(mm, AT, 2 * PAGE, PROT_READ)
    assert committed() == 2
    do_mprotect(mm, AT, 2 * PAGE, RW)
    assert committed() == 4
    fake_memory.access_range(mm, AT, AT + PAGE, True)
    do_mprotect(mm, AT, 4 * PAGE, PROT_READ)
    assert committed() == 4
    assert all(vma.vm_flags & VM_ACCOUNT for vma in mm.mmap)
    mmap.do_munmap(mm, AT, 4 * PAGE)
    assert committed() == 0


def test_the_promise_is_refused(mm: Any, fake_kernel: FakeKernel) -> None:
    fake_kernel.overcommit.sysctl_overcommit_memory = 2
    fake_kernel.overcommit.sysctl_overcommit_ratio = 0
    fixed(mm, AT, 4, PROT_READ)
    refused(ENOMEM, mm, AT, 4 * PAGE, RW)
    assert fake_kernel.overcommit.vm_committed_as == 0
    fake_kernel.overcommit.sysctl_overcommit_memory = 0
    fixed(mm, AT, 4, PROT_READ, PA | MAP_NORESERVE)
    do_mprotect(mm, AT, 4 * PAGE, RW)
    assert fake_kernel.overcommit.vm_committed_as == 0, "MAP_NORESERVE asked for no promise"
    check_mm(mm)


def test_a_refused_split_takes_the_promise_back(mm: Any, fake_kernel: FakeKernel) -> None:
    fixed(mm, AT, 4, PROT_READ)
    fake_kernel.vm.max_map_count = 1
    refused(ENOMEM, mm, AT + PAGE, PAGE, RW)
    assert fake_kernel.overcommit.vm_committed_as == 0


def test_rlimit_data(mm: Any) -> None:
    """Making memory writable turns it into data."""
    mm.owner.rlimits[RLIMIT_DATA] = (2 * PAGE, 2 * PAGE)
    fixed(mm, AT, 4, PROT_READ)
    refused(ENOMEM, mm, AT, 3 * PAGE, RW)
    do_mprotect(mm, AT, 2 * PAGE, RW)
    check_mm(mm)


def test_a_file_opened_for_reading(mm: Any) -> None:
    """May be written in a private mapping, not in a shared one."""
    file = FakeFile(mode=1)
    fixed(mm, AT, 1, PROT_READ, MAP_SHARED, file)
    fixed(mm, AT + 2 * PAGE, 1, PROT_READ, MAP_PRIVATE, file)
    refused(EACCES, mm, AT, PAGE, RW)
    do_mprotect(mm, AT + 2 * PAGE, PAGE, RW)


def test_holes(mm: Any) -> None:
    """What lies before a hole is changed, and the call fails."""
    fixed(mm, AT, 2)
    fixed(mm, AT + 3 * PAGE, 2)
    refused(ENOMEM, mm, AT, 5 * PAGE, PROT_NONE)
    assert [vma.is_accessible() for vma in mm.mmap] == [False, True]
    refused(ENOMEM, mm, AT + 2 * PAGE, PAGE, PROT_NONE)


@pytest.mark.parametrize(
    ("start", "length", "prot", "errno"),
    [
        (AT + 1, PAGE, PROT_READ, EINVAL),
        (AT, PAGE, 0x10, EINVAL),
        (AT, PAGE, PROT_GROWSDOWN | 0x02000000, EINVAL),
        (AT, PAGE, PROT_READ | PROT_GROWSDOWN, EINVAL),
        (AT, PAGE, PROT_READ | 0x02000000, EINVAL),
        (AT, (1 << 64) - 1, PROT_READ, ENOMEM),
        (AT + 8 * PAGE, PAGE, PROT_READ, ENOMEM),
    ],
)
def test_bad_arguments(start: int, length: int, prot: int, errno: int, mm: Any) -> None:
    fixed(mm, AT, 2)
    refused(errno, mm, start, length, prot)
    do_mprotect(mm, AT + 100 * PAGE, 0, PROT_READ)


def test_growsdown_reaches_to_the_start_of_the_stack(mm: Any) -> None:
    fixed(mm, AT, 8, RW, PA | MAP_GROWSDOWN)
    do_mprotect(mm, AT + 4 * PAGE, PAGE, RW | PROT_EXEC | PROT_GROWSDOWN)
    assert layout(mm) == [(AT, AT + 5 * PAGE), (AT + 5 * PAGE, AT + 8 * PAGE)]
    assert mm.mmap[0].vm_flags & VM_EXEC
    check_mm(mm)


def test_read_implies_exec(mm: Any) -> None:
    mm.owner.personality = READ_IMPLIES_EXEC
    fixed(mm, AT, 1)
    assert mm.mmap[0].vm_flags & VM_EXEC
    do_mprotect(mm, AT, PAGE, PROT_NONE)
    do_mprotect(mm, AT, PAGE, PROT_READ)
    assert mm.mmap[0].vm_flags & VM_EXEC


def test_locked_memory_is_broken_free(mm: Any, fake_memory: FakeMemory) -> None:
    """A locked private mapping that becomes writable is faulted in for writing at once."""
    fixed(mm, AT, 2, PROT_READ)
    mlock.do_mlock(mm, AT, 2 * PAGE)
    fake_memory.calls.clear()
    do_mprotect(mm, AT, 2 * PAGE, RW)
    assert fake_memory.calls == [("change_protection", AT, AT + 2 * PAGE), ("access_range", AT, AT + 2 * PAGE, True)]
    check_mm(mm)
