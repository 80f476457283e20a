"""The recorded calls on a whole machine, with frames and page tables: every invariant holds and nothing is left."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from mmfs.mm import madvise, mlock, mmap, mprotect, mremap
from mmfs.mm.access import access_range
from mmfs.mm.fault import Fault
from mmfs.mm.inode import File, Inode
from mmfs.mm.mman import FMODE_READ, MAP_ANONYMOUS, VM_ACCOUNT
from tests.mm.fakes import PAGE
from tests.mm.test_vma_replay import NR_SEQUENCES, sequences

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel


class Process:
    """A task that makes recorded calls."""

    def __init__(self, kernel: Kernel, uid: int) -> None:
        self.tasks: list[Any] = [kernel.spawn("recorded", uid=uid)]
        inode = Inode(kernel, 4242, (254, 0), 16 * PAGE, "/data/fuzz.f")
        self.rw, self.ro = File(inode), File(inode, FMODE_READ)

    def call(self, text: str) -> None:
        """One call; refusals and signals are the recording's business."""
        op, *words = text.split()
        a = [int(word, 16) for word in words] + [0] * (6 - len(words))
        mm = self.tasks[-1].mm
        with suppress(OSError, Fault):
            if op == "m":
                mmap.do_mmap(mm, *a[:3], a[3] | MAP_ANONYMOUS)
            elif op in "MR" and a[4] % PAGE == 0:
                mmap.do_mmap(mm, *a[:4], self.rw if op == "M" else self.ro, a[4] // PAGE)
            elif op == "t":
                access_range(mm, a[0], a[0] + a[1], bool(a[2]))
            elif op == "f":
                self.tasks.append(self.tasks[-1].fork())
            elif op == "b":
                mmap.do_brk(mm, mm.start_brk + a[0] % (1 << 20))
            elif op in "uprlLkAKa":
                self._other(mm, op, a)

    @staticmethod
    def _other(mm: Any, op: str, a: list[int]) -> None:
        calls: dict[str, tuple[Any, int]] = {
            "u": (mmap.do_munmap, 2), "p": (mprotect.do_mprotect, 3), "r": (mremap.do_mremap, 5),
            "l": (mlock.do_mlock, 2), "L": (mlock.do_mlock2, 3), "k": (mlock.do_munlock, 2),
            "A": (mlock.do_mlockall, 1), "K": (mlock.do_munlockall, 0), "a": (madvise.do_madvise, 3),
        }  # fmt: skip
        function, count = calls[op]
        function(mm, *a[:count])


@pytest.mark.parametrize("number", range(0, NR_SEQUENCES, 12))
def test_sequence(number: int, kernel: Kernel) -> None:
    before = kernel.overcommit.vm_committed_as
    head, _, *answers = sequences()[number]
    process = Process(kernel, int(head.partition(" ")[0]))
    grown = False
    for done, line in enumerate(answers):
        call = line.partition("\t")[0]
        process.call(call)
        grown |= any(vma.vm_flags & 0x100 and not vma.vm_flags & VM_ACCOUNT for vma in process.tasks[-1].mm.mmap)
        if done % 10 == 9:
            kernel.check()
    for task in reversed(process.tasks):
        task.exit(0)
    kernel.check()
    if not grown:  # a stack that is not accounted keeps what it grew by, as in Linux
        assert kernel.overcommit.vm_committed_as == before
