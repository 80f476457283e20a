"""Draws sequences of memory-mapping calls, and joins what record.c printed with them into calls.txt.gz."""

from __future__ import annotations

import gzip
import random
import sys
from pathlib import Path

PAGE = 4096
MB = 1 << 20
ULONG = (1 << 64) - 1
ARENA = 0x10000000
TOP = 0x7FFFF7FF9000
BRK = 0x710000
CALLS = 40

Call = tuple[str, *tuple[int, ...]]


class Sequence:
    """The calls of one process, most of them close together so that they meet."""

    def __init__(self, number: int) -> None:
        self.rng = random.Random(1000 + number)
        self.span = self.rng.choice([12, 24, 40])
        self.root = number % 3 != 0
        self.big = number % 5 == 0
        self.calls = [self.call() for _ in range(CALLS)]

    def page(self) -> int:
        return ARENA + self.rng.randrange(self.span) * PAGE

    def length(self, most: int = 10) -> int:
        return self.rng.randrange(1, most) * PAGE

    def address(self) -> int:
        x = self.rng.random()
        if x < 0.82:
            return self.page()
        if x < 0.95:
            return TOP - self.rng.randrange(1, 1200) * PAGE
        if x < 0.97:
            return self.page() + self.rng.choice([1, 0x800])
        odd = [0, 0x1000, 0x8000, TOP, 0x7FFFFFFFF000, (1 << 56) - PAGE, 1 << 56, (1 << 64) - PAGE, 1 << 63]
        return self.rng.choice([*odd, TOP + 4 * PAGE, TOP + 2 * PAGE])

    def any_length(self) -> int:
        x = self.rng.random()
        if x < 0.9:
            return self.length()
        if x < 0.94:
            return self.length() - self.rng.choice([1, 0x800, 0xFFF])
        return self.rng.choice([0, 1, ULONG, (1 << 64) - PAGE, 1 << 21, 1 << 30, (1 << 64) - 0x1001])

    def call(self) -> Call:
        rng = self.rng
        x = rng.random()
        if x < 0.34:
            return self.mmap()
        if x < 0.44:
            return "u", self.address(), self.any_length()
        if x < 0.58:
            prot = rng.choice([0, 1, 1, 3, 3, 3, 5, 7, 2, 8, 0x1000003, 0x2000001, 16])
            return "p", self.address(), self.any_length(), prot
        if x < 0.68:
            return self.mremap()
        if x < 0.75:
            return self.mlock(x)
        if x < 0.76:
            return ("K",)
        if x < 0.86:
            advice = [*range(5), *range(8, 26), 4, 4, 10, 14, 16, 8, 5, 99, 5 if self.root else 100]
            return "a", self.address(), self.any_length(), rng.choice(advice)
        if x < 0.965:
            return "t", self.page(), self.length(), rng.choice([0, 1, 1, 1])
        if x < 0.975:
            return ("f",)
        if x < 0.985:
            return "b", BRK + rng.randrange(-20, 60) * PAGE + rng.choice([0, 0, 5])
        resource = rng.choice([9, 2, 3, 8])
        soft = [4 * MB, 8 * MB, 16 * MB, 64 * MB] if resource == 9 else [0, 16 * PAGE, 4 * MB, 8 * MB, 64 * MB]
        return "x", resource, rng.choice(soft), 8 * MB if resource == 8 else ULONG

    def mmap(self) -> Call:
        rng = self.rng
        prot = rng.choice([0, 1, 1, 3, 3, 3, 3, 3, 3, 5, 7, 2, 4, 8])
        flags = 2 if rng.random() < 0.8 else rng.choice([1, 1, 1, 3, 0, 8])
        for share, flag in (
            (0.15, 0x4000), (0.12, 0x100), (0.08, 0x2000), (0.10, 0x8000), (0.08, 0x20000), (0.02, 0x40000),
            (0.03, 0x80000),
        ):  # fmt: skip
            if rng.random() < share:
                flags |= flag
        if flags & 0x44000 == 0x44000:  # huge pages without a reservation are not modelled
            flags &= ~0x40000
        y = rng.random()
        addr, length = self.address(), self.any_length()
        if y < 0.62:
            flags |= 0x10
        elif y < 0.70:
            flags |= 0x100000
        elif y > 0.80:
            addr = 0
            if self.big:
                length = rng.choice([1, 2, 4, 5, 8, 16]) * MB + rng.choice([0, 0, 0, PAGE, 0x30000])
            if rng.random() < 0.05:
                flags |= 0x40
        if rng.random() < 0.8:
            return "m", addr, length, prot, flags | 0x20, 0
        offset = rng.choice([0, 0, 1, 2, 8, 17, 512, (1 << 51) - 1, (1 << 52) - 1]) * PAGE
        return rng.choice("MMMR"), addr, length, prot, flags, rng.choice([offset, offset, offset, 5])

    def mremap(self) -> Call:
        rng = self.rng
        old = self.length()
        new = rng.choice([old, old, self.length(), self.length(16), self.any_length()])
        flags = rng.choice([0, 0, 1, 1, 1, 3, 3, 5, 2, 4, 8, 7])
        if flags & 4 and rng.random() < 0.7:
            new = old
        target = self.page() if rng.random() < 0.9 else self.address()
        return "r", self.address(), old if rng.random() < 0.95 else 0, new, flags, target

    def mlock(self, x: float) -> Call:
        rng = self.rng
        if x < 0.72:
            return rng.choice("lk"), self.address(), self.any_length()
        if x < 0.74:
            return "L", self.address(), self.any_length(), rng.choice([0, 1, 1, 1, 2])
        return "A", rng.choice([1, 2, 3, 4, 5, 6, 7, 0, 8])

    def lines(self) -> list[str]:
        return [" ".join([call[0], *(f"{arg & ULONG:x}" for arg in call[1:])]) for call in self.calls]


def generate(count: int, folder: Path) -> None:
    """One file a sequence, NUMBER.0 for root and NUMBER.1 for a user."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        sequence = Sequence(number)
        name = f"{number:03d}.{0 if sequence.root else 1}"
        (folder / name).write_text("\n".join(sequence.lines()) + "\n")


def join(output: Path, folder: Path) -> None:
    """calls.txt.gz from the recorder's output."""
    text = []
    recordings = output.read_text().split("#")[1:]
    for path, recording in zip(sorted(folder.iterdir()), recordings, strict=True):
        stat, init, *answers = recording.splitlines()
        text += [f"#{1000 * int(path.suffix[1:])} {stat}", init]
        text += [f"{call}\t{answer}" for call, answer in zip(path.read_text().splitlines(), answers, strict=False)]
    with gzip.GzipFile(Path(__file__).with_name("calls.txt.gz"), "wb", mtime=0) as file:
        file.write("\n".join(text).encode() + b"\n")


if __name__ == "__main__":
    if sys.argv[1] == "--join":
        join(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        generate(int(sys.argv[1]), Path(sys.argv[2]))
