"""mremap(): growing, shrinking and moving, with the pages, the locks and the promises."""

from __future__ import annotations

from errno import EAGAIN, EFAULT, EINVAL, ENOMEM
from typing import Any

import pytest

from mmfs.mm import mlock, mmap, mprotect
from mmfs.mm.mman import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_PRIVATE,
    MAP_SHARED,
    MREMAP_DONTUNMAP,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    PROT_READ,
    PROT_WRITE,
    RLIMIT_AS,
    VM_ACCOUNT,
)
from mmfs.mm.mremap import do_mremap
from tests.mm.fakes import GB, MB, PAGE, FakeFile, FakeKernel, FakeMemory, FakeTask, check_mm, layout, new_mm

RW, PA = PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS
AT = 0x10000000
TO = 0x20000000


@pytest.fixture
def mm(fake_kernel: FakeKernel) -> Any:
    return new_mm(fake_kernel)


def fixed(mm: Any, addr: int, pages: int, prot: int = RW, flags: int = PA, file: Any = None) -> int:
    return mmap.do_mmap(mm, addr, pages * PAGE, prot, flags | MAP_FIXED, file)


def refused(errno: int, *args: Any) -> None:
    with pytest.raises(OSError) as error:
        do_mremap(*args)
    assert error.value.errno == errno


def test_shrink(mm: Any, fake_memory: FakeMemory) -> None:
    fixed(mm, AT, 4)
    fake_memory.access_range(mm, AT, AT + 4 * PAGE, True)
    assert do_mremap(mm, AT, 4 * PAGE, PAGE) == AT
    assert (layout(mm), fake_memory.of(mm)) == ([(AT, AT + PAGE)], {AT})
    check_mm(mm)


def test_grow_in_place_and_join(mm: Any, fake_kernel: FakeKernel) -> None:
    """The mapping above, if it continues this one, becomes part of it."""
    fixed(mm, AT, 2)
    fixed(mm, AT + 4 * PAGE, 2)
    assert do_mremap(mm, AT, 2 * PAGE, 4 * PAGE) == AT
    assert layout(mm) == [(AT, AT + 6 * PAGE)]
    assert fake_kernel.overcommit.vm_committed_as == 6
    check_mm(mm)


def test_grow_by_moving(mm: Any, fake_memory: FakeMemory, fake_kernel: FakeKernel) -> None:
    fixed(mm, AT, 2)
    fixed(mm, AT + 2 * PAGE, 1, PROT_READ)
    fake_memory.access_range(mm, AT, AT + 2 * PAGE, True)
    refused(ENOMEM, mm, AT, 2 * PAGE, 4 * PAGE)
    new = do_mremap(mm, AT, 2 * PAGE, 4 * PAGE, MREMAP_MAYMOVE)
    assert new == mm.mmap_base - 4 * PAGE
    assert layout(mm) == [(AT + 2 * PAGE, AT + 3 * PAGE), (new, new + 4 * PAGE)]
    assert fake_memory.of(mm) == {new, new + PAGE}
    assert mm.vma_lookup(new).vm_pgoff == AT // PAGE, "touched pages keep their offsets"
    assert fake_kernel.overcommit.vm_committed_as == 4
    check_mm(mm)


def test_move_from_the_middle(mm: Any, fake_memory: FakeMemory, fake_kernel: FakeKernel) -> None:
    """Both rests stay promised, although the promise moves along."""
    fixed(mm, AT, 6)
    fake_memory.access_range(mm, AT, AT + 6 * PAGE, True)
    assert do_mremap(mm, AT + 2 * PAGE, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, TO) == TO
    assert layout(mm) == [(AT, AT + 2 * PAGE), (AT + 4 * PAGE, AT + 6 * PAGE), (TO, TO + 2 * PAGE)]
    assert all(vma.vm_flags & VM_ACCOUNT for vma in mm.mmap)
    assert fake_kernel.overcommit.vm_committed_as == 6
    assert fake_memory.of(mm) == {AT, AT + PAGE, AT + 4 * PAGE, AT + 5 * PAGE, TO, TO + PAGE}
    check_mm(mm)


def test_untouched_memory_may_join_itself(mm: Any, fake_kernel: FakeKernel) -> None:
    fixed(mm, AT, 4)
    assert do_mremap(mm, AT, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, AT + 4 * PAGE) == AT + 4 * PAGE
    assert layout(mm) == [(AT + 2 * PAGE, AT + 6 * PAGE)]
    assert fake_kernel.overcommit.vm_committed_as == 4
    check_mm(mm)


def test_fixed_replaces(mm: Any, fake_memory: FakeMemory) -> None:
    fixed(mm, AT, 2)
    fixed(mm, TO, 4, PROT_READ)
    fake_memory.access_range(mm, TO, TO + 4 * PAGE, False)
    do_mremap(mm, AT, 2 * PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, TO + PAGE)
    assert [(vma.vm_start, vma.vm_flags & 2) for vma in mm.mmap] == [(TO, 0), (TO + PAGE, 2), (TO + 2 * PAGE, 0)]
    assert fake_memory.of(mm) == {TO, TO + 2 * PAGE, TO + 3 * PAGE}
    check_mm(mm)


def test_dontunmap_leaves_an_empty_mapping(mm: Any, fake_memory: FakeMemory, fake_kernel: FakeKernel) -> None:
    fixed(mm, AT, 2)
    fake_memory.access_range(mm, AT, AT + 2 * PAGE, True)
    mlock.do_mlock(mm, AT, 2 * PAGE)
    new = do_mremap(mm, AT, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP)
    assert layout(mm) == [(AT, AT + 2 * PAGE), (new, new + 2 * PAGE)]
    assert fake_memory.of(mm) == {new, new + PAGE}
    assert mm.vma_lookup(AT).anon_vma is None
    assert fake_kernel.overcommit.vm_committed_as == 4
    check_mm(mm)


