"""What a resource controller is to the cgroup core: its hooks, and its state in one cgroup.

A controller is a `CgroupSubsys`. In every cgroup for which it is enabled it has one `CgroupSubsysState` (a css), which
it makes in `css_alloc()` and which is of a class of its own. Controllers stand here, below the core in
`mmfs.kernel.cgroup`, so that those of mm can be written without knowing the core.

A css lives on after its cgroup was removed, or the controller disabled in it, as long as somebody holds a reference:
`css_get()`, `css_put()`. Until then the cgroup counts as dying in cgroup.stat of all above it.

Linux: include/linux/cgroup-defs.h, struct cgroup_subsys, struct cgroup_subsys_state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

if TYPE_CHECKING:
    from mmfs.kernel.cgroup import Cgroup, CgroupRoot
    from mmfs.kernel.task import Task


class CgroupSubsysState:
    """A controller's state in one cgroup, or (`ss` None) what counts the references to the cgroup itself.

    Linux: struct cgroup_subsys_state.
    """

    __slots__ = ("cgroup", "ss", "parent", "refcnt", "online", "dying", "nr_descendants")

    cgroup: Cgroup
    ss: CgroupSubsys | None
    parent: Any
    """The css of the same controller in the cgroup above; None in the root."""

    def __init__(self) -> None:
        self.refcnt = 1
        self.online = False
        self.dying = False
        self.nr_descendants = 0
        """Living csses of the same controller below."""

    def css_get(self, n: int = 1) -> None:
        """Hold it. Linux: include/linux/cgroup_refcnt.h, css_get_many()."""
        self.refcnt += n

    def css_put(self, n: int = 1) -> None:
        """Let it go; with the last reference it is released. Linux: include/linux/cgroup_refcnt.h, css_put_many()."""
        self.refcnt -= n
        if self.refcnt == 0:
            self.cgroup.css_release(self)
        elif self.refcnt < 0:
            raise AssertionError(f"{self!r} was put more often than it was held")

    def __repr__(self) -> str:
        return f"<css {self.ss.name if self.ss else 'self'} of {self.cgroup.path}>"


class Migration(NamedTuple):
    """A thread on its way from one css of a controller to another. Linux: struct cgroup_taskset, one of its tasks."""

    task: Task
    old: Any
    new: Any


class CgroupSubsys:
    """A resource controller; a hook that it does not need stays as it is here. Linux: struct cgroup_subsys."""

    name: ClassVar[str]
    threaded: ClassVar[bool] = False
    """Whether it can tell the threads of a process apart, so that it works in threaded cgroups."""
    implicit_on_dfl: ClassVar[bool] = False
    """Whether it is in every cgroup without being asked for."""

    hierarchy: CgroupRoot
    """The hierarchy that it is on."""

    def task_css(self, task: Task) -> Any:
        """The css that counts for a task. Linux: include/linux/cgroup.h, task_css()."""
        return self.hierarchy.task_cgroup(task).e_css[self.name]

    def css_alloc(self, parent: Any) -> CgroupSubsysState:
        """State for a new cgroup; `parent` is the css above, None for the root. OSError refuses."""
        return CgroupSubsysState()

    def css_online(self, css: Any) -> None:
        """The css is in its place: `css.cgroup`, `css.parent` are set. OSError refuses."""

    def css_offline(self, css: Any) -> None:
        """The cgroup is removed, or the controller disabled in it; no task is here."""

    def css_released(self, css: Any) -> None:
        """The last reference is gone; the parent is still there."""

    def css_free(self, css: Any) -> None:
        """The end of it."""

    def can_attach(self, tset: list[Migration]) -> None:
        """Whether these threads may move; OSError refuses all."""

    def cancel_attach(self, tset: list[Migration]) -> None:
        """What `can_attach()` had allowed does not happen after all."""

    def attach(self, tset: list[Migration]) -> None:
        """The threads have moved."""

    def can_fork(self, task: Task, css: Any) -> None:
        """Whether a new thread may be made in the css's cgroup; OSError refuses."""

    def cancel_fork(self, task: Task, css: Any) -> None:
        """The thread that `can_fork()` had allowed is not made after all."""

    def fork(self, task: Task) -> None:
        """A new thread is in its cgroup."""

    def exit(self, task: Task) -> None:
        """A thread is dead, maybe a zombie, still with its cgroup."""

    def release(self, task: Task) -> None:
        """A thread's number is free; it leaves its cgroup next."""

    def check(self, css: Any) -> None:
        """What must always be true of a css that is online; AssertionError."""
