"""/proc/devices, misc, consoles, tty/drivers: who registered which device numbers.

Linux: fs/proc/devices.c, drivers/char/misc.c, fs/proc/consoles.c, fs/proc/proc_tty.c.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmfs.fs.proc.root import proc

if TYPE_CHECKING:
    from mmfs.kernel.char_dev import TtyDriver
    from mmfs.kernel.kernel import Kernel

CONSOLE_NAME_WIDTH = 21

PSEUDO_TTYS = (
    ("/dev/tty", "tty", 5, 0, "system:/dev/tty"),
    ("/dev/console", "console", 5, 1, "system:console"),
    ("/dev/ptmx", "ptmx", 5, 2, "system"),
    ("/dev/vc/0", "vc/0", 4, 0, "system:vtmaster"),
)
"""Terminals without a driver of their own, which the kernel lists first."""


def majors(rows: list[tuple[int, str]]) -> str:
    """A row a registration, by major number; those of one major in the order of registration."""
    return "".join([f"{major:3d} {name}\n" for major, name in sorted(rows, key=lambda row: row[0])])


@proc.attribute("devices")
def devices(kernel: Kernel) -> str:
    """Major numbers of character and block devices."""
    block = list(kernel.block_devices.majors.items())
    return f"Character devices:\n{majors(kernel.chrdevs.chrdevs)}\nBlock devices:\n{majors(block)}"


@proc.attribute("misc")
def misc(kernel: Kernel) -> str:
    """Minor numbers of the devices that share major 10, newest first."""
    return "".join([f"{minor:3d} {name}\n" for minor, name in kernel.chrdevs.misc])


@proc.attribute("consoles")
def consoles(kernel: Kernel) -> str:
    """Where the log goes. Linux: fs/proc/consoles.c, show_console_dev()."""
    lines = []
    for console in kernel.chrdevs.consoles:
        name = f"{console.name}{console.index}"
        unblank = "U" if console.unblank else "-"
        lines.append(
            f"{name:<{CONSOLE_NAME_WIDTH}}-W{unblank} ({console.flags}) {console.major:4d}:{console.minor}\n"
        )
    return "".join(lines)


tty = proc.directory("tty")


@tty.attribute("drivers")
def drivers(kernel: Kernel) -> str:
    """Terminal drivers: name, device, major, minors, type. Linux: fs/proc/proc_tty.c, show_tty_driver()."""
    lines = [
        f"{name:<20} /dev/{node:<8} {major:3d} {minor:7d} {kind}\n" for name, node, major, minor, kind in PSEUDO_TTYS
    ]
    return "".join(lines + [tty_driver(driver) for driver in kernel.chrdevs.tty_drivers])


def tty_driver(driver: TtyDriver) -> str:
    """One driver's row."""
    minors = (
        f"{driver.minor_start}-{driver.minor_start + driver.num - 1}" if driver.num > 1 else f"{driver.minor_start:7d}"
    )
    return f"{driver.driver_name:<20} /dev/{driver.name:<8} {driver.major:3d} {minors} {driver.type}\n"
