"""Commands of /sim/control that fill the slab as a leaking driver, or somebody who looks at every file, would."""

from __future__ import annotations

import errno
from collections.abc import Generator
from typing import TYPE_CHECKING, Final

from mmfs.fs.sim.control import BadCommandError, Words, command, number, size, word
from mmfs.mm.slab_common import KMALLOC_KINDS

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel

AT_ONCE: Final = 256
"""As many take less than a millisecond."""
MAX_KMALLOC: Final = 4 << 20


def kind(text: str) -> str:
    """A kind of kmalloc."""
    if text not in KMALLOC_KINDS:
        raise BadCommandError(f"{text!r} is none of {', '.join(KMALLOC_KINDS)}")
    return text


def length(text: str) -> int:
    """What kmalloc() can give."""
    value = size(text)
    if not 0 < value <= MAX_KMALLOC:
        raise BadCommandError(f"{text!r} is more than kmalloc() gives, or nothing")
    return value


@command("kmalloc", "SIZE [count=N] [kind=kmalloc]")
def kmalloc(kernel: Kernel, words: Words) -> Generator[None, None, str]:
    """Have a driver allocate and keep so many pieces of memory; answers how many it keeps."""
    nbytes, count = words.take("SIZE", length), words.option("count", number, 1)
    of = words.option("kind", kind, "kmalloc")
    words.end()
    kept = kernel.slab.kept.setdefault((nbytes, of), [])
    for done in range(count):
        obj = kernel.slab.kmalloc(nbytes, of)
        if not obj:
            raise OSError(errno.ENOMEM, f"no memory after {done} of {count}")
        kept.append(obj)
        if done % AT_ONCE == AT_ONCE - 1:
            yield
    return f"{len(kept)}\n"


@command("kfree", "SIZE [count=N] [kind=kmalloc]")
def kfree(kernel: Kernel, words: Words) -> Generator[None, None, str]:
    """Have the driver free the last so many of them, or all; answers how many it keeps."""
    nbytes, of = words.take("SIZE", length), words.option("kind", kind, "kmalloc")
    kept = kernel.slab.kept.setdefault((nbytes, of), [])
    count = words.option("count", number, len(kept))
    words.end()
    if count > len(kept):
        raise OSError(errno.EINVAL, f"{len(kept)} are kept")
    for done in range(count):
        kernel.slab.kfree(kept.pop())
        if done % AT_ONCE == AT_ONCE - 1:
            yield
    return f"{len(kept)}\n"


@command("find", "PID DIRECTORY COUNT")
def find(kernel: Kernel, words: Words) -> Generator[None, None, None]:
    """Have a process look at so many files of a directory, which are put on the disk if they are not there."""
    task, directory, count = words.task(), words.take("DIRECTORY", word), words.take("COUNT", number)
    words.end()
    for done in range(count):
        path = f"{directory.rstrip('/')}/{done}"
        if path not in kernel.namei.inodes:
            kernel.namei.install(path, 0)
        task.stat(path)
        if done % AT_ONCE == AT_ONCE - 1:
            yield
