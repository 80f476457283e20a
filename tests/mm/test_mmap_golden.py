"""The mappings of the capture's zoo, made again by the same calls: the same /proc/PID/maps must come out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from mmfs.mm import madvise, mlock, mmap, mprotect
from mmfs.mm.mman import (
    MADV_DONTDUMP,
    MADV_DONTFORK,
    MADV_FREE,
    MADV_HUGEPAGE,
    MADV_MERGEABLE,
    MADV_NOHUGEPAGE,
    MADV_PAGEOUT,
    MADV_RANDOM,
    MADV_SEQUENTIAL,
    MADV_WIPEONFORK,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MAP_GROWSDOWN,
    MAP_NORESERVE,
    MAP_POPULATE,
    MAP_PRIVATE,
    MAP_SHARED,
    PROT_EXEC,
    PROT_NONE,
    PROT_READ,
    PROT_WRITE,
    VM_EXEC,
    VM_MAYSHARE,
    VM_READ,
    VM_WRITE,
)
from mmfs.mm.vma_merge import vma_modify_policy
from tests.mm.fakes import KB, MB, PAGE, FakeFile, FakeKernel, FakeMemory, FakeTask, check_mm, new_mm

CAPTURES = Path(__file__).parent.parent / "golden" / "captures"
RW, PA = PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS

FLAG_NAMES = {
    0: "rd", 1: "wr", 2: "ex", 3: "sh", 4: "mr", 5: "mw", 6: "me", 7: "ms", 8: "gd", 10: "pf", 13: "lo", 14: "io",
    15: "sr", 16: "rr", 17: "dc", 18: "de", 19: "lf", 20: "ac", 21: "nr", 22: "ht", 25: "wf", 26: "dd", 27: "sd",
    29: "hg", 30: "nh", 31: "mg",
}  # fmt: skip


class Capture:
    """What one captured kernel printed of its zoo process and of the child that it forked."""

    def __init__(self, snapshot: str) -> None:
        self.root = CAPTURES / snapshot
        self.log = (self.root / "zoo.log").read_text()
        self.pids = [int(pid) for pid in re.findall(r"pid (\d+) kid (\d+)", self.log)[0]]

    def read(self, name: str, child: bool = False) -> str:
        return (self.root / "proc" / str(self.pids[child]) / name).read_text()

    def maps(self, child: bool = False) -> list[str]:
        """The lines of maps without the inode's numbers."""
        lines = []
        for text in self.read("maps", child).splitlines():
            fields = text.split(maxsplit=5)
            name = fields[5].removesuffix(" (deleted)") if len(fields) > 5 else ""
            lines.append(f"{fields[0]} {fields[1]} {fields[2]} {name}")
        return lines

    def range_of(self, name: str) -> tuple[int, int]:
        text = next(text for text in self.maps() if text.endswith(name))
        start, end = text.split()[0].split("-")
        return int(start, 16), int(end, 16)

    def addresses(self) -> dict[str, int]:
        found = {name: int(addr, 16) for name, addr in re.findall(r"^(\w+) +(0x\w+) \+\d+ ok$", self.log, re.M)}
        found["thp"] = int(re.findall(r"^thp madvise\(HUGEPAGE\) 0 (0x\w+)$", self.log, re.M)[0], 16)
        found["sysv"] = int(re.findall(r"^sysv id 0 at (0x\w+)$", self.log, re.M)[0], 16)
        return found


def line(vma: Any) -> str:
    """One line of maps as the capture has it, without the inode's numbers."""
    flags = vma.vm_flags
    rights = "".join(c if flags & bit else "-" for c, bit in (("r", VM_READ), ("w", VM_WRITE), ("x", VM_EXEC)))
    name = vma.vm_file.path if vma.vm_file else vma.name
    offset = vma.vm_pgoff * PAGE if vma.vm_file else 0
    return f"{vma.vm_start:08x}-{vma.vm_end:08x} {rights}{'s' if flags & VM_MAYSHARE else 'p'} {offset:08x} {name}"


def flag_names(vma: Any) -> str:
    return "".join(f"{FLAG_NAMES[bit]} " for bit in range(64) if vma.vm_flags >> bit & 1)


