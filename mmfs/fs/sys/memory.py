"""/sys/devices/system/memory: blocks of memory, whether they are online and to which zone they belong.

Linux: drivers/base/memory.c.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from mmfs.fs.sys.device import Device, bus_type, device, number_after
from mmfs.fs.sys.root import DIRECTORY, system
from mmfs.kernfs import fail, kstrtobool, kstrtoull, sysfs_match_string
from mmfs.mm.memory_block import MemoryBlock
from mmfs.mm.memory_hotplug import ONLINE_TYPES
from mmfs.mm_types import PAGE_SHIFT
from mmfs.profile import config, since

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel

BLOCKS = config("MEMORY_HOTPLUG")
memory = system.directory("memory", mode=DIRECTORY, needs=BLOCKS)


def memory_device(kernel: Kernel) -> Device:
    """The directory itself is a device, too."""
    return Device(kernel, "memory")


device(memory, memory_device)


@memory.attribute("auto_online_blocks")
def auto_online_blocks(kernel: Kernel) -> str:
    """What becomes of memory that is plugged in."""
    return f"{kernel.memory_blocks.default_online_type}\n"


@auto_online_blocks.store
def auto_online_blocks_store(kernel: Kernel, buf: str) -> None:
    """Linux: drivers/base/memory.c, auto_online_blocks_store()."""
    kernel.memory_blocks.default_online_type = ONLINE_TYPES[sysfs_match_string(ONLINE_TYPES, buf)]


@memory.attribute("block_size_bytes")
def block_size_bytes(kernel: Kernel) -> str:
    """In hexadecimal digits."""
    return f"{kernel.memory_blocks.block_size_bytes:x}\n"


@memory.attribute("crash_hotplug", needs=since(6, 12))
def crash_hotplug(_: Kernel) -> int:
    """No crash kernel is loaded that would have to be told of new memory."""
    return 0


def soft_offline_page(kernel: Kernel, buf: str) -> None:
    """A physical address whose page is to be moved away. Linux: soft_offline_page_store()."""
    kernel.memory_failure.soft_offline_page(kstrtoull(buf) >> PAGE_SHIFT)


def hard_offline_page(kernel: Kernel, buf: str) -> None:
    """A physical address at which memory has failed. Linux: hard_offline_page_store()."""
    kernel.memory_failure.memory_failure(kstrtoull(buf) >> PAGE_SHIFT)


memory.attributes("soft_offline_page", None, soft_offline_page)
memory.attributes("hard_offline_page", None, hard_offline_page)


# -- memoryN -------------------------------------------------------------------------------------------------------


def names(kernel: Kernel) -> list[str]:
    """The directories of all blocks."""
    return [f"memory{number}" for number in kernel.memory_blocks.ids()]


def find(kernel: Kernel, name: str) -> MemoryBlock | None:
    """The block of a directory."""
    number = number_after("memory", name)
    return None if number is None else kernel.memory_blocks.find(number)


def block_device(block: MemoryBlock) -> Device:
    """The block as a device."""
    return Device(block.blocks.kernel, f"memory/memory{block.id}")


block_dir = memory.family(list=names, lookup=find, mode=DIRECTORY)
device(block_dir, block_device, subsystem="memory")
bus_type("memory", names, find, needs=BLOCKS)


@block_dir.attribute("online")
def online(block: MemoryBlock) -> int:
    """Linux: drivers/base/core.c, online_show()."""
    return int(block.online)


@online.store
def online_store(block: MemoryBlock, buf: str) -> None:
    """Linux: drivers/base/core.c, online_store()."""
    block.set_state("online" if kstrtobool(buf) else "offline")


@block_dir.attribute("phys_device")
def phys_device(_: MemoryBlock) -> int:
    """Linux on x86 does not know on which module memory is."""
    return 0


@block_dir.attribute("phys_index")
def phys_index(block: MemoryBlock) -> str:
    """The number of the block, in eight hexadecimal digits."""
    return f"{block.id:08x}\n"


@block_dir.attribute("removable")
def removable(_: MemoryBlock) -> int:
    """That the kernel can remove memory at all. Linux: removable_show()."""
    return 1


@block_dir.attribute("state")
def state(block: MemoryBlock) -> str:
    """Linux: state_show()."""
    return "online\n" if block.online else "offline\n"


@state.store
def state_store(block: MemoryBlock, buf: str) -> None:
    """EINVAL also for what it is already. Linux: state_store()."""
    if not block.set_state(ONLINE_TYPES[sysfs_match_string(ONLINE_TYPES, buf)]):
        fail(errno.EINVAL)


@block_dir.attribute("valid_zones")
def valid_zones(block: MemoryBlock) -> str:
    """The zone of all its pages, or those that they could come to. Linux: valid_zones_show()."""
    return " ".join(zone.name for zone in block.valid_zones()) + "\n" if block.valid_zones() else "none\n"


@block_dir.symlinks(
    list=lambda block: [f"node{nid}" for nid in block.nodes],
    lookup=lambda block, name: nid if (nid := number_after("node", name)) in block.nodes else None,
)
def node_of_block(nid: int) -> str:
    """Linux: drivers/base/node.c, do_register_memory_block_under_node()."""
    return f"../../node/node{nid}"
