"""/sys/devices/system/cpu: which processors there are, how they are arranged, what caches they share.

Linux: drivers/base/cpu.c, drivers/base/topology.c, drivers/base/cacheinfo.c, arch/x86/kernel/cpu/cacheinfo.c.

Simplified: processors stay online, so the files that take them offline are absent, as are those of drivers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, NamedTuple

from mmfs.fs.sys.device import Device, bus_type, device, number_after, uevent, uevent_store
from mmfs.fs.sys.node import cpulist_size
from mmfs.fs.sys.root import DIRECTORY, facts, system
from mmfs.kernfs.bitmap import bitmap_list, bitmap_mask
from mmfs.profile import config, since

if TYPE_CHECKING:
    from mmfs.cpu_model import CacheLevel
    from mmfs.kernel.kernel import Kernel


cpu_root = system.directory("cpu", mode=DIRECTORY)


def cpus_device(kernel: Kernel) -> Device:
    """The directory itself is a device, too."""
    return Device(kernel, "cpu")


device(cpu_root, cpus_device)


def all_cpus(kernel: Kernel) -> str:
    """Every processor is possible, present, enabled and online."""
    return bitmap_list(range(len(kernel.cpus))) + "\n"


for _name in ("possible", "present", "enabled", "online"):
    cpu_root.attributes(_name, all_cpus, needs=since(6, 12) if _name == "enabled" else None)


@cpu_root.attribute("offline")
def offline(_: Kernel) -> str:
    """None. Linux: drivers/base/cpu.c, print_cpus_offline()."""
    return "\n"


@cpu_root.attribute("isolated")
def isolated(_: Kernel) -> str:
    """None is kept out of scheduling."""
    return "\n"


@cpu_root.attribute("nohz_full", needs=config("NO_HZ_FULL"))
def nohz_full(kernel: Kernel) -> str:
    """No processor runs without ticks; until 6.19 Linux prints a mask that was never made."""
    return "\n" if HOUSEKEEPING(kernel) else "(null)\n"


HOUSEKEEPING: Final = since(6, 19)


@cpu_root.attribute("housekeeping", needs=HOUSEKEEPING)
def housekeeping(_: Kernel) -> str:
    """No processor is set apart for what the kernel does. Linux: drivers/base/cpu.c, housekeeping_show()."""
    return "\n"


@cpu_root.attribute("kernel_max")
def kernel_max(kernel: Kernel) -> int:
    """The highest number that the kernel's configuration has room for."""
    return kernel.profile.config_int("NR_CPUS") - 1


@cpu_root.attribute("crash_hotplug", needs=since(6, 12))
def crash_hotplug(_: Kernel) -> int:
    """No crash kernel is loaded that would have to be told of processors."""
    return 0


# -- cpuN ----------------------------------------------------------------------------------------------------------


class CpuDevice(NamedTuple):
    """A processor. Linux: struct cpu."""

    kernel: Kernel
    cpu: int

    @property
    def nid(self) -> int:
        """Its node."""
        return self.kernel.cpu_to_node(self.cpu)

    @property
    def package(self) -> list[int]:
        """All processors of its package."""
        machine = self.kernel.machine
        size = machine.topology.cores * machine.topology.threads
        first = machine.socket_of(self.cpu) * size
        return list(range(first, min(first + size, machine.nr_cpus)))

    @property
    def core(self) -> list[int]:
        """The threads of its core."""
        threads = self.kernel.machine.topology.threads
        first = self.cpu // threads * threads
        return list(range(first, first + threads))

    @property
    def apicid(self) -> int:
        """Package, core and thread in fields of bits. Linux: struct cpuinfo_topology, apicid."""
        machine = self.kernel.machine
        threads, cores = machine.topology.threads, machine.topology.cores
        core = machine.socket_of(self.cpu) << (cores - 1).bit_length() | machine.core_of(self.cpu)
        return core << (threads - 1).bit_length() | self.cpu % threads


def names(kernel: Kernel) -> list[str]:
    """The directories of all processors."""
    return [f"cpu{cpu}" for cpu in range(len(kernel.cpus))]


def find(kernel: Kernel, name: str) -> CpuDevice | None:
    """The processor of a directory."""
    cpu = number_after("cpu", name)
    return CpuDevice(kernel, cpu) if cpu is not None and cpu < len(kernel.cpus) else None


def cpu_device(one: CpuDevice) -> Device:
    """The processor as a device."""
    return Device(one.kernel, f"cpu/cpu{one.cpu}")


NUMA, X86 = config("NUMA"), config("X86")
cpu_dir = cpu_root.family(list=names, lookup=find, mode=DIRECTORY)
device(cpu_dir, cpu_device, subsystem="cpu", has_uevent=False)
bus_type("cpu", names, find)


@cpu_dir.symlinks(
    list=lambda one: [f"node{one.nid}"] if NUMA(one) else [],
    lookup=lambda one, name: one.nid if NUMA(one) and name == f"node{one.nid}" else None,
)
def node_of_cpu(nid: int) -> str:
    """Linux: drivers/base/node.c, register_cpu_under_node()."""
    return f"../../node/node{nid}"


