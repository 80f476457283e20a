"""/dev: the directory.

Linux: drivers/base/devtmpfs.c.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from mmfs.kernfs import Directory
from mmfs.kernfs.rules import Rules

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel

DEVTMPFS = Rules("devtmpfs", skip_empty=False, create=errno.EACCES, mkdir=errno.EACCES)

dev: Directory[Kernel] = Directory(mode=0o755, rules=DEVTMPFS)