class Zoo:
    """probe.c's zoo: the very same calls in the very same order."""

    def __init__(self, mm: Any, memory: FakeMemory, capture: Capture) -> None:
        self.mm = mm
        self.memory = memory
        self.capture = capture
        self.stack_top = capture.range_of("[stack]")[1]
        mm.mmap_base = capture.range_of("[vdso]")[1]
        self.got: dict[str, int] = {}

    def map(self, name: str, length: int, prot: int = RW, flags: int = PA, file: FakeFile | None = None) -> int:
        addr = mmap.do_mmap(self.mm, 0, length, prot, flags, file)  # type: ignore[arg-type]
        self.got[name] = addr
        return addr

    def touch(self, addr: int, length: int, write: bool = True) -> None:
        self.memory.access_range(self.mm, addr, addr + length, write)

    def guard(self, number: int) -> None:
        self.map(f"guard{number}", 64 * KB, PROT_NONE)

    def advise(self, addr: int, length: int, behavior: int) -> None:
        madvise.do_madvise(self.mm, addr, length, behavior)

    def program(self) -> None:
        """What execve() had mapped before main() ran, at the addresses of the capture."""
        mm = self.mm
        golden = FakeFile("/bin/golden")
        for start, end, prot, page in (
            (0x400000, 0x401000, PROT_READ, 0x0),
            (0x401000, 0x4C8000, PROT_READ | PROT_EXEC, 0x1),
            (0x4C8000, 0x4FA000, PROT_READ, 0xC8),
        ):
            flags = MAP_PRIVATE | (MAP_FIXED if page else MAP_FIXED_NOREPLACE)
            mmap.do_mmap(mm, start, end - start, prot, flags, golden, page)  # type: ignore[arg-type]
        mmap.do_mmap(mm, 0x4FA000, 0x501000 - 0x4FA000, RW, MAP_PRIVATE | MAP_FIXED, golden, 0xF9)  # type: ignore[arg-type]
        mmap.vm_brk_flags(mm, 0x501000, 0x6BA000 - 0x501000)
        mmap.map_vdso(mm)
        mprotect.do_mprotect(mm, 0x4FA000, 4 * PAGE, PROT_READ)
        heap, end = self.capture.range_of("[heap]")
        mm.start_brk = mm.brk = heap
        mmap.do_brk(mm, end)
        mm.start_stack = int(self.capture.read("stat").rpartition(")")[2].split()[25])
        mmap.setup_arg_pages(mm, self.stack_top)

    def run(self) -> None:
        """cmd_zoo()."""
        self.private()
        self.shared()
        self.special()
        self.blocks()

    def private(self) -> None:
        anon8m = self.map("anon8m", 8 * MB)
        self.touch(anon8m, 6 * MB)
        self.guard(1)
        thp = mmap.do_mmap(self.mm, 0, 10 * MB, RW, PA)
        thp = -(-thp // (2 * MB)) * 2 * MB
        self.got["thp"] = thp
        self.advise(thp, 8 * MB, MADV_HUGEPAGE)
        self.touch(thp, 6 * MB)
        self.guard(2)
        nothp = self.map("nothp", 4 * MB)
        self.advise(nothp, 4 * MB, MADV_NOHUGEPAGE)
        self.touch(nothp, MB)
        self.guard(3)
        locked = self.map("locked", 2 * MB)
        mlock.do_mlock(self.mm, locked, 2 * MB)
        self.guard(4)
        onfault = self.map("lockonfault", MB)
        mlock.do_mlock2(self.mm, onfault, MB, 1)
        self.touch(onfault, 256 * KB)
        self.guard(5)
        self.touch(self.map("ro", MB, PROT_READ), MB, write=False)
        self.touch(self.map("rwx", 256 * KB, RW | PROT_EXEC), 128 * KB)
        self.touch(self.map("noreserve", 64 * MB, RW, PA | MAP_NORESERVE), 512 * KB)
        self.guard(6)

    def shared(self) -> None:
        self.touch(self.map("shanon", 3 * MB, RW, MAP_SHARED | MAP_ANONYMOUS), 2 * MB)
        data = FakeFile("/data/zoo.data")
        self.touch(self.map("fsh", 4 * MB, RW, MAP_SHARED, data), MB)
        self.touch(self.map("fpriv", 4 * MB, RW, MAP_PRIVATE, data), 512 * KB)
        fro = self.map("fro", 6 * MB, PROT_READ, MAP_SHARED, FakeFile("/data/zoo.data"))
        self.advise(fro, 6 * MB, MADV_SEQUENTIAL)
        self.map("fdel", MB, RW, MAP_SHARED, FakeFile("/data/zoo.deleted"))
        self.map("memfd", 4 * MB, RW, MAP_SHARED, FakeFile("/memfd:zoo-memfd", shmem=True))
        self.map("sysv", 2 * MB, RW, MAP_SHARED, FakeFile("/SYSV00000000", shmem=True))
        self.map("devshm", MB, RW, MAP_SHARED, FakeFile("/dev/shm/zoo.shm", shmem=True))
        self.map("htlb", 4 * MB, RW, MAP_PRIVATE, FakeFile("/anon_hugepage", huge=2 * MB))
        self.map("htlbsh", 2 * MB, RW, MAP_SHARED, FakeFile("/anon_hugepage", huge=2 * MB))

    def special(self) -> None:
        lazyfree = self.map("lazyfree", 2 * MB)
        self.advise(lazyfree, 2 * MB, MADV_NOHUGEPAGE)
        self.touch(lazyfree, 2 * MB)
        self.advise(lazyfree, MB, MADV_FREE)
        self.guard(7)
        for name, behavior in (
            ("dontfork", MADV_DONTFORK), ("dontdump", MADV_DONTDUMP), ("wipe", MADV_WIPEONFORK), ("rnd", MADV_RANDOM)
        ):  # fmt: skip
            addr = self.map(name, 256 * KB)
            self.advise(addr, 256 * KB, behavior)
            self.touch(addr, 128 * KB if name == "rnd" else 256 * KB)
        mergeable = self.map("mergeable", 2 * MB)
        self.touch(mergeable, 2 * MB)
        self.advise(mergeable, 2 * MB, MADV_MERGEABLE)
        self.guard(8)
        named = self.map("named", 256 * KB)
        self.touch(named, 64 * KB)
        with pytest.raises(OSError):  # as on the captured kernel: no CONFIG_ANON_VMA_NAME
            madvise.prctl_set_vma_anon_name(self.mm, named, 256 * KB, "zoo-named")
        self.touch(self.map("grow", 64 * KB, RW, PA | MAP_GROWSDOWN), 64 * KB)
        self.map("populate", MB, RW, PA | MAP_POPULATE)
        split = self.map("split", MB)
        self.touch(split, MB)
        mprotect.do_mprotect(self.mm, split + 256 * KB, 256 * KB, PROT_READ)
        swapme = self.map("swapme", 4 * MB)
        self.advise(swapme, 4 * MB, MADV_NOHUGEPAGE)
        self.touch(swapme, 4 * MB)
        self.advise(swapme, 3 * MB, MADV_PAGEOUT)
        self.guard(9)

    def blocks(self) -> None:
        """Four megabytes with a page after each; with "n" each bound to nodes in its own way; then the stack."""
        blocks = []
        for _ in range(4):
            blocks.append(mmap.do_mmap(self.mm, 0, MB, RW, PA))
            self.advise(blocks[-1], MB, MADV_NOHUGEPAGE)
            mprotect.do_mprotect(self.mm, mmap.do_mmap(self.mm, 0, PAGE, PROT_NONE, PA), PAGE, PROT_NONE)
        if "mbind" in self.capture.log:
            for block, policy in zip(blocks, ("bind:0", "bind:1", "interleave:0-1", "prefer:1"), strict=True):
                self.mbind(block, MB, policy)
            self.mbind(self.got["swapme"] + 3 * MB, 512 * KB, "local")
        for block in blocks:
            self.touch(block, MB)
        self.touch(self.capture.range_of("[stack]")[0], 200 * KB)

    def mbind(self, start: int, length: int, policy: str) -> None:
        vma = self.mm.vma_lookup(start)
        prev = vma if vma.vm_start < start else self.mm.find_vma_prev(start)
        vma_modify_policy(prev, vma, start, start + length, policy).vm_policy = policy


@pytest.fixture(params=["512M/02-zoo", "1G-hugepages/01-thp-ksm-zoo", "5G-numa2/01-zoo"])
def zoo(request: pytest.FixtureRequest, fake_kernel: FakeKernel, fake_memory: FakeMemory) -> Zoo:
    zoo = Zoo(new_mm(fake_kernel), fake_memory, Capture(request.param))
    zoo.program()
    zoo.run()
    return zoo


def test_addresses(zoo: Zoo) -> None:
    expected = zoo.capture.addresses()
    assert {name: hex(addr) for name, addr in zoo.got.items()} == {name: hex(addr) for name, addr in expected.items()}


def test_maps(zoo: Zoo) -> None:
    assert [line(vma) for vma in zoo.mm.mmap] == zoo.capture.maps()


def test_flags(zoo: Zoo) -> None:
    expected = re.findall(r"^VmFlags: (.*)$", zoo.capture.read("smaps"), re.M)
    assert [flag_names(vma) for vma in zoo.mm.mmap] == expected


def assert_status(mm: Any, text: str) -> None:
    status = dict(re.findall(r"^(Vm\w+):\s+(\d+) kB$", text, re.M))
    assert mm.total_vm * 4 == int(status["VmSize"])
    assert mm.data_vm * 4 == int(status["VmData"])
    assert mm.stack_vm * 4 == int(status["VmStk"])
    assert mm.locked_vm * 4 == int(status["VmLck"])
    # VmExe is the length of the text segment, VmLib the rest of the executable mappings.
    assert mm.exec_vm * 4 == int(status["VmExe"]) + int(status["VmLib"])
    check_mm(mm)


def test_status(zoo: Zoo) -> None:
    assert_status(zoo.mm, zoo.capture.read("status"))


def test_fork(zoo: Zoo) -> None:
    """The child has neither what was advised DONTFORK nor the locks."""
    child = mmap.dup_mm(zoo.mm, FakeTask())
    assert [line(vma) for vma in child.mmap] == zoo.capture.maps(child=True)
    expected = re.findall(r"^VmFlags: (.*)$", zoo.capture.read("smaps", child=True), re.M)
    assert [flag_names(vma) for vma in child.mmap] == expected
    assert_status(child, zoo.capture.read("status", child=True))
    assert_status(zoo.mm, zoo.capture.read("status"))


def test_exit_leaves_nothing(zoo: Zoo, fake_kernel: FakeKernel) -> None:
    child = mmap.dup_mm(zoo.mm, FakeTask())
    mmap.mmput(zoo.mm)
    mmap.mmput(child)
    assert not zoo.mm.mmap
    assert fake_kernel.nr_vmas == 0
    assert fake_kernel.overcommit.vm_committed_as == 0
