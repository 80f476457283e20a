"""KSM: how fast ksmd's loop looks at pages that are merged, and at pages that find no equal."""

from __future__ import annotations

import time
from collections.abc import Iterator

from benchmarks.measure import Row, Side


def ksm(rounds: int = 5, size: int = 1 << 30) -> Iterator[Row]:
    """Two processes with a GB each; full scans after those that merged."""
    import mmfs
    from mmfs.mm.mman import MADV_MERGEABLE, MADV_NOHUGEPAGE

    for what, name in (("image", "merged pages"), ("unique", "pages unlike all others")):
        kernel = mmfs.boot(ram="8G", cpus=1, preset="bare")
        kernel.write("/sys/kernel/mm/ksm/smart_scan", "0")
        for _ in range(2):
            task = kernel.spawn("worker")
            addr = task.mmap(size)
            task.madvise(addr, size, MADV_NOHUGEPAGE)
            task.set_contents(addr, size, what, 1)
            task.touch(addr, size, write=True)
            task.madvise(addr, size, MADV_MERGEABLE)
        speeds: list[float] = []
        for turn in range(rounds + 3):
            scanned, begin = kernel.ksm.loops.pages_scanned, time.process_time_ns()
            kernel.ksm.full_scan()
            took = time.process_time_ns() - begin
            if turn >= 3:
                speeds.append((kernel.ksm.loops.pages_scanned - scanned) / took * 1000)
        kernel.check()
        yield Row(
            f"ksm: full scans of {name}", "M pages/s", Side.of("mmfs", speeds), least=5,
            notes=["half a million pages in two processes, after the scans that merge them"],
        )  # fmt: skip
