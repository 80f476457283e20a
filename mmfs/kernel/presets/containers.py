"""Containers as a kubelet with containerd sets them up: pods with limits below kubepods.slice, a process in each.

The pods take turns in being guaranteed (limits are requests), burstable (half the limit is protected) and best effort
(no limit of memory). A container has a pause process beside its program, as the pod's sandbox.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mmfs.kernel.cgroup.control import subtree_control
from mmfs.kernel.syscalls import spawn
from mmfs.mm_types import PAGE_SIZE

if TYPE_CHECKING:
    from mmfs.kernel.cgroup import Cgroup
    from mmfs.kernel.kernel import Kernel

CONTROLLERS: Final = frozenset({"cpuset", "memory", "hugetlb", "pids"})
"""What the kubelet enables, of those that are modelled."""
PROGRAMS: Final = ("nginx", "python3", "bash")
QOS: Final = ("", "burstable", "besteffort")
PODS_SHARE: Final = 0.9
"""Of the memory, all pods together may have this much."""
POD_PIDS: Final = 1024
LIMIT: Final = 128 << 20
"""Memory of a container that has a limit, in bytes."""


def start_containers(kernel: Kernel, count: int) -> None:
    """Make `count` pods of one container each and let them start."""
    top = kernel.cgroups.root
    enable(top)
    pods = make(top, "kubepods.slice")
    limit(pods, max=int(kernel.totalram_pages() * PODS_SHARE))
    for number in range(count):
        start_pod(kernel, pods, number)
    kernel.clock.run_for(10**9)


def start_pod(kernel: Kernel, pods: Cgroup, number: int) -> None:
    """One pod with its sandbox and one container."""
    qos = QOS[number % len(QOS)]
    above = make(pods, f"kubepods-{qos}.slice") if qos else pods
    prefix = f"kubepods-{qos}-" if qos else "kubepods-"
    ident = f"{kernel.seed * 0x9E3779B97F4A7C15 + (number + 1) * 0xBF58476D1CE4E5B9 & (1 << 64) - 1:016x}"
    pod = make(above, f"{prefix}pod{ident[:8]}_{ident[8:12]}_4{ident[12:15]}_8{ident[1:4]}_{ident[4:]}.slice")
    container = make(pod, f"cri-containerd-{ident * 4}.scope", inner=False)
    sandbox = make(pod, f"cri-containerd-{ident[::-1] * 4}.scope", inner=False)
    pages = LIMIT // PAGE_SIZE
    if qos != "besteffort":
        limit(pod, max=pages, low=0 if qos == "burstable" else pages)
        limit(container, max=pages, low=pages // 2 if qos == "burstable" else pages)
    pod.subsys["pids"].limit = POD_PIDS
    spawn(kernel, "bash", argv=("/pause",), oom_score_adj=-998, uid=65535, gid=65535, cgroup=sandbox.path)
    adj = {"": -997, "burstable": 900, "besteffort": 1000}[qos]
    spawn(kernel, PROGRAMS[number % len(PROGRAMS)], oom_score_adj=adj, cgroup=container.path)


def enable(group: Cgroup) -> None:
    """What is below gets its own account of everything."""
    subtree_control(group, set(CONTROLLERS & group.control()), set())


def make(parent: Cgroup, name: str, inner: bool = True) -> Cgroup:
    """A cgroup, with controllers for what is below if it is an inner one; the one that is there."""
    group = parent.children.get(name) or parent.root.mkdir(parent, name)
    if inner:
        enable(group)
    return group


def limit(group: Cgroup, *, max: int, low: int = 0) -> None:
    """Limit memory, in pages, and protect some of it."""
    memcg = group.subsys.get("memory")
    if memcg is not None:
        memcg.memory.max, memcg.memory.low = max, low
