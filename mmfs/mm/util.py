"""Overcommit: how much memory the machine promises, and when it refuses to promise more.

A private writable mapping promises a page for each of its addresses, whether or not one is ever touched.
`vm_committed_as` is the sum of those promises (Committed_AS in /proc/meminfo). What is done with the sum
depends on vm.overcommit_memory:

* 0, guess: only a single request that exceeds all RAM and swap together is refused.
* 1, always: nothing is refused.
* 2, never: the sum must stay below CommitLimit, that is overcommit_ratio percent of RAM (less what hugetlb
  holds; or overcommit_kbytes) plus swap; of this, admin_reserve_kbytes are root's, and a process may not take the
  last user_reserve_kbytes (at most 1/32 of its own size).

The mode does not change what is counted, with one exception: MAP_NORESERVE keeps a mapping out of the sum in
modes 0 and 1 and is ignored in mode 2.

Linux: mm/util.c, __vm_enough_memory(); mm/mmap.c, init_user_reserve(), init_admin_reserve().

Simplified: the sum is exact; Linux keeps it per CPU and reads it with a deviation of up to the batch in modes 0
and 1.
"""

from __future__ import annotations

from errno import ENOMEM
from typing import TYPE_CHECKING

from mmfs.mm.mman import CAP_SYS_ADMIN
from mmfs.mm_types import PAGE_SHIFT, ZoneStatItem

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.mm.mm_struct import MmStruct

OVERCOMMIT_GUESS = 0
OVERCOMMIT_ALWAYS = 1
OVERCOMMIT_NEVER = 2

SZ_8K = 8 << 10
SZ_128K = 128 << 10

RATELIMIT_INTERVAL_NS = 5_000_000_000
RATELIMIT_BURST = 10
LOG_WARNING, LOG_INFO = 4, 6


class RateLimit:
    """Ten messages every five seconds. Linux: lib/ratelimit.c, struct ratelimit_state."""

    __slots__ = ("begin_ns", "missed", "printed")

    def __init__(self) -> None:
        self.begin_ns: int | None = None
        self.printed = 0
        self.missed = 0

    def warn(self, kernel: Kernel, function: str, text: str) -> None:
        """Log a warning unless there have been too many. Linux: pr_warn_ratelimited()."""
        now = kernel.clock.now_ns
        if self.begin_ns is None or now - self.begin_ns > RATELIMIT_INTERVAL_NS:
            if self.missed:
                kernel.printk.emit(f"{function}: {self.missed} callbacks suppressed", LOG_WARNING)
            self.begin_ns, self.printed, self.missed = now, 0, 0
        if self.printed < RATELIMIT_BURST:
            self.printed += 1
            kernel.printk.emit(text, LOG_WARNING)
        else:
            self.missed += 1


