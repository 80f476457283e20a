"""mlock() and its kin: flags, limits, and which pages come in."""

from __future__ import annotations

from errno import EINVAL, ENOMEM, EPERM
from typing import Any

import pytest

from mmfs.mm import mlock, mmap
from mmfs.mm.mman import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_PRIVATE,
    MCL_CURRENT,
    MCL_FUTURE,
    MCL_ONFAULT,
    PROT_NONE,
    PROT_READ,
    PROT_WRITE,
    RLIMIT_MEMLOCK,
    VM_LOCKED,
    VM_LOCKONFAULT,
)
from tests.mm.fakes import MB, PAGE, FakeFile, FakeKernel, FakeMemory, FakeTask, check_mm, layout, new_mm

RW, PA = PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS
AT = 0x10000000


@pytest.fixture
def mm(fake_kernel: FakeKernel) -> Any:
    return new_mm(fake_kernel, FakeTask(uid=1000))


def fixed(mm: Any, addr: int, pages: int, prot: int = RW, flags: int = PA, file: Any = None) -> int:
    return mmap.do_mmap(mm, addr, pages * PAGE, prot, flags | MAP_FIXED, file)


def refused(errno: int, call: Any, *args: Any) -> None:
    with pytest.raises(OSError) as error:
        call(*args)
    assert error.value.errno == errno


def test_lock_faults_in_and_unlock_merges(mm: Any, fake_memory: FakeMemory) -> None:
    fixed(mm, AT, 4)
    mlock.do_mlock(mm, AT + PAGE + 5, PAGE)
    assert layout(mm) == [(AT, AT + PAGE), (AT + PAGE, AT + 3 * PAGE), (AT + 3 * PAGE, AT + 4 * PAGE)]
    assert fake_memory.of(mm) == {AT + PAGE, AT + 2 * PAGE}
    assert mm.locked_vm == 2
    mlock.do_munlock(mm, AT + 2 * PAGE, PAGE)
    assert (mm.locked_vm, len(fake_memory.of(mm))) == (1, 2)
    mlock.do_munlock(mm, AT, 4 * PAGE)
    check_mm(mm)


def test_pages_that_are_there_are_locked(mm: Any, fake_memory: FakeMemory) -> None:
    fixed(mm, AT, 4)
    fake_memory.access_range(mm, AT, AT + 2 * PAGE, True)
    mlock.do_mlock2(mm, AT, 4 * PAGE, 1)
    assert fake_memory.locked[id(mm)] == {AT, AT + PAGE}
    assert len(fake_memory.of(mm)) == 2, "MLOCK_ONFAULT brings nothing in"
    mlock.do_munlock(mm, AT, PAGE)
    assert fake_memory.locked[id(mm)] == {AT + PAGE}
    refused(EINVAL, mlock.do_mlock2, mm, AT, PAGE, 2)


def test_limit(mm: Any) -> None:
    """What is locked already does not count twice."""
    fixed(mm, AT, 2048 + 16)
    mlock.do_mlock2(mm, AT, 8 * MB, 1)
    mlock.do_mlock2(mm, AT + MB, 2 * MB, 1)
    refused(ENOMEM, mlock.do_mlock2, mm, AT + MB, 8 * MB, 1)
    mm.owner.uid = 0
    mlock.do_mlock2(mm, AT + MB, 7 * MB + 16 * PAGE, 1)
    mm.owner.uid = 1000
    mm.owner.rlimits[RLIMIT_MEMLOCK] = (0, 0)
    refused(EPERM, mlock.do_mlock, mm, AT, PAGE)
    check_mm(mm)


def test_holes_and_rights(mm: Any, fake_memory: FakeMemory) -> None:
    fixed(mm, AT, 2)
    fixed(mm, AT + 3 * PAGE, 1)
    refused(ENOMEM, mlock.do_mlock, mm, AT, 4 * PAGE)
    assert mm.locked_vm == 2, "what lies before the hole is locked"
    assert not fake_memory.of(mm), "and nothing was faulted in"
    fixed(mm, AT, 2, PROT_NONE)
    refused(ENOMEM, mlock.do_mlock, mm, AT, 2 * PAGE)
    assert mm.locked_vm == 2
    mlock.do_mlock(mm, AT + 100 * PAGE, 0)
    refused(EINVAL, mlock.do_mlock, mm, (1 << 64) - 2 * PAGE, 4 * PAGE)


def test_past_the_end_of_a_file(mm: Any) -> None:
    fixed(mm, AT, 4, PROT_READ, MAP_PRIVATE, FakeFile(size=2))
    refused(ENOMEM, mlock.do_mlock, mm, AT, 4 * PAGE)


def test_mlockall_current(mm: Any, fake_memory: FakeMemory) -> None:
    """Everything but special mappings; what is no device's is faulted in; guards stay empty."""
    fixed(mm, AT, 2)
    fixed(mm, AT + 2 * PAGE, 2, PROT_NONE)
    text = mmap.map_vdso(mm)
    mlock.do_mlockall(mm, MCL_CURRENT)
    assert [bool(vma.vm_flags & VM_LOCKED) for vma in mm.mmap] == [True, True, False, False]
    assert fake_memory.of(mm) == {AT, AT + PAGE, text, text + PAGE}
    check_mm(mm)
    mlock.do_munlockall(mm)
    assert mm.locked_vm == 0
    check_mm(mm)


def test_mlockall_future(mm: Any, fake_memory: FakeMemory) -> None:
    mm.start_brk = mm.brk = AT
    mlock.do_mlockall(mm, MCL_FUTURE)
    addr = mmap.do_mmap(mm, 0, 2 * PAGE, RW, PA)
    assert mmap.do_brk(mm, AT + PAGE) == AT + PAGE
    assert fake_memory.of(mm) == {addr, addr + PAGE, AT}
    assert mm.locked_vm == 3
    mlock.do_mlockall(mm, MCL_FUTURE | MCL_ONFAULT)
    other = mmap.do_mmap(mm, 0, PAGE, PROT_READ, PA)
    assert mm.vma_lookup(other).vm_flags & VM_LOCKONFAULT
    assert len(fake_memory.of(mm)) == 3
    assert mmap.do_brk(mm, AT + 9 * MB) == AT + PAGE, "RLIMIT_MEMLOCK holds for the heap"
    child = mmap.dup_mm(mm, FakeTask())
    assert (child.def_flags, child.locked_vm) == (0, 0)
    mlock.do_munlockall(mm)
    assert mm.def_flags == 0
    check_mm(mm)


@pytest.mark.parametrize("flags", [0, MCL_ONFAULT, 8, 15])
def test_mlockall_bad_flags(flags: int, mm: Any) -> None:
    refused(EINVAL, mlock.do_mlockall, mm, flags)


def test_mlockall_limit(mm: Any) -> None:
    fixed(mm, AT, 2049)
    refused(ENOMEM, mlock.do_mlockall, mm, MCL_CURRENT)
    mlock.do_mlockall(mm, MCL_FUTURE)
    mm.owner.rlimits[RLIMIT_MEMLOCK] = (0, 0)
    refused(EPERM, mlock.do_mlockall, mm, MCL_FUTURE)
