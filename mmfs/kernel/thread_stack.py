"""The kernel stacks of tasks: pages of vmalloc, or where it has no room for them a block of contiguous ones.

Linux: kernel/fork.c, alloc_thread_stack_node(), account_kernel_stack().

Simplified: the few stacks per CPU that Linux keeps for the next fork are freed at once.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from mmfs.mm_types import GFP_KERNEL_ACCOUNT, GFP_ZERO_BIT, PAGE_SHIFT, NodeStatItem
from mmfs.profile import config

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task

VMAP_STACK: Final = config("VMAP_STACK")
THREADINFO_GFP: Final = GFP_KERNEL_ACCOUNT | GFP_ZERO_BIT


class VmapStacks:
    """Stacks whose pages lie anywhere."""

    def __init__(self, kernel: Kernel) -> None:
        self.vmalloc = kernel.vmalloc
        self.nr_pages = kernel.profile.arch.thread_pages

    def alloc(self, nid: int) -> list[int]:
        """The pages of a stack; OSError(ENOMEM)."""
        return self.vmalloc.alloc(self.nr_pages, nid)

    def free(self, pages: list[int]) -> None:
        """Give them back."""
        self.vmalloc.free(pages)


class LinearStacks:
    """Stacks in memory that the kernel has mapped."""

    def __init__(self, kernel: Kernel) -> None:
        self.page_alloc = kernel.page_alloc
        self.nr_pages = kernel.profile.arch.thread_pages
        self.order = (self.nr_pages - 1).bit_length()

    def alloc(self, nid: int) -> list[int]:
        """As VmapStacks.alloc()."""
        pfn = self.page_alloc.alloc_pages(THREADINFO_GFP, self.order, nid)
        if pfn < 0:
            raise OSError(errno.ENOMEM, "no memory for a kernel stack")
        return list(range(pfn, pfn + self.nr_pages))

    def free(self, pages: list[int]) -> None:
        """Give them back."""
        self.page_alloc.free_pages(pages[0], self.order)


def thread_stack_cache_init(kernel: Kernel) -> VmapStacks | LinearStacks:
    """How this kernel makes stacks. Linux: CONFIG_VMAP_STACK."""
    return VmapStacks(kernel) if VMAP_STACK(kernel) else LinearStacks(kernel)


def alloc_thread_stack(task: Task) -> None:
    """Give `task` its kernel stack; its creator's cgroup pays. OSError(ENOMEM)."""
    kernel = task.kernel
    pages = kernel.thread_stacks.alloc(kernel.cpu_to_node(task.processor))
    try:
        kernel.memcgs.charge_kmem(pages)
    except OSError:
        kernel.thread_stacks.free(pages)
        raise
    task.stack_pages = pages
    _account_kernel_stack(task, +1)


def free_thread_stack(task: Task) -> None:
    """Take it back."""
    _account_kernel_stack(task, -1)
    task.kernel.memcgs.uncharge_kmem(task.stack_pages)
    task.kernel.thread_stacks.free(task.stack_pages)
    task.stack_pages = []


def _account_kernel_stack(task: Task, sign: int) -> None:
    page_kb = 1 << PAGE_SHIFT - 10
    for pfn in task.stack_pages:
        task.kernel.lru.memcg.mod_folio_state(pfn, NodeStatItem.NR_KERNEL_STACK_KB, sign * page_kb)
