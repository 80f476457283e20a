"""/dev: the one device that is about the machine itself, its log.

Linux: drivers/base/devtmpfs.c.
"""

from mmfs.fs.dev import kmsg
from mmfs.fs.dev.root import dev

__all__ = ["dev", "kmsg"]
