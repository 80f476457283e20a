"""The invariants of tasks: what must be true of them whenever no call is under way.

Families, thread groups and cgroups point both ways, shared structs are counted right, and every task has exactly
the stack and the slab objects that it should have.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from mmfs.kernel.cgroup.check import check_cgroups
from mmfs.kernel.sched import EXIT_ZOMBIE
from mmfs.kernel.shm import ShmFile
from mmfs.mm_types import PAGE_SHIFT, PAGE_SIZE, MemcgStatItem, NodeStatItem

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task


def _same(what: str, left: object, right: object) -> None:
    if left != right:
        raise AssertionError(f"{what}: {left} is not {right}")


def check_tasks(kernel: Kernel) -> None:
    """Every invariant of tasks. Raises AssertionError."""
    for task in kernel.tasks.values():
        check_family(kernel, task)
    check_shared(kernel)
    check_objects(kernel)
    check_sockets(kernel)
    check_segments(kernel)
    for root in kernel.cgroup_roots:
        check_cgroups(root)


def check_family(kernel: Kernel, task: Task) -> None:
    """Thread group, parent, children, cgroup and state of one task."""
    tasks, leader = kernel.tasks, task.group_leader
    _same(f"{task!r}: its entry in the table", tasks.get(task.pid), task)
    _same(f"{task!r}: in its thread group", task in task.signal.threads, True)
    _same(f"{task!r}: its leader", (leader.pid, leader.signal), (task.tgid, task.signal))
    for cgroup in task.cset:
        _same(f"{task!r}: in its cgroup", cgroup.tasks.get(task.pid), task)
    _same(f"{task!r}: a zombie", task.state == EXIT_ZOMBIE, not task.alive)
    _same(f"{task!r}: dead with memory or files", not task.alive and (task.mm, task.files) != (None, None), False)
    parent = task.parent
    if parent is not None and parent is not kernel.init_task:
        _same(f"{task!r}: its parent", tasks.get(parent.pid), parent)
    if parent is not None and task is leader:
        _same(f"{task!r}: its parent's child", parent.children.count(task), 1)
    for child in task.children:
        _same(f"{task!r}: the parent of its child {child!r}", child.parent, task)


def check_shared(kernel: Kernel) -> None:
    """Users of what tasks share, and users' numbers of tasks."""
    tasks = [*kernel.tasks.values(), kernel.init_task]
    for what, users, counted in (
        ("mm_users", Counter(id(t.mm) for t in tasks), {id(t.mm): t.mm.mm_users for t in tasks if t.mm}),
        ("files", Counter(id(t.files) for t in tasks), {id(t.files): t.files.count for t in tasks if t.files}),
        ("sighand", Counter(id(t.sighand) for t in tasks), {id(t.sighand): t.sighand.count for t in tasks}),
    ):
        _same(f"users of {what}", {key: users[key] for key in counted}, counted)
    for task in tasks:
        if task.mm is not None and (task.mm.owner is None or getattr(task.mm.owner, "mm", None) is not task.mm):
            raise AssertionError(f"{task!r}: its mm belongs to {task.mm.owner!r}")
    nproc = Counter(task.uid for task in kernel.tasks.values())
    _same("tasks by user", +nproc, +Counter(kernel.tasks.nproc))


def check_sockets(kernel: Kernel) -> None:
    """What sockets account for holds what waits in them, and is what their cgroups have been charged."""
    proto, charged = kernel.udp_prot, Counter[int]()
    for sock in proto.sockets.values():
        waiting = sum(skb.truesize for skb in (*sock.reader_queue, *sock.receive_queue))
        _same(f"{sock!r}: bytes that wait", sock.rmem_alloc, waiting + sock.forward_deficit)
        _same(f"{sock!r}: bytes of its pages", sock.pages << PAGE_SHIFT, sock.rmem_alloc + sock.forward_alloc)
        if sock.memcg is not None:
            charged[sock.memcg.row] += sock.pages
    _same("pages of all sockets", proto.memory_allocated, sum(sock.pages for sock in proto.sockets.values()))
    for memcg in kernel.memcgs.rows.values():
        own = int(kernel.vmstat.memcg_stat[memcg.row, MemcgStatItem.MEMCG_SOCK])
        if kernel.memcgs.fast.memsw:
            own = memcg.tcpmem.usage - sum(child.tcpmem.usage for child in memcg.children)
        _same(f"{memcg!r}: pages of its sockets", own, charged[memcg.row] if memcg.parent else own)
    users = Counter(pfn for sock in proto.sockets.values() for skb in (*sock.reader_queue, *sock.receive_queue)
                    for pfn in skb.frags)
    users += Counter(pfn for pfn, _ in proto.page_frag.of_tasks.values())
    _same("users of blocks with data", dict(users), proto.page_frag.users)


def check_segments(kernel: Kernel) -> None:
    """How often each segment of System V is attached: as many mappings of it as there are."""
    attached = Counter[int]()
    for mm in {id(task.mm): task.mm for task in kernel.tasks.values() if task.mm is not None}.values():
        attached.update(vma.vm_file.segment.id for vma in mm.mmap if isinstance(vma.vm_file, ShmFile))
    kernel.shm.check(lambda segment: attached[segment.id])


def check_objects(kernel: Kernel) -> None:
    """Stacks and slab objects."""
    tasks = kernel.tasks.values()
    stacks = kernel.vmstat.global_node_page_state(NodeStatItem.NR_KERNEL_STACK_KB)
    _same("KernelStack", stacks, len(tasks) * kernel.thread_stacks.nr_pages * PAGE_SIZE >> 10)
    mms = {id(task.mm): task.mm for task in tasks if task.mm is not None}
    expected = {
        "task_struct": len(tasks),
        "pid": len(tasks),
        "signal_cache": len({id(task.signal) for task in tasks}),
        "sighand_cache": len({id(task.sighand) for task in tasks}),
        "mm_struct": len(mms),
        "vm_area_struct": sum(mm.map_count for mm in mms.values()),
    }
    fs = {task.fs.obj for task in tasks if task.fs.obj and task.fs.users}
    creds = {task.signal.cred_obj for task in tasks if task.signal.cred_obj}
    others = {"UDP": len(kernel.udp_prot.sockets), "fs_cache": len(fs), "cred": len(creds)}
    for name, n in others.items():  # caches that are merged into one of these with some kernels
        if kernel.slab[name].name in expected:
            expected[kernel.slab[name].name] += n
    if "vma_lock" in kernel.slab:
        expected["vma_lock"] = expected["vm_area_struct"]
    _same("slab objects", {name: kernel.slab[name].nr_objects_inuse for name in expected}, expected)
    _same("address spaces", len(kernel.mms), len(mms))
