"""Commands of /sim/control that are about the machine as a whole."""

from __future__ import annotations

import errno
from collections.abc import Generator
from typing import TYPE_CHECKING

from mmfs.fs.sim.clock import set_clock
from mmfs.fs.sim.control import Words, command, number, size, word

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel


@command("create", "FILE SIZE")
def create(kernel: Kernel, words: Words) -> None:
    """Put a file on the disk, nothing of it cached."""
    path, length = words.take("FILE", word), words.take("SIZE", size)
    words.end()
    kernel.create_file(path, length)


@command("mkswap", "PATH")
def mkswap(kernel: Kernel, words: Words) -> None:
    """Make a disk or a file a swap area."""
    path = words.take("PATH", word)
    words.end()
    kernel.mkswap(path)


@command("swapon", "PATH [priority=N]")
def swapon(kernel: Kernel, words: Words) -> None:
    """Let memory be swapped out to a disk or a file."""
    path, priority = words.take("PATH", word), words.option("priority", number, -1)
    words.end()
    kernel.swapon(path, priority)


@command("swapoff", "PATH")
def swapoff(kernel: Kernel, words: Words) -> None:
    """Read everything back from a swap area and let it be."""
    path = words.take("PATH", word)
    words.end()
    kernel.swapoff(path)


@command("modprobe", "zram [num_devices=N]")
def modprobe(kernel: Kernel, words: Words) -> None:
    """Load a module: zram, disks in memory that are set up in /sys/block/zram0."""
    name, count = words.take("zram", word), words.option("num_devices", number, 1)
    words.end()
    if name != "zram":
        raise OSError(errno.ENOENT, f"no module {name}")
    kernel.zrams.load(count)


@command("translate", "PID ADDR")
def translate(kernel: Kernel, words: Words) -> str:
    """Walk a process's page tables for an address, each entry decoded."""
    pid, addr = words.take("PID", number), words.take("ADDR", number)
    words.end()
    try:
        return str(kernel.translate(pid, addr))
    except ProcessLookupError:
        raise OSError(errno.ESRCH, f"no process {pid}") from None
    except ValueError as error:
        raise OSError(errno.EINVAL, str(error)) from None


@command("clock", "pause | run | rate X | step TIME")
def clock(kernel: Kernel, words: Words) -> Generator[None, None, None]:
    """Stop, start or move simulated time, as /sim/clock does."""
    return set_clock(kernel, " ".join(words.rest()))


@command("check")
def check(kernel: Kernel, words: Words) -> str:
    """Hold every invariant of the model against its state."""
    words.end()
    try:
        kernel.check()
    except AssertionError as wrong:
        raise OSError(errno.EIO, str(wrong)) from None
    return "ok\n"
