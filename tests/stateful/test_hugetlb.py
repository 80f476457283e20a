"""A machine whose programs map huge pages, while administrators resize pools, limits and files under them."""

from __future__ import annotations

from typing import Any, ClassVar

import hypothesis.strategies as st
import pytest
from hypothesis.stateful import initialize, precondition, rule

from mmfs.mm.mempolicy import MPOL_MF_MOVE, MPOL_MF_MOVE_ALL
from mmfs.mm.mman import (
    MADV_DONTFORK,
    MADV_DONTNEED,
    MADV_HWPOISON,
    MADV_POPULATE_WRITE,
    MADV_REMOVE,
    MADV_SOFT_OFFLINE,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_HUGETLB,
    MAP_NORESERVE,
    MAP_POPULATE,
    MAP_PRIVATE,
    MAP_SHARED,
    PROT_NONE,
    PROT_READ,
    PROT_WRITE,
)
from tests.stateful.test_machine import SETTINGS, Machine

HUGE = 2 << 20
KINDS = st.sampled_from([MAP_PRIVATE, MAP_PRIVATE, MAP_SHARED])
EXTRA = st.sampled_from([0, 0, 0, MAP_NORESERVE, MAP_POPULATE])
RIGHTS = st.sampled_from([PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE, PROT_READ, PROT_NONE])
FILES = st.sampled_from(["/mnt/huge/a", "/mnt/huge/b", "/mnt/small/c"])
NODES = st.integers(0, 1)
MOVES = st.sampled_from([0, MPOL_MF_MOVE, MPOL_MF_MOVE, MPOL_MF_MOVE_ALL])
COUNTS = st.sampled_from([0, 1, 3, 8, 20])


