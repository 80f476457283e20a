"""The cgroup tree: directories that tasks live in, and which controllers each has.

A controller is enabled from the top down: a directory has it if its parent's cgroup.subtree_control says so, and then
has a state of its own (a css); else its tasks count for the nearest directory above that has one. A directory that
distributes a resource which threads share (memory, hugetlb) has no processes itself, the root aside. A directory
cannot be removed while it has children or living tasks; it stays, dying, while a controller has something charged to
it.

How many are below, how many of them are populated and how many are dying is counted up the tree as it changes.

Linux: kernel/cgroup/cgroup.c.

Simplified: cgroup v2 only, no threaded subtrees, no namespaces.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from mmfs.kernel.psi import PsiGroup
    from mmfs.kernel.task import Task

SUBSYSTEMS: Final = ("cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma", "misc")
"""All that Linux has, in its order. Linux: include/linux/cgroup_subsys.h."""
THREADED: Final = frozenset({"cpuset", "cpu", "pids"})
"""Those that tell threads of a process apart."""


class Controller(Protocol):
    """A resource controller. Linux: struct cgroup_subsys."""

    def css_alloc(self, parent: Any, cgroup: Cgroup) -> Any:
        """The state of a directory, below that of its parent. Raises OSError."""

    def css_offline(self, css: Any) -> bool:
        """The state's directory, or the controller there, goes; whether nothing is charged to it."""

    def reap(self) -> None:
        """Release the states of directories that are gone to which nothing is charged any more."""

    def attach(self, task: Task, css: Any) -> None:
        """A thread counts for another state from now on."""

    def can_fork(self, css: Any) -> None:
        """A task is about to be made here. Raises OSError."""

    def fork(self, task: Task, css: Any) -> None:
        """It was made."""

    def exit(self, task: Task) -> None:
        """A task has gone."""


class Cgroup:
    """One directory. Linux: struct cgroup."""

    __slots__ = (
        "root", "parent", "name", "path", "id", "level", "children", "tasks", "css", "subtree_control", "freeze",
        "frozen", "max_depth", "max_descendants", "nr_descendants", "nr_dying_descendants", "nr_alive",
        "nr_populated_children", "refs", "dead", "events", "psi", "psi_enabled", "gone_ns", "nr_css", "nr_dying_css",
    )  # fmt: skip

    def __init__(self, root: CgroupRoot, parent: Cgroup | None, name: str, ident: int) -> None:
        self.root = root
        self.parent = parent
        self.name = name
        self.path: str = "/" if parent is None else parent.path.rstrip("/") + "/" + name
        self.id = ident
        """The inode number of the directory."""
        self.level: int = 0 if parent is None else parent.level + 1
        self.children: dict[str, Cgroup] = {}
        self.tasks: dict[int, Task] = {}
        """Threads by pid, zombies included."""
        self.css: dict[str, Any] = {}
        """The state of each controller that it has itself."""
        self.subtree_control: set[str] = set()
        self.freeze = False
        """What was written to cgroup.freeze."""
        self.frozen = False
        """Whether all tasks here and below have stopped for a freeze here or above."""
        self.max_depth: int | None = None
        self.max_descendants: int | None = None
        self.nr_descendants = self.nr_dying_descendants = 0
        self.nr_alive = self.nr_populated_children = 0
        self.refs = 0
        """Dying children, and states of controllers to which something is still charged."""
        self.dead = False
        self.events = 0
        """How often cgroup.events has changed."""
        self.psi: PsiGroup | None = None
        """The pressure on its tasks and those below, unless the machine accounts for none."""
        self.psi_enabled = True
        """Whether the files of pressure are there (cgroup.pressure)."""
        self.gone_ns = [0, 0]
        """User and system time that tasks have used here and below before they left or died."""
        self.nr_css = dict.fromkeys(root.controllers, 0)
        self.nr_dying_css = dict.fromkeys(root.controllers, 0)
        """States of each controller here and below, and those below of which the directory or controller is gone."""

    def __repr__(self) -> str:
        return f"<cgroup {self.path}>"

    def descendants(self) -> Iterator[Cgroup]:
        """The directories below, parents before their children. Linux: cgroup_for_each_live_descendant_pre()."""
        for child in self.children.values():
            yield child
            yield from child.descendants()

    def ancestors(self) -> Iterator[Cgroup]:
        """It and those above it, up to the root."""
        cgroup: Cgroup | None = self
        while cgroup is not None:
            yield cgroup
            cgroup = cgroup.parent

    @property
    def populated(self) -> bool:
        """Whether a living task is here or below (cgroup.events). Linux: cgroup_is_populated()."""
        return self.nr_alive + self.nr_populated_children > 0

    @property
    def controllers(self) -> set[str]:
        """Those that the parent grants. Linux: cgroup_control()."""
        return set(self.root.controllers) if self.parent is None else self.parent.subtree_control

    def effective_css(self, name: str) -> Any:
        """The state of a controller for which the tasks here count. Linux: cgroup_e_css()."""
        return next(cgroup.css[name] for cgroup in self.ancestors() if name in cgroup.css)

    def procs(self) -> list[int]:
        """The processes here, by rising pid (cgroup.procs). Zombie leaders without living threads are left out."""
        return sorted({task.tgid for task in self.tasks.values() if task.alive})

    def threads(self) -> list[int]:
        """The living threads here, by rising number (cgroup.threads)."""
        return sorted(pid for pid, task in self.tasks.items() if task.alive)

    def notify(self) -> None:
        """cgroup.events has changed. Linux: cgroup_file_notify()."""
        self.events += 1


