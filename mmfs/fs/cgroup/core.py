"""cgroup.*: who is in a cgroup, which controllers it has, how many there may be below it.

Linux: kernel/cgroup/cgroup.c, cgroup_base_files[].

Simplified: a controller's files belong to who made the cgroup, not to who enabled the controller.

"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from mmfs.kernel.cgroup import Cgroup, control, freezer
from mmfs.kernel.cgroup.control import enable_threaded, migrate_vet_dst, subtree_control
from mmfs.kernel.cgroup.migrate import attach_task
from mmfs.kernel.clock import NSEC_PER_USEC
from mmfs.kernel.sched import PF_KTHREAD, PF_NO_SETAFFINITY
from mmfs.kernel.signal import SIGKILL, send_signal
from mmfs.kernfs import CGROUP2, Attribute, Caller, Directory, Iattrs, fail, kstrtoint
from mmfs.profile import both, since

if TYPE_CHECKING:
    from mmfs.kernel.task import Task

KTHREADD: Final = 2
REMOVED: Final = -2
"""Instead of a number of events: poll(2) wakes for good."""


def finish(directory: Directory[Cgroup]) -> None:
    """After all files were declared: what is true of each.

    A file of a removed cgroup, or one that is not shown any more, is ENODEV to who has it open; poll(2) wakes for its
    events. Linux: fs/kernfs/file.c, kernfs_get_active(), kernfs_generic_poll().
    """
    for node in directory.content:
        if isinstance(node, Attribute):
            node.before = _alive(node)
            if node.poll is None:
                node.events = _events(node.events or _notified(node.name))


def _alive(node: Attribute[Cgroup]) -> Callable[[Cgroup], None]:
    def before(group: Cgroup) -> None:
        if not group.self.online or (node.needs is not None and not node.needs(group)):
            fail(errno.ENODEV)

    return before


def _notified(name: str) -> Callable[[Cgroup], int]:
    return lambda group: group.events.get(name, 0)


def _events(count: Callable[[Cgroup], int]) -> Callable[[Cgroup], int]:
    return lambda group: count(group) if group.self.online else REMOVED


def not_root(group: Cgroup) -> bool:
    """Linux: CFTYPE_NOT_ON_ROOT."""
    return group.parent is not None


def enabled(name: str, on_root: bool = False) -> Callable[[Cgroup], bool]:
    """For `needs` of a controller's file: it is where the controller is enabled, in the root only if `on_root`."""
    if on_root:
        return lambda group: name in group.subsys
    return lambda group: name in group.subsys and group.parent is not None


cgroup: Directory[Cgroup] = Directory(
    mode=lambda group: 0o755 if group.parent is not None else 0o555,
    rules=CGROUP2,
    ino=lambda group: group.id,
    owner=lambda group: group.owner,
    iattrs=lambda group: group.iattrs,
)
cgroup.family(list=lambda group: group.children, lookup=lambda group, name: group.children.get(name), template=cgroup)


@cgroup.on_mkdir
def cgroup_mkdir(group: Cgroup, name: str, mode: int, caller: Caller) -> None:
    """Linux: kernel/cgroup/cgroup.c, cgroup_mkdir()."""
    group.root.mkdir(group, name).owner = caller.uid, caller.gid


@cgroup.on_rmdir
def cgroup_rmdir(group: Cgroup, name: str, caller: Caller) -> None:
    """Linux: kernel/cgroup/cgroup.c, cgroup_rmdir()."""
    group.root.rmdir(group.children[name])


# -- members -------------------------------------------------------------------------------------------------------


@cgroup.attribute("cgroup.procs", wants_caller=True)
def cgroup_procs(group: Cgroup, *, caller: Caller) -> str:
    """The processes here; all of a threaded subtree's are its domain's. Linux: cgroup_procs_start()."""
    if group.threaded:
        fail(errno.EOPNOTSUPP)
    return "".join(f"{pid}\n" for pid in group.procs())


@cgroup_procs.store
def cgroup_procs_store(group: Cgroup, buf: str, *, caller: Caller) -> None:
    """Move a process here, with all its threads. Linux: cgroup_procs_write()."""
    procs_write(group, buf, caller, threadgroup=True)


