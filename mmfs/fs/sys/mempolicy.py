"""/sys/kernel/mm/mempolicy: how many pages each node gets in turn by weighted interleave.

Linux: mm/mempolicy.c, mempolicy_sysfs_init(), node_store().
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from mmfs.fs.sys.root import DIRECTORY, mm
from mmfs.kernfs import kstrtobool
from mmfs.kernfs.kstrtox import fail, kstrtou8, sysfs_streq
from mmfs.mm.mempolicy import AUTO
from mmfs.profile import Needs, config, since

if TYPE_CHECKING:
    from collections.abc import Callable

    from mmfs.kernel.kernel import Kernel

MAX_NUMNODES: Final = 64
AUTO_MISNAMED: Final = Needs(lambda profile: profile.version == (7, 0, 0))
"""7.0 as it was released: its headers make another word of `auto`, which became the name of the file."""

mempolicy = mm.directory("mempolicy", mode=DIRECTORY, needs=since(6, 12) & config("NUMA"))
weighted_interleave = mempolicy.directory("weighted_interleave", mode=DIRECTORY)


def _node(nid: int) -> tuple[Callable[[Kernel], int], Callable[[Kernel, str], None], Callable[[Kernel], bool]]:
    """How a node's weight is read and written, and whether there is such a node."""

    def show(kernel: Kernel) -> int:
        return max(int(kernel.mmu.areas.weights[nid]), 1)

    def store(kernel: Kernel, buf: str) -> None:
        auto = AUTO(kernel)
        try:
            weight = 0 if sysfs_streq(buf, "") and not auto else kstrtou8(buf)
        except OSError:
            fail(errno.EINVAL)
        if auto and not weight:
            fail(errno.EINVAL)
        kernel.weighted_interleave.set_weight(nid, weight)

    return show, store, lambda kernel: nid < len(kernel.node_data)


for _nid in range(MAX_NUMNODES):
    _show, _store, _exists = _node(_nid)
    weighted_interleave.attributes(f"node{_nid}", _show, _store, needs=_exists)


def auto_show(kernel: Kernel) -> str:
    """Whether the weights follow from what firmware tells of the nodes' memory."""
    return f"{str(kernel.weighted_interleave.auto).lower()}\n"


def auto_store(kernel: Kernel, buf: str) -> None:
    """Linux: weighted_interleave_auto_store()."""
    try:
        value = kstrtobool(buf)
    except OSError:
        fail(errno.EINVAL)
    kernel.weighted_interleave.set_auto(value)


weighted_interleave.attributes("auto", auto_show, auto_store, mode=0o664, needs=AUTO & ~AUTO_MISNAMED)
weighted_interleave.attributes("__auto_type", auto_show, auto_store, mode=0o664, needs=AUTO & AUTO_MISNAMED)
