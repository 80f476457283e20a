"""The trees that a machine boots with: systemd's, and a kubelet's for containers."""

from __future__ import annotations

import pickle

import pytest

import mmfs


@pytest.mark.parametrize("preset", ["bare", "server"])
def test_containers(preset: str) -> None:
    kernel = mmfs.boot(ram="1G", preset=preset, containers=4, seed=3)
    kernel.check()
    pods = kernel.cgroups.find("/kubepods.slice")
    assert pods is not None
    leaves = [group for group in pods.descendants() if not group.children]
    assert len(leaves) == 8 and all(group.nr_tasks for group in leaves)
    assert {group.name for group in pods.children.values() if "pod" not in group.name.removeprefix("kubepods")} == {
        "kubepods-burstable.slice",
        "kubepods-besteffort.slice",
    }
    limits = sorted(group.subsys["memory"].memory.max for group in leaves)
    assert limits[:3] == [32768] * 3 and limits[3] > 32768, "two guaranteed, one burstable, one best effort"
    again = mmfs.boot(ram="1G", preset=preset, containers=4, seed=3)
    assert [group.path for group in again.cgroups.all()] == [group.path for group in kernel.cgroups.all()]


def test_every_process_of_a_server_is_in_the_cgroup_of_its_unit() -> None:
    kernel = mmfs.boot(ram="512M", seed=1)
    for task in kernel.tasks.processes():
        path = kernel.read(f"/proc/{task.pid}/cgroup").decode().rstrip("\n").removeprefix("0::")
        assert str(task.pid) in kernel.read(f"/sys/fs/cgroup{path}/cgroup.procs").decode().split()
        assert (path == "/") is task.is_kthread
    for path in ("", "/system.slice", "/user.slice"):
        assert kernel.read(f"/sys/fs/cgroup{path}/cgroup.subtree_control") == b"memory pids\n"


def test_a_tree_survives_a_checkpoint() -> None:
    kernel = mmfs.boot(ram="512M", preset="bare", containers=3, seed=1)
    kernel.vfs.setxattr("/sys/fs/cgroup/kubepods.slice", "user.x", b"y")
    kernel.write("/sys/fs/cgroup/kubepods.slice/cgroup.freeze", "1")
    other = pickle.loads(pickle.dumps(kernel))
    other.check()
    assert other.vfs.getxattr("/sys/fs/cgroup/kubepods.slice", "user.x") == b"y"
    assert other.read("/sys/fs/cgroup/kubepods.slice/cgroup.events") == b"populated 1\nfrozen 1\n"