def find_task(group: Cgroup, buf: str, caller: Caller, threadgroup: bool) -> Task:
    """The task that was written, 0 for the writer; threads that are bound to CPUs, and kthreadd, stay where they are.

    Linux: kernel/cgroup/cgroup.c, cgroup_procs_write_start().
    """
    try:
        pid = kstrtoint(buf.strip())
    except OSError:
        pid = -1
    if pid < 0:
        fail(errno.EINVAL)  # ERANGE too
    task = group.root.kernel.tasks.get(pid or caller.pid)
    if task is None:
        fail(errno.ESRCH)
    if threadgroup:
        task = task.group_leader
    if task.pid == KTHREADD or task.flags & PF_NO_SETAFFINITY:
        fail(errno.EINVAL)
    return task


def may_attach(source: Cgroup, target: Cgroup, caller: Caller) -> None:
    """EACCES unless the writer may write to cgroup.procs of the nearest cgroup above both.

    Linux: kernel/cgroup/cgroup.c, cgroup_procs_write_permission().
    """
    while not target.is_descendant(source):
        source = source.parent or source
    if caller.uid == 0:
        return
    changed: Iattrs = source.iattrs.get("cgroup.procs") or Iattrs()
    uid, gid = changed.owner or source.owner
    mode = changed.mode if changed.mode is not None else cgroup_procs.mode_of(source)
    shift = 6 if caller.uid == uid else 3 if gid in (caller.gid, *caller.groups) else 0
    if not mode >> shift & 0o2:
        fail(errno.EACCES)


def procs_write(group: Cgroup, buf: str, caller: Caller, threadgroup: bool) -> None:
    """Move a task here. Linux: kernel/cgroup/cgroup.c, __cgroup_procs_write(), cgroup_attach_permissions()."""
    task = find_task(group, buf, caller, threadgroup)
    may_attach(task.cgrp, group, caller)
    migrate_vet_dst(group)
    if not threadgroup and task.cgrp.dom_cgrp is not group.dom_cgrp:
        fail(errno.EOPNOTSUPP)
    attach_task(task, group, threadgroup)


@cgroup.attribute("cgroup.threads", wants_caller=True)
def cgroup_threads(group: Cgroup, *, caller: Caller) -> str:
    """The threads here."""
    return "".join(f"{pid}\n" for pid in group.threads())


@cgroup_threads.store
def cgroup_threads_store(group: Cgroup, buf: str, *, caller: Caller) -> None:
    """Move a thread here, within the domain of its process. Linux: cgroup_threads_write()."""
    procs_write(group, buf, caller, threadgroup=False)


@cgroup.attribute("cgroup.events", needs=not_root)
def cgroup_events(group: Cgroup) -> str:
    """Whether a living process is here or below. Linux: cgroup_events_show()."""
    return f"populated {int(group.populated)}\nfrozen {int(group.frozen)}\n"


@cgroup.attribute("cgroup.stat.local", needs=both(since(6, 18), not_root))
def cgroup_stat_local(group: Cgroup) -> str:
    """For how long it was told to be frozen, by itself or one above. Linux: cgroup_core_local_stat_show()."""
    return f"frozen_usec {freezer.frozen_ns(group) // NSEC_PER_USEC}\n"


@cgroup.attribute("cgroup.freeze", needs=not_root)
def cgroup_freeze(group: Cgroup) -> str:
    """Whether it shall be frozen, for its own sake. Linux: cgroup_freeze_show()."""
    return f"{int(group.freeze)}\n"


@cgroup_freeze.store
def cgroup_freeze_store(group: Cgroup, buf: str) -> None:
    """Linux: cgroup_freeze_write()."""
    value = kstrtoint(buf.strip())
    if value not in (0, 1):
        fail(errno.ERANGE)
    freezer.cgroup_freeze(group, bool(value))


