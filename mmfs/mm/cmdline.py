"""What the kernel command line says about physical memory and huge pages.

Linux: lib/cmdline.c; the early_param() handlers of arch/x86/kernel/e820.c, mm/mm_init.c, mm/hugetlb.c.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from mmfs.arch import Arch
from mmfs.mm_types import HPAGE_PMD_SIZE, MAX_PAGE_ORDER, PAGE_SHIFT, PAGE_SIZE

MB = 1 << 20


@dataclass(frozen=True)
class BootOptions:
    """What the kernel command line says about physical memory."""

    mem: int | None = None
    kernelcore: str = ""
    movablecore: str = ""
    crashkernel: str = ""
    gigantic_pages: tuple[tuple[int | None, int], ...] = ()
    """How many of the largest huge pages on which nodes; None: on all in turn."""
    nokaslr: bool = False
    swiotlb: str = ""
    log_buf_len: int = 0

    @classmethod
    def parse(cls, cmdline: str, arch: Arch) -> BootOptions:
        """Pick the options out of a command line; what cannot be read is ignored as Linux does."""
        found: dict[str, str] = {}
        for word in cmdline.split():
            key, _, value = word.partition("=")
            found[key] = value
        sizes = [PAGE_SIZE << order for order in arch.hugetlb_orders]
        hugetlb = HugetlbOptions.parse(cmdline, sizes)
        gigantic = [text for size, text in hugetlb.counts if size == sizes[0] > PAGE_SIZE << MAX_PAGE_ORDER]
        mem = memparse(found["mem"]) if found.get("mem") else None
        return cls(
            mem=mem or None,
            kernelcore=found.get("kernelcore", ""),
            movablecore=found.get("movablecore", ""),
            crashkernel=found.get("crashkernel", ""),
            gigantic_pages=tuple(one for text in gigantic for one in node_counts(text)),
            nokaslr="nokaslr" in found,
            swiotlb=found.get("swiotlb", ""),
            log_buf_len=memparse(found.get("log_buf_len", "")),
        )

    def core_pages(self, text: str, total: int) -> int:
        """Pages of a kernelcore= or movablecore= value: bytes or a percentage of all."""
        if text.endswith("%"):
            return total * 100 * int(text[:-1] or 0) // 10000 if text[:-1].isdecimal() else 0
        return memparse(text) >> PAGE_SHIFT


@dataclass(frozen=True)
class HugetlbOptions:
    """What the command line says about huge pages, sizes in bytes: the default one, and (size, text of hugepages=)."""

    default: int
    counts: list[tuple[int, str]]

    @classmethod
    def parse(cls, cmdline: str, sizes: Collection[int]) -> HugetlbOptions:
        """Each size once; what speaks of none of `sizes`, or twice of the same, is ignored.

        Linux: mm/hugetlb.c, hugepages_setup(), hugepagesz_setup(), default_hugepagesz_setup().
        """
        default, size, valid = 0, 0, True  # 0: the default, as long as nobody has said which
        found: dict[int, str] = {}
        for word in cmdline.split():
            key, _, value = word.partition("=")
            if key in ("hugepagesz", "default_hugepagesz") and not (default and key[0] == "d"):
                size = memparse(value)
                valid = size in sizes
                if valid and key[0] == "d":
                    default = size
                    if 0 in found:
                        found[size] = found.pop(0)
            elif key == "hugepages":
                if valid:
                    found.setdefault(size, value)
                valid = True
        default = default or HPAGE_PMD_SIZE
        if 0 in found:
            found[default] = found.pop(0)
        return cls(default, list(found.items()))


def node_counts(text: str) -> list[tuple[int | None, int]]:
    """hugepages=N or NODE:N,NODE:N: (node, count), up to what cannot be read."""
    if text.isdecimal():
        return [(None, int(text))]
    counts: list[tuple[int | None, int]] = []
    for part in text.split(","):
        node, colon, count = part.partition(":")
        if not (colon and node.isdecimal() and count.isdecimal()):
            break
        counts.append((int(node), int(count)))
    return counts


def memparse(text: str) -> int:
    """A number with an optional K, M, G, T. Linux: lib/cmdline.c, memparse()."""
    digits = text[: len(text) - len(text.lstrip("0123456789"))]
    if text[:2].lower() == "0x":
        rest = text[2:].lstrip("0123456789abcdefABCDEF")
        value, suffix = int(text[: len(text) - len(rest)], 16) if len(rest) < len(text) - 2 else 0, rest[:1]
    else:
        value, suffix = int(digits or 0), text[len(digits) : len(digits) + 1]
    return value << {"K": 10, "M": 20, "G": 30, "T": 40, "P": 50, "E": 60}.get(suffix.upper(), 0)
