"""The least that a file system on mfusepy can do: one file of constant content. `bare_fuse.py DIRECTORY BYTES`

Mounted with the options that mmfs mounts with, so that the difference is what mmfs does for a read.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from typing import Any

os.environ.setdefault("FUSE_LIBRARY_NAME", "fuse3")

import mfusepy


class OneFile(mfusepy.Operations):  # type: ignore[misc]
    """/meminfo and nothing else."""

    use_ns = True

    def __init__(self, content: bytes) -> None:
        self.content = content

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        """The root, the file, or ENOENT."""
        if path == "/":
            return {"st_mode": stat.S_IFDIR | 0o555, "st_nlink": 2}
        if path == "/meminfo":
            return {"st_mode": stat.S_IFREG | 0o444, "st_nlink": 1, "st_size": 0}
        raise mfusepy.FuseOSError(errno.ENOENT)

    def readdir(self, path: str, fh: int) -> list[str]:
        """The one name."""
        return [".", "..", "meminfo"]

    def open(self, path: str, flags: int) -> int:
        """Always the same handle."""
        return 1

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        """A piece of the content."""
        return self.content[offset : offset + size]


if __name__ == "__main__":
    options = {"direct_io": True, "attr_timeout": 1, "entry_timeout": 1, "auto_unmount": True, "fsname": "bare"}
    mfusepy.FUSE(OneFile(b"x" * int(sys.argv[2])), sys.argv[1], foreground=True, nothreads=True, **options)
