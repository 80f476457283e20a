"""/sys/kernel/mm/numa and /sys/devices/virtual/memory_tiering: tiers of memory, and whether what is cold is demoted.

Linux: mm/memory-tiers.c, numa_attrs[], memtier_dev_attrs[].
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from mmfs.fs.sys.device import Device, bus_type, device, number_after
from mmfs.fs.sys.root import DIRECTORY, mm, virtual
from mmfs.kernfs import kstrtobool
from mmfs.kernfs.bitmap import bitmap_list
from mmfs.profile import config

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.mm.memory_tiers import MemoryTier

NUMA = config("NUMA")
numa = mm.directory("numa", mode=DIRECTORY, needs=NUMA)
tiering = virtual.directory("memory_tiering", mode=DIRECTORY, needs=NUMA)
device(tiering, lambda kernel: Device(kernel, "virtual/memory_tiering"))


@numa.attribute("demotion_enabled")
def demotion_enabled(kernel: Kernel) -> str:
    """Whether reclaim moves pages to slower nodes."""
    return "true\n" if kernel.memory_tiers.numa_demotion_enabled else "false\n"


@demotion_enabled.store
def demotion_enabled_store(kernel: Kernel, buf: str) -> None:
    """Linux: demotion_enabled_store()."""
    kernel.memory_tiers.demotion.enabled = kstrtobool(buf)


class TierDevice(NamedTuple):
    """A tier as a device."""

    kernel: Kernel
    tier: MemoryTier

    @property
    def name(self) -> str:
        """Its directory."""
        return f"memory_tier{self.tier.id}"


def names(kernel: Kernel) -> list[str]:
    """The directories of all tiers, the fastest first."""
    return [TierDevice(kernel, tier).name for tier in kernel.memory_tiers.tiers]


def find(kernel: Kernel, name: str) -> TierDevice | None:
    """The tier of a directory."""
    number = number_after("memory_tier", name)
    return next((TierDevice(kernel, tier) for tier in kernel.memory_tiers.tiers if tier.id == number), None)


tier_dir = tiering.family(list=names, lookup=find, mode=DIRECTORY)
device(tier_dir, lambda one: Device(one.kernel, f"virtual/memory_tiering/{one.name}"), subsystem="memory_tiering")
bus_type("memory_tiering", names, find, "virtual", NUMA)


@tier_dir.attribute("nodelist")
def nodelist(one: TierDevice) -> str:
    """Its nodes."""
    return bitmap_list(one.tier.nodes) + "\n"
