"""/sys and the directories that its files hang on.

Linux: fs/sysfs, drivers/base/core.c.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeVar

from mmfs.kernfs import SYSFS, Directory, Text

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel

T = TypeVar("T")

DIRECTORY = 0o755

sys: Directory[Kernel] = Directory(rules=SYSFS)
bus = sys.directory("bus", mode=DIRECTORY)
devices = sys.directory("devices", mode=DIRECTORY)
system = devices.directory("system", mode=DIRECTORY)
virtual = devices.directory("virtual", mode=DIRECTORY)
fs = sys.directory("fs", mode=DIRECTORY)
kernel_dir = sys.directory("kernel", mode=DIRECTORY)
mm = kernel_dir.directory("mm", mode=DIRECTORY)


def facts(directory: Directory[T], table: Mapping[str, Callable[[T], Text]]) -> None:
    """Short files that are only read."""
    for name, show in table.items():
        directory.attributes(name, show)
