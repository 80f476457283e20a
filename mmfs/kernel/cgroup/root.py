"""A hierarchy of cgroups: its root, its mount options, the cgroups that are made and removed in it.

Linux: kernel/cgroup/cgroup.c.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from mmfs.kernel.cgroup import freezer, migrate
from mmfs.kernel.cgroup.cgroup import LEGACY_NAMES, SUBSYS, Cgroup
from mmfs.mm.cgroup_defs import CgroupSubsys
from mmfs.profile import Needs, since

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task

ROOT_FLAGS: Final[dict[str, Needs | None]] = {
    "nsdelegate": None,
    "favordynmods": None,
    "memory_localevents": None,
    "memory_recursiveprot": None,
    "memory_hugetlb_accounting": since(6, 6),
    "pids_localevents": since(6, 11),
}
"""The mount options in the order of /proc/mounts, with their `needs`. Linux: cgroup2_fs_parameters[]."""


class CgroupRoot:
    """A hierarchy. Linux: struct cgroup_root, cgrp_dfl_root.

    ``index``: its place in `kernel.cgroup_roots` and in every task's `cset`, as well as its number in /proc: 0 is the
    default hierarchy, that of cgroup v2; the others are of cgroup v1 (mmfs/kernel/cgroup/cgroup1.py).
    """

    def __init__(self, kernel: Kernel, index: int = 0, name: str = "") -> None:
        self.kernel = kernel
        self.index = index
        self.name = name
        """What it was named when it was mounted, with name=."""
        self.release_agent_path = ""
        built = [name for name, option in SUBSYS.items() if kernel.profile.config(option)]
        self.known = tuple(name for name in built if f"cgroup_disable={name}" not in kernel.cmdline.split())
        """The names of those that the kernel has, modelled or not, in Linux's order."""
        self.controllers: dict[str, CgroupSubsys] = {}
        """Those that are modelled, in Linux's order."""
        self.visible: frozenset[str] = frozenset()
        """Those that have files."""
        self.threaded: frozenset[str] = frozenset()
        self.implicit: frozenset[str] = frozenset()
        self.can_fork: list[CgroupSubsys] = []
        """Those that want to be asked, as the next three those that want to be told."""
        self.with_fork: list[CgroupSubsys] = []
        self.with_exit: list[CgroupSubsys] = []
        self.with_release: list[CgroupSubsys] = []
        self.nr_cgrps = 1
        """Cgroups, those that linger included."""
        self.flags: frozenset[str] = frozenset()
        """The mount options."""
        self._next_id = 1
        self.root = Cgroup(self, None, "", self._next_id)

    @property
    def root_flags(self) -> tuple[str, ...]:
        """The mount options that this kernel knows."""
        profile = self.kernel.profile
        return tuple(flag for flag, needs in ROOT_FLAGS.items() if needs is None or needs(profile))

    def reconfigure(self, options: str) -> None:
        """Mount it anew with these options, split by commas; EINVAL for one that is unknown.

        Linux: cgroup_reconfigure(), apply_cgroup_root_flags().

        Simplified: nsdelegate and memory_hugetlb_accounting are shown and do nothing.
        """
        flags = frozenset(options.split(",")) - {"", "rw"}
        known = self.root_flags
        if not flags <= set(known):
            raise OSError(errno.EINVAL, f"no such mount option: {', '.join(sorted(flags - set(known)))}")
        kernel = self.kernel
        self.flags = flags
        kernel.memcgs.recursive_protection = "memory_recursiveprot" in flags
        kernel.lru.memcg.only_local_events = "memory_localevents" in flags
        shown = ",".join(["rw", *(flag for flag in known if flag in flags)])
        kernel.mounts.reconfigure("cgroup2", shown)

    def register(self, ss: CgroupSubsys) -> None:
        """Add a controller, before there is any cgroup but the root; not one that is disabled at boot.

        Linux: cgroup_init_subsys(), cgroup_init().
        """
        if ss.name not in self.known:
            return
        ss.hierarchy = self
        if self.root.children:
            raise ValueError("there are cgroups already")
        known = [*self.controllers.values(), ss]
        known.sort(key=lambda one: self.known.index(one.name))
        self.controllers = {one.name: one for one in known}
        self.visible = frozenset(one.name for one in known if not one.implicit_on_dfl)
        self.implicit = frozenset(one.name for one in known if one.implicit_on_dfl)
        self.threaded = frozenset(one.name for one in known if one.threaded)
        self.root.css_create(ss)
        self.root.e_css[ss.name] = self.root.subsys[ss.name]
        if not self.on_dfl:
            self.root.subtree_control = self.visible
        self.can_fork = [one for one in known if type(one).can_fork is not CgroupSubsys.can_fork]
        self.with_fork = [one for one in known if type(one).fork is not CgroupSubsys.fork]
        self.with_exit = [one for one in known if type(one).exit is not CgroupSubsys.exit]
        self.with_release = [one for one in known if type(one).release is not CgroupSubsys.release]

    @property
    def on_dfl(self) -> bool:
        """Whether it is the default hierarchy. Linux: cgroup_on_dfl()."""
        return self.index == 0

    @property
    def title(self) -> str:
        """Its controllers and its name, as /proc/PID/cgroup calls it; empty for the default hierarchy."""
        names = [] if self.on_dfl else [LEGACY_NAMES.get(name, name) for name in self.controllers]
        return ",".join([*names, f"name={self.name}"] if self.name else names)

    def path_of(self, task: Task) -> str:
        """The path of a task's cgroup; a zombie's may have been removed. Linux: proc_cgroup_show()."""
        cgroup = self.task_cgroup(task)
        if not self.on_dfl:
            return cgroup.path if task.alive else "/"
        return cgroup.path if cgroup.self.online else f"{cgroup.path} (deleted)"

    def task_cgroup(self, task: Task) -> Cgroup:
        """Where a task is in this hierarchy. Linux: task_cgroup_from_root()."""
        return task.cset[self.index]

    def attach_task(self, task: Task, cgroup: Cgroup) -> None:
        """Move a process with all its threads. Linux: kernel/cgroup/cgroup.c, cgroup_attach_task()."""
        migrate.attach_task(task, cgroup)

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
        """Make a directory. Linux: kernel/cgroup/cgroup.c, cgroup_mkdir(), cgroup_create()."""
        if name in parent.children:
            raise OSError(errno.EEXIST, f"cgroup {name} exists")
        if not name or name in (".", "..") or "/" in name or "\n" in name:
            raise OSError(errno.EINVAL, "not a name of a cgroup")
        if len(name.encode("utf-8", "surrogateescape")) > 255:
            raise OSError(errno.ENAMETOOLONG, "the name of the cgroup is too long")
        self._check_hierarchy_limits(parent)
        self._next_id += 1
        cgroup = Cgroup(self, parent, name, self._next_id)
        cgroup.e_css = dict(parent.e_css)
        if not self.on_dfl:
            cgroup.subtree_control = cgroup.control()
        self.nr_cgrps += 1
        parent.self.css_get()
        for group in cgroup.ancestors():
            group.nr_descendants += 1
        freezer.inherit(cgroup)
        parent.children[name] = cgroup
        try:
            for ss in self.controllers.values():
                if ss.name in cgroup.ss_mask():
                    cgroup.css_create(ss)
                    cgroup.e_css[ss.name] = cgroup.subsys[ss.name]
        except OSError:
            self.rmdir(cgroup)
            raise
        return cgroup

    @staticmethod
    def _check_hierarchy_limits(parent: Cgroup) -> None:
        """Whether one more may be made. Linux: kernel/cgroup/cgroup.c, cgroup_check_hierarchy_limits()."""
        level = 1
        for cgroup in (parent, *parent.ancestors()):
            if (cgroup.max_descendants is not None and cgroup.nr_descendants >= cgroup.max_descendants) or (
                cgroup.max_depth is not None and level > cgroup.max_depth
            ):
                raise BlockingIOError(errno.EAGAIN, f"{cgroup.path} may have no more below")
            level += 1

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
        cgroup.self.online = False
        if cgroup._psi is not None:
            cgroup._psi.close()
        del parent.children[cgroup.name]
        if cgroup.threaded:
            parent.nr_threaded_children -= 1
        for group in cgroup.ancestors():
            group.nr_descendants -= 1
            group.nr_dying_descendants += 1
            group.nr_frozen_descendants -= cgroup.frozen
        for css in list(cgroup.subsys.values()):
            css.css_get(len(cgroup.tasks))  # zombies go on using them
            cgroup.kill_css(css.ss.name)
        cgroup.self.css_put()
