"""madvise(): flags that it sets, pages that it acts on, and names."""

from __future__ import annotations

from errno import EACCES, EAGAIN, EBADF, EFAULT, EINVAL, ENOMEM, EPERM
from typing import Any

import pytest

from mmfs.mm import mlock, mmap
from mmfs.mm import mman as m
from mmfs.mm.madvise import do_madvise, prctl_set_vma_anon_name
from tests.mm.fakes import MB, PAGE, FakeFile, FakeKernel, FakeMemory, FakeTask, check_mm, layout, new_mm

RW, PA = m.PROT_READ | m.PROT_WRITE, m.MAP_PRIVATE | m.MAP_ANONYMOUS
AT = 0x10000000


@pytest.fixture
def mm(fake_kernel: FakeKernel) -> Any:
    return new_mm(fake_kernel)


def fixed(mm: Any, addr: int, pages: int, prot: int = RW, flags: int = PA, file: Any = None) -> int:
    return mmap.do_mmap(mm, addr, pages * PAGE, prot, flags | m.MAP_FIXED, file)


def refused(errno: int, call: Any, *args: Any) -> None:
    with pytest.raises(OSError) as error:
        call(*args)
    assert error.value.errno == errno


@pytest.mark.parametrize(
    ("advice", "flag", "undo"),
    [
        (m.MADV_SEQUENTIAL, m.VM_SEQ_READ, m.MADV_NORMAL),
        (m.MADV_RANDOM, m.VM_RAND_READ, m.MADV_NORMAL),
        (m.MADV_DONTFORK, m.VM_DONTCOPY, m.MADV_DOFORK),
        (m.MADV_WIPEONFORK, m.VM_WIPEONFORK, m.MADV_KEEPONFORK),
        (m.MADV_DONTDUMP, m.VM_DONTDUMP, m.MADV_DODUMP),
        (m.MADV_MERGEABLE, m.VM_MERGEABLE, m.MADV_UNMERGEABLE),
        (m.MADV_HUGEPAGE, m.VM_HUGEPAGE, m.MADV_NOHUGEPAGE),
    ],
)
def test_flags(advice: int, flag: int, undo: int, mm: Any) -> None:
    fixed(mm, AT, 4)
    do_madvise(mm, AT + PAGE, 2 * PAGE, advice)
    assert [bool(vma.vm_flags & flag) for vma in mm.mmap] == [False, True, False]
    do_madvise(mm, AT + PAGE, 2 * PAGE, undo)
    assert not any(vma.vm_flags & flag for vma in mm.mmap)
    if undo != m.MADV_NOHUGEPAGE:
        assert layout(mm) == [(AT, AT + 4 * PAGE)]
    check_mm(mm)


def test_fork_follows_the_advice(mm: Any, fake_memory: FakeMemory) -> None:
    for number, advice in enumerate((m.MADV_NORMAL, m.MADV_DONTFORK, m.MADV_WIPEONFORK)):
        fixed(mm, AT + 2 * number * PAGE, 1)
        do_madvise(mm, AT + 2 * number * PAGE, PAGE, advice)
    fake_memory.access_range(mm, AT, AT + PAGE, True)
    fake_memory.access_range(mm, AT + 4 * PAGE, AT + 5 * PAGE, True)
    child = mmap.dup_mm(mm, FakeTask())
    assert layout(child) == [(AT, AT + PAGE), (AT + 4 * PAGE, AT + 5 * PAGE)]
    assert fake_memory.of(child) == {AT}
    assert child.mmap[1].anon_vma is None
    check_mm(child)


def test_a_child_does_not_merge_what_it_shares(mm: Any, fake_memory: FakeMemory) -> None:
    """New memory beside a VMA that came from the parent with pages stays a VMA of its own."""
    fixed(mm, AT, 1)
    fake_memory.access_range(mm, AT, AT + PAGE, True)
    child = mmap.dup_mm(mm, FakeTask())
    fixed(child, AT + PAGE, 1)
    fixed(mm, AT + PAGE, 1)
    assert (len(child.mmap), len(mm.mmap)) == (2, 1)


