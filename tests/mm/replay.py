"""Replays a recorded sequence of memory-mapping calls and says where the model's answer differs.

A recording (tests/golden/vma) has, for each sequence, the process's VMAs after execve() and then, per call, the
call, what a real kernel returned, and the VMAs it left, with flags and the sums of /proc/PID/status.
"""

from __future__ import annotations

import errno
import random
import re
from collections.abc import Callable
from typing import Any

from mmfs.mm import madvise, mlock, mmap, mprotect, mremap
from mmfs.mm.fault import Fault
from mmfs.mm.mman import MAP_ANONYMOUS, VM_LOCKED, VM_SHARED, VM_WRITE
from mmfs.mm.special_mapping import vdso_mapping, vvar_mapping
from mmfs.mm.vma import VmOperations, vm_area_alloc
from tests.mm.fakes import PAGE, FakeFile, FakeKernel, FakeMemory, FakeTask

FLAG_BITS = {
    "rd": 0, "wr": 1, "ex": 2, "sh": 3, "mr": 4, "mw": 5, "me": 6, "ms": 7, "gd": 8, "pf": 10, "lo": 13, "io": 14,
    "sr": 15, "rr": 16, "dc": 17, "de": 18, "lf": 19, "ac": 20, "nr": 21, "ht": 22, "sf": 23, "wf": 25, "dd": 26,
    "sd": 27, "hg": 29, "nh": 30, "mg": 31, "dp": 40,
}  # fmt: skip
FLAG_NAMES = {bit: name for name, bit in FLAG_BITS.items()}


def flag_names(vm_flags: int) -> str:
    """VmFlags as smaps prints them."""
    return " ".join(FLAG_NAMES[bit] for bit in range(41) if vm_flags >> bit & 1 and not 32 <= bit < 36)


