"""A machine under random use: whatever programs do, in whatever order, every invariant holds after each step.

The machine has 96 MB, so memory runs out, the OOM killer kills, and page tables, forks and locks meet the slow
path; a second one has two nodes, so allocations fall back. Errors of system calls are part of the behaviour;
what is not a kernel's errno or signal is a failure.
"""

from __future__ import annotations

import os
from typing import Any, ClassVar

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import mmfs
from mmfs import fastpath
from mmfs.kernel.panic import KernelPanicError
from mmfs.kernel.sched import RLIMIT_NOFILE
from mmfs.kernel.signal import TaskKilled
from mmfs.kernel.socket import Socket
from mmfs.mm.mman import (
    MADV_COLD,
    MADV_DONTNEED,
    MADV_FREE,
    MADV_HUGEPAGE,
    MADV_MERGEABLE,
    MADV_NOHUGEPAGE,
    MADV_PAGEOUT,
    MADV_POPULATE_WRITE,
    MADV_UNMERGEABLE,
    MADV_WILLNEED,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_PRIVATE,
    MAP_SHARED,
    MREMAP_MAYMOVE,
    PROT_EXEC,
    PROT_NONE,
    PROT_READ,
    PROT_WRITE,
)

PAGE = 4096
PAGES = st.integers(1, 1500)
PROTS = st.sampled_from([PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE, PROT_READ | PROT_EXEC])
ADVICE = st.sampled_from(
    [
        MADV_DONTNEED, MADV_FREE, MADV_COLD, MADV_PAGEOUT, MADV_WILLNEED, MADV_POPULATE_WRITE, MADV_HUGEPAGE,
        MADV_NOHUGEPAGE, MADV_MERGEABLE, MADV_UNMERGEABLE,
    ]
)  # fmt: skip
TUNABLES = (
    ("min_free_kbytes", st.integers(0, 20000)),
    ("watermark_scale_factor", st.integers(1, 1000)),
    ("watermark_boost_factor", st.integers(0, 20000)),
    ("percpu_pagelist_high_fraction", st.sampled_from([0, 8, 20, 500])),
    ("overcommit_memory", st.integers(0, 2)),
    ("overcommit_ratio", st.integers(20, 200)),
    ("max_map_count", st.sampled_from([40, 300, 65530])),
    ("dirty_bytes", st.sampled_from([8192, 1 << 20, 1 << 24])),
    ("dirty_background_bytes", st.sampled_from([1, 1 << 19, 1 << 23])),
    ("dirty_expire_centisecs", st.sampled_from([0, 50, 3000])),
    ("dirty_writeback_centisecs", st.sampled_from([0, 20, 500])),
    ("laptop_mode", st.sampled_from([0, 1])),
    ("vfs_cache_pressure", st.sampled_from([0, 100, 1000])),
    ("compact_memory", st.just(1)),
    ("compaction_proactiveness", st.sampled_from([0, 20, 90, 100])),
    ("extfrag_threshold", st.sampled_from([0, 500, 1000])),
    ("nr_hugepages", st.sampled_from([0, 1, 3, 12])),
)
STEPS = int(os.environ.get("MMFS_STATEFUL_STEPS", "40"))
EXAMPLES = int(os.environ.get("MMFS_STATEFUL_EXAMPLES", "40" if fastpath.compiled else "3"))


