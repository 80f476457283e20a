"""A machine that is always short of memory and whose shared memory has huge pages, or not, as its switches change.

What SwapAreasMachine's programs do, and: the switches of all sizes and the mount option change, tmpfs files and memfds
are written whole, mapped on their boundary, cut within a huge page, given holes, collapsed, split and paged out, and so
is shared anonymous memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import hypothesis.strategies as st
import pytest
from hypothesis.stateful import initialize, precondition, rule

from mmfs.kernel.ipc_ids import IPC_CREAT
from mmfs.kernel.shm import IPC_RMID
from mmfs.mm.mman import (
    MADV_COLLAPSE,
    MADV_HUGEPAGE,
    MADV_NOHUGEPAGE,
    MADV_PAGEOUT,
    MADV_REMOVE,
    MAP_ANONYMOUS,
    MAP_SHARED,
)
from mmfs.mm.shmem_huge import MOUNT_MODES, SHMEM_ENABLED, SHMEM_MODES
from tests.stateful.test_machine import PAGE, SETTINGS
from tests.stateful.test_swapping import HUGE, O_CREAT, O_RDWR, SwapAreasMachine

if TYPE_CHECKING:
    from mmfs.kernel.task import Task

THP = "/sys/kernel/mm/transparent_hugepage"
NAMES = st.sampled_from("xyz")
ADVICE = st.sampled_from(
    [MADV_COLLAPSE, MADV_COLLAPSE, MADV_REMOVE, MADV_REMOVE, MADV_PAGEOUT, MADV_HUGEPAGE, MADV_NOHUGEPAGE]
)


class ShmemHugeMachine(SwapAreasMachine):
    """It begins with huge pages for all shared memory."""

    @initialize(seed=st.integers(0, 5))
    def boot(self, seed: int) -> None:
        super().boot(seed)
        self.kernel.write(f"{THP}/shmem_enabled", "always")
        for size in (16, 64, 512):
            self.kernel.write(f"{THP}/hugepages-{size}kB/shmem_enabled", "always")
        self.kernel.tasks[1].mount("none", "/dev", "tmpfs", "remount,huge=always")

    @rule(
        enabled=st.sampled_from(SHMEM_ENABLED), size=st.sampled_from([16, 64, 256, 512, 2048]),
        mode=st.sampled_from(SHMEM_MODES), mount=st.sampled_from(MOUNT_MODES),
    )  # fmt: skip
    def tune_shmem(self, enabled: str, size: int, mode: str, mount: str) -> None:
        self.call(self.kernel.write, f"{THP}/shmem_enabled", enabled)  # which may refuse to be forced
        self.call(self.kernel.write, f"{THP}/hugepages-{size}kB/shmem_enabled", mode)
        self.kernel.tasks[1].mount("none", "/dev", "tmpfs", f"remount,huge={mount}")

    @rule(none=st.sampled_from([0, 100, 511]), swap=st.sampled_from([0, 64, 511]))
    def khugepaged(self, none: int, swap: int) -> None:
        """It looks at all, at once, with other limits."""
        for name, value in (("max_ptes_none", none), ("max_ptes_swap", swap), ("pages_to_scan", 20000)):
            self.kernel.write(f"{THP}/khugepaged/{name}", str(value))
        self.kernel.write(f"{THP}/enabled", "always")
        self.kernel.write(f"{THP}/khugepaged/scan_sleep_millisecs", "100")
        self.call(self.kernel.run_for, 0.3)

    @precondition(SwapAreasMachine.alive)
    @rule(data=st.data(), name=NAMES, size=st.integers(1, 3), less=st.sampled_from([0, 0, 1, 5000, HUGE // 2 - 7]))
    def write_whole(self, data: st.DataObject, name: str, size: int, less: int) -> None:
        """A file, or (z) a memfd that stays open."""
        task = self.task(data)
        opened = (task.memfd_create, "m") if name == "z" else (task.open, f"/dev/{name}", O_RDWR | O_CREAT)
        fd = self.call(*opened)
        if fd is None or not task.alive:
            return
        self.call(task.write, fd, size * HUGE - less)
        if task.alive and name != "z":
            self.call(task.close, fd)

    @precondition(SwapAreasMachine.alive)
    @rule(data=st.data(), name=NAMES, size=st.integers(1, 2 * HUGE))
    def cut(self, data: st.DataObject, name: str, size: int) -> None:
        task = self.task(data)
        fd = self.call(task.open, f"/dev/{name}", O_RDWR | O_CREAT)
        if fd is not None and task.alive:
            self.call(task.ftruncate, fd, size)
        if fd is not None and task.alive:
            self.call(task.close, fd)

    @precondition(SwapAreasMachine.alive)
    @rule(data=st.data(), name=NAMES, write=st.booleans(), first=st.integers(0, 1023), pages=st.integers(1, 1024),
          advice=ADVICE)  # fmt: skip
    def map_whole(self, data: st.DataObject, name: str, write: bool, first: int, pages: int, advice: int) -> None:
        """Map two huge pages of a file, use them, and have something done to a part."""
        task = self.task(data)
        start = self.call(task.mmap, 2 * HUGE, flags=MAP_SHARED, file=f"/dev/{name}")
        if start is not None:
            self.use(task, start, write, first, pages, advice)

    @precondition(SwapAreasMachine.alive)
    @rule(data=st.data(), write=st.booleans(), small=st.booleans(), first=st.integers(0, 1023),
          pages=st.integers(1, 1024), advice=ADVICE)  # fmt: skip
    def share(self, data: st.DataObject, write: bool, small: bool, first: int, pages: int, advice: int) -> None:
        """The same of shared anonymous memory, which has all sizes, or none of 2 MB."""
        task = self.task(data)
        if small:
            self.call(self.kernel.write, f"{THP}/hugepages-2048kB/shmem_enabled", "never")
        start = self.call(task.mmap, 2 * HUGE, flags=MAP_SHARED | MAP_ANONYMOUS)
        if start is not None:
            self.use(task, start, write, first, pages, advice)

    @precondition(SwapAreasMachine.alive)
    @rule(data=st.data(), first=st.integers(0, 1023), pages=st.integers(1, 1024), advice=ADVICE, key=st.integers(0, 2),
          again=st.booleans())  # fmt: skip
    def segment(self, data: st.DataObject, first: int, pages: int, advice: int, key: int, again: bool) -> None:
        """The same of a segment, which is marked to go then."""
        task = self.task(data)
        shmid = self.call(task.shmget, key, 2 * HUGE, IPC_CREAT | 0o600)
        start = None if shmid is None or not task.alive else self.call(task.shmat, shmid)
        if start is None:
            return
        self.use(task, start, True, first, pages, advice)
        if task.alive and again:
            self.call(task.shmdt, start)
        if task.alive:
            self.call(task.shmctl, shmid, IPC_RMID)

    @precondition(SwapAreasMachine.alive)
    @rule(data=st.data(), name=NAMES, mode=st.sampled_from([0, 1, 3]), first=st.integers(0, 2 * HUGE),
          size=st.integers(1, 2 * HUGE))  # fmt: skip
    def allocate(self, data: st.DataObject, name: str, mode: int, first: int, size: int) -> None:
        """fallocate(2): more, beyond the end, or a hole."""
        task = self.task(data)
        fd = self.call(task.open, f"/dev/{name}", O_RDWR | O_CREAT)
        if fd is not None and task.alive:
            self.call(task.fallocate, fd, mode, first, size)
        if fd is not None and task.alive:
            self.call(task.close, fd)

    def use(self, task: Task, start: int, write: bool, first: int, pages: int, advice: int) -> None:
        """Touch two huge pages, have something done to a part, and touch that."""
        if task.alive:
            self.call(task.touch, start, 2 * HUGE, write=write)
        if task.alive:
            self.call(task.madvise, start + first * PAGE, min(pages, 1024 - first) * PAGE, advice)
        if task.alive:
            self.call(task.touch, start + first * PAGE, PAGE, write=not write)

    @rule(how=st.sampled_from(["1", "/dev/x,0x0,0x400", "/dev/y,0x1,0x400"]))
    def split(self, how: str) -> None:
        self.call(self.kernel.write, "/sys/kernel/debug/split_huge_pages", how)


TestShmemHugeMachine = pytest.mark.stateful(ShmemHugeMachine.TestCase)
TestShmemHugeMachine.settings = SETTINGS