class Replay:
    """One process of a recording on the model."""

    def __init__(self, kernel: FakeKernel, memory: FakeMemory, stat: str, init: str, uid: int) -> None:
        self.kernel = kernel
        self.memory = memory
        self.task = FakeTask(uid)
        self.rw = FakeFile("/data/fuzz.f", size=16)
        self.ro = FakeFile("/data/fuzz.f", mode=1, size=16)
        from mmfs.mm.mm_struct import MmStruct

        self.mm: Any = MmStruct(kernel, self.task)  # type: ignore[arg-type]
        self.mm.randomize = False
        mmap.arch_pick_mmap_layout(self.mm, random.Random(0), 8 << 20)
        numbers = [int(word) for word in stat.split()[1:]]
        self.mm.start_stack = numbers[25 - 1]
        self.mm.start_data, self.mm.end_data, self.mm.start_brk = numbers[42 - 1 : 45 - 1]
        self._build(init)

    def _build(self, init: str) -> None:
        """The address space as execve() left it."""
        mm = self.mm
        files: dict[str, FakeFile] = {}
        specials = {"[vvar]": vvar_mapping, "[vdso]": vdso_mapping}
        for text in init.split(";")[2:]:
            where, rest = text.split(" {")
            name, flags = rest.split("} ") if "} " in rest else (rest.rstrip("}"), "")
            span, _, pgoff = where.split()
            start, end = (int(word, 16) for word in span.split("-"))
            if start >= mm.task_size:
                continue
            vm_flags = sum(1 << FLAG_BITS[word] for word in flags.split())
            vma = vm_area_alloc(mm, start, end, vm_flags, int(pgoff, 16))
            vma.vm_ops = specials.get(name)
            if name.startswith("/"):
                vma.vm_file = files.setdefault(name, FakeFile(name))  # type: ignore[assignment]
                vma.vm_ops = VmOperations()
            elif vma.vm_ops is None:
                vma.vm_pgoff = start // PAGE
            if name == "[heap]":
                mm.brk, mm.start_brk = end, start
            mm.vma_link(vma)
            mm.vm_stat_account(vm_flags, vma.pages)
            if vm_flags >> 20 & 1:
                self.kernel.overcommit.vm_acct_memory(vma.pages)
            if vm_flags & (VM_WRITE | VM_SHARED) == VM_WRITE:
                self.memory.access_range(mm, start, start + PAGE, True)

    def call(self, text: str) -> str:
        """Do one call; the result as recorded: a hexadecimal number or the name of an error."""
        op, *words = text.split()
        args = [int(word, 16) for word in words] + [0] * (6 - len(words))
        try:
            result = self._calls()[op](*args)
        except OSError as error:
            return {errno.EOPNOTSUPP: "EOPNOTSUPP"}.get(error.errno or 0, errno.errorcode[error.errno or 0])
        return f"{result or 0:x}"

    def _calls(self) -> dict[str, Callable[..., int | None]]:
        mm = self.mm
        return {
            "m": lambda a, n, prot, flags, off, _: self._mmap(a, n, prot, flags | MAP_ANONYMOUS, None, off),
            "M": lambda a, n, prot, flags, off, _: self._mmap(a, n, prot, flags, self.rw, off),
            "R": lambda a, n, prot, flags, off, _: self._mmap(a, n, prot, flags, self.ro, off),
            "u": lambda a, n, *_: mmap.do_munmap(mm, a, n),
            "p": lambda a, n, prot, *_: mprotect.do_mprotect(mm, a, n, prot),
            "r": lambda a, old, new, flags, to, _: mremap.do_mremap(mm, a, old, new, flags, to),
            "l": lambda a, n, *_: mlock.do_mlock(mm, a, n),
            "L": lambda a, n, flags, *_: mlock.do_mlock2(mm, a, n, flags),
            "k": lambda a, n, *_: mlock.do_munlock(mm, a, n),
            "A": lambda flags, *_: mlock.do_mlockall(mm, flags),
            "K": lambda *_: mlock.do_munlockall(mm),
            "a": lambda a, n, what, *_: madvise.do_madvise(mm, a, n, what),
            "b": lambda a, *_: mmap.do_brk(mm, a),
            "x": lambda what, soft, hard, *_: self._setrlimit(what, soft, hard),
            "t": lambda a, n, write, *_: self._touch(a, n, bool(write)),
            "f": lambda *_: self._fork(),
        }

    def _setrlimit(self, what: int, soft: int, hard: int) -> None:
        if soft > hard:
            raise OSError(errno.EINVAL, "above the hard limit")
        self.task.rlimits[what] = (soft, hard)

    def _mmap(self, addr: int, length: int, prot: int, flags: int, file: FakeFile | None, offset: int) -> int:
        if offset % PAGE:
            raise OSError(errno.EINVAL, "offset")
        return mmap.do_mmap(self.mm, addr, length, prot, flags, file, offset // PAGE)  # type: ignore[arg-type]

    def _touch(self, addr: int, length: int, write: bool) -> int:
        """How far the program got, and the signal that stopped it."""
        for offset in range(0, length, PAGE):
            try:
                self.memory.access_range(self.mm, addr + offset, addr + offset + PAGE, write)
            except Fault as fault:
                return offset << 8 | fault.signal
        return -(-length // PAGE) * PAGE << 8

    def _fork(self) -> None:
        """The recording goes on in the child."""
        self.mm = mmap.dup_mm(self.mm, self.task)

    def state(self) -> str:
        """The sums and the VMAs, as recorded."""
        mm = self.mm
        text = f"{mm.total_vm} {mm.data_vm} {mm.stack_vm} {mm.locked_vm} {mm.exec_vm}"
        for vma in mm.mmap:
            flags = vma.vm_flags
            rights = "".join(c if flags >> bit & 1 else "-" for bit, c in enumerate("rwx"))
            pgoff = vma.vm_pgoff if vma.vm_file is not None else 0
            text += f";{vma.vm_start:x}-{vma.vm_end:x} {rights}{'s' if flags >> 7 & 1 else 'p'} {pgoff:x}"
            text += f" {flag_names(flags)}"
        assert mm.locked_vm == sum(vma.pages for vma in mm.mmap if vma.vm_flags & VM_LOCKED)
        return text


def recorded_state(line: str) -> tuple[str, str]:
    """The result and the state of a recorded line, without the vsyscall page and with VmExe and VmLib as one."""
    result, sums, *vmas = line.split(";")
    size, data, stack, locked, exe, lib = sums.split()
    vmas = [re.sub(r" \{.*\}", "", vma).strip() for vma in vmas if not vma.startswith("ffffffffff600000")]
    return result, ";".join([f"{size} {data} {stack} {locked} {int(exe) + int(lib)}", *vmas])