class Machine(RuleBasedStateMachine):
    """Processes of one small machine and everything they may ask of it."""

    options: ClassVar[dict[str, Any]] = {"ram": "96M", "cpus": 2}

    @initialize(seed=st.integers(0, 3))
    def boot(self, seed: int) -> None:
        self.kernel = mmfs.boot(preset="bare", seed=seed, **self.options)
        self.kernel.write("/sys/kernel/mm/transparent_hugepage/enabled", "always" if seed > 1 else "never")
        if seed % 2:
            self.tune_mthp(size=64, mode="always")
        for name in ("a", "b"):
            self.kernel.create_file(f"/data/{name}", 700 * PAGE)
        self.tasks = [self.kernel.spawn("hog")]

    # ---- choosing ------------------------------------------------------------------------------------------------

    def task(self, data: st.DataObject) -> Any:
        return data.draw(st.sampled_from(self.tasks), label="task")

    def range(self, data: st.DataObject, task: Any) -> tuple[int, int]:
        """A range that begins in a mapping of the task, mostly its own, and may run over its end."""
        vmas = task.mm.mmap
        vma = vmas[data.draw(st.integers(0, len(vmas) - 1), label="vma")]
        start = vma.vm_start + PAGE * data.draw(st.integers(0, min(vma.pages - 1, 2000)), label="first")
        return start, PAGE * data.draw(st.integers(1, 1200), label="pages")

    def call(self, function: Any, *arguments: Any, **keywords: Any) -> Any:
        """A system call: its result, or None when it fails as a kernel's would or ends in a signal."""
        try:
            return function(*arguments, **keywords)
        except (OSError, TaskKilled):
            return None
        finally:
            self.keep_usable()

    def keep_usable(self) -> None:
        """Forget who died, and who has unmapped everything down to his stack."""
        self.tasks = [task for task in self.tasks if task.alive and task.mm is not None and task.mm.mmap]

    def alive(self) -> bool:
        return bool(self.tasks)

    # ---- what programs do ------------------------------------------------------------------------------------------

    @rule(name=st.sampled_from(["hog", "bash", "cron"]), adj=st.sampled_from([-1000, -500, 0, 700]))
    def spawn(self, name: str, adj: int) -> None:
        if len(self.tasks) < 6:
            task = self.call(self.kernel.spawn, name, oom_score_adj=adj)
            self.tasks += [task] if task is not None and task.alive else []

    @precondition(alive)
    @rule(data=st.data(), length=st.sampled_from([0, 1000, 17_000, 65_507]), act=st.sampled_from(["send", "recv"]))
    def socket(self, data: st.DataObject, length: int, act: str) -> None:
        task = self.task(data)
        fds = [fd for fd, file in task.fdtable.items() if isinstance(file.inode, Socket)]
        if not fds:
            self.call(task.socket)
        elif act == "send":
            self.call(lambda: [task.send(fds[0], length) for _ in range(5)])
        else:
            self.call(getattr(task, act), fds[0])

    @precondition(alive)
    @rule(data=st.data(), fd=st.sampled_from([70, 1000, 100_000, 1 << 20]))
    def dup2(self, data: st.DataObject, fd: int) -> None:
        task = self.task(data)
        if task.fdtable:
            self.call(task.setrlimit, RLIMIT_NOFILE, fd, 1 << 20)
            self.call(task.dup2, min(task.fdtable), fd - 1)

    @precondition(alive)
    @rule(data=st.data(), pages=PAGES, prot=PROTS, shared=st.booleans())
    def mmap(self, data: st.DataObject, pages: int, prot: int, shared: bool) -> None:
        flags = (MAP_SHARED if shared else MAP_PRIVATE) | MAP_ANONYMOUS
        self.call(self.task(data).mmap, pages * PAGE, prot=prot, flags=flags)

    @precondition(alive)
    @rule(data=st.data(), pages=st.integers(1, 400), name=st.sampled_from("ab"), offset=st.integers(0, 600),
          shared=st.booleans(), prot=PROTS)  # fmt: skip
    def mmap_file(self, data: st.DataObject, pages: int, name: str, offset: int, shared: bool, prot: int) -> None:
        flags = MAP_SHARED if shared else MAP_PRIVATE
        self.call(
            self.task(data).mmap, pages * PAGE, prot=prot, flags=flags, file=f"/data/{name}", offset=offset * PAGE
        )

    @precondition(alive)
    @rule(data=st.data(), pages=PAGES)
    def mmap_fixed(self, data: st.DataObject, pages: int) -> None:
        task = self.task(data)
        start, _ = self.range(data, task)
        self.call(task.mmap, pages * PAGE, flags=MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, addr=start)

    @precondition(alive)
    @rule(data=st.data(), write=st.booleans(), stride=st.sampled_from([PAGE, PAGE, 3 * PAGE, 1000]))
    def touch(self, data: st.DataObject, write: bool, stride: int) -> None:
        task = self.task(data)
        start, length = self.range(data, task)
        vma = task.mm.vma_lookup(start)
        self.call(task.touch, start, min(length, vma.vm_end - start), write=write, stride=stride)

    @precondition(alive)
    @rule(data=st.data(), write=st.booleans(), seed=st.integers(0, 9))
    def touch_anywhere(self, data: st.DataObject, write: bool, seed: int) -> None:
        task = self.task(data)
        starts = [self.range(data, task)[0] for _ in range(2)]
        ends = [task.mm.vma_lookup(start).vm_end for start in starts]
        rng = np.random.default_rng(seed)
        addresses = np.concatenate([rng.integers(a, b, 60) for a, b in zip(starts, ends, strict=True)])
        self.call(task.touch, rng.permutation(addresses), write=write)

    @precondition(alive)
    @rule(data=st.data())
    def munmap(self, data: st.DataObject) -> None:
        task = self.task(data)
        self.call(task.munmap, *self.range(data, task))

    @precondition(alive)
    @rule(data=st.data(), what=st.sampled_from(["same", "image", "zero", "volatile"]), number=st.integers(0, 1))
    def mergeable(self, data: st.DataObject, what: str, number: int) -> None:
        task = self.task(data)
        start, length = self.range(data, task)
        self.call(task.set_contents, start, length, what, number)
        if task.alive:
            self.call(task.madvise, start, length, MADV_MERGEABLE)

    @rule(run=st.sampled_from([0, 1, 1, 1, 2]), zeros=st.booleans(), sharing=st.sampled_from([2, 5, 256]))
    def ksm(self, run: int, zeros: bool, sharing: int) -> None:
        """ksmd runs through what is mergeable twice."""
        for name, value in (
            ("max_page_sharing", sharing), ("use_zero_pages", int(zeros)), ("pages_to_scan", 3000), ("run", run),
        ):  # fmt: skip
            self.call(self.kernel.write, f"/sys/kernel/mm/ksm/{name}", str(value))
        self.kernel.run_for(0.1)

    @precondition(alive)
    @rule(data=st.data(), prot=PROTS)
    def mprotect(self, data: st.DataObject, prot: int) -> None:
        task = self.task(data)
        self.call(task.mprotect, *self.range(data, task), prot)

    @precondition(alive)
    @rule(data=st.data(), advice=ADVICE)
    def madvise(self, data: st.DataObject, advice: int) -> None:
        task = self.task(data)
        self.call(task.madvise, *self.range(data, task), advice)

    @precondition(alive)
    @rule(data=st.data(), pages=PAGES)
    def mremap(self, data: st.DataObject, pages: int) -> None:
        task = self.task(data)
        start, length = self.range(data, task)
        self.call(task.mremap, start, length, pages * PAGE, MREMAP_MAYMOVE)

    @precondition(alive)
    @rule(data=st.data(), lock=st.booleans())
    def mlock(self, data: st.DataObject, lock: bool) -> None:
        task = self.task(data)
        self.call(task.mlock if lock else task.munlock, *self.range(data, task))

    @precondition(alive)
    @rule(data=st.data(), pages=st.integers(-300, 600))
    def brk(self, data: st.DataObject, pages: int) -> None:
        task = self.task(data)
        self.call(task.brk, task.mm.brk + pages * PAGE)

    @precondition(alive)
    @rule(data=st.data())
    def fork(self, data: st.DataObject) -> None:
        if len(self.tasks) < 6:
            child = self.call(self.task(data).fork)
            self.tasks += [child] if child is not None and child.alive else []

    @precondition(alive)
    @rule(data=st.data(), name=st.sampled_from(["hog", "bash"]))
    def execve(self, data: st.DataObject, name: str) -> None:
        self.call(self.task(data).execve, name)

    @precondition(alive)
    @rule(data=st.data(), name=st.sampled_from("ab"), kilobytes=st.integers(1, 900), write=st.booleans())
    def file_io(self, data: st.DataObject, name: str, kilobytes: int, write: bool) -> None:
        task = self.task(data)
        fd = self.call(task.open, f"/data/{name}", 2)
        if fd is not None and task.alive:
            self.call(task.write if write else task.read, fd, kilobytes << 10)
        if fd is not None and task.alive:
            self.call(task.close, fd)

    @precondition(alive)
    @rule(data=st.data(), name=st.sampled_from("abcd"),
          how=st.sampled_from(["fsync", "sync", "unlink", "truncate", "advise"]))
    def file_care(self, data: st.DataObject, name: str, how: str) -> None:
        task, path = self.task(data), f"/data/{name}"
        if how == "sync":
            self.call(task.sync)
        elif how == "unlink":
            self.call(task.unlink, path)
        elif (fd := self.call(task.open, path, 0o102)) is not None and task.alive:
            if how == "fsync":
                self.call(task.write, fd, data.draw(st.integers(1, 400)) << 10)
                if task.alive:
                    self.call(task.fsync, fd)
            elif how == "truncate":
                self.call(task.ftruncate, fd, data.draw(st.integers(0, 700)) * PAGE)
            else:
                self.call(task.fadvise, fd, 0, 0, data.draw(st.integers(0, 5)))
            if task.alive:
                self.call(task.close, fd)

    @precondition(alive)
    @rule(data=st.data(), how=st.sampled_from(["exit", 9, 15, 11]))
    def die(self, data: st.DataObject, how: str | int) -> None:
        task = self.task(data)
        if how == "exit":
            self.call(task.exit, 0)
        else:
            self.call(self.kernel.kill, task.pid, how)

    # ---- what administrators do ------------------------------------------------------------------------------------

    @rule(data=st.data(), which=st.integers(0, len(TUNABLES) - 1))
    def tune(self, data: st.DataObject, which: int) -> None:
        name, values = TUNABLES[which]
        self.call(self.kernel.write, f"/proc/sys/vm/{name}", str(data.draw(values)))

    @rule(
        enabled=st.sampled_from(["always", "always", "madvise", "never"]), zero=st.booleans(),
        defrag=st.sampled_from(["always", "defer", "defer+madvise", "madvise", "never"]),
        shmem=st.sampled_from(["always", "within_size", "advise", "never"]),
    )  # fmt: skip
    def tune_thp(self, enabled: str, zero: bool, defrag: str, shmem: str) -> None:
        tunables = {"enabled": enabled, "defrag": defrag, "use_zero_page": str(int(zero)), "shmem_enabled": shmem}
        for name, value in tunables.items():
            self.kernel.write(f"/sys/kernel/mm/transparent_hugepage/{name}", value)

    @rule(size=st.sampled_from([16, 16, 32, 64, 64, 256, 1024]), mode=st.sampled_from(["always", "inherit", "never"]))
    def tune_mthp(self, size: int, mode: str) -> None:
        self.kernel.write(f"/sys/kernel/mm/transparent_hugepage/hugepages-{size}kB/enabled", mode)

    @precondition(alive)
    @rule(data=st.data(), order=st.sampled_from([0, 0, 2, 3, 4, 8]))
    def split_huge_pages(self, data: st.DataObject, order: int) -> None:
        task = self.task(data)
        start, length = self.range(data, task)
        command = f"{task.pid},{start:#x},{start + length:#x},{order}"
        self.call(self.kernel.write, "/sys/kernel/debug/split_huge_pages", command)

    @rule(how=st.integers(1, 3))
    def drop_caches(self, how: int) -> None:
        self.call(self.kernel.write, "/proc/sys/vm/drop_caches", str(how))

    @rule(seconds=st.sampled_from([0.001, 0.5, 3.0]))
    def pass_time(self, seconds: float) -> None:
        self.kernel.run_for(seconds)
        self.keep_usable()

    @precondition(alive)
    @rule(data=st.data(), every=st.integers(2, 7), advice=st.sampled_from([MADV_DONTNEED, MADV_PAGEOUT]))
    def fragment(self, data: st.DataObject, every: int, advice: int) -> None:
        """Give back some pages of a range here and there, so that compaction has something to do."""
        task = self.task(data)
        start, length = self.range(data, task)
        for offset in range(0, min(length, 600 * PAGE), every * PAGE):
            self.call(task.madvise, start + offset, PAGE, advice)
            if not task.alive:
                break

    @precondition(alive)
    @rule(data=st.data())
    def look(self, data: st.DataObject) -> None:
        task = self.task(data)
        for name in ("stat", "status", "maps", "smaps", "smaps_rollup", "numa_maps"):
            self.kernel.read(f"/proc/{task.pid}/{name}")
        for name in ("meminfo", "zoneinfo", "vmstat", "buddyinfo", "pagetypeinfo"):
            self.kernel.read(f"/proc/{name}")

    @invariant()
    def holds(self) -> None:
        if hasattr(self, "kernel"):
            self.kernel.check()