class HugetlbMachine(Machine):
    """Two nodes, two file systems of huge pages, one of them with a size, and cgroups."""

    options: ClassVar[dict[str, Any]] = {"nodes": [{"memory": "96M", "cpus": 1}, {"memory": "64M", "cpus": 1}]}

    @initialize(seed=st.integers(0, 3))
    def boot(self, seed: int) -> None:
        super().boot(seed)
        kernel = self.kernel
        kernel.write("/proc/sys/vm/nr_hugepages", str(seed * 4))
        init = kernel.tasks[1]
        init.mount("none", "/mnt/huge", "hugetlbfs")
        self.call(init.mount, "none", "/mnt/small", "hugetlbfs", "size=6M,min_size=2M,nr_inodes=3")
        for path in ("/sys/fs/cgroup", "/sys/fs/cgroup/h"):
            if path.endswith("h"):
                kernel.mkdir(path)
            kernel.write(f"{path}/cgroup.subtree_control", "+hugetlb")

    def huge(self, data: st.DataObject, task: Any) -> tuple[int, int] | None:
        """A part of one of the task's mappings of huge pages."""
        vmas = [vma for vma in task.mm.mmap if vma.is_hugetlb()]
        if not vmas:
            return None
        vma = data.draw(st.sampled_from(vmas), label="vma")
        pages = (vma.vm_end - vma.vm_start) // HUGE
        first = data.draw(st.integers(0, pages - 1), label="first")
        return vma.vm_start + first * HUGE, HUGE * data.draw(st.integers(1, pages - first), label="pages")

    @precondition(Machine.alive)
    @rule(data=st.data(), advice=st.sampled_from([MADV_SOFT_OFFLINE, MADV_HWPOISON]))
    def lose_a_page(self, data: st.DataObject, advice: int) -> None:
        task = self.task(data)
        found = self.huge(data, task)
        if found is not None:
            self.call(task.madvise, found[0], 4096, advice)

    @precondition(Machine.alive)
    @rule(data=st.data(), pages=st.integers(1, 6), prot=RIGHTS, kind=KINDS, extra=EXTRA)
    def mmap_huge(self, data: st.DataObject, pages: int, prot: int, kind: int, extra: int) -> None:
        flags = kind | extra | MAP_ANONYMOUS | MAP_HUGETLB
        self.call(self.task(data).mmap, pages * HUGE, prot=prot, flags=flags)

    @precondition(Machine.alive)
    @rule(data=st.data(), pages=st.integers(1, 4), offset=st.integers(0, 3), path=FILES, kind=KINDS, extra=EXTRA)
    def mmap_huge_file(self, data: st.DataObject, pages: int, offset: int, path: str, kind: int, extra: int) -> None:
        task = self.task(data)
        fd = self.call(task.open, path, 0o102)
        if fd is not None and task.alive:
            self.call(task.mmap, pages * HUGE, flags=kind | extra, file=fd, offset=offset * HUGE)
        if fd is not None and task.alive:
            self.call(task.close, fd)

    @precondition(Machine.alive)
    @rule(data=st.data(), write=st.booleans(), stride=st.sampled_from([4096, HUGE, HUGE // 4]))
    def touch_huge(self, data: st.DataObject, write: bool, stride: int) -> None:
        task = self.task(data)
        if (part := self.huge(data, task)) is not None:
            self.call(task.touch, *part, write=write, stride=stride)

    @precondition(Machine.alive)
    @rule(data=st.data(), how=st.sampled_from(["munmap", "mprotect", "mremap", "fixed"]), prot=RIGHTS)
    def change_huge(self, data: st.DataObject, how: str, prot: int) -> None:
        task = self.task(data)
        part = self.huge(data, task)
        if part is None:
            return
        if how == "mprotect":
            self.call(task.mprotect, *part, prot)
        elif how == "munmap":
            self.call(task.munmap, *part)
        elif how == "fixed":
            self.call(task.mmap, HUGE, flags=MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_HUGETLB, addr=part[0])
        elif (hole := self.call(task.mmap, part[1] + HUGE, prot=PROT_NONE)) is not None and task.alive:
            self.call(task.mremap, *part, data.draw(st.integers(1, part[1] // HUGE)) * HUGE, 3, -(-hole // HUGE) * HUGE)

    @precondition(Machine.alive)
    @rule(data=st.data(), advice=st.sampled_from([MADV_DONTNEED, MADV_REMOVE, MADV_POPULATE_WRITE, MADV_DONTFORK]))
    def advise_huge(self, data: st.DataObject, advice: int) -> None:
        task = self.task(data)
        if (part := self.huge(data, task)) is not None:
            self.call(task.madvise, *part, advice)

    @precondition(Machine.alive)
    @rule(data=st.data(), path=FILES, pages=st.integers(0, 4), unlink=st.booleans())
    def care_for_file(self, data: st.DataObject, path: str, pages: int, unlink: bool) -> None:
        task = self.task(data)
        if unlink:
            self.call(task.unlink, path)
        elif (fd := self.call(task.open, path, 0o102)) is not None and task.alive:
            self.call(task.ftruncate, fd, pages * HUGE)
            if task.alive:
                self.call(task.read, fd, HUGE)
            if task.alive:
                self.call(task.close, fd)

    @precondition(Machine.alive)
    @rule(data=st.data(), mode=st.sampled_from(["bind", "prefer", "interleave", "default"]), nid=NODES, flags=MOVES)
    def bind_huge(self, data: st.DataObject, mode: str, nid: int, flags: int) -> None:
        task = self.task(data)
        if (part := self.huge(data, task)) is not None:
            self.call(task.mbind, *part, mode, () if mode == "default" else (nid,), flags)

    @precondition(Machine.alive)
    @rule(data=st.data(), nid=NODES, flags=MOVES, whole=st.booleans())
    def move_huge(self, data: st.DataObject, nid: int, flags: int, whole: bool) -> None:
        task = self.task(data)
        if whole:
            self.call(task.migrate_pages, 0, [1 - nid], [nid])
        elif (part := self.huge(data, task)) is not None:
            pages = range(part[0], part[0] + part[1], HUGE)
            self.call(task.move_pages, 0, pages, [nid] * len(pages), flags)

    @rule(count=COUNTS, where=st.sampled_from(["nr_hugepages", "nr_overcommit_hugepages", "node0", "node1"]))
    def resize_pool(self, count: int, where: str) -> None:
        path = f"/proc/sys/vm/{where}"
        if where.startswith("node"):
            path = f"/sys/devices/system/node/{where}/hugepages/hugepages-2048kB/nr_hugepages"
        self.call(self.kernel.write, path, str(count))

    @precondition(Machine.alive)
    @rule(data=st.data(), name=st.sampled_from("ab"), how=st.sampled_from(["move", "back", "remove", "limit", "rsvd"]))
    def use_cgroups(self, data: st.DataObject, name: str, how: str) -> None:
        kernel, path = self.kernel, f"/sys/fs/cgroup/h/{name}"
        self.call(kernel.mkdir, path)
        if how in ("move", "back"):
            where = path if how == "move" else "/sys/fs/cgroup"
            self.call(kernel.write, f"{where}/cgroup.procs", str(self.task(data).pid))
        elif how == "remove":
            self.call(kernel.rmdir, path)
        else:
            limit = data.draw(st.sampled_from(["max", "0", "4M", "12M"]))
            self.call(kernel.write, f"{path}/hugetlb.2MB.{'rsvd.' if how == 'rsvd' else ''}max", limit)

    @rule()
    def remount(self) -> None:
        """The small file system, when nobody uses it."""
        init = self.kernel.tasks[1]
        self.call(init.umount, "/mnt/small")
        if not any(mount.mountpoint == "/mnt/small" for mount in self.kernel.mounts):
            self.call(init.mount, "none", "/mnt/small", "hugetlbfs", "size=8M,min_size=4M")


TestHugetlbMachine = pytest.mark.stateful(HugetlbMachine.TestCase)
TestHugetlbMachine.settings = SETTINGS
