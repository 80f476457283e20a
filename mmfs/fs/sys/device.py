"""What every device has in /sys: uevent, the directory power, the link to its bus.

Linux: drivers/base/core.c, drivers/base/power/sysfs.c, lib/kobject_uevent.c.

Simplified: nobody listens to events, so an event that is asked for goes nowhere.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from mmfs.fs.sys.root import DIRECTORY, bus
from mmfs.kernfs import Directory, fail, sysfs_streq
from mmfs.profile import Needs

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel

T = TypeVar("T")

ACTIONS: Final = ("add", "remove", "change", "move", "online", "offline", "bind", "unbind")
UUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}( \w+=\w+)*")


class Device(NamedTuple):
    """A device by its path below /sys/devices/system, or /sys/devices if that is elsewhere."""

    kernel: Kernel
    path: str


# -- power ---------------------------------------------------------------------------------------------------------

power: Directory[Device] = Directory(mode=DIRECTORY)


@power.attribute("async")
def async_(device: Device) -> str:
    """Whether it may be suspended together with others."""
    return "enabled\n" if device.kernel.devices.power(device.path).async_suspend else "disabled\n"


@async_.store
def async_store(device: Device, buf: str) -> None:
    """Linux: drivers/base/power/sysfs.c, async_store()."""
    words = {"enabled": True, "disabled": False}
    for word, value in words.items():
        if sysfs_streq(buf, word):
            device.kernel.devices.change_power(device.path).async_suspend = value
            return
    fail(errno.EINVAL)


@power.attribute("autosuspend_delay_ms")
def autosuspend_delay_ms(_: Device) -> int:
    """It is not suspended by itself."""
    fail(errno.EIO)


@autosuspend_delay_ms.store
def autosuspend_delay_ms_store(_: Device, buf: str) -> None:
    """Linux: drivers/base/power/sysfs.c, autosuspend_delay_ms_store()."""
    fail(errno.EIO)


@power.attribute("control")
def control(device: Device) -> str:
    """Whether it may be suspended while the machine runs."""
    return "auto\n" if device.kernel.devices.power(device.path).runtime_auto else "on\n"


@control.store
def control_store(device: Device, buf: str) -> None:
    """Linux: drivers/base/power/sysfs.c, control_store()."""
    words = {"auto": True, "on": False}
    for word, value in words.items():
        if sysfs_streq(buf, word):
            device.kernel.devices.change_power(device.path).runtime_auto = value
            return
    fail(errno.EINVAL)


@power.attribute("runtime_enabled")
def runtime_enabled(device: Device) -> str:
    """No driver has enabled it; Linux: runtime_enabled_show()."""
    return "disabled\n" if device.kernel.devices.power(device.path).runtime_auto else "disabled & forbidden\n"


@power.attribute("runtime_usage")
def runtime_usage(device: Device) -> int:
    """Who forbids suspending it counts as a user. Linux: pm_runtime_forbid()."""
    return int(not device.kernel.devices.power(device.path).runtime_auto)


@power.attribute("runtime_status")
def runtime_status(_: Device) -> str:
    """Linux: runtime_status_show()."""
    return "unsupported\n"


def never(_: Device) -> int:
    """It has no active children, and no time passes for what is not enabled."""
    return 0


for _name in ("runtime_active_kids", "runtime_active_time", "runtime_suspended_time"):
    power.attributes(_name, never)


no_callbacks: Directory[Device] = Directory(mode=DIRECTORY)
"""The same of a device that has nothing to do when it is suspended. Linux: pm_runtime_no_callbacks()."""
no_callbacks.attributes("async", async_.show, async_store)
no_callbacks.attributes("runtime_enabled", runtime_enabled.show)
no_callbacks.attributes("runtime_usage", runtime_usage.show)
no_callbacks.attributes("runtime_status", runtime_status.show)
no_callbacks.attributes("runtime_active_kids", never)


# -- uevent, subsystem ---------------------------------------------------------------------------------------------


def uevent(_: Any) -> str:
    """These devices have no variables."""
    return ""


def uevent_store(_: Any, buf: str) -> None:
    """An action, and perhaps a UUID and variables. Linux: lib/kobject_uevent.c, kobject_synth_uevent()."""
    action, space, rest = buf.removesuffix("\n").partition(" ")
    if action not in ACTIONS or (space and not UUID.fullmatch(rest)):
        fail(errno.EINVAL)


def device(directory: Directory[T], of: Callable[[T], Device], *, subsystem: str = "", has_uevent: bool = True) -> None:
    """Give the directory of a device what all devices have."""
    if has_uevent:
        directory.attributes("uevent", uevent, uevent_store)
    directory.mount("power", power, obj=of)
    if subsystem:
        directory.symlink("subsystem", f"../../../../bus/{subsystem}")


def bus_type(
    name: str, devices: Callable[[Kernel], Iterable[str]], find: Callable[[Kernel, str], object | None],
    where: str = "system", needs: Needs | None = None,
) -> None:
    """/sys/bus/NAME, with links to its devices. Linux: drivers/base/bus.c, bus_register(), subsys_register()."""
    directory = bus.directory(name, mode=DIRECTORY, needs=needs)
    links = directory.directory("devices", mode=DIRECTORY)
    directory.directory("drivers", mode=DIRECTORY)

    @links.symlinks(list=devices, lookup=lambda kernel, link: None if find(kernel, link) is None else link)
    def link_to_device(link: str) -> str:
        return f"../../../devices/{where}/{name}/{link}"


def number_after(prefix: str, name: str) -> int | None:
    """3 for memory3; None for a name of another form, such as memory03."""
    digits = name[len(prefix) :]
    if not name.startswith(prefix) or not digits.isascii() or not digits.isdecimal() or str(int(digits)) != digits:
        return None
    return int(digits)