class NumaMachine(Machine):
    """The same on two nodes, one of them small."""

    options: ClassVar[dict[str, Any]] = {"nodes": [{"memory": "96M", "cpus": 1}, {"memory": "32M", "cpus": 1}]}


class SwappingMachine(Machine):
    """A machine that is always short of memory, with swap and, to choose at any time, either kind of LRU lists."""

    options: ClassVar[dict[str, Any]] = {"ram": "96M", "cpus": 2, "swap": "24M"}

    @initialize(seed=st.integers(0, 3))
    def boot(self, seed: int) -> None:
        super().boot(seed)
        self.kernel.write("/proc/sys/vm/overcommit_memory", "1")
        self.kernel.write("/sys/kernel/mm/lru_gen/enabled", "ny"[seed % 2])

    def call(self, function: Any, *arguments: Any, **keywords: Any) -> Any:
        """As ever; when only those are left who must not be killed, the kernel panics, and is booted anew."""
        try:
            return super().call(function, *arguments, **keywords)
        except KernelPanicError:
            self.kernel.check()
            self.boot(0)
            return None

    @precondition(Machine.alive)
    @rule(data=st.data(), pages=st.integers(1000, 12000), write=st.booleans())
    def press(self, data: st.DataObject, pages: int, write: bool) -> None:
        task = self.task(data)
        start = self.call(task.mmap, pages * PAGE)
        if start is not None and task.alive:
            self.call(task.touch, start, pages * PAGE, write=write)

    @rule(enabled=st.sampled_from("ny"))
    def switch_lists(self, enabled: str) -> None:
        self.kernel.write("/sys/kernel/mm/lru_gen/enabled", enabled)

    @rule(swappiness=st.sampled_from([0, 1, 60, 100, 200]), zone_reclaim=st.integers(0, 7))
    def tune_reclaim(self, swappiness: int, zone_reclaim: int) -> None:
        self.kernel.write("/proc/sys/vm/swappiness", str(swappiness))
        self.kernel.write("/proc/sys/vm/zone_reclaim_mode", str(zone_reclaim))

    @rule(enabled=st.booleans(), percent=st.sampled_from([0, 1, 5, 20]), shrinker=st.booleans(),
          incompressible=st.sampled_from([0, 100, 1000]), zero=st.sampled_from([0, 0, 100]))  # fmt: skip
    def tune_zswap(self, enabled: bool, percent: int, shrinker: bool, incompressible: int, zero: int) -> None:
        parameters = "/sys/module/zswap/parameters"
        self.kernel.write(f"{parameters}/enabled", str(int(enabled)))
        self.kernel.write(f"{parameters}/max_pool_percent", str(percent))
        self.kernel.write(f"{parameters}/shrinker_enabled", str(int(shrinker)))
        zero = min(zero, 1000 - incompressible)
        self.kernel.write("/sim/contents", f"anon incompressible={incompressible} zero={zero}")

    @rule(size=st.sampled_from(["4M", "40M"]), limit=st.sampled_from(["0", "1M"]), same=st.sampled_from([0, 500]))
    def plug_zram(self, size: str, limit: str, same: int) -> None:
        """Swap on a disk in memory, or off again if it is on."""
        kernel, zram = self.kernel, "/sys/block/zram0"
        kernel.zrams.load()
        if any(area.file == "/dev/zram0" for area in kernel.swap_info):
            self.call(kernel.swapoff, "/dev/zram0")
            return
        kernel.write(f"{zram}/reset", "1")
        kernel.write("/sim/contents", f"shmem incompressible=0 zero=0 same={same}")
        self.call(kernel.write, f"{zram}/disksize", size)
        self.call(kernel.write, f"{zram}/mem_limit", limit)
        self.call(kernel.mkswap, "/dev/zram0")
        self.call(kernel.swapon, "/dev/zram0", 7)



class NewerMachine(SwappingMachine):
    """The same of Linux 7.0."""

    options: ClassVar[dict[str, Any]] = {**SwappingMachine.options, "profile": "7.0"}


SETTINGS = settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
    phases=(Phase.explicit, Phase.generate) if os.environ.get("CI") else tuple(Phase),
)
TestMachine = pytest.mark.stateful(Machine.TestCase)
TestMachine.settings = SETTINGS
TestNumaMachine = pytest.mark.stateful(NumaMachine.TestCase)
TestNumaMachine.settings = SETTINGS
TestSwappingMachine = pytest.mark.stateful(SwappingMachine.TestCase)
TestSwappingMachine.settings = SETTINGS
TestNewerMachine = pytest.mark.stateful(NewerMachine.TestCase)
TestNewerMachine.settings = SETTINGS
