"""How Linux's virtual file systems differ at the edges.

What happens when a file has no read function, when a write is longer than a page, when root meets a mode of 0200:
procfs, /proc/PID, /proc/sys, sysfs and cgroup2 each have their own answer. A directory has the rules of its parent
unless it names its own.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

INT_MAX: Final = (1 << 31) - 1
GOLDEN_RATIO_64: Final = 0x61C8864680B583EB
_MASK: Final = (1 << 64) - 1


class Page:
    """How large a page is for whoever serves files, who says so before there are any. Linux: PAGE_SIZE."""

    size = 4096


@lru_cache(maxsize=1 << 16)
def kernfs_name_hash(name: str) -> int:
    """By this number sysfs and cgroup2 list names. Linux: fs/kernfs/dir.c, kernfs_name_hash()."""
    value = 0
    for byte in name.encode("utf-8", "surrogateescape"):
        value = (value + (byte << 4) + (byte >> 4)) * 11 & _MASK
    value = (value * GOLDEN_RATIO_64 & _MASK) >> 32 & INT_MAX
    return min(value + 2 if value < 2 else value, INT_MAX - 1)


@dataclass(frozen=True)
class Rules:
    """How one of Linux's virtual file systems answers where they differ."""

    name: str
    file_pages: int = 0
    """What st_size of a regular file claims: nothing, or a page."""
    no_method: int = errno.EINVAL
    """errno of read(2) or write(2) on a file that cannot be read or written."""
    strict_open: bool = False
    """open(2) is EACCES, even for root, if the mode forbids it to everybody or the file lacks the method."""
    strict_mode: bool = False
    """The mode's bits bind root too."""
    write_pages: int = 0
    """The longest write(2), if it is limited."""
    write_over: int = 0
    """errno of a longer one; 0: it is cut."""
    skip_empty: bool = True
    """write(2) of no bytes returns 0 before the file's function is asked."""
    create: int = errno.ENOENT
    """errno of open(2) with O_CREAT on a name that is not there."""
    mkdir: int = errno.ENOENT
    order: Callable[[str], int] | None = None
    """By what readdir(2) sorts names; None: as declared."""

    @property
    def file_size(self) -> int:
        """st_size of a regular file."""
        return self.file_pages * Page.size

    @property
    def write_max(self) -> int | None:
        """The longest write(2); None: any."""
        return self.write_pages * Page.size or None


PROC: Final = Rules("proc", no_method=errno.EIO, skip_empty=False)
"""Linux: fs/proc/inode.c, proc_reg_read()."""
PROC_PID: Final = Rules("pid", skip_empty=False)
"""Linux: fs/proc/base.c; fs/read_write.c, vfs_read(): EINVAL where a file has no such operation."""
SYSCTL: Final = Rules("sysctl", strict_mode=True, skip_empty=False)
"""Linux: fs/proc/proc_sysctl.c, test_perm()."""
SYSFS: Final = Rules(
    "sysfs",
    file_pages=1,
    no_method=errno.EIO,
    strict_open=True,
    write_pages=1,
    create=errno.EACCES,
    mkdir=errno.EPERM,
    order=kernfs_name_hash,
)
"""Linux: fs/kernfs/file.c, kernfs_fop_open() with KERNFS_ROOT_EXTRA_OPEN_PERM_CHECK."""
DEBUGFS: Final = Rules("debugfs", create=errno.EACCES, mkdir=errno.EPERM)
"""Linux: fs/debugfs/inode.c; files as their own file_operations have it."""
TMPFS_RO: Final = Rules("tmpfs", no_method=errno.EINVAL, create=errno.EROFS, mkdir=errno.EROFS)
"""A tmpfs that is mounted read-only."""
CGROUP2: Final = Rules(
    "cgroup2",
    write_pages=1,
    write_over=errno.E2BIG,
    create=errno.EACCES,
    mkdir=errno.EPERM,
    order=kernfs_name_hash,
)
"""Linux: kernel/cgroup/cgroup.c, cgroup_kf_ops; those of cgroup v1 are the same."""