class Overcommit:
    """The promises of one machine. Linux: mm/util.c, vm_committed_as and the overcommit sysctls."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.sysctl_overcommit_memory = OVERCOMMIT_GUESS
        self.sysctl_overcommit_ratio = 50
        self.sysctl_overcommit_kbytes = 0
        self.sysctl_user_reserve_kbytes = SZ_128K
        self.sysctl_admin_reserve_kbytes = SZ_8K
        self.vm_committed_as = 0
        self._ratelimit = RateLimit()
        self._warned: set[str] = set()

    def init_reserves(self) -> None:
        """Set the reserves at boot: 3 % of free memory, at most 128 MB and 8 MB.

        Linux: mm/mmap.c, init_user_reserve(), init_admin_reserve().
        """
        free_kbytes = int(self.kernel.vmstat.global_zone_page_state(ZoneStatItem.NR_FREE_PAGES)) << PAGE_SHIFT - 10
        self.sysctl_user_reserve_kbytes = min(free_kbytes // 32, SZ_128K)
        self.sysctl_admin_reserve_kbytes = min(free_kbytes // 32, SZ_8K)

    def reserve_mem_notifier(self, online: bool) -> None:
        """Memory came or went: reserves that were not set by anybody, or are too large now, are worked out again.

        Linux: mm/mmap.c, reserve_mem_notifier().
        """
        free_kbytes = int(self.kernel.vmstat.global_zone_page_state(ZoneStatItem.NR_FREE_PAGES)) << PAGE_SHIFT - 10
        for name, most in (("user_reserve_kbytes", SZ_128K), ("admin_reserve_kbytes", SZ_8K)):
            kbytes = getattr(self, f"sysctl_{name}")
            wanted = min(free_kbytes // 32, most)
            if online and 0 < kbytes < most:
                setattr(self, f"sysctl_{name}", wanted)
            elif not online and kbytes > free_kbytes:
                setattr(self, f"sysctl_{name}", wanted)
                self.kernel.printk.emit(f"vm.{name} reset to {wanted}", LOG_INFO)

    def warn_once(self, what: str, text: str) -> None:
        """Log a warning the first time since boot. Linux: pr_warn_once()."""
        if what not in self._warned:
            self._warned.add(what)
            self.kernel.printk.emit(text, LOG_WARNING)

    def set_overcommit_ratio(self, ratio: int) -> None:
        """Write vm.overcommit_ratio, which switches overcommit_kbytes off. Linux: overcommit_ratio_handler()."""
        self.sysctl_overcommit_ratio = ratio
        self.sysctl_overcommit_kbytes = 0

    def set_overcommit_kbytes(self, kbytes: int) -> None:
        """Write vm.overcommit_kbytes, which switches overcommit_ratio off. Linux: overcommit_kbytes_handler()."""
        self.sysctl_overcommit_kbytes = kbytes
        self.sysctl_overcommit_ratio = 0

    def vm_memory_committed(self) -> int:
        """Pages promised. Linux: mm/util.c, vm_memory_committed()."""
        return max(self.vm_committed_as, 0)

    def vm_commit_limit(self) -> int:
        """Pages that mode 2 allows to promise. Linux: mm/util.c, vm_commit_limit()."""
        if self.sysctl_overcommit_kbytes:
            allowed = self.sysctl_overcommit_kbytes >> PAGE_SHIFT - 10
        else:
            ram = self.kernel.totalram_pages() - self.kernel.hugetlb_total_pages()
            allowed = ram * self.sysctl_overcommit_ratio // 100
        return allowed + self.kernel.total_swap_pages

    def vm_acct_memory(self, pages: int) -> None:
        """Add to the promises (or take away) unconditionally. Linux: include/linux/mman.h, vm_acct_memory()."""
        self.vm_committed_as += pages

    def vm_unacct_memory(self, pages: int) -> None:
        """Take promises back. Linux: include/linux/mman.h, vm_unacct_memory()."""
        self.vm_committed_as -= pages

    def enough_memory(self, pages: int, mm: MmStruct | None = None, cap_sys_admin: bool | None = None) -> None:
        """Promise `pages` more, or raise ENOMEM. Linux: mm/util.c, __vm_enough_memory().

        Without `cap_sys_admin`, the owner of `mm` decides (Linux: security_vm_enough_memory_mm()).
        """
        if cap_sys_admin is None:
            cap_sys_admin = mm is None or mm.capable(CAP_SYS_ADMIN)
        self.vm_committed_as += pages
        if self.sysctl_overcommit_memory == OVERCOMMIT_ALWAYS:
            return
        if self.sysctl_overcommit_memory == OVERCOMMIT_GUESS:
            if pages <= self.kernel.totalram_pages() + self.kernel.total_swap_pages:
                return
        elif self.vm_memory_committed() < self._allowed(mm, cap_sys_admin):
            return
        pid, comm = (mm.owner.pid, mm.owner.comm) if mm is not None and mm.owner is not None else (0, "swapper/0")
        self._ratelimit.warn(
            self.kernel,
            "__vm_enough_memory",
            f"__vm_enough_memory: pid: {pid}, comm: {comm}, bytes: {pages << PAGE_SHIFT} "
            "not enough memory for the allocation",
        )
        self.vm_committed_as -= pages
        raise OSError(ENOMEM, f"overcommit: {pages} pages more are refused")

    def _allowed(self, mm: MmStruct | None, cap_sys_admin: bool) -> int:
        allowed = self.vm_commit_limit()
        if not cap_sys_admin:
            allowed -= self.sysctl_admin_reserve_kbytes >> PAGE_SHIFT - 10
        if mm is not None:
            allowed -= min(mm.total_vm // 32, self.sysctl_user_reserve_kbytes >> PAGE_SHIFT - 10)
        return allowed
