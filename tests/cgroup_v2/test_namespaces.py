"""Namespaces

Not modelled: cgroup namespaces: there is no unshare(2), setns(2) or clone(2) with CLONE_NEWCGROUP.
"""

from __future__ import annotations

from tests.cgroup_v2.machine import Machine


def test_without_a_namespace_the_path_is_whole(machine: Machine) -> None:
    """Without a cgroup namespace /proc/PID/cgroup shows the whole path."""
    machine.mkdir("batchjobs")
    machine.mkdir("batchjobs/container_id1")
    process = machine.spawn("batchjobs/container_id1")
    assert machine.read(f"/proc/{process.pid}/cgroup") == "0::/batchjobs/container_id1\n"
