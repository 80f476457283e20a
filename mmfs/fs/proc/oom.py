"""/proc/PID/oom_score, oom_score_adj and oom_adj: who goes first when memory is out.

Linux: fs/proc/base.c, proc_oom_score(), __set_oom_adj().
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from mmfs.fs.proc.pid import attribute, capable, current, first_bytes
from mmfs.kernfs.kstrtox import fail, kstrtoint
from mmfs.mm.oom_kill import proc_oom_score

if TYPE_CHECKING:
    from mmfs.kernel.task import Task
    from mmfs.kernfs import Caller

OOM_DISABLE: Final = -17
OOM_ADJUST_MAX: Final = 15
OOM_SCORE_ADJ_MAX: Final = 1000


@attribute("oom_score")
def oom_score(task: Task) -> str:
    """Badness on a scale of 0 to 2000."""
    return f"{proc_oom_score(task)}\n"


def _scale(value: int, to: int, full: int) -> int:
    """value * to / full, rounded to zero as C does."""
    scaled = abs(value) * to // full
    return scaled if value >= 0 else -scaled


@attribute("oom_adj", wants_caller=True)
def oom_adj(task: Task, caller: Caller) -> str:
    """oom_score_adj on the old scale of -17 to 15. Linux: oom_adj_read()."""
    adj = task.oom_score_adj
    old = OOM_ADJUST_MAX if adj == OOM_SCORE_ADJ_MAX else _scale(adj, -OOM_DISABLE, OOM_SCORE_ADJ_MAX)
    return f"{min(old, OOM_ADJUST_MAX)}\n"


@oom_adj.store
def oom_adj_write(task: Task, buf: str, caller: Caller) -> int:
    """Linux: oom_adj_write()."""
    text, taken = first_bytes(buf)
    old = kstrtoint(text)
    if not OOM_DISABLE <= old <= OOM_ADJUST_MAX:
        fail(errno.EINVAL)
    adj = OOM_SCORE_ADJ_MAX if old == OOM_ADJUST_MAX else _scale(old, OOM_SCORE_ADJ_MAX, -OOM_DISABLE)
    if adj < task.oom_score_adj and not capable(caller):
        fail(errno.EACCES)
    writer = current(task, caller) or task
    task.kernel.overcommit.warn_once(
        "oom_adj",
        f"{writer.comm} ({writer.pid}): /proc/{task.pid}/oom_adj is deprecated, "
        f"please use /proc/{task.pid}/oom_score_adj instead.",
    )
    _set_oom_adj(task, adj, None)
    return taken


@attribute("oom_score_adj", wants_caller=True)
def oom_score_adj(task: Task, caller: Caller) -> str:
    """-1000 (never kill) to 1000."""
    return f"{task.oom_score_adj}\n"


@oom_score_adj.store
def oom_score_adj_write(task: Task, buf: str, caller: Caller) -> int:
    """Only root goes below the lowest value that root has set. Linux: oom_score_adj_write()."""
    text, taken = first_bytes(buf)
    adj = kstrtoint(text)
    if abs(adj) > OOM_SCORE_ADJ_MAX:
        fail(errno.EINVAL)
    if adj < task.signal.oom_score_adj_min and not capable(caller):
        fail(errno.EACCES)
    _set_oom_adj(task, adj, adj if capable(caller) else None)
    return taken


def _set_oom_adj(task: Task, adj: int, adj_min: int | None) -> None:
    """Set it for the process, and for all others in the same address space. Linux: __set_oom_adj()."""
    signals = [task.signal]
    mm = task.mm
    if mm is not None and task.vfork_parent is None and mm.mm_users > len(task.threads):
        signals += [
            other.signal
            for other in task.kernel.tasks.processes()
            if other.mm is mm and other.pid != 1 and other.vfork_parent is None and other.signal is not task.signal
        ]
    for signal in signals:
        signal.oom_score_adj = adj
        if adj_min is not None:
            signal.oom_score_adj_min = adj_min
