"""The recorded runs on memory in pieces (curves/hugepages-1G, curves/unmovable-1G), played on mmfs call by call."""

from __future__ import annotations

import re
from collections.abc import Iterator

from mmfs.mm_types import GFP_ACCOUNT_BIT, GFP_HIGHUSER, PAGE_SIZE
from tests.fidelity.probe import CMDLINE, MB, Probe

Sample = dict[str, int]
PIPE_EVERY = 3
"""`probe frag ... unmovable` fills three pages of its own for each that it leaves in a pipe."""


class FragProbe(Probe):
    """A machine of 1 GB like the recorded ones, with no huge pages for processes."""

    def __init__(self, cpus: int) -> None:
        super().__init__("512M", "1G", cpus=cpus, cmdline=f"{CMDLINE} transparent_hugepage=never")
        self.sysctl("drop_caches", 3)

    def state(self) -> Sample:
        """What `bd` prints: free blocks of zone DMA32 by order, compact_* and the like, MemFree."""
        buddyinfo = self.kernel.read("/proc/buddyinfo").decode()
        match = re.search(r"DMA32((?:\s+\d+)+)", buddyinfo)
        assert match is not None
        text = self.kernel.read("/proc/vmstat").decode() + self.kernel.read("/proc/meminfo").decode()
        found = {name: int(value) for name, value in re.findall(r"^(\S+?):?\s+(\d+)", text, re.M)}
        return found | {f"order{order}": int(count) for order, count in enumerate(match[1].split())}

    def compact(self) -> None:
        """`echo 1 > compact_memory`, from the shell, which runs on another CPU than the program that waits."""
        buddy = self.kernel.page_alloc.buddy
        buddy.cpu = (buddy.cpu + 1) % buddy.nr_cpus
        self.sysctl("compact_memory", 1)

    def frag_movable(self, size_mb: int) -> None:
        """`probe frag MB movable`: touch all, then give back every other page; who waits for it looks once a second."""
        self.holder = self.program(oom_score_adj=-900)
        start = self.holder.mmap(size_mb * MB)
        self.holder.touch(start, size_mb * MB, write=True)
        for offset in range(0, size_mb * MB, 2 * PAGE_SIZE):
            self.holder.madvise(start + offset, PAGE_SIZE, 4)
        self.kernel.run_for(1.0)

    def frag_unmovable(self, size_mb: int) -> list[int]:
        """`probe frag MB unmovable`: pages of pipes between those of a process, which are given back at the end."""
        task, pages = self.program(oom_score_adj=-900), []
        start = task.mmap(size_mb * MB)
        for offset in range(
            0, (size_mb * MB // PAGE_SIZE // PIPE_EVERY) * PIPE_EVERY * PAGE_SIZE, PIPE_EVERY * PAGE_SIZE
        ):
            task.touch(start + offset, PIPE_EVERY * PAGE_SIZE, write=True)
            pages.append(self.kernel.page_alloc.alloc_pages(GFP_HIGHUSER | GFP_ACCOUNT_BIT, 0, 0))
        task.munmap(start, size_mb * MB)
        return pages

    def kill_holder(self) -> None:
        """`kill $F; sleep 1`."""
        self.kernel.kill(self.holder.pid, 9)
        self.kernel.run_for(1.0)

    def nr_hugepages(self, counts: tuple[int, ...]) -> list[int]:
        """Write each, read back; 0 at the end."""
        got = []
        for count in counts:
            self.sysctl("nr_hugepages", count)
            got.append(int(self.kernel.read("/proc/sys/vm/nr_hugepages")))
        self.sysctl("nr_hugepages", 0)
        return got


def movable() -> Iterator[tuple[str, Sample | list[int]]]:
    """curves/hugepages-1G from `hp clean` on."""
    counts = (10, 50, 100, 200, 300, 400, 450, 500)
    probe = FragProbe(2)
    yield "clean", probe.nr_hugepages(counts)
    probe.frag_movable(500)
    yield "movable500_before", probe.state()
    probe.compact()
    yield "movable500_after_compact", probe.state()
    probe.kill_holder()
    probe.frag_movable(900)
    yield "movable900_before", probe.state()
    yield "movable900", probe.nr_hugepages(counts)
    yield "movable900_after_hp", probe.state()


def unmovable() -> Iterator[tuple[str, Sample | list[int]]]:
    """curves/unmovable-1G."""
    probe = FragProbe(1)
    pages = probe.frag_unmovable(520)
    yield "unmovable520_before", probe.state()
    probe.compact()
    yield "unmovable520_after_compact", probe.state()
    yield "unmovable520", probe.nr_hugepages((10, 50, 100, 200, 300, 400))
    yield "unmovable520_after_hp", probe.state()
    for pfn in pages:
        probe.kernel.page_alloc.free_pages(pfn, 0)
    probe.kernel.run_for(1.0)
    yield "after_free", probe.state()
    probe.frag_movable(400)
    yield "movable400_before", probe.state()
    for number in (1, 2, 3):
        probe.compact()
        yield f"movable400_after_compact{number}", probe.state()