class CgroupRoot:
    """The hierarchy. Linux: struct cgroup_root, cgrp_dfl_root."""

    def __init__(self) -> None:
        self.controllers: dict[str, Controller] = {}
        self._next_id = 1
        self.root = Cgroup(self, None, "", self._next_id)
        self.owners: dict[Any, tuple[Cgroup, str]] = {}
        """Directory and controller of each dying state."""

    def register(self, name: str, controller: Controller, css: Any) -> None:
        """A controller that the kernel has, with its state of the root. Linux: cgroup_init_subsys()."""
        self.controllers[name] = controller
        self.root.css[name] = css
        self.root.nr_css[name], self.root.nr_dying_css[name] = 1, 0

    def find(self, path: str) -> Cgroup | None:
        """The directory at an absolute path."""
        cgroup: Cgroup | None = self.root
        for name in path.strip("/").split("/"):
            if name and cgroup is not None:
                cgroup = cgroup.children.get(name)
        return cgroup

    def all(self) -> Iterator[Cgroup]:
        """Every directory, the root first."""
        yield self.root
        yield from self.root.descendants()

    # -- making and removing --------------------------------------------------------------------------------

    def mkdir(self, parent: Cgroup, name: str) -> Cgroup:
        """Make a directory. Linux: kernel/cgroup/cgroup.c, cgroup_mkdir()."""
        if name in parent.children:
            raise OSError(errno.EEXIST, f"cgroup {name} exists")
        if not name or name in (".", "..") or "/" in name or "\n" in name or len(name) > 255:
            raise OSError(errno.EINVAL, "not a name of a cgroup")
        if parent.dead:
            raise OSError(errno.ENOENT, f"cgroup {parent.path} has been removed")
        self._check_hierarchy_limits(parent)
        self._next_id += 1
        cgroup = Cgroup(self, parent, name, self._next_id)
        if parent.psi is not None:
            cgroup.psi = parent.psi.child()
        for controller in self._in_order(parent.subtree_control):
            self._css_create(cgroup, controller)
        parent.children[name] = cgroup
        for above in parent.ancestors():
            above.nr_descendants += 1
        self._inherit_freeze(cgroup)
        return cgroup

    @staticmethod
    def _check_hierarchy_limits(parent: Cgroup) -> None:
        """Whether one more may be made. Linux: kernel/cgroup/cgroup.c, cgroup_check_hierarchy_limits()."""
        for level, cgroup in enumerate(parent.ancestors()):
            if (cgroup.max_descendants is not None and cgroup.nr_descendants >= cgroup.max_descendants) or (
                cgroup.max_depth is not None and level >= cgroup.max_depth
            ):
                raise BlockingIOError(errno.EAGAIN, f"{cgroup.path} may have no more below")

    def makedirs(self, path: str) -> Cgroup:
        """The directory at `path`, made with its parents where they do not exist."""
        cgroup = self.root
        for name in path.strip("/").split("/"):
            if name:
                cgroup = cgroup.children.get(name) or self.mkdir(cgroup, name)
        return cgroup

    def rmdir(self, cgroup: Cgroup) -> None:
        """Remove an empty directory; EBUSY otherwise. Linux: kernel/cgroup/cgroup.c, cgroup_destroy_locked()."""
        parent = cgroup.parent
        if parent is None or cgroup.children or cgroup.populated:
            raise OSError(errno.EBUSY, f"cgroup {cgroup.path} is in use")
        cgroup.dead = True
        del parent.children[cgroup.name]
        parent.refs += 1
        for above in parent.ancestors():
            above.nr_descendants -= 1
            above.nr_dying_descendants += 1
        for name in self._in_order(set(cgroup.css)):
            self._css_kill(cgroup, name)
        self._put(cgroup)

    # -- states of controllers ------------------------------------------------------------------------------

    @staticmethod
    def _in_order(names: set[str]) -> list[str]:
        return [name for name in SUBSYSTEMS if name in names]

    def _css_create(self, cgroup: Cgroup, name: str) -> None:
        """Linux: css_create()."""
        assert cgroup.parent is not None
        cgroup.css[name] = self.controllers[name].css_alloc(cgroup.parent.css[name], cgroup)
        for above in cgroup.ancestors():
            above.nr_css[name] += 1

    def _css_kill(self, cgroup: Cgroup, name: str) -> None:
        """Linux: kill_css()."""
        css = cgroup.css.pop(name)
        cgroup.refs += 1
        self.owners[css] = cgroup, name
        for above in cgroup.ancestors():
            above.nr_css[name] -= 1
            above.nr_dying_css[name] += 1
        if self.controllers[name].css_offline(css):
            self.css_released(css)

    def reap(self) -> None:
        """Find out which dying directories are gone."""
        for controller in self.controllers.values():
            controller.reap()

    def css_released(self, css: Any) -> None:
        """Nothing is charged to a state any more whose directory, or controller there, is gone."""
        cgroup, name = self.owners.pop(css)
        cgroup.refs -= 1
        for above in cgroup.ancestors():
            above.nr_dying_css[name] -= 1
        self._put(cgroup)

    def _put(self, cgroup: Cgroup) -> None:
        """A dead directory without anything charged to it is no more. Linux: css_release_work_fn()."""
        while cgroup.dead and not cgroup.refs and cgroup.parent is not None:
            parent = cgroup.parent
            for above in parent.ancestors():
                above.nr_dying_descendants -= 1
            parent.refs -= 1
            cgroup = parent

    def write_subtree_control(self, cgroup: Cgroup, enable: set[str], disable: set[str]) -> None:
        """Grant controllers to the children, or take them away. Linux: cgroup_subtree_control_write()."""
        enable = {name for name in enable if name not in cgroup.subtree_control}
        for name in self._in_order(enable):
            if name not in cgroup.controllers:
                raise OSError(errno.ENOENT, f"{cgroup.path} has no controller {name}")
        disable = disable & cgroup.subtree_control
        for name in self._in_order(disable):
            if any(name in child.subtree_control for child in cgroup.children.values()):
                raise OSError(errno.EBUSY, f"a child of {cgroup.path} grants {name}")
        if enable and cgroup.parent is not None and cgroup.nr_alive and not self._thread_root(cgroup, enable):
            raise OSError(errno.EBUSY, f"{cgroup.path} has processes")
        self._apply(cgroup, enable, disable)

    @staticmethod
    def _thread_root(cgroup: Cgroup, enable: set[str]) -> bool:
        """Whether it may have both processes and these controllers. Linux: cgroup_can_be_thread_root()."""
        return not cgroup.nr_populated_children and (enable | cgroup.subtree_control) <= THREADED

    def _apply(self, cgroup: Cgroup, enable: set[str], disable: set[str]) -> None:
        """Linux: cgroup_apply_control()."""
        cgroup.subtree_control |= enable
        made: list[tuple[Cgroup, str]] = []
        try:
            for child in cgroup.children.values():
                for name in self._in_order(enable):
                    self._css_create(child, name)
                    made.append((child, name))
        except OSError:
            cgroup.subtree_control -= enable
            for child, name in made:
                self._css_kill(child, name)
            raise
        cgroup.subtree_control -= disable
        for child in cgroup.children.values():
            gone = {name: child.css[name] for name in disable}
            for name in disable:
                del child.css[name]
            for below in (child, *child.descendants()):
                for task in list(below.tasks.values()):
                    for name in enable | disable:
                        self.controllers[name].attach(task, below.effective_css(name))
            child.css.update(gone)
            for name in self._in_order(disable):
                self._css_kill(child, name)

    # -- tasks ----------------------------------------------------------------------------------------------

    def _update_populated(self, cgroup: Cgroup, delta: int) -> None:
        """A living task more or less. Linux: cgroup_update_populated()."""
        was, cgroup.nr_alive = cgroup.populated, cgroup.nr_alive + delta
        while cgroup.populated != was:
            cgroup.notify()
            if cgroup.parent is None:
                return
            parent = cgroup.parent
            was, parent.nr_populated_children = parent.populated, parent.nr_populated_children + delta
            cgroup = parent

    def can_fork(self, cgroup: Cgroup) -> None:
        """Whether a task may be made in a directory. Raises OSError. Linux: cgroup_can_fork()."""
        for name, controller in self.controllers.items():
            controller.can_fork(cgroup.effective_css(name))

    def post_fork(self, task: Task) -> None:
        """A new task enters its creator's directory. Linux: cgroup_post_fork()."""
        cgroup = task.cgrp
        cgroup.tasks[task.pid] = task
        task.cgrp_since_ns = task.utime_ns, task.stime_ns
        self._update_populated(cgroup, 1)
        for name, controller in self.controllers.items():
            controller.fork(task, cgroup.effective_css(name))
        if self.should_freeze(cgroup):
            self._set_frozen(task, True)

    def exit(self, task: Task) -> None:
        """A task dies; it is listed until it has been waited for. Linux: cgroup_exit()."""
        self._update_populated(task.cgrp, -1)
        self._account_time(task)
        task.frozen = False
        self.update_frozen(task.cgrp)

    def release(self, task: Task) -> None:
        """A task is gone. Linux: cgroup_release()."""
        task.cgrp.tasks.pop(task.pid, None)
        for controller in self.controllers.values():
            controller.exit(task)

    def migrate_vet_dst(self, cgroup: Cgroup) -> None:
        """Whether processes may move to a directory. Raises OSError. Linux: cgroup_migrate_vet_dst()."""
        if cgroup.parent is None or not cgroup.subtree_control:
            return
        if cgroup.subtree_control - THREADED or cgroup.nr_populated_children:
            raise OSError(errno.EBUSY, f"{cgroup.path} distributes resources to its children")

    def attach_task(self, task: Task, cgroup: Cgroup, threadgroup: bool = True) -> None:
        """Move a process with all its threads. Linux: kernel/cgroup/cgroup.c, cgroup_attach_task()."""
        if cgroup.dead:
            raise OSError(errno.ENODEV, f"cgroup {cgroup.path} has been removed")
        self.migrate_vet_dst(cgroup)
        for thread in list(task.signal.threads) if threadgroup else [task]:
            old = thread.cgrp
            if old is cgroup:
                continue
            self._account_time(thread)
            old.tasks.pop(thread.pid, None)
            cgroup.tasks[thread.pid] = thread
            thread.cgrp = cgroup
            thread.kernel.scheduler.cgroup_move_task(thread, cgroup.psi)
            if thread.alive:
                self._update_populated(cgroup, 1)
                self._update_populated(old, -1)
            for name, controller in self.controllers.items():
                css = cgroup.effective_css(name)
                if css is not old.effective_css(name):
                    controller.attach(thread, css)
            self._set_frozen(thread, self.should_freeze(cgroup) and thread.alive)
            self.update_frozen(old)
            self.update_frozen(cgroup)

    @staticmethod
    def _account_time(task: Task) -> None:
        """What a task has used in its directory stays there. Linux: kernel/cgroup/rstat.c, cgroup_base_stat."""
        user, system = task.utime_ns - task.cgrp_since_ns[0], task.stime_ns - task.cgrp_since_ns[1]
        for cgroup in task.cgrp.ancestors():
            cgroup.gone_ns[0] += user
            cgroup.gone_ns[1] += system
        task.cgrp_since_ns = task.utime_ns, task.stime_ns

    @staticmethod
    def cpu_time_ns(cgroup: Cgroup) -> tuple[int, int]:
        """User and system time that tasks have used in a directory and below. Linux: cgroup_base_stat_cputime_show()."""
        user, system = cgroup.gone_ns
        for one in (cgroup, *cgroup.descendants()):
            for task in one.tasks.values():
                user += task.utime_ns - task.cgrp_since_ns[0]
                system += task.stime_ns - task.cgrp_since_ns[1]
        return user, system

    # -- freezing -------------------------------------------------------------------------------------------

    @staticmethod
    def should_freeze(cgroup: Cgroup) -> bool:
        """Whether it or one above is to be frozen. Linux: cgroup->freezer.e_freeze."""
        return any(one.freeze for one in cgroup.ancestors())

    def set_freeze(self, cgroup: Cgroup, freeze: bool) -> None:
        """cgroup.freeze: stop all tasks here and below, or let them go on. Linux: cgroup_freeze()."""
        cgroup.freeze = freeze
        for one in (cgroup, *cgroup.descendants()):
            stop = self.should_freeze(one)
            for task in list(one.tasks.values()):
                if task.alive:
                    self._set_frozen(task, stop)
        for one in reversed([cgroup, *cgroup.descendants()]):
            self._note_frozen(one)
        self.update_frozen(cgroup)

    @staticmethod
    def _set_frozen(task: Task, frozen: bool) -> None:
        if task.frozen == frozen or task.is_kthread:
            return
        task.frozen = frozen
        if not frozen and task.kernel.workload is not None:
            task.kernel.workload.wake(task)

    def _inherit_freeze(self, cgroup: Cgroup) -> None:
        cgroup.frozen = self.should_freeze(cgroup)

    def _note_frozen(self, cgroup: Cgroup) -> None:
        """Linux: cgroup_update_frozen()."""
        frozen = (
            self.should_freeze(cgroup)
            and all(task.frozen or not task.alive or task.is_kthread for task in cgroup.tasks.values())
            and all(child.frozen for child in cgroup.children.values())
        )
        if frozen != cgroup.frozen:
            cgroup.frozen = frozen
            cgroup.notify()

    def update_frozen(self, cgroup: Cgroup) -> None:
        """Tasks of a directory have stopped, gone or come: what that says of those above. Linux: cgroup_update_frozen()."""
        if cgroup.freeze or cgroup.frozen or self.should_freeze(cgroup):
            for one in cgroup.ancestors():
                self._note_frozen(one)

    # -- checks ---------------------------------------------------------------------------------------------

    def check(self) -> None:
        """The counts against the tree. Raises AssertionError."""
        for cgroup in self.all():
            below = list(cgroup.descendants())
            alive = sum(task.alive for task in cgroup.tasks.values())
            populated = sum(child.populated for child in cgroup.children.values())
            found = (len(below), alive, populated)
            kept = (cgroup.nr_descendants, cgroup.nr_alive, cgroup.nr_populated_children)
            if found != kept:
                raise AssertionError(f"{cgroup!r}: descendants, living tasks, populated children are {found}, not {kept}")
            if set(cgroup.css) != cgroup.controllers:
                raise AssertionError(f"{cgroup!r} has {sorted(cgroup.css)}, its parent grants {cgroup.controllers}")
