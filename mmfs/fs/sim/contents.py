"""/sim/contents: how well pages compress, for zswap and zram. A machine has no contents of pages of its own."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from mmfs.fs.sim.root import sim
from mmfs.kernfs import fail
from mmfs.mm.zswap import CONTENT_KINDS, CONTENT_TERMS, parse_contents

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel


@sim.attribute("contents")
def contents(kernel: Kernel) -> str:
    """A row a kind of pages: in thousandths, to how much of its size one compresses with lz4, give or take how much;
    how many do not compress, are one word all over, are zero all over."""
    rows = kernel.zswap.loops.contents.table.tolist()
    return "".join(
        f"{kind} {' '.join(f'{term}={value}' for term, value in zip(CONTENT_TERMS, row, strict=True))}\n"
        for kind, row in zip(CONTENT_KINDS, rows, strict=True)
    )


@contents.store
def contents_store(kernel: Kernel, buf: str) -> None:
    """`anon mean=250 incompressible=20`: for pages that are compressed from now on."""
    try:
        parse_contents(kernel.zswap.loops.contents, buf)
    except ValueError:
        fail(errno.EINVAL)
