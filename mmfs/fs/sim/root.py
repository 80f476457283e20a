"""/sim: the directory."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from mmfs.kernfs import Directory
from mmfs.kernfs.rules import Rules

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel

SIM = Rules("sim", skip_empty=False, create=errno.EACCES, mkdir=errno.EACCES)

sim: Directory[Kernel] = Directory(mode=0o755, rules=SIM)
