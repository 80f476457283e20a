"""The cgroup tree: directories that tasks live in, with the controllers that are enabled in each.

A controller is enabled for the children of a cgroup by its `subtree_control`, from the top down; in a cgroup where it
is not enabled, the tasks are the business of its css in the nearest cgroup above (`Cgroup.e_css`). Counts that files
show (`nr_descendants`, `nr_populated_...`) are kept up the tree as things change, so that reading them is no walk.

Linux: kernel/cgroup/cgroup.c.

Simplified: no namespaces.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from mmfs.kernel.cgroup.rstat import BaseStat
from mmfs.kernel.clock import NSEC_PER_MSEC
from mmfs.kernel.kthread import Psimon
from mmfs.kernel.psi import PsiGroup
from mmfs.mm.cgroup_defs import CgroupSubsys, CgroupSubsysState

if TYPE_CHECKING:
    from mmfs.kernel.cgroup.root import CgroupRoot
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task

SUBSYS: Final = {
    "cpuset": "CPUSETS",
    "cpu": "FAIR_GROUP_SCHED",
    "io": "BLK_CGROUP",
    "memory": "MEMCG",
    "perf_event": "CGROUP_PERF",
    "hugetlb": "CGROUP_HUGETLB",
    "pids": "CGROUP_PIDS",
    "rdma": "CGROUP_RDMA",
    "misc": "CGROUP_MISC",
    "dmem": "CGROUP_DMEM",
}
"""The controllers of cgroup v2 in Linux's order, with the option that builds each.

