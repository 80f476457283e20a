"""What the kernel command line says about physical memory.

Linux: lib/cmdline.c; the early_param() handlers of arch/x86/kernel/e820.c, mm/mm_init.c, mm/hugetlb.c.
"""

from __future__ import annotations

from dataclasses import dataclass

from mmfs.mm_types import PAGE_SHIFT


@dataclass(frozen=True)
class BootOptions:
    """What the kernel command line says about physical memory."""

    mem: int | None = None
    kernelcore: str = ""
    movablecore: str = ""
    crashkernel: str = ""
    gigantic_pages: int = 0
    nokaslr: bool = False
    swiotlb: str = ""

    @classmethod
    def parse(cls, cmdline: str) -> BootOptions:
        """Pick the options out of a command line; what cannot be read is ignored as Linux does."""
        found: dict[str, str] = {}
        gigantic, size = 0, ""
        for word in cmdline.split():
            key, _, value = word.partition("=")
            found[key] = value
            if key == "hugepagesz":
                size = value
            elif key == "hugepages" and size.upper() == "1G" and value.isdecimal():
                gigantic = int(value)
        mem = memparse(found["mem"]) if found.get("mem") else None
        return cls(
            mem=mem or None,
            kernelcore=found.get("kernelcore", ""),
            movablecore=found.get("movablecore", ""),
            crashkernel=found.get("crashkernel", ""),
            gigantic_pages=gigantic,
            nokaslr="nokaslr" in found,
            swiotlb=found.get("swiotlb", ""),
        )

    def core_pages(self, text: str, total: int) -> int:
        """Pages of a kernelcore= or movablecore= value: bytes or a percentage of all."""
        if text.endswith("%"):
            return total * 100 * int(text[:-1] or 0) // 10000 if text[:-1].isdecimal() else 0
        return memparse(text) >> PAGE_SHIFT


def memparse(text: str) -> int:
    """A number with an optional K, M, G, T. Linux: lib/cmdline.c, memparse()."""
    digits = text[: len(text) - len(text.lstrip("0123456789"))]
    if text[:2].lower() == "0x":
        rest = text[2:].lstrip("0123456789abcdefABCDEF")
        value, suffix = int(text[: len(text) - len(rest)], 16) if len(rest) < len(text) - 2 else 0, rest[:1]
    else:
        value, suffix = int(digits or 0), text[len(digits) : len(digits) + 1]
    return value << {"K": 10, "M": 20, "G": 30, "T": 40, "P": 50, "E": 60}.get(suffix.upper(), 0)
