"""Idle page tracking: the bitmap that working-set tools write and read. Linux: mm/page_idle.c."""

from __future__ import annotations

import errno
import os
import struct
from typing import Any

import numpy as np
import pytest

from mmfs.mm.mman import PROT_READ, PROT_WRITE
from mmfs.mm_types import PG_YOUNG

BITMAP = "/sys/kernel/mm/page_idle/bitmap"
MB = 1 << 20
PAGE = 4096


def read(kernel: Any, path: str, offset: int, size: int) -> bytes:
    data: bytes = kernel.vfs.open(path, os.O_RDONLY).read(size, offset)
    return data


def write(kernel: Any, path: str, offset: int, data: bytes) -> int:
    taken: int = kernel.vfs.open(path, os.O_WRONLY).write(data, offset)
    return taken


def frames(task: Any, addr: int, pages: int) -> list[int]:
    """Where pages are, as /proc/PID/pagemap says."""
    raw = read(task.kernel, f"/proc/{task.pid}/pagemap", addr // PAGE * 8, pages * 8)
    return [entry & (1 << 55) - 1 for (entry,) in struct.iter_unpack("<Q", raw)]


def mark(kernel: Any, pfns: list[int]) -> None:
    for chunk in {pfn // 64 for pfn in pfns}:
        bits = sum(1 << pfn % 64 for pfn in pfns if pfn // 64 == chunk)
        assert write(kernel, BITMAP, chunk * 8, struct.pack("<Q", bits)) == 8


def idle(kernel: Any, pfn: int) -> bool:
    (bits,) = struct.unpack("<Q", read(kernel, BITMAP, pfn // 64 * 8, 8))
    return bool(bits >> pfn % 64 & 1)


def kpageflags_idle(kernel: Any, pfn: int) -> bool:
    (bits,) = struct.unpack("<Q", read(kernel, "/proc/kpageflags", pfn * 8, 8))
    return bool(bits >> 25 & 1)


def flush_tlb(task: Any, addr: int, size: int) -> None:
    """Have the TLB forget what it holds: by that it accesses pages without their entries."""
    for prot in (PROT_READ, PROT_READ | PROT_WRITE):
        task.mprotect(addr, size, prot)


@pytest.fixture
def used(kernel: Any) -> tuple[Any, int, list[int]]:
    """A process, 64 pages of it, and their frames."""
    task = kernel.spawn("hog")
    addr = task.mmap(64 * PAGE)
    task.touch(addr, 64 * PAGE, write=True)
    kernel.lru.lru_add_drain_all()
    return task, addr, frames(task, addr, 64)


def test_what_is_accessed_is_idle_no_more(kernel: Any, used: tuple[Any, int, list[int]]) -> None:
    task, addr, pfns = used
    assert not any(idle(kernel, pfn) for pfn in pfns)
    mark(kernel, pfns)
    assert all(idle(kernel, pfn) and kpageflags_idle(kernel, pfn) for pfn in pfns)
    flush_tlb(task, addr, 64 * PAGE)
    task.touch(addr, 8 * PAGE)
    assert [idle(kernel, pfn) for pfn in pfns] == [False] * 8 + [True] * 56
    flags = kernel.frames.pages["flags"][pfns]
    assert (flags[:8] & PG_YOUNG != 0).all()  # reclaim still learns of the access
    kernel.check()


def test_pages_of_nobody_are_never_idle(kernel: Any) -> None:
    size = -(-kernel.max_pfn // 64) * 8
    for at in range(0, size, PAGE):
        assert write(kernel, BITMAP, at, b"\xff" * min(PAGE, size - at)) == min(PAGE, size - at)
    raw = b"".join(read(kernel, BITMAP, at, min(PAGE, size - at)) for at in range(0, size, PAGE))
    found = np.flatnonzero(np.unpackbits(np.frombuffer(raw, np.uint8), bitorder="little"))
    lru = np.frombuffer(kernel.read("/proc/kpageflags"), np.uint64)[found] >> np.uint64(5) & np.uint64(1)
    assert len(found) and lru.all()
    kernel.check()


@pytest.mark.machine(ram="1G")
def test_a_huge_page_is_idle_by_its_head(kernel: Any) -> None:
    task = kernel.spawn("hog")
    addr = task.mmap(2 * MB)
    task.touch(addr, 2 * MB, write=True)
    kernel.lru.lru_add_drain_all()
    head, tail = frames(task, addr, 2)
    mark(kernel, [head, tail])
    assert idle(kernel, head) and not idle(kernel, tail)
    flush_tlb(task, addr, 2 * MB)
    task.touch(addr + 7 * PAGE, PAGE)
    assert not idle(kernel, head)
    kernel.check()


@pytest.mark.parametrize(("offset", "size", "number"), [(4, 8, errno.EINVAL), (0, 12, errno.EINVAL)])
def test_what_is_not_in_chunks_of_64(kernel: Any, offset: int, size: int, number: int) -> None:
    for call in (
        lambda: read(kernel, BITMAP, offset, size),
        lambda: write(kernel, BITMAP, offset, bytes(size)),
    ):
        with pytest.raises(OSError) as caught:
            call()
        assert caught.value.errno == number


def test_beyond_the_last_frame(kernel: Any) -> None:
    beyond = -(-kernel.max_pfn // 64) * 8
    assert read(kernel, BITMAP, beyond, 8) == b""
    with pytest.raises(OSError) as caught:
        write(kernel, BITMAP, beyond, bytes(8))
    assert caught.value.errno == errno.ENXIO


def test_the_tlb_forgets_what_others_displace(kernel: Any, used: tuple[Any, int, list[int]]) -> None:
    """Pages accessed in order, four to a set: none of the old translations is left, so every access is seen."""
    task, addr, pfns = used
    mark(kernel, pfns)
    other = task.mmap(512 * PAGE)
    for _ in range(2):  # the first fills the page tables
        task.touch(other, 512 * PAGE, write=True)
    task.touch(addr, 64 * PAGE)
    assert not any(idle(kernel, pfn) for pfn in pfns)
