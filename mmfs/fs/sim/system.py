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


@command("mount", "hugetlbfs DIRECTORY [OPTIONS]")
def mount(kernel: Kernel, words: Words) -> None:
    """Mount a file system of huge pages; options such as pagesize=1G,size=4G,min_size=2G,nr_inodes=100."""
    fstype, directory, options = words.take("hugetlbfs", word), words.take("DIRECTORY", word), words.rest()
    kernel.tasks[1].mount("none", directory, fstype, ",".join(options))


@command("remount", "DIRECTORY [OPTIONS]")
def remount(kernel: Kernel, words: Words) -> None:
    """Give a tmpfs other options, such as huge=always, within_size, advise or never."""
    directory, options = words.take("DIRECTORY", word), words.rest()
    kernel.tasks[1].mount("none", directory, "tmpfs", ",".join(["remount", *options]))


@command("umount", "DIRECTORY")
def umount(kernel: Kernel, words: Words) -> None:
    """Take a file system of huge pages away, and its files."""
    directory = words.take("DIRECTORY", word)
    words.end()
    kernel.tasks[1].umount(directory)


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


@command("plug", "SIZE [node=N]")
def plug(kernel: Kernel, words: Words) -> str:
    """Put a module of memory into a free slot (--maxmem), for auto_online_blocks to decide; its name is the answer."""
    length, nid = words.take("SIZE", size), words.option("node", number, 0)
    words.end()
    if not 0 <= nid < len(kernel.node_data):
        raise OSError(errno.EINVAL, f"no node {nid}")
    return f"{kernel.memory_hotplug.plug(length, nid)}\n"


@command("unplug", "NAME")
def unplug(kernel: Kernel, words: Words) -> None:
    """Take a module of memory out again, once all of it could be moved away."""
    name = words.take("NAME", word)
    words.end()
    kernel.memory_hotplug.unplug(name)


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