def test_dontneed_and_free(mm: Any, fake_memory: FakeMemory) -> None:
    fixed(mm, AT, 4)
    fake_memory.access_range(mm, AT, AT + 4 * PAGE, True)
    do_madvise(mm, AT + PAGE, PAGE, m.MADV_DONTNEED)
    assert fake_memory.of(mm) == {AT, AT + 2 * PAGE, AT + 3 * PAGE}
    do_madvise(mm, AT + 2 * PAGE, 2 * PAGE, m.MADV_FREE)
    assert fake_memory.calls[-1] == ("madvise_free", AT + 2 * PAGE, AT + 4 * PAGE)
    mlock.do_mlock2(mm, AT, PAGE, 1)
    refused(EINVAL, do_madvise, mm, AT, PAGE, m.MADV_DONTNEED)
    refused(EINVAL, do_madvise, mm, AT, PAGE, m.MADV_FREE)
    do_madvise(mm, AT, PAGE, m.MADV_DONTNEED_LOCKED)
    assert AT not in fake_memory.of(mm)
    fixed(mm, AT, 1, RW, m.MAP_SHARED | m.MAP_ANONYMOUS)
    refused(EINVAL, do_madvise, mm, AT, PAGE, m.MADV_FREE)
    fixed(mm, AT, 1, RW, m.MAP_PRIVATE, FakeFile())
    refused(EINVAL, do_madvise, mm, AT, PAGE, m.MADV_FREE)


@pytest.mark.parametrize(
    ("advice", "hook"),
    [
        (m.MADV_COLD, "madvise_cold"),
        (m.MADV_PAGEOUT, "madvise_pageout"),
        (m.MADV_WILLNEED, "madvise_willneed"),
    ],
)
def test_hooks(advice: int, hook: str, mm: Any, fake_memory: FakeMemory) -> None:
    """Every VMA of the range is treated, holes notwithstanding."""
    fixed(mm, AT, 2)
    fixed(mm, AT + 3 * PAGE, 2)
    refused(ENOMEM, do_madvise, mm, AT + PAGE, 3 * PAGE, advice)
    assert fake_memory.calls[-2:] == [(hook, AT + PAGE, AT + 2 * PAGE), (hook, AT + 3 * PAGE, AT + 4 * PAGE)]
    if advice != m.MADV_WILLNEED:
        mlock.do_mlock2(mm, AT, PAGE, 1)
        refused(EINVAL, do_madvise, mm, AT, PAGE, advice)


def test_remove(mm: Any, fake_memory: FakeMemory) -> None:
    fixed(mm, AT, 2, RW, m.MAP_SHARED | m.MAP_ANONYMOUS)
    do_madvise(mm, AT, PAGE, m.MADV_REMOVE)
    assert fake_memory.calls[-1] == ("madvise_remove", AT, AT + PAGE)
    fixed(mm, AT + 4 * PAGE, 1)
    refused(EINVAL, do_madvise, mm, AT + 4 * PAGE, PAGE, m.MADV_REMOVE)
    fixed(mm, AT + 4 * PAGE, 1, RW, m.MAP_PRIVATE, FakeFile())
    refused(EACCES, do_madvise, mm, AT + 4 * PAGE, PAGE, m.MADV_REMOVE)


def test_populate(mm: Any, fake_memory: FakeMemory) -> None:
    fixed(mm, AT, 2)
    fixed(mm, AT + 2 * PAGE, 1, m.PROT_READ)
    do_madvise(mm, AT, 3 * PAGE, m.MADV_POPULATE_READ)
    assert len(fake_memory.of(mm)) == 3
    refused(EINVAL, do_madvise, mm, AT, 3 * PAGE, m.MADV_POPULATE_WRITE)
    refused(ENOMEM, do_madvise, mm, AT, 4 * PAGE, m.MADV_POPULATE_READ)
    fixed(mm, AT, 4, RW, m.MAP_PRIVATE, FakeFile(size=2))
    refused(EFAULT, do_madvise, mm, AT, 4 * PAGE, m.MADV_POPULATE_WRITE)


@pytest.mark.parametrize(
    ("start", "length", "advice", "errno"),
    [
        (AT, PAGE, 5, EINVAL),
        (AT, PAGE, 99, EINVAL),
        (AT + 1, PAGE, m.MADV_NORMAL, EINVAL),
        (AT, (1 << 64) - 1, m.MADV_NORMAL, EINVAL),
        (AT, (1 << 64) - PAGE, m.MADV_NORMAL, EINVAL),
        (AT + 8 * PAGE, PAGE, m.MADV_NORMAL, ENOMEM),
        (AT, PAGE, m.MADV_COLLAPSE, EINVAL),
    ],
)
def test_bad_arguments(start: int, length: int, advice: int, errno: int, mm: Any) -> None:
    fixed(mm, AT, 2)
    refused(errno, do_madvise, mm, start, length, advice)
    do_madvise(mm, AT, 0, m.MADV_NORMAL)


