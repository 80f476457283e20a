"""/proc/PID/attr: the security labels of a task.

Debian's kernel runs AppArmor; no policy is loaded here, so every task is unconfined and has no other label.

Linux: fs/proc/base.c, attr_dir_stuff[], proc_pid_attr_write(); security/apparmor/lsm.c.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final, NoReturn

from mmfs.fs.proc.pid import BOTH, current
from mmfs.kernfs.kstrtox import fail

if TYPE_CHECKING:
    from mmfs.kernel.task import Task
    from mmfs.kernfs import Caller, Directory

UNSET: Final = ("exec", "fscreate", "keycreate", "sockcreate")


def attr_current(task: Task, caller: Caller) -> str:
    """The profile of the task. Linux: apparmor_getprocattr()."""
    return "unconfined\n"


def _nlink(task: Task) -> int:
    """The links that Linux gives the directory: it counts none for the one below."""
    return 2


def attr_unset(task: Task, caller: Caller) -> NoReturn:
    """A label that no security module gives."""
    fail(errno.EINVAL)


def proc_pid_attr_write(task: Task, buf: str, caller: Caller) -> NoReturn:
    """A task may change only its own labels, and there is no profile to change to."""
    fail(errno.EINVAL if current(task, caller) is task else errno.EACCES)


def _declare(files: Directory[Task], unset: tuple[str, ...]) -> None:
    files.attributes("current", attr_current, proc_pid_attr_write, mode=0o666, wants_caller=True)
    files.attributes("prev", attr_unset, mode=0o444, wants_caller=True)
    for name in unset:
        files.attributes(name, attr_unset, proc_pid_attr_write, mode=0o666, wants_caller=True)


for _files in BOTH:
    _attr = _files.directory("attr", mode=0o555, nlink=_nlink)
    _declare(_attr, UNSET)
    _declare(_attr.directory("apparmor", mode=0o555), UNSET[:1])
