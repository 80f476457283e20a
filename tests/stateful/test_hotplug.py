"""Memory that goes offline, comes back and fails while processes use it; run as test_machine.py."""

from __future__ import annotations

import errno
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from mmfs.mm.memory_failure import EHWPOISON
from mmfs.mm_types import PAGE_SHIFT, PTE_PFN_MASK, PTE_PRESENT
from tests.stateful.test_machine import EXAMPLES, SETTINGS, Machine

MEMORY = "/sys/devices/system/memory"
REFUSED = {errno.EBUSY, errno.EINVAL, errno.EIO, errno.ENXIO, errno.ENOMEM, EHWPOISON}
HOW = ("offline", "offline", "online", "online_movable")


class HotplugMachine(Machine):
    """A machine half of whose memory is movable, in blocks of 128 MB."""

    options: ClassVar[dict[str, Any]] = {"ram": "640M", "cpus": 2, "cmdline": "movablecore=320M"}

    def store(self, path: str, value: str) -> None:
        """Write; what the kernel may refuse, it may."""
        try:
            self.kernel.write(path, value)
        except OSError as error:
            if error.errno not in REFUSED:
                raise

    @rule(blocks=st.lists(st.tuples(st.integers(1, 4), st.sampled_from(HOW)), min_size=1, max_size=6))
    def hotplug(self, blocks: list[tuple[int, str]]) -> None:
        for block, how in blocks:
            self.store(f"{MEMORY}/memory{block}/state", how)
            self.kernel.check()

    @precondition(Machine.alive)
    @rule(data=st.data(), hard=st.booleans(), anywhere=st.integers(0, 3))
    def lose_a_page(self, data: st.DataObject, hard: bool, anywhere: int) -> None:
        """Any frame, or one that a process maps. Whoever has lost memory is killed once he touches it."""
        pfn = data.draw(st.integers(0, self.kernel.max_pfn), label="frame")
        task = self.task(data)
        start, _ = self.range(data, task)
        raw = np.zeros(1, np.uint64)
        self.kernel.task_mmu.read_entries(task.mm.row, start, raw)
        if not anywhere and int(raw[0]) & PTE_PRESENT:
            pfn = (int(raw[0]) & PTE_PFN_MASK) >> PAGE_SHIFT
        self.store(f"{MEMORY}/{'hard' if hard else 'soft'}_offline_page", f"{pfn << PAGE_SHIFT:#x}")

    @precondition(Machine.alive)
    @rule(data=st.data(), pages=st.integers(1, 20000))
    def fill(self, data: st.DataObject, pages: int) -> None:
        task = self.task(data)
        addr = self.call(task.mmap, pages * 4096)
        if addr is not None:
            self.call(task.touch, addr, pages * 4096, write=True)


TestHotplugMachine = pytest.mark.stateful(HotplugMachine.TestCase)
TestHotplugMachine.settings = settings(SETTINGS, max_examples=max(EXAMPLES // 2, 1))
