"""Kernel logs of real OOM kills, and what of two logs must agree.

What is left out of a log: registers and code bytes (nothing in mmfs has any), frames of the call stack beyond the
allocation (they differ from path to path), the kernel's random offset, and what happened besides. What is masked:
numbers at any width, which migratetypes' blocks a zone has, whether a node is unreclaimable, and which slab caches
there are.
Call stacks are compared with their offsets.
"""

from __future__ import annotations

import re
from pathlib import Path

LOGS = Path(__file__).parent / "oom"

_STAMP = re.compile(r"^\[ *\d+\.\d+\] ", re.MULTILINE)
_LEFT_OUT = re.compile(
    r"(RIP|RSP|R\w\w|E[A-Z]{2}|DS|Code): |Kernel Offset: | \? |Adding |init \(1\): |hrtimer: |sysrq: HELP : "
    r"| (alloc_pages_mpol|vma_alloc_folio|do_anonymous_page|__handle_mm_fault|handle_mm_fault|do_user_addr_fault"
    r"|exc_page_fault|asm_exc_page_fault|__folio_alloc|__get_free_pages|preallocate_pmds|pgd_alloc|mm_init|copy_process"
    r"|folio_alloc_mpol|vma_alloc_zeroed_movable_folio|do_page_fault|do_translation_fault|do_mem_abort|el0_da|el0t_64_sync"
    r"|kernel_clone|__ia32_sys_clone|ia32_sys_call|(__)?do_fast_syscall_32|do_SYSENTER_32|entry_SYSENTER_32)[\w.]*\+"
)
_FRAME = re.compile(r" [\w.]+\+0x")
_SLAB_ROW = re.compile(r"(\S+) +\d+KB +\d+KB")


def masked(line: str) -> str:
    """A line of a report with its numbers masked."""
    if _FRAME.match(line):
        return line
    if _SLAB_ROW.fullmatch(line):
        name, used, total = line.split()
        assert line == f"{name:<17} {used:>12} {total:>12}"
        return "SLAB"
    line = re.sub(r"(\d+\*\d+kB)( \([UMEHI]+\))?", r"\1", line)
    line = re.sub(r"unreclaimable\? (yes|no)", "unreclaimable?", line)
    if line.startswith("["):  # the table of tasks: columns
        return re.sub(r" *-?\d+", lambda match: "#" * len(match.group()), line)
    return re.sub(r"-?\d+", "#", line)


def report(text: str) -> list[str]:
    """The lines of a log that must agree; several slab caches one after the other are one."""
    lines: list[str] = []
    for line in _STAMP.sub("", text).splitlines():
        if not _LEFT_OUT.match(line) and not ((shown := masked(line)) == "SLAB" and lines[-1:] == ["SLAB"]):
            lines.append(shown)
    return lines


def kmsg(text: str) -> str:
    """Records as /dev/kmsg gives them, as lines that begin with the level."""
    lines = []
    for record in text.splitlines():
        header, _, said = record.partition(";")
        level = header.partition(",")[0]
        lines += [f"{level}|{line}" for line in said.replace("\\x0a", "\n").split("\n")]
    return "\n".join(lines)


def with_levels(text: str) -> list[str]:
    """The same for records of /dev/kmsg, each line with its level in front."""
    lines: list[str] = []
    for line in kmsg(text).splitlines():
        level, _, said = line.partition("|")
        for shown in report(said):
            if not (shown == "SLAB" and lines[-1:] == [f"{level}|SLAB"]):
                lines.append(f"{level}|{shown}")
    return lines