def _mask(kernel: Kernel, cpus: Iterable[int]) -> str:
    return bitmap_mask(cpus, len(kernel.cpus)) + "\n"


# -- cpuN/topology -------------------------------------------------------------------------------------------------

topology = cpu_dir.directory("topology", mode=DIRECTORY)
facts(topology, {
    "physical_package_id": lambda one: one.kernel.machine.socket_of(one.cpu),
    "core_id": lambda one: one.kernel.machine.core_of(one.cpu),
    "cluster_id": lambda one: one.kernel.profile.arch.bad_apicid,
})  # fmt: skip


@topology.attribute("die_id", needs=X86)
def die_id(_: CpuDevice) -> int:
    """A package is one die."""
    return 0



def core_mask(one: CpuDevice) -> str:
    """The threads of the core as a mask."""
    return _mask(one.kernel, one.core)


def core_list(one: CpuDevice) -> str:
    """The threads of the core as a list."""
    return bitmap_list(one.core) + "\n"


def package_mask(one: CpuDevice) -> str:
    """The processors of the package as a mask."""
    return _mask(one.kernel, one.package)


def package_list(one: CpuDevice) -> str:
    """The processors of the package as a list."""
    return bitmap_list(one.package) + "\n"


def cluster_mask(one: CpuDevice) -> str:
    """The processors of the cluster as a mask: on arm64 those of the package, on x86 the threads of the core."""
    return core_mask(one) if X86(one) else package_mask(one)


def cluster_list(one: CpuDevice) -> str:
    """The processors of the cluster as a list."""
    return core_list(one) if X86(one) else package_list(one)


for _name in ("core_cpus", "thread_siblings"):
    topology.attributes(_name, core_mask)
    topology.attributes(f"{_name}_list", core_list, size=cpulist_size)
for _name, _needs in (("package_cpus", None), ("core_siblings", None), ("die_cpus", X86)):
    topology.attributes(_name, package_mask, needs=_needs)
    topology.attributes(f"{_name}_list", package_list, size=cpulist_size, needs=_needs)
topology.attributes("cluster_cpus", cluster_mask)
topology.attributes("cluster_cpus_list", cluster_list, size=cpulist_size)


# -- cpuN/cache ----------------------------------------------------------------------------------------------------


class Cache(NamedTuple):
    """A cache of a processor."""

    one: CpuDevice
    level: CacheLevel

    @property
    def kernel(self) -> Kernel:
        """Whose."""
        return self.one.kernel

    @property
    def shared_cpus(self) -> list[int]:
        """Who shares it: the threads of a core; the last level is shared by the package, as far as a node goes.

        Linux: arch/x86/kernel/cpu/cacheinfo.c, __cache_amd_cpumap_setup(); smpboot.c, match_llc().
        """
        if self.level.level < 3 and X86(self.one):
            return self.one.core
        if self.level.level == 1:
            return [self.one.cpu]
        return [cpu for cpu in self.one.package if self.one.kernel.cpu_to_node(cpu) == self.one.nid]

    @property
    def id(self) -> int:
        """Linux: arch/x86/kernel/cpu/cacheinfo.c, get_cache_id()."""
        topology = self.one.kernel.machine.topology
        sharing = topology.cores * topology.threads if self.level.shared == "package" else topology.threads
        return self.one.apicid >> (sharing - 1).bit_length()


def indices(one: CpuDevice) -> list[str]:
    """index0 and so on, the first level first."""
    return [f"index{index}" for index in range(len(one.kernel.machine.cpu.caches))]


def find_cache(one: CpuDevice, name: str) -> Cache | None:
    """The cache of a directory."""
    index = number_after("index", name)
    caches = one.kernel.machine.cpu.caches
    return Cache(one, caches[index]) if index is not None and index < len(caches) else None


cache_root = cpu_dir.directory("cache", mode=DIRECTORY)
cache_root.attributes("uevent", uevent, uevent_store)
cache_dir = cache_root.family(list=indices, lookup=find_cache, mode=DIRECTORY)
cache_dir.attributes("uevent", uevent, uevent_store)
facts(cache_dir, {
    "level": lambda cache: cache.level.level,
    "shared_cpu_list": lambda cache: bitmap_list(cache.shared_cpus) + "\n",
    "shared_cpu_map": lambda cache: _mask(cache.one.kernel, cache.shared_cpus),
    "type": lambda cache: f"{cache.level.type}\n",
})  # fmt: skip
_geometry: dict[str, Callable[[Cache], int | str]] = {
    "coherency_line_size": lambda cache: cache.level.line_size,
    "id": lambda cache: cache.id,
    "number_of_sets": lambda cache: cache.level.number_of_sets,
    "physical_line_partition": lambda cache: 1,
    "size": lambda cache: f"{cache.level.size_kb}K\n",
    "ways_of_associativity": lambda cache: cache.level.ways,
}
"""What a device tree may leave out, and that of QEMU's does."""
for _name, _show in _geometry.items():
    cache_dir.attributes(_name, _show, needs=X86)
