"""Devices, as far as /sys/devices/system shows them: what was asked of their power management.

Processors, nodes and blocks of memory are devices to Linux. None of them can be suspended, so what is kept of a device
is what somebody wrote.

Linux: include/linux/pm.h, struct dev_pm_info; drivers/base/power/sysfs.c.
"""

from __future__ import annotations


class DevPmInfo:
    """Linux: struct dev_pm_info."""

    __slots__ = ("async_suspend", "runtime_auto")

    def __init__(self) -> None:
        self.async_suspend = False
        self.runtime_auto = True


class Devices:
    """The devices of a machine of which something was asked; all others are as they are made."""

    def __init__(self) -> None:
        self._power: dict[str, DevPmInfo] = {}

    def power(self, name: str) -> DevPmInfo:
        """What is kept of a device, named by its path below /sys/devices/system."""
        return self._power.get(name) or DevPmInfo()

    def change_power(self, name: str) -> DevPmInfo:
        """The same, to be changed."""
        return self._power.setdefault(name, DevPmInfo())
