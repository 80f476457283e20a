"""Which CPUs and which nodes' memory the tasks of a cgroup may use.

What a cpuset asks for (`cpus_allowed`, `mems_allowed`) is cut to what the one above has; one that asks for nothing, or
for nothing that is there, has what the one above has. CPUs can be taken from the siblings: `cpus.exclusive` reserves
them, and a valid partition has them for itself.

After each change the whole tree is worked out anew from the top.

Linux: kernel/cgroup/cpuset.c.

Simplified: partitions only right below the root or a valid partition, not remote ones; a partition makes no scheduling
domain.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, Final

from mmfs.kernel.sched import PF_KTHREAD, PF_NO_SETAFFINITY
from mmfs.mm.cgroup_defs import CgroupSubsys, CgroupSubsysState, Migration
from mmfs.mm.migrate import do_migrate_pages

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task

EMPTY: Final[frozenset[int]] = frozenset()
MEMBER: Final = "member"
PERR_INVCPUS: Final = "Invalid cpu list in cpuset.cpus.exclusive"
PERR_INVPARENT: Final = "Parent is an invalid partition root"
PERR_NOTEXCL: Final = "Cpu list in cpuset.cpus not exclusive"
PERR_NOCPUS: Final = "Parent unable to distribute cpu downstream"
PERR_CPUSEMPTY: Final = "cpuset.cpus and cpuset.cpus.exclusive are empty"


class Cpuset(CgroupSubsysState):
    """Linux: struct cpuset."""

    __slots__ = (
        "cpus_allowed", "effective_cpus", "effective_mems", "effective_xcpus", "exclusive_cpus", "mems_allowed",
        "overlapped", "partition", "prs_err",
    )  # fmt: skip

    parent: Cpuset | None

    def __init__(self) -> None:
        super().__init__()
        self.cpus_allowed = self.mems_allowed = self.exclusive_cpus = EMPTY
        self.effective_cpus = self.effective_mems = self.effective_xcpus = EMPTY
        self.partition = MEMBER
        """What was written to cpuset.cpus.partition: member, root or isolated."""
        self.prs_err = ""
        """Why the partition is invalid."""
        self.overlapped = False
        """A sibling asks for CPUs that the partition had for itself: it is invalid, for no reason that is shown."""

    @property
    def is_partition(self) -> bool:
        """Whether it is a valid partition; the root always is. Linux: is_partition_valid()."""
        return self.parent is None or (self.partition != MEMBER and not self.prs_err and not self.overlapped)

    @property
    def user_xcpus(self) -> frozenset[int]:
        """What a partition would have. Linux: user_xcpus()."""
        return self.exclusive_cpus or self.cpus_allowed

    def children(self) -> list[Cpuset]:
        """Those of the cgroups right below."""
        return [child.subsys["cpuset"] for child in self.cgroup.children.values() if "cpuset" in child.subsys]

    def siblings(self) -> list[Cpuset]:
        """The other children of the one above."""
        return [] if self.parent is None else [one for one in self.parent.children() if one is not self]


class Cpusets(CgroupSubsys):
    """The controller."""

    name = "cpuset"
    threaded = True

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel

    def css_alloc(self, parent: Any) -> Cpuset:
        """One that asks for nothing."""
        return Cpuset()

    def css_online(self, css: Cpuset) -> None:
        """It has what is above, or, the root, all there is. Linux: cpuset_css_online(), cpuset_init_smp()."""
        if css.parent is None:
            css.effective_cpus = css.effective_xcpus = frozenset(range(self.kernel.machine.nr_cpus))
            css.effective_mems = self.node_states_memory()
        else:
            css.effective_cpus, css.effective_mems = css.parent.effective_cpus, css.parent.effective_mems

    def css_offline(self, css: Cpuset) -> None:
        """What it had for itself goes back. Linux: cpuset_css_killed()."""
        if css.partition != MEMBER:
            css.partition, css.prs_err, css.overlapped = MEMBER, "", False
            self.rebuild()

    def node_states_memory(self) -> frozenset[int]:
        """The nodes with memory."""
        return frozenset(pgdat.node_id for pgdat in self.kernel.node_data if pgdat.node_present_pages)

    def track_online_nodes(self) -> None:
        """A node's first memory came, or its last went. Linux: cpuset_track_online_nodes(), cpuset_handle_hotplug()."""
        top: Cpuset = self.hierarchy.root.subsys[self.name]
        top.effective_mems = self.node_states_memory()
        self.rebuild()

    def can_attach(self, tset: list[Migration]) -> None:
        """ENOSPC if no CPU is left there; EINVAL for who is bound. Linux: cpuset_can_attach(), task_can_attach()."""
        for move in tset:
            if not move.new.effective_cpus:
                raise OSError(errno.ENOSPC, "no CPU is left in that cpuset")
            if move.task.flags & PF_NO_SETAFFINITY:
                raise OSError(errno.EINVAL, "the thread is bound to its CPU")

    def attach(self, tset: list[Migration]) -> None:
        """Linux: cpuset_attach()."""
        for move in tset:
            if move.task.alive:
                self.update_task(move.task, move.new)

    def update_task(self, task: Task, css: Cpuset) -> None:
        """The task runs on these CPUs, or those of them that it has asked for, and faults pages in on these nodes.

        Linux: cpuset_attach_task(), __set_cpus_allowed_ptr(), cpuset_change_task_nodemask().
        """
        cpus = css.effective_cpus
        if task.user_cpus is not None and task.user_cpus & cpus:
            cpus = task.user_cpus & cpus
        everywhere = len(cpus) == self.kernel.machine.nr_cpus
        if (task.cpus_allowed is None) is not everywhere or (not everywhere and task.cpus_allowed != cpus):
            if cpus:
                task.set_cpus_allowed(cpus)
            if everywhere:
                task.cpus_allowed = None
        memory = self.node_states_memory()
        before = task.mems_allowed or memory
        task.set_mems_allowed(None if css.effective_mems == memory else css.effective_mems)
        if task.mm is None or not task.thread_group_leader or not self.hierarchy.on_dfl:
            return
        if css.effective_mems and css.effective_mems != before:
            do_migrate_pages(task.mm, tuple(before), tuple(css.effective_mems), shared=True)

    # ---- changes -------------------------------------------------------------------------------------------------

    def update(self, css: Cpuset, name: str, members: frozenset[int]) -> None:
        """cpuset.cpus, mems or cpus.exclusive is written: `name` is the attribute.

        ENOSPC: tasks are here, and nothing would be asked for where something was; EINVAL: outside of the machine, or
        not exclusive among the siblings. Linux: update_cpumask(), update_nodemask(), update_exclusive_cpumask().
        """
        top: Cpuset = self.hierarchy.root.subsys[self.name]
        old: frozenset[int] = getattr(css, name)
        if not members <= (top.effective_mems if name == "mems_allowed" else top.effective_xcpus):
            raise OSError(errno.EINVAL, "there is no such CPU or node")
        if members == old:
            return
        if name != "exclusive_cpus" and old and not members and css.cgroup.populated:
            raise OSError(errno.ENOSPC, "tasks are there")
        setattr(css, name, members)
        css.overlapped = False
        if any(self._conflict(css, other) for other in css.siblings()):
            if name != "cpus_allowed":
                setattr(css, name, old)
                raise OSError(errno.EINVAL, "not exclusive among the siblings")
            self._overlap(css)
        parent = css.parent
        self.rebuild()
        added = css.user_xcpus - old if parent is not None and css.is_partition else EMPTY
        if added and name != "mems_allowed" and not (css.user_xcpus & old) and self._has_tasks(parent):
            css.prs_err = PERR_NOCPUS
            self.rebuild(css)

    @staticmethod
    def _conflict(css: Cpuset, other: Cpuset) -> bool:
        """Linux: validate_change()."""
        if css.is_partition or other.is_partition or (css.exclusive_cpus and other.exclusive_cpus):
            return bool(css.user_xcpus & other.user_xcpus)
        for one, two in ((css, other), (other, css)):
            if one.exclusive_cpus and two.cpus_allowed and two.cpus_allowed <= one.exclusive_cpus:
                return True
        return False

    @staticmethod
    def _overlap(css: Cpuset) -> None:
        """cpuset.cpus asks for what siblings have for themselves: no partition of them is valid any more.

        Linux: update_cpumask(), partcmd_invalidate.
        """
        for one in (css, *css.siblings()):
            if one.partition != MEMBER and (one is css or (one.is_partition and one.effective_xcpus & css.user_xcpus)):
                one.overlapped = True
                one.cgroup.file_notify("cpuset.cpus.partition")

    def set_partition(self, css: Cpuset, kind: str) -> None:
        """cpuset.cpus.partition is written; it may become an invalid one. Linux: update_prstate()."""
        if kind != css.partition or not css.is_partition:
            css.partition, css.prs_err, css.overlapped = kind, "", False
            self.rebuild()

    @staticmethod
    def _has_tasks(parent: Cpuset | None) -> bool:
        """Whether tasks need the CPUs that are left to a partition. Linux: partition_is_populated()."""
        return parent is not None and bool(parent.cgroup.nr_tasks or len(parent.children()) > 1)

    def _partition_error(self, css: Cpuset, left: frozenset[int]) -> str:
        """Why it cannot be a partition; `left`: what its parent has yet. Linux: update_parent_effective_cpumask()."""
        parent = css.parent
        assert parent is not None
        xcpus = css.user_xcpus
        if not xcpus:
            return PERR_CPUSEMPTY
        if not parent.is_partition:
            return PERR_INVCPUS if parent.partition == MEMBER else PERR_INVPARENT
        if not xcpus & parent.effective_xcpus:
            return PERR_INVCPUS
        if any(xcpus & other.user_xcpus for other in css.siblings() if other.is_partition):
            return PERR_NOTEXCL
        if left <= xcpus and self._has_tasks(parent):
            return PERR_NOCPUS
        return ""

    def rebuild(self, refused: Cpuset | None = None) -> None:
        """Work out what each cpuset has, and tell the tasks; `refused` is not looked at again.

        Linux: update_cpumasks_hier(), update_nodemasks_hier().
        """
        top: Cpuset = self.hierarchy.root.subsys[self.name]
        before = {id(css): (css.effective_cpus, css.effective_mems) for css in self._tree(top)}
        top.effective_cpus = top.effective_xcpus
        self._distribute(top, refused)
        for group in self.hierarchy.all():
            css: Cpuset = group.e_css[self.name]
            if before.get(id(css)) != (css.effective_cpus, css.effective_mems):
                for task in list(group.tasks.values()):
                    if task.alive and not task.flags & (PF_NO_SETAFFINITY | PF_KTHREAD):
                        self.update_task(task, css)

    def _tree(self, css: Cpuset) -> list[Cpuset]:
        return [css, *(one for child in css.children() for one in self._tree(child))]

    def _distribute(self, parent: Cpuset, refused: Cpuset | None) -> None:
        children = parent.children()
        for css in children:
            if css.partition != MEMBER:
                old = css.prs_err
                if css is not refused:
                    css.prs_err = ""
                    css.prs_err = self._partition_error(css, parent.effective_cpus)
                if css.prs_err != old:
                    css.cgroup.file_notify("cpuset.cpus.partition")
            css.effective_xcpus = EMPTY
            if css.exclusive_cpus or css.is_partition:
                css.effective_xcpus = css.user_xcpus & parent.effective_xcpus
            if css.is_partition:
                parent.effective_cpus -= css.effective_xcpus
        for css in children:
            cpus = css.effective_xcpus if css.is_partition else css.cpus_allowed & parent.effective_cpus
            css.effective_cpus = cpus or parent.effective_cpus
            css.effective_mems = css.mems_allowed & parent.effective_mems or parent.effective_mems
            self._distribute(css, refused)

    def isolated(self) -> frozenset[int]:
        """The CPUs of isolated partitions (cpuset.cpus.isolated). Linux: isolated_cpus."""
        top: Cpuset = self.hierarchy.root.subsys[self.name]
        found: frozenset[int] = EMPTY
        for css in self._tree(top)[1:]:
            if css.is_partition and css.partition == "isolated":
                found |= css.effective_xcpus
        return found

    def check(self, css: Cpuset) -> None:
        """Nobody has what the one above has not, and tasks are where they may be."""
        parent = css.parent
        above = None if parent is None else parent.effective_xcpus if css.is_partition else parent.effective_cpus
        if above is not None and not css.effective_cpus <= above:
            raise AssertionError(f"{css.cgroup.path}: CPUs {css.effective_cpus} of {above}")
        if parent is not None and not css.effective_mems <= parent.effective_mems:
            raise AssertionError(f"{css.cgroup.path}: nodes {css.effective_mems} of {parent.effective_mems}")
        for task in css.cgroup.tasks.values():
            if task.alive and not task.flags & (PF_NO_SETAFFINITY | PF_KTHREAD):
                cpus = task.cpus_allowed or frozenset(range(self.kernel.machine.nr_cpus))
                if not cpus <= css.effective_cpus and css.effective_cpus:
                    raise AssertionError(f"{task!r} in {css.cgroup.path}: may run on {cpus} of {css.effective_cpus}")