def test_locked_memory(fake_kernel: FakeKernel, fake_memory: FakeMemory) -> None:
    """What is added is locked and faulted in; RLIMIT_MEMLOCK is asked first."""
    mm = new_mm(fake_kernel, FakeTask(uid=1000))
    fixed(mm, AT, 2)
    mlock.do_mlock(mm, AT, 2 * PAGE)
    do_mremap(mm, AT, 2 * PAGE, 4 * PAGE)
    assert (mm.locked_vm, len(fake_memory.of(mm))) == (4, 4)
    refused(EAGAIN, mm, AT, 4 * PAGE, 9 * MB)
    fixed(mm, AT + 4 * PAGE, 1)
    new = do_mremap(mm, AT, 4 * PAGE, 6 * PAGE, MREMAP_MAYMOVE)
    assert fake_memory.of(mm) == {new + number * PAGE for number in range(6)}
    check_mm(mm)


def test_failure_moves_back(mm: Any, fake_memory: FakeMemory, fake_kernel: FakeKernel) -> None:
    fixed(mm, AT, 4)
    fake_memory.access_range(mm, AT, AT + 4 * PAGE, True)
    mlock.do_mlock(mm, AT, 4 * PAGE)
    fake_memory.fail_move = True
    refused(ENOMEM, mm, AT, 4 * PAGE, 8 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, TO)
    assert (layout(mm), len(fake_memory.of(mm))) == ([(AT, AT + 4 * PAGE)], 4)
    assert fake_kernel.overcommit.vm_committed_as == 4
    check_mm(mm)


def test_duplicate_of_a_shared_mapping(mm: Any, fake_kernel: FakeKernel) -> None:
    """An old length of 0 makes a second mapping; of private memory it is refused, with a warning."""
    fixed(mm, AT, 2, RW, MAP_SHARED | MAP_ANONYMOUS)
    new = do_mremap(mm, AT, 0, 2 * PAGE, MREMAP_MAYMOVE)
    assert layout(mm) == [(AT, AT + 2 * PAGE), (new, new + 2 * PAGE)]
    assert mm.mmap[0].vm_file is mm.mmap[1].vm_file
    fixed(mm, TO, 2)
    for _ in range(2):
        refused(EINVAL, mm, TO, 0, 2 * PAGE, MREMAP_MAYMOVE)
    text = "test (100): attempted to duplicate a private mapping with mremap.  This is not supported."
    assert fake_kernel.log == [(4, text)]


def test_limits(mm: Any, fake_kernel: FakeKernel) -> None:
    fixed(mm, AT, 2)
    mm.owner.rlimits[RLIMIT_AS] = (4 * PAGE, 4 * PAGE)
    refused(ENOMEM, mm, AT, 2 * PAGE, 5 * PAGE)
    refused(ENOMEM, mm, AT, 2 * PAGE, 5 * PAGE, MREMAP_MAYMOVE)
    del mm.owner.rlimits[RLIMIT_AS]
    refused(ENOMEM, mm, AT, 2 * PAGE, 2 * GB)
    fake_kernel.vm.max_map_count = 4
    refused(ENOMEM, mm, AT, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, TO)
    check_mm(mm)


@pytest.mark.parametrize(
    ("old", "old_len", "new_len", "flags", "new", "errno"),
    [
        (AT, PAGE, PAGE, 8, 0, EINVAL),
        (AT, PAGE, PAGE, MREMAP_FIXED, TO, EINVAL),
        (AT, PAGE, PAGE, MREMAP_DONTUNMAP, 0, EINVAL),
        (AT, PAGE, 2 * PAGE, MREMAP_DONTUNMAP | MREMAP_MAYMOVE, 0, EINVAL),
        (AT + 1, PAGE, PAGE, 0, 0, EINVAL),
        (AT, PAGE, 0, 0, 0, EINVAL),
        (TO, PAGE, 2 * PAGE, 0, 0, EFAULT),
        (AT, 8 * PAGE, 9 * PAGE, MREMAP_MAYMOVE, 0, EFAULT),
        (AT, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, AT + PAGE, EINVAL),
        (AT, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, TO + 1, EINVAL),
        (AT, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, (1 << 64) - PAGE, EINVAL),
    ],
)
def test_bad_arguments(old: int, old_len: int, new_len: int, flags: int, new: int, errno: int, mm: Any) -> None:
    fixed(mm, AT, 2)
    mprotect.do_mprotect(mm, AT, 2 * PAGE, PROT_READ)
    refused(errno, mm, old, old_len, new_len, flags, new)


def test_the_vdso_moves_only_whole(mm: Any) -> None:
    text = mmap.map_vdso(mm)
    refused(EINVAL, mm, text, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, TO)
    assert do_mremap(mm, text, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, TO) == TO
    assert mm.vma_lookup(TO).name == "[vdso]"
    refused(EFAULT, mm, TO, 2 * PAGE, 3 * PAGE, MREMAP_MAYMOVE)


def test_huge_pages_only_shrink(mm: Any) -> None:
    fixed(mm, AT, 2048, RW, MAP_PRIVATE, FakeFile(huge=2 * MB))
    refused(EINVAL, mm, AT, 8 * MB, 10 * MB)
    refused(EINVAL, mm, AT + PAGE, 2 * MB, 2 * MB)
    do_mremap(mm, AT, 8 * MB, 3 * MB)
    assert layout(mm) == [(AT, AT + 4 * MB)]
