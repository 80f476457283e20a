"""/sys/devices/system/node/nodeN/accessN: how fast a node's memory is, and from which nodes that is so.

They are there where firmware says it (an HMAT, `Machine.hmat`). Class 0 counts all that can access memory, class 1
processors only; these machines have nothing but processors.

Linux: drivers/base/node.c, node_set_perf_attrs(), register_memory_node_under_compute_node(); drivers/acpi/numa/hmat.c.

Simplified: speed is that from the nearest nodes with processors, by distance.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from mmfs.fs.sys.device import Device, no_callbacks, number_after, uevent, uevent_store
from mmfs.fs.sys.node import NodeDevice, node_dir
from mmfs.fs.sys.root import DIRECTORY

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.machine import Node

ACCESS_CLASSES: Final = (0, 1)


class Access(NamedTuple):
    """A node's memory as accessed by a class of initiators. Linux: struct node_access_nodes."""

    kernel: Kernel
    nid: int
    number: int


    @property
    def node(self) -> Node:
        """What is known of the node."""
        return self.kernel.machine.nodes[self.nid]


def near_initiators(kernel: Kernel, nid: int) -> list[int]:
    """The nodes with processors that are nearest to a node's memory; none if it has none."""
    distances = kernel.node_data[nid].distances
    if not kernel.machine.nodes[nid].latency:
        return []
    with_cpus = [pgdat.node_id for pgdat in kernel.node_data if pgdat.cpus]
    nearest = min(distances[cpu] for cpu in with_cpus)
    return [cpu for cpu in with_cpus if distances[cpu] == nearest]


def _names(one: NodeDevice) -> list[str]:
    return [f"access{number}" for number in ACCESS_CLASSES] if one.kernel.machine.hmat else []


def _find(one: NodeDevice, name: str) -> Access | None:
    names = _names(one)
    return Access(one.kernel, one.nid, names.index(name)) if name in names else None


access = node_dir.family(list=_names, lookup=_find, mode=DIRECTORY)
access.attributes("uevent", uevent, uevent_store)
access.mount("power", no_callbacks, obj=lambda one: Device(one.kernel, f"node/node{one.nid}/access{one.number}"))
initiators = access.directory("initiators", mode=DIRECTORY)
targets = access.directory("targets", mode=DIRECTORY)


def is_told(one: Access) -> bool:
    """Whether firmware tells it of this node."""
    return one.node.latency > 0


def latency(one: Access) -> int:
    """In ns."""
    return one.node.latency


def bandwidth(one: Access) -> int:
    """In MB/s."""
    return one.node.bandwidth


for _kind in ("read", "write"):
    initiators.attributes(f"{_kind}_bandwidth", bandwidth, needs=is_told)
    initiators.attributes(f"{_kind}_latency", latency, needs=is_told)


def _of(one: Access) -> list[int]:
    return near_initiators(one.kernel, one.nid)


def _reached(one: Access) -> list[int]:
    """The nodes whose memory this one's processors are nearest to."""
    return [nid for nid in range(len(one.kernel.node_data)) if one.nid in near_initiators(one.kernel, nid)]


@initiators.symlinks(
    list=lambda one: [f"node{nid}" for nid in _of(one)],
    lookup=lambda one, name: nid if (nid := number_after("node", name)) in _of(one) else None,
)
def initiator(nid: int) -> str:
    """Who accesses it so."""
    return f"../../../node{nid}"


@targets.symlinks(
    list=lambda one: [f"node{nid}" for nid in _reached(one)],
    lookup=lambda one, name: nid if (nid := number_after("node", name)) in _reached(one) else None,
)
def target(nid: int) -> str:
    """What it accesses so."""
    return f"../../../node{nid}"
