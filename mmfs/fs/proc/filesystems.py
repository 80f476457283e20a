"""/proc/filesystems: what can be mounted.

Linux: fs/filesystems.c, filesystems_proc_show().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmfs.fs.proc.root import proc

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel


@proc.attribute("filesystems")
def filesystems(kernel: Kernel) -> str:
    """A row a kind of file system; nodev: it needs no block device."""
    return "".join([f"{'' if fs.requires_dev else 'nodev'}\t{fs.name}\n" for fs in kernel.filesystems])