Linux: include/linux/cgroup_subsys.h."""

LEGACY_NAMES: Final = {"io": "blkio"}
"""What a controller is called in cgroup v1, where that differs."""
FILE_NOTIFY_MIN_INTV: Final = 10 * NSEC_PER_MSEC
NOTIFY_PENDING: Final = -1
"""Instead of the time of the last event of a file: the next one comes by timer."""


def task_css(task: Task, name: str) -> Any:
    """The css of a controller that counts for a task, on whichever hierarchy; None if it is disabled."""
    return next((cgroup.e_css[name] for cgroup in task.cset if name in cgroup.e_css), None)


class Cgroup:
    """One directory. Linux: struct cgroup."""

    __slots__ = (
        "root", "owner", "iattrs", "parent", "name", "path", "id", "level", "self", "children", "tasks", "subsys",
        "e_css", "subtree_control", "dom_cgrp", "notify_on_release", "clone_children", "max_depth", "max_descendants",
        "freeze", "e_freeze", "freezing", "freeze_start_ns", "frozen_ns", "frozen", "nr_frozen_tasks",
        "nr_frozen_descendants", "nr_descendants", "nr_dying_descendants", "nr_dying_subsys", "nr_tasks",
        "nr_populated_domain_children", "nr_populated_threaded_children", "nr_threaded_children",
        "stat", "psi_shown", "_psi", "events", "_notified",
    )  # fmt: skip

    def __init__(self, root: CgroupRoot, parent: Cgroup | None, name: str, ident: int) -> None:
        self.root = root
        self.parent = parent
        self.name = name
        self.path: str = "/" if parent is None else parent.path.rstrip("/") + "/" + name
        self.id = ident
        """The inode number of the directory."""
        self.owner = (0, 0)
        """uid and gid of who made it; what was changed of that and of modes and extended attributes is in `iattrs`."""
        self.iattrs: dict[str, Any] = {}
        self.level: int = 0 if parent is None else parent.level + 1
        """The depth: 0 for the root."""
        self.self = CgroupSubsysState()
        """Counts the references to this cgroup: of its csses, its children and its tasks, zombies included."""
        self.self.cgroup, self.self.ss, self.self.parent, self.self.online = self, None, None, True
        self.children: dict[str, Cgroup] = {}
        self.tasks: dict[int, Task] = {}
        """Threads by pid, zombies included."""
        self.subsys: dict[str, Any] = {}
        """The csses of the controllers that are enabled here."""
        self.e_css: dict[str, Any] = {}
        """The css of each controller that counts here: the one here or the nearest above. Linux: cgroup_e_css()."""
        self.subtree_control: frozenset[str] = frozenset()
        self.notify_on_release: bool = parent is not None and parent.notify_on_release
        self.clone_children: bool = parent is not None and parent.clone_children
        """Two flags of cgroup v1, which a new cgroup has from its parent."""
        self.dom_cgrp: Cgroup = self
        """The cgroup whose domain this one is in: another one if this is threaded."""
        self.max_depth: int | None = None
        self.max_descendants: int | None = None
        self.freeze = False
        """What was written to cgroup.freeze; `e_freeze`: how many here and above say so (kernel/cgroup/freezer.py)."""
        self.freezing = self.frozen = False
        self.e_freeze = self.nr_frozen_tasks = self.nr_frozen_descendants = 0
        self.freeze_start_ns = self.frozen_ns = 0
        self.stat: BaseStat | None = None if parent is None else BaseStat(parent.stat)
        """CPU time of the tasks here and below; the root's is that of the CPUs."""
        self.psi_shown = True
        """Whether pressure is accounted here and its files are there (cgroup.pressure)."""
        self._psi: PsiGroup | None = None
        self.events: dict[str, int] = {}
        """How often a file has told that it is new, by name."""
        self._notified: dict[str, int] = {}
        self.nr_descendants = self.nr_dying_descendants = 0
        self.nr_dying_subsys: dict[str, int] = {}
        self.nr_tasks = 0
        """Living threads here."""
        self.nr_populated_domain_children = self.nr_populated_threaded_children = self.nr_threaded_children = 0

    def __repr__(self) -> str:
        return f"<cgroup {self.path}>"

    # ---- around it ------------------------------------------------------------------------------------------

    @property
    def kernel(self) -> Kernel:
        """The kernel it belongs to."""
        return self.root.kernel

    def ancestors(self) -> Iterator[Cgroup]:
        """The cgroups above, the nearest first."""
        parent = self.parent
        while parent is not None:
            yield parent
            parent = parent.parent

    def descendants(self) -> Iterator[Cgroup]:
        """The directories below, parents before their children. Linux: cgroup_for_each_live_descendant_pre()."""
        for child in self.children.values():
            yield child
            yield from child.descendants()

    def is_descendant(self, ancestor: Cgroup) -> bool:
        """Whether this is `ancestor` or below it. Linux: include/linux/cgroup.h, cgroup_is_descendant()."""
        group: Cgroup | None = self
        while group is not None and group.level > ancestor.level:
            group = group.parent
        return group is ancestor

    @property
    def psi(self) -> PsiGroup:
        """The pressure on the tasks here and below. Linux: include/linux/psi.h, cgroup_psi()."""
        if self._psi is None:
            scheduler, kernel = self.root.kernel.scheduler, self.root.kernel
            if self.parent is None:
                return scheduler.psi_system
            self._psi = PsiGroup(scheduler.clock, scheduler.cpus, self.parent.psi)
            self._psi.rtpoll_worker = Psimon(kernel)
        return self._psi

    def file_notify(self, name: str) -> None:
        """A file has something new to tell: wake who polls it, at most every ten milliseconds.

        Linux: kernel/cgroup/cgroup.c, cgroup_file_notify().
        """
        clock = self.root.kernel.clock
        last = self._notified.get(name)
        if last == NOTIFY_PENDING:
            return
        if last is None or clock.now_ns > last + FILE_NOTIFY_MIN_INTV:
            self._notify(name)
        else:
            self._notified[name] = NOTIFY_PENDING
            clock.add_timer(last + FILE_NOTIFY_MIN_INTV, self._notify, name)

    def _notify(self, name: str) -> None:
        """Linux: fs/kernfs/file.c, kernfs_notify()."""
        self._notified[name] = self.root.kernel.clock.now_ns
        self.events[name] = self.events.get(name, 0) + 1

    # ---- members --------------------------------------------------------------------------------------------

    @property
    def populated(self) -> bool:
        """Whether a living process is here or below (cgroup.events). Linux: cgroup_is_populated()."""
        return bool(self.nr_tasks + self.nr_populated_domain_children + self.nr_populated_threaded_children)

    @property
    def threaded(self) -> bool:
        """Linux: cgroup_is_threaded()."""
        return self.dom_cgrp is not self

    def procs(self) -> list[int]:
        """The processes of this domain, by rising pid (cgroup.procs): with threads here or in its threaded cgroups.

        Zombie leaders without living threads are left out. Linux: cgroup_procs_start(), css_task_iter_start().
        """
        groups = [self]
        if self.nr_threaded_children:
            groups += [one for one in self.descendants() if one.dom_cgrp is self]
        return sorted({task.tgid for group in groups for task in group.tasks.values() if task.alive})

    def threads(self) -> list[int]:
        """The living threads here, by rising number (cgroup.threads)."""
        return sorted(pid for pid, task in self.tasks.items() if task.alive)

    def join(self, task: Task) -> None:
        """A new thread is here; it holds the cgroup until it is released. Linux: css_set_move_task()."""
        self.tasks[task.pid] = task
        task.cset[self.root.index] = self
        self.self.css_get()
        self.update_tasks(1)

    def leave(self, task: Task) -> None:
        """A thread, if dead already no longer counted, lets go of the cgroup. Linux: put_css_set()."""
        del self.tasks[task.pid]
        if task.alive:
            self.update_tasks(-1)
        if not self.self.online:
            self._put_csses(1)
        self.self.css_put()

    def _put_csses(self, n: int) -> None:
        for css in list(self.e_css.values()):
            if css.cgroup is self:
                css.css_put(n)

    def update_tasks(self, adjust: int) -> None:
        """A living thread came or went: who is populated up the tree. Linux: cgroup_update_populated()."""
        had = self.nr_tasks
        self.nr_tasks = had + adjust
        if bool(had) is bool(self.nr_tasks):
            return
        step = 1 if self.nr_tasks else -1
        others = self.nr_populated_domain_children + self.nr_populated_threaded_children
        child, changed = self, not others
        while changed:
            child.file_notify("cgroup.events")
            parent = child.parent
            if parent is None:
                return
            was = parent.populated
            if child.threaded:
                parent.nr_populated_threaded_children += step
            else:
                parent.nr_populated_domain_children += step
            child, changed = parent, was is not parent.populated

    def nr_subsys(self, name: str) -> int:
        """Living csses of a controller here and below (cgroup.stat).

        One that is not modelled has a css in the root, or everywhere if it needs not be enabled.
        """
        if name in self.root.controllers:
            css = self.subsys.get(name)
            return 0 if css is None else 1 + css.nr_descendants
        return 1 + self.nr_descendants if name == "perf_event" else int(self.parent is None)

    # ---- csses ----------------------------------------------------------------------------------------------

    def control(self) -> frozenset[str]:
        """The controllers that may be enabled for what is below. Linux: cgroup_control()."""
        parent = self.parent
        if parent is None:
            return self.root.visible
        return parent.subtree_control & self.root.threaded if self.threaded else parent.subtree_control

    def ss_mask(self) -> frozenset[str]:
        """The controllers that have a css here. Linux: cgroup_ss_mask()."""
        mask = self.control() | self.root.implicit
        return mask & self.root.threaded if self.threaded else mask

    def css_create(self, ss: CgroupSubsys) -> None:
        """Enable a controller here. Linux: css_create(), init_and_link_css(), online_css()."""
        parent = self.parent
        above = None if parent is None else parent.subsys[ss.name]
        css = ss.css_alloc(above)
        css.cgroup, css.ss, css.parent = self, ss, above
        try:
            ss.css_online(css)
        except OSError:
            ss.css_free(css)
            raise
        self.self.css_get()
        if above is not None:
            above.css_get()
        css.online = True
        self.subsys[ss.name] = css
        while above is not None:
            above.nr_descendants += 1
            above = above.parent

    def kill_css(self, name: str) -> None:
        """Disable a controller here; the css stays as long as it is held. Linux: kill_css(), offline_css()."""
        css = self.subsys[name]
        css.dying = True
        css.css_get()
        self.nr_dying_subsys[name] = self.nr_dying_subsys.get(name, 0) + 1
        above = css.parent
        while above is not None:
            above.nr_descendants -= 1
            dying = above.cgroup.nr_dying_subsys
            dying[name] = dying.get(name, 0) + 1
            above = above.parent
        css.ss.css_offline(css)
        css.online = False
        del self.subsys[name]
        css.css_put(2)

    def css_release(self, css: CgroupSubsysState) -> None:
        """The last reference to a css of this cgroup, or to the cgroup itself, is gone.

        Linux: css_release_work_fn(), css_free_rwork_fn().
        """
        ss = css.ss
        if ss is None:
            for group in self.ancestors():
                group.nr_dying_descendants -= 1
            self.root.nr_cgrps -= 1
            if self.parent is not None:
                self.parent.self.css_put()
            return
        ss.css_released(css)
        for group in (self, *self.ancestors()):
            group.nr_dying_subsys[ss.name] -= 1
        ss.css_free(css)
        above = css.parent
        self.self.css_put()
        if above is not None:
            above.css_put()