def cgroup_kill_store(group: Cgroup, buf: str) -> None:
    """Kill every process here and below. Linux: cgroup_kill_write()."""
    if kstrtoint(buf.strip()) != 1:
        fail(errno.ERANGE)
    if group.threaded:
        fail(errno.EOPNOTSUPP)
    for one in (group, *group.descendants()):
        for task in list(one.tasks.values()):
            if task.alive and not task.flags & PF_KTHREAD:
                send_signal(task, SIGKILL)


cgroup.attributes("cgroup.kill", None, cgroup_kill_store, needs=not_root)


# -- the tree ------------------------------------------------------------------------------------------------------


@cgroup.attribute("cgroup.stat")
def cgroup_stat(group: Cgroup) -> str:
    """How many cgroups and csses are below, and how many of them linger. Linux: cgroup_stat_show()."""
    group.root.kernel.memcgs.reap()
    known = group.root.known if since(6, 12)(group) else ()
    dying = group.nr_dying_subsys
    lines = [f"nr_descendants {group.nr_descendants}\n"]
    lines.extend(f"nr_subsys_{name} {group.nr_subsys(name)}\n" for name in known)
    lines.append(f"nr_dying_descendants {group.nr_dying_descendants}\n")
    lines.extend(f"nr_dying_subsys_{name} {dying.get(name, 0)}\n" for name in known)
    return "".join(lines)


@cgroup.attribute("cgroup.type", needs=not_root)
def cgroup_type(group: Cgroup) -> str:
    """Linux: cgroup_type_show()."""
    return f"{control.cgroup_type(group)}\n"


@cgroup_type.store
def cgroup_type_store(group: Cgroup, buf: str) -> None:
    """Linux: cgroup_type_write()."""
    if buf.strip() != "threaded":
        fail(errno.EINVAL)
    enable_threaded(group)


def _limit(value: int | None) -> str:
    return "max\n" if value is None else f"{value}\n"


def _parse_limit(buf: str) -> int | None:
    """Linux: cgroup_max_depth_write()."""
    word = buf.strip()
    if word == "max":
        return None
    value = kstrtoint(word)
    if value < 0:
        fail(errno.ERANGE)
    return None if value == (1 << 31) - 1 else value


@cgroup.attribute("cgroup.max.depth")
def cgroup_max_depth(group: Cgroup) -> str:
    """How many levels there may be below."""
    return _limit(group.max_depth)


@cgroup_max_depth.store
def cgroup_max_depth_store(group: Cgroup, buf: str) -> None:
    """Linux: cgroup_max_depth_write()."""
    group.max_depth = _parse_limit(buf)


@cgroup.attribute("cgroup.max.descendants")
def cgroup_max_descendants(group: Cgroup) -> str:
    """How many there may be below."""
    return _limit(group.max_descendants)


@cgroup_max_descendants.store
def cgroup_max_descendants_store(group: Cgroup, buf: str) -> None:
    """Linux: cgroup_max_descendants_write()."""
    group.max_descendants = _parse_limit(buf)


# -- controllers ---------------------------------------------------------------------------------------------------


def _words(group: Cgroup, names: frozenset[str]) -> str:
    """Linux: cgroup_print_ss_mask()."""
    known = [name for name in group.root.known if name in names]
    return " ".join(known) + "\n" if known else ""


@cgroup.attribute("cgroup.controllers")
def cgroup_controllers(group: Cgroup) -> str:
    """Those that can be enabled for what is below."""
    return _words(group, group.control())


@cgroup.attribute("cgroup.subtree_control")
def cgroup_subtree_control(group: Cgroup) -> str:
    """Those that are enabled for what is below."""
    return _words(group, group.subtree_control)


@cgroup_subtree_control.store
def cgroup_subtree_control_store(group: Cgroup, buf: str) -> None:
    """+NAME and -NAME, split by blanks; of several signs for one name the last counts.

    Linux: cgroup_subtree_control_write().
    """
    enable: set[str] = set()
    disable: set[str] = set()
    for word in buf.strip().split(" "):
        if not word:
            continue
        sign, name = word[0], word[1:]
        if name not in group.root.known or sign not in "+-":
            fail(errno.EINVAL)
        (enable if sign == "+" else disable).add(name)
        (disable if sign == "+" else enable).discard(name)
    subtree_control(group, enable, disable)
