"""An address space on stand-ins: the VMA code alone, without frames and page tables."""

from __future__ import annotations

import errno
import importlib

import pytest

from tests.mm.fakes import FakeFile, FakeKernel, FakeMemory, FakeRmap

USERS = (
    "brk", "fork", "gup", "madvise", "mlock", "mm_struct", "mmap", "mprotect", "mremap", "munmap", "stack", "vma",
    "vma_merge",
)  # fmt: skip


class FakeShmem:
    """Shared anonymous memory, which promises its whole size."""

    def __init__(self, kernel: FakeKernel) -> None:
        self.kernel = kernel

    def shmem_zero_setup(self, mm: object, size: int, vm_flags: int) -> FakeFile:
        from mmfs.mm.mman import VM_NORESERVE

        file = FakeFile("/dev/zero", shmem=True, size=size >> 12)
        pages = 0 if vm_flags & VM_NORESERVE else size >> 12
        self.kernel.overcommit.enough_memory(pages, mm)  # type: ignore[arg-type]
        put = file.put

        def put_and_unaccount() -> None:
            put()
            if file.count == 0:
                self.kernel.overcommit.vm_unacct_memory(pages)

        file.put = put_and_unaccount  # type: ignore[method-assign]
        return file


class EmptyPools(FakeFile):
    """What MAP_HUGETLB maps where no huge page is free."""

    def __init__(self, mm: object, length: int, flags: int) -> None:
        size = {0: 1 << 21, 21: 1 << 21, 30: 1 << 30}.get(flags >> 26 & 63)
        if size is None:
            raise OSError(errno.EINVAL, "no such page size")
        super().__init__(huge=size)

    def mmap(self, vma: object) -> None:
        raise OSError(errno.ENOMEM, "no huge page is free")


@pytest.fixture
def fake_memory(monkeypatch: pytest.MonkeyPatch) -> FakeMemory:
    """The VMA code's `access`, `memory`, `rows` and `rmap`, and what advice does to pages, replaced."""
    rmap = FakeRmap()
    memory = FakeMemory(rmap)
    for name in USERS:
        module = importlib.import_module(f"mmfs.mm.{name}")
        for attribute in ("access", "memory", "rows"):
            if hasattr(module, attribute):
                monkeypatch.setattr(module, attribute, memory)
        if hasattr(module, "rmap"):
            monkeypatch.setattr(module, "rmap", rmap)
    for name in ("free", "cold", "pageout", "willneed", "remove"):
        monkeypatch.setattr(f"mmfs.mm.madvise.madvise_{name}", memory.madvise(name))
    return memory


@pytest.fixture
def fake_kernel(fake_memory: FakeMemory, monkeypatch: pytest.MonkeyPatch) -> FakeKernel:
    """A machine of 1 GB without swap."""
    kernel = FakeKernel()
    monkeypatch.setattr("mmfs.mm.mmap.shmem", FakeShmem(kernel))
    monkeypatch.setattr("mmfs.mm.mmap.hugetlb_anon_file", EmptyPools)
    return kernel