def test_what_cannot_be_advised(mm: Any, fake_kernel: FakeKernel) -> None:
    text = mmap.map_vdso(mm)
    vvar = text - 4 * PAGE
    refused(EINVAL, do_madvise, mm, vvar, PAGE, m.MADV_DOFORK)
    refused(EINVAL, do_madvise, mm, vvar, 4 * PAGE, m.MADV_DODUMP)
    refused(EINVAL, do_madvise, mm, vvar, PAGE, m.MADV_DONTNEED)
    fixed(mm, AT, 1, RW, m.MAP_SHARED | m.MAP_ANONYMOUS)
    refused(EINVAL, do_madvise, mm, AT, PAGE, m.MADV_WIPEONFORK)
    do_madvise(mm, AT, PAGE, m.MADV_MERGEABLE)
    assert not mm.mmap[0].vm_flags & m.VM_MERGEABLE, "shared memory is silently left alone"
    fixed(mm, AT, 1, RW, m.MAP_DROPPABLE | m.MAP_ANONYMOUS)
    refused(EINVAL, do_madvise, mm, AT, PAGE, m.MADV_KEEPONFORK)
    refused(EPERM, do_madvise, new_mm(fake_kernel, FakeTask(uid=1000)), AT, PAGE, m.MADV_HWPOISON)


def test_no_room_for_a_split_means_try_again(mm: Any, fake_kernel: FakeKernel) -> None:
    fixed(mm, AT, 4)
    fake_kernel.vm.max_map_count = 1
    refused(EAGAIN, do_madvise, mm, AT + PAGE, PAGE, m.MADV_DONTFORK)


def test_huge_pages_are_dropped_whole(mm: Any, fake_memory: FakeMemory) -> None:
    fixed(mm, AT, 1024, RW, m.MAP_PRIVATE, FakeFile(huge=2 * MB))
    fake_memory.access_range(mm, AT, AT + 4 * MB, True, 2 * MB)
    do_madvise(mm, AT, 3 * MB, m.MADV_DONTNEED)
    assert fake_memory.of(mm) == {AT + 2 * MB}
    refused(EINVAL, do_madvise, mm, AT + PAGE, 2 * MB, m.MADV_DONTNEED)
    do_madvise(mm, AT, 4 * MB, m.MADV_DODUMP)


@pytest.fixture
def named(mm: Any, fake_kernel: FakeKernel) -> Any:
    fake_kernel.options["ANON_VMA_NAME"] = True
    fixed(mm, AT, 4)
    return mm


def test_names_split_and_merge(named: Any) -> None:
    prctl_set_vma_anon_name(named, AT + PAGE, PAGE, "heap of mine")
    assert [vma.name for vma in named.mmap] == ["", "[anon:heap of mine]", ""]
    prctl_set_vma_anon_name(named, AT + 2 * PAGE, 2 * PAGE, "heap of mine")
    assert layout(named) == [(AT, AT + PAGE), (AT + PAGE, AT + 4 * PAGE)]
    prctl_set_vma_anon_name(named, AT, 4 * PAGE, None)
    assert layout(named) == [(AT, AT + 4 * PAGE)]
    check_mm(named)


def test_names_refused(named: Any, fake_kernel: FakeKernel) -> None:
    fixed(named, AT + 8 * PAGE, 1, RW, m.MAP_PRIVATE, FakeFile())
    fixed(named, AT + 9 * PAGE, 1, RW, m.MAP_SHARED | m.MAP_ANONYMOUS)
    refused(EBADF, prctl_set_vma_anon_name, named, AT + 8 * PAGE, PAGE, "x")
    prctl_set_vma_anon_name(named, AT + 9 * PAGE, PAGE, "x")
    assert named.vma_lookup(AT + 9 * PAGE).name == "[anon_shmem:x]"
    refused(ENOMEM, prctl_set_vma_anon_name, named, AT, 5 * PAGE, "x")
    for bad in ("a" * 80, "a\nb", "[x]", "a$b", "a\\b", "\xe9"):
        refused(EINVAL, prctl_set_vma_anon_name, named, AT, PAGE, bad)
    refused(EINVAL, prctl_set_vma_anon_name, named, AT + 1, PAGE, "x")
    prctl_set_vma_anon_name(named, AT, 4 * PAGE, "a" * 79)
    fake_kernel.options.clear()
    refused(EINVAL, prctl_set_vma_anon_name, named, AT, PAGE, "x")
