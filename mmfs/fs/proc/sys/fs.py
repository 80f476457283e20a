"""/proc/sys/fs: files, inodes and names in memory, and limits of what hangs on them.

Linux: fs/file_table.c, fs/inode.c, fs/dcache.c, fs/aio.c, fs/pipe.c, fs/namei.c, fs/notify, fs/eventpoll.c.

Simplified: the counts are exact where Linux's lag by a batch per CPU. The limits of asynchronous I/O, pipes, leases and
watches only keep what is written, as nothing simulated uses these.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from mmfs.fs.proc.sys.root import fact, register_sysctl, sysctl_directory, tunable
from mmfs.kernfs import fail
from mmfs.kernfs.kstrtox import INT_MAX, long_max
from mmfs.kernfs.sysctl import (
    proc_dointvec,
    proc_dointvec_minmax,
    proc_douintvec,
    proc_douintvec_minmax,
    proc_doulongvec_minmax,
)
from mmfs.mm_types import PAGE_SIZE
from mmfs.profile import since

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.params import FsSysctl

BITS_PER_LONG: Final = 64
NR_OPEN_MAX: Final = INT_MAX & -BITS_PER_LONG
MAXOLDUID: Final = 65535
DENTRY_AGE_LIMIT: Final = 45
INODE_CACHES: Final = (
    "ext4_inode_cache",
    "fuse_inode",
    "hugetlbfs_inode_cache",
    "inode_cache",
    "mqueue_inode_cache",
    "proc_inode_cache",
    "shmem_inode_cache",
    "sock_inode_cache",
    "tracefs_inode_cache",
)

fs = sysctl_directory()
epoll = sysctl_directory()
fanotify = sysctl_directory()
inotify = sysctl_directory()


def of_fs(kernel: Kernel) -> FsSysctl:
    """Where plain tunables stand."""
    return kernel.fs_sysctl


# -- counts ----------------------------------------------------------------------------------------------------


def nr_inodes(kernel: Kernel) -> int:
    """Inodes in memory. Linux: fs/inode.c, get_nr_inodes()."""
    return sum(kernel.slab[name].nr_objects_inuse for name in INODE_CACHES if name in kernel.slab)


def nr_unused_dentries(kernel: Kernel) -> int:
    """Names that nobody uses: those of files that are not open. Linux: fs/dcache.c, get_nr_dentry_unused()."""
    return sum(1 for inode in kernel.namei.inodes.values() if not inode.i_count)


def dentry_state(kernel: Kernel) -> str:
    """Linux: fs/dcache.c, proc_nr_dentry()."""
    nr_dentry = kernel.slab["dentry"].nr_objects_inuse
    return f"{nr_dentry}\t{nr_unused_dentries(kernel)}\t{DENTRY_AGE_LIMIT}\t0\t0\t0\n"


def file_nr(kernel: Kernel) -> str:
    """Linux: fs/file_table.c, proc_nr_files()."""
    return f"{kernel.slab['filp'].nr_objects_inuse}\t0\t{kernel.fs_sysctl.file_max}\n"


def inode_nr(kernel: Kernel) -> str:
    """Linux: fs/inode.c, proc_nr_inodes(); an inode that has a name is pinned by it, and so not unused."""
    return f"{nr_inodes(kernel)}\t0\n"


def inode_state(kernel: Kernel) -> str:
    """Linux: fs/inode.c, inodes_stat."""
    return f"{nr_inodes(kernel)}\t0\t0\t0\t0\t0\t0\n"


class proc_dopipe_max_size(proc_douintvec):
    """Bytes, rounded up to a power of two of at least a page. Linux: fs/pipe.c, do_proc_dopipe_max_size_conv()."""

    def to_value(self, negative: bool, magnitude: int) -> int:
        size = super().to_value(negative, magnitude)
        if size > 1 << 31:
            fail(errno.EINVAL)
        return 1 << (max(size, PAGE_SIZE) - 1).bit_length()


INT = proc_dointvec()
NATURAL = proc_dointvec_minmax(0)
FLAG = proc_dointvec_minmax(0, 1)
ULONG = proc_doulongvec_minmax()
ULONG_TO_INT_MAX = proc_doulongvec_minmax(0, INT_MAX)

register_sysctl(fs, (
    tunable(of_fs, "aio-max-nr", ULONG),
    fact("aio-nr", lambda kernel: f"{kernel.fs_sysctl.aio_nr}\n"),
    tunable(of_fs, "dentry-negative", FLAG, field="dentry_negative", needs=since(6, 13)),
    fact("dentry-state", dentry_state),
    tunable(of_fs, "dir-notify-enable", INT),
    tunable(of_fs, "file-max", proc_doulongvec_minmax(0, long_max)),
    fact("file-nr", file_nr),
    fact("inode-nr", inode_nr),
    fact("inode-state", inode_state),
    tunable(of_fs, "lease-break-time", INT),
    tunable(of_fs, "leases-enable", INT),
    tunable(of_fs, "mount-max", proc_dointvec_minmax(1)),
    tunable(of_fs, "nr_open", proc_douintvec_minmax(BITS_PER_LONG, NR_OPEN_MAX)),
    tunable(of_fs, "overflowgid", proc_dointvec_minmax(0, MAXOLDUID)),
    tunable(of_fs, "overflowuid", proc_dointvec_minmax(0, MAXOLDUID)),
    tunable(of_fs, "pipe-max-size", proc_dopipe_max_size()),
    tunable(of_fs, "pipe-user-pages-hard", ULONG),
    tunable(of_fs, "pipe-user-pages-soft", ULONG),
    tunable(of_fs, "protected_fifos", proc_dointvec_minmax(0, 2)),
    tunable(of_fs, "protected_hardlinks", FLAG),
    tunable(of_fs, "protected_regular", proc_dointvec_minmax(0, 2)),
    tunable(of_fs, "protected_symlinks", FLAG),
    tunable(of_fs, "suid_dumpable", proc_dointvec_minmax(0, 2)),
))  # fmt: skip

register_sysctl(epoll, (tunable(of_fs, "max_user_watches", proc_doulongvec_minmax(0, long_max),
                                field="epoll_max_user_watches"),))  # fmt: skip
register_sysctl(fanotify, (
    tunable(of_fs, "max_queued_events", NATURAL, field="fanotify_max_queued_events"),
    tunable(of_fs, "max_user_groups", ULONG_TO_INT_MAX, field="fanotify_max_user_groups"),
    tunable(of_fs, "max_user_marks", ULONG_TO_INT_MAX, field="fanotify_max_user_marks"),
))  # fmt: skip
register_sysctl(inotify, (
    tunable(of_fs, "max_queued_events", NATURAL, field="inotify_max_queued_events"),
    tunable(of_fs, "max_user_instances", ULONG_TO_INT_MAX, field="inotify_max_user_instances"),
    tunable(of_fs, "max_user_watches", ULONG_TO_INT_MAX, field="inotify_max_user_watches"),
))  # fmt: skip
