"""The kinds of CPU time, and what operations cost of it.

A CPU's time is in buckets, those of /proc/stat, which always add up to the time since it came up (kernel/rq.py).
What a system call or a fault takes is not measured but looked up here.

Linux: kernel/sched/cputime.c; include/linux/kernel_stat.h, enum cpu_usage_stat.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final


class CpuTime(IntEnum):
    """The buckets of a CPU's time, in the order of /proc/stat."""

    USER = 0
    NICE = 1
    SYSTEM = 2
    IDLE = 3
    IOWAIT = 4
    IRQ = 5
    SOFTIRQ = 6
    STEAL = 7
    GUEST = 8
    GUEST_NICE = 9


class Cost:
    """What operations cost, in nanoseconds of CPU time of a 2.4 GHz server core (orders of magnitude).

    scripts/benchmarks/costs.py measures those that a program can on the kernel that it runs on, and prints both.
    """

    SYSCALL: Final = 150
    FAULT_MINOR: Final = 500
    FAULT_COW: Final = 900
    FAULT_HUGE: Final = 200_000
    """Clearing 2 MB, which no cache holds, at 10 GB/s."""
    FAULT_MAJOR: Final = 4_000
    ACCESS: Final = 4
    UNMAP_PAGE: Final = 60
    COPY_PTE: Final = 25
    COPY_PAGE: Final = 250
    FORK: Final = 70_000
    EXEC: Final = 300_000
    EXIT: Final = 60_000
    SIGNAL: Final = 1_500
    WAKEUP: Final = 2_000
    TIMER_INTERRUPT: Final = 1_500
    BLOCK_INTERRUPT: Final = 3_000
    KTHREAD_SCAN: Final = 20_000
    READ_PAGE: Final = 400
    """Finding a page in the page cache and copying it out."""
    ADD_PAGE: Final = 350
    """Allocating a page for the page cache and putting it there."""
    DIRTY_PAGE: Final = 700
    """Copying a page in and making it dirty."""
    WRITE_PAGE: Final = 250
    """Handing a dirty page to the disk."""
    RECLAIM_SCAN: Final = 150
    RECLAIM_REFERENCED: Final = 250
    RECLAIM_UNMAP: Final = 500
    RECLAIM_PAGEOUT: Final = 1_500
    RECLAIM_STEAL: Final = 350
    COMPACT_SCAN: Final = 15
    """Looking at a page, free or in use, while compacting."""
    MIGRATE_PAGE: Final = 1_500
    """Unmapping a page everywhere, copying it, mapping the copy."""
