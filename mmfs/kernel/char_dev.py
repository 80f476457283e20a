"""Character devices: who registered which number, and in which order.

A driver asks for a major number of its own or takes the highest free one below 255; small devices share major 10
and ask for a minor in the same way from 256 up. /proc/devices, /proc/misc, /proc/tty/drivers and /proc/consoles
print these registrations, so all that is here is the list of drivers that Debian's kernel has
built in, in the order in which they register on a PC, and the rules that give them numbers.

Linux: fs/char_dev.c, drivers/char/misc.c, drivers/tty/tty_io.c, kernel/printk/printk.c.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from mmfs.profile import Needs, Profile, config, since, until

PL011: Final = config("ARM64")
DYNAMIC: Final = 0
DYN_MAJOR_FIRST: Final = 254
MISC_MAJOR: Final = 10
MISC_DYNAMIC_FIRST: Final = 256
Registration = tuple[int, str] | tuple[int, str, Needs]
"""A number, a name, and which kernels have it if not all."""

CHRDEVS: Final[tuple[Registration, ...]] = (
    (1, "mem"),
    (4, "/dev/vc/0"),
    (4, "tty"),
    (4, "ttyS", config("X86")),
    (5, "/dev/tty"),
    (5, "/dev/console"),
    (5, "/dev/ptmx"),
    (7, "vcs"),
    (MISC_MAJOR, "misc"),
    (13, "input"),
    (29, "fb", config("X86")),
    (128, "ptm"),
    (136, "pts"),
    (153, "spi", config("X86")),
    (204, "ttyAMA", config("ARM64")),
    (DYNAMIC, "gpiochip", config("X86")),
    (DYNAMIC, "tpm", config("X86")),
    (DYNAMIC, "dax", config("ZONE_DEVICE")),
    (DYNAMIC, "dma_heap", config("DMABUF_HEAPS")),
    (DYNAMIC, "cxl", since(6, 12) & config("ZONE_DEVICE") & config("X86")),
    (DYNAMIC, "rtc", config("X86")),
    (DYNAMIC, "pps", config("X86")),
    (DYNAMIC, "ptp", config("X86")),
    (DYNAMIC, "bsg"),
    (DYNAMIC, "cxl", until(6, 12) & config("ZONE_DEVICE")),
    (DYNAMIC, "virtio-portsdev"),
)
MISC: Final[tuple[Registration, ...]] = (
    (DYNAMIC, "vga_arbiter"),
    (183, "hw_random"),
    (231, "snapshot", config("X86")),
    (DYNAMIC, "userfaultfd"),
    (229, "fuse", config("FUSE_FS")),
    (228, "hpet", config("X86")),
    (DYNAMIC, "udmabuf", config("UDMABUF")),
    (1, "psaux", config("X86")),
    (DYNAMIC, "cpu_dma_latency", config("X86")),
)
"""Minor and name, first to last registered."""
MISC_DYNAMIC: Final = ((since(6, 12), range(MISC_DYNAMIC_FIRST, 1 << 20)), (until(6, 12), range(127, -1, -1)))
"""Which minors are given to who asks for none, the first that is free."""


class TtyDriver(NamedTuple):
    """A terminal driver. Linux: struct tty_driver."""

    driver_name: str
    name: str
    major: int
    minor_start: int
    num: int
    type: str


TTY_DRIVERS: Final = (
    TtyDriver("serial", "ttyS", 4, 64, 32, "serial"),
    TtyDriver("pty_slave", "pts", 136, 0, 1 << 20, "pty:slave"),
    TtyDriver("pty_master", "ptm", 128, 0, 1 << 20, "pty:master"),
    TtyDriver("unknown", "tty", 4, 1, 63, "console"),
)
"""Newest first, as tty_register_driver() lists them."""
TTY_DRIVERS_ARM64: Final = (*TTY_DRIVERS[1:], TtyDriver("ttyAMA", "ttyAMA", 204, 64, 14, "serial"))
"""The same where the serial port is a PL011."""


@dataclass(frozen=True)
class Console:
    """Where the kernel's log goes. Linux: struct console."""

    name: str
    index: int
    flags: str
    major: int
    minor: int
    unblank: bool = False


class CharDevices:
    """The registrations of one machine: major numbers, minors of major 10, terminals, consoles."""

    def __init__(self, cmdline: str, profile: Profile) -> None:
        self.dynamic = next(minors for needs, minors in MISC_DYNAMIC if needs(profile))
        self.chrdevs: list[tuple[int, str]] = []
        self.misc: list[tuple[int, str]] = []
        self.tty_drivers: list[TtyDriver] = list(TTY_DRIVERS_ARM64 if PL011(profile) else TTY_DRIVERS)
        self.consoles = [_console(cmdline)]
        for major, name, *needs in CHRDEVS:
            if all(need(profile) for need in needs):
                self.register_chrdev(major, name)
        for minor, name, *needs in MISC:
            if all(need(profile) for need in needs):
                self.misc_register(minor, name)

    def register_chrdev(self, major: int, name: str) -> int:
        """Give a driver of character devices its major. Linux: fs/char_dev.c, __register_chrdev_region()."""
        if major == DYNAMIC:
            taken = {number for number, _ in self.chrdevs}
            major = next(number for number in range(DYN_MAJOR_FIRST, 0, -1) if number not in taken)
        self.chrdevs.append((major, name))
        return major

    def misc_register(self, minor: int, name: str) -> int:
        """Give a small device its minor number. Linux: drivers/char/misc.c, misc_register()."""
        if minor == DYNAMIC:
            taken = {number for number, _ in self.misc}
            minor = next(number for number in self.dynamic if number not in taken)
        self.misc.insert(0, (minor, name))
        return minor


def _console(cmdline: str) -> Console:
    """The console that ``console=`` asks for, or the first virtual terminal."""
    wanted = [word.removeprefix("console=").split(",")[0] for word in cmdline.split() if word.startswith("console=")]
    for name, major in (("ttyS", 4), ("ttyAMA", 204)):
        if wanted and wanted[-1].startswith(name) and wanted[-1].removeprefix(name).isdecimal():
            index = int(wanted[-1].removeprefix(name))
            return Console(name, index, "EC  p a", major, 64 + index)
    return Console("tty", 0, "EC  p  ", 4, 1, unblank=True)
