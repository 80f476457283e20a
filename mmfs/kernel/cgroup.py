"""The cgroup tree: directories that tasks live in.

Only the core is here: the tree, who is in which directory, and the rules of mkdir, rmdir and of moving a process
(all its threads move with it; a directory with children or tasks cannot be removed). Controllers hang their state
off `Cgroup.subsys` and learn of changes through the callbacks of `CgroupRoot.controllers`.

Linux: kernel/cgroup/cgroup.c.

Simplified: cgroup v2 only, no threaded subtrees, no namespaces.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from mmfs.kernel.task import Task


class Controller(Protocol):
    """What a resource controller is told. Linux: struct cgroup_subsys."""

    def css_online(self, cgroup: Cgroup) -> None:
        """A directory was made."""

    def css_offline(self, cgroup: Cgroup) -> None:
        """A directory is removed."""

    def attach(self, task: Task, old: Cgroup, new: Cgroup) -> None:
        """A thread moved."""


class Cgroup:
    """One directory. Linux: struct cgroup."""

    __slots__ = (
        "root", "parent", "name", "path", "id", "children", "tasks", "subsys", "subtree_control", "frozen",
        "max_depth", "max_descendants",
    )  # fmt: skip

    def __init__(self, root: CgroupRoot, parent: Cgroup | None, name: str, ident: int) -> None:
        self.root = root
        self.parent = parent
        self.name = name
        self.path: str = "/" if parent is None else parent.path.rstrip("/") + "/" + name
        self.id = ident
        """The inode number of the directory."""
        self.children: dict[str, Cgroup] = {}
        self.tasks: dict[int, Task] = {}
        """Threads by pid, zombies included."""
        self.subsys: dict[str, Any] = {}
        self.subtree_control: set[str] = set()
        self.frozen = False
        self.max_depth: int | None = None
        self.max_descendants: int | None = None

    def __repr__(self) -> str:
        return f"<cgroup {self.path}>"

    def descendants(self) -> Iterator[Cgroup]:
        """The directories below, parents before their children. Linux: cgroup_for_each_live_descendant_pre()."""
        for child in self.children.values():
            yield child
            yield from child.descendants()

    @property
    def level(self) -> int:
        """The depth: 0 for the root."""
        return 0 if self.parent is None else self.parent.level + 1

    @property
    def populated(self) -> bool:
        """Whether a living process is here or below (cgroup.events)."""
        if any(task.alive for task in self.tasks.values()):
            return True
        return any(child.populated for child in self.children.values())

    def procs(self) -> list[int]:
        """The processes here, by rising pid (cgroup.procs). Zombie leaders without living threads are left out."""
        return sorted({task.tgid for task in self.tasks.values() if task.alive})

    def threads(self) -> list[int]:
        """The living threads here, by rising number (cgroup.threads)."""
        return sorted(pid for pid, task in self.tasks.items() if task.alive)


class CgroupRoot:
    """The hierarchy. Linux: struct cgroup_root, cgrp_dfl_root."""

    def __init__(self) -> None:
        self.controllers: dict[str, Controller] = {}
        self._next_id = 1
        self.root = Cgroup(self, None, "", self._next_id)

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

    def mkdir(self, parent: Cgroup, name: str) -> Cgroup:
        """Make a directory. Linux: kernel/cgroup/cgroup.c, cgroup_mkdir()."""
        if name in parent.children:
            raise OSError(errno.EEXIST, f"cgroup {name} exists")
        if not name or name in (".", "..") or "/" in name or "\n" in name or len(name) > 255:
            raise OSError(errno.EINVAL, "not a name of a cgroup")
        self._check_hierarchy_limits(parent)
        self._next_id += 1
        cgroup = parent.children[name] = Cgroup(self, parent, name, self._next_id)
        for controller in self.controllers.values():
            controller.css_online(cgroup)
        return cgroup

    @staticmethod
    def _check_hierarchy_limits(parent: Cgroup) -> None:
        """Whether one more may be made. Linux: kernel/cgroup/cgroup.c, cgroup_check_hierarchy_limits()."""
        level = 0
        cgroup: Cgroup | None = parent
        while cgroup is not None:
            below = sum(1 for _ in cgroup.descendants()) if cgroup.max_descendants is not None else 0
            if (cgroup.max_descendants is not None and below >= cgroup.max_descendants) or (
                cgroup.max_depth is not None and level >= cgroup.max_depth
            ):
                raise BlockingIOError(errno.EAGAIN, f"{cgroup.path} may have no more below")
            cgroup, level = cgroup.parent, level + 1

    def makedirs(self, path: str) -> Cgroup:
        """The directory at `path`, made with its parents where they do not exist."""
        cgroup = self.root
        for name in path.strip("/").split("/"):
            if name:
                cgroup = cgroup.children.get(name) or self.mkdir(cgroup, name)
        return cgroup

    def rmdir(self, cgroup: Cgroup) -> None:
        """Remove an empty directory; EBUSY otherwise. Linux: kernel/cgroup/cgroup.c, cgroup_destroy_locked()."""
        if cgroup.parent is None or cgroup.children or any(task.alive for task in cgroup.tasks.values()):
            raise OSError(errno.EBUSY, f"cgroup {cgroup.path} is in use")
        for controller in self.controllers.values():
            controller.css_offline(cgroup)
        del cgroup.parent.children[cgroup.name]

    def attach_task(self, task: Task, cgroup: Cgroup, threadgroup: bool = True) -> None:
        """Move a process with all its threads. Linux: kernel/cgroup/cgroup.c, cgroup_attach_task()."""
        for thread in list(task.signal.threads) if threadgroup else [task]:
            old = thread.cgrp
            if old is cgroup:
                continue
            old.tasks.pop(thread.pid, None)
            cgroup.tasks[thread.pid] = thread
            thread.cgrp = cgroup
            for controller in self.controllers.values():
                controller.attach(thread, old, cgroup)
