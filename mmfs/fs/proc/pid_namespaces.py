"""What a process sees of the world: its namespaces, their maps and offsets, and what is mounted in them.

Linux: fs/proc/namespaces.c; kernel/user_namespace.c; kernel/time/namespace.c; fs/proc_namespace.c.

Simplified: there is one namespace of each kind, the first.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from mmfs.fs.proc.pid import BOTH, attribute, check_ptrace, pid_dir
from mmfs.kernfs.kstrtox import fail

if TYPE_CHECKING:
    from mmfs.kernel.task import Task
    from mmfs.kernfs import Caller

INVALID_UID: Final = (1 << 32) - 1
ID_MAP: Final = f"{0:10d} {0:10d} {INVALID_UID:10d}\n"
NAMESPACES: Final = {
    "net": 4026531840,
    "uts": 4026531838,
    "ipc": 4026531839,
    "pid": 4026531836,
    "pid_for_children": 4026531836,
    "user": 4026531837,
    "mnt": 4026531841,
    "cgroup": 4026531835,
    "time": 4026531834,
    "time_for_children": 4026531834,
}
"""The inode numbers of the first namespaces, in the order of a listing. Linux: include/linux/proc_ns.h."""
KEPT_BY_ZOMBIES: Final = ("pid", "user")
CLOCKS: Final = {"monotonic": 1, "boottime": 7}


# ---- ns -----------------------------------------------------------------------------------------------------------


def _ns_link(name: str, inode: int) -> Callable[[Task, Caller], str]:
    """The function that reads one link. Linux: proc_ns_readlink()."""

    def proc_ns_readlink(task: Task, caller: Caller) -> str:
        check_ptrace(task, caller)
        if not task.alive and name not in KEPT_BY_ZOMBIES:
            fail(errno.ENOENT)
        return f"{name.partition('_')[0]}:[{inode}]"

    return proc_ns_readlink


for _files in BOTH:
    _ns = _files.directory("ns", mode=0o511)
    for _name, _inode in NAMESPACES.items():
        _ns.symlink(_name, _ns_link(_name, _inode), wants_caller=True)


# ---- maps and offsets ---------------------------------------------------------------------------------------------


def id_map(task: Task) -> str:
    """All ids are themselves. Linux: kernel/user_namespace.c, uid_m_show()."""
    return ID_MAP


def id_map_write(task: Task, buf: str) -> None:
    """The first namespace's maps are fixed. Linux: proc_uid_map_write()."""
    fail(errno.EPERM)


for _name in ("uid_map", "gid_map", "projid_map"):
    attribute(_name, outlives=True)(id_map).store(id_map_write)


@attribute("setgroups", outlives=True)
def setgroups(task: Task) -> str:
    """Linux: proc_setgroups_show()."""
    return "allow\n"


@setgroups.store
def setgroups_write(task: Task, buf: str) -> None:
    """To allow it again changes nothing; to deny it is too late. Linux: proc_setgroups_write()."""
    word = buf.rstrip(" \t\n\v\f\r")
    if len(buf) >= 8 or word not in ("allow", "deny"):
        fail(errno.EINVAL)
    if word == "deny":
        fail(errno.EPERM)


@attribute("timens_offsets", where=(pid_dir,))
def timens_offsets(task: Task) -> str:
    """Linux: kernel/time/namespace.c, proc_timens_show_offsets()."""
    return "".join([f"{clock:<10} {0:10d} {0:9d}\n" for clock in CLOCKS]) if task.alive else ""


@timens_offsets.store
def timens_offsets_write(task: Task, buf: str) -> None:
    """The first time namespace's offsets are frozen. Linux: timens_offsets_write(), proc_timens_set_offset()."""
    for line in buf.rstrip("\n").split("\n")[:2]:
        words = line.split()[:3]
        if len(words) < 3 or words[0] not in (*CLOCKS, *map(str, CLOCKS.values())):
            fail(errno.EINVAL)
        try:
            int(words[1], 10)
            if not 0 <= int(words[2], 10) < 10**9:
                fail(errno.EINVAL)
        except ValueError:
            fail(errno.EINVAL)
    fail(errno.EACCES)


# ---- mounts -------------------------------------------------------------------------------------------------------


def _mounts_open(task: Task, caller: Caller) -> None:
    """A zombie is in no mount namespace. Linux: fs/proc_namespace.c, mounts_open_common()."""
    if not task.alive:
        fail(errno.EINVAL)


@attribute("mounts", open=_mounts_open, outlives=True)
def mounts(task: Task) -> str:
    """What is mounted where. Linux: show_vfsmnt()."""
    return "".join([f"{m.source} {m.mountpoint} {m.fstype} {m.combined_options} 0 0\n" for m in task.kernel.mounts])


@attribute("mountinfo", open=_mounts_open, outlives=True)
def mountinfo(task: Task) -> str:
    """Linux: show_mountinfo()."""
    lines = []
    for m in task.kernel.mounts:
        shared = f" shared:{m.shared}" if m.shared else ""
        lines.append(
            f"{m.mnt_id} {m.parent_id} {m.dev[0]}:{m.dev[1]} {m.root} {m.mountpoint} {m.options}{shared}"
            f" - {m.fstype} {m.source} {m.super_options}\n"
        )
    return "".join(lines)


@attribute("mountstats", mode=0o400, open=_mounts_open, where=(pid_dir,), outlives=True)
def mountstats(task: Task) -> str:
    """Linux: show_vfsstat()."""
    return "".join(
        [f"device {m.source} mounted on {m.mountpoint} with fstype {m.fstype}\n" for m in task.kernel.mounts]
    )
