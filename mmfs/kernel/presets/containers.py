"""Containers as a kubelet with containerd sets them up: pods with limits below kubepods.slice, a process in each.

The pods take turns in being guaranteed (limits are requests), burstable (half the limit is protected) and best effort
(no limit of memory). A container has a pause process beside its program, as the pod's sandbox.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from mmfs.kernel.cgroup.cgroup1 import find, makedirs, mounted
from mmfs.kernel.cgroup.control import subtree_control
from mmfs.kernel.spawn import spawn
from mmfs.mm_types import PAGE_SIZE

if TYPE_CHECKING:
    from mmfs.kernel.cgroup import Cgroup
    from mmfs.kernel.kernel import Kernel

CONTROLLERS: Final = frozenset({"cpuset", "memory", "hugetlb", "pids"})
"""What the kubelet enables, of those that are modelled."""
PODS: Final = "/kubepods.slice"
PROGRAMS: Final = ("nginx", "python3", "bash")
QOS: Final = ("", "burstable", "besteffort")
PODS_SHARE: Final = 0.9
"""Of the memory, all pods together may have this much."""
POD_PIDS: Final = 1024
LIMIT: Final = 128 << 20
"""Memory of a container that has a limit, in bytes."""


def start_containers(kernel: Kernel, count: int) -> None:
    """Make `count` pods of one container each and let them start."""
    for root in mounted(kernel):
        enable(root.root)
    make(kernel, PODS)
    limit(kernel, PODS, max=int(kernel.totalram_pages() * PODS_SHARE))
    for number in range(count):
        start_pod(kernel, number)
    kernel.clock.run_for(10**9)


def start_pod(kernel: Kernel, number: int) -> None:
    """One pod with its sandbox and one container."""
    qos = QOS[number % len(QOS)]
    above = f"{PODS}/kubepods-{qos}.slice" if qos else PODS
    make(kernel, above)
    prefix = f"kubepods-{qos}-" if qos else "kubepods-"
    ident = f"{kernel.seed * 0x9E3779B97F4A7C15 + (number + 1) * 0xBF58476D1CE4E5B9 & (1 << 64) - 1:016x}"
    pod = f"{above}/{prefix}pod{ident[:8]}_{ident[8:12]}_4{ident[12:15]}_8{ident[1:4]}_{ident[4:]}.slice"
    container, sandbox = (f"{pod}/cri-containerd-{name * 4}.scope" for name in (ident, ident[::-1]))
    make(kernel, pod)
    make(kernel, container, inner=False)
    make(kernel, sandbox, inner=False)
    pages = LIMIT // PAGE_SIZE
    if qos != "besteffort":
        limit(kernel, pod, max=pages, low=0 if qos == "burstable" else pages)
        limit(kernel, container, max=pages, low=pages // 2 if qos == "burstable" else pages)
    for css in csses(kernel, pod, "pids"):
        css.limit = POD_PIDS
    spawn(kernel, "bash", argv=("/pause",), oom_score_adj=-998, uid=65535, gid=65535, cgroup=sandbox)
    adj = {"": -997, "burstable": 900, "besteffort": 1000}[qos]
    spawn(kernel, PROGRAMS[number % len(PROGRAMS)], oom_score_adj=adj, cgroup=container)


def enable(group: Cgroup) -> None:
    """What is below gets its own account of everything, as with cgroup v1 it always does."""
    if group.root.on_dfl:
        subtree_control(group, set(CONTROLLERS & group.control()), set())


def make(kernel: Kernel, path: str, inner: bool = True) -> None:
    """A cgroup, with controllers for what is below if it is an inner one, unless it is there."""
    if not find(kernel, path):
        for group in makedirs(kernel, path):
            if inner:
                enable(group)


def csses(kernel: Kernel, path: str, controller: str) -> list[Any]:
    """A controller's state in a cgroup, if it is enabled there."""
    return [group.subsys[controller] for group in find(kernel, path) if controller in group.subsys]


def limit(kernel: Kernel, path: str, *, max: int, low: int = 0) -> None:
    """Limit memory, in pages, and protect some of it, which cgroup v1 cannot."""
    for memcg in csses(kernel, path, "memory"):
        memcg.memory.max = max
        if memcg.cgroup.root.on_dfl:
            memcg.memory.low = low
