"""pids.*: how many tasks a cgroup has, and may have.

Linux: kernel/cgroup/pids.c, pids_files[].
"""

from __future__ import annotations

import errno
import select
from typing import TYPE_CHECKING, Final

from mmfs.fs.cgroup.core import cgroup, enabled
from mmfs.kernel.cgroup import Cgroup
from mmfs.kernfs import DEFAULT_POLLMASK, OpenFile, fail, kstrtoll

if TYPE_CHECKING:
    from mmfs.kernel.cgroup.pids import PidsCgroup

PIDS_MAX: Final = 4 * 1024 * 1024 + 1
"""A limit must be below. Linux: PID_MAX_LIMIT."""


def pids_of(group: Cgroup) -> PidsCgroup:
    """The pids controller's state of a directory. Linux: css_pids()."""
    css: PidsCgroup = group.subsys["pids"]
    return css


limited = enabled("pids")


@cgroup.attribute("pids.max", needs=limited)
def pids_max(group: Cgroup) -> str:
    """How many there may be."""
    limit = pids_of(group).limit
    return "max\n" if limit is None else f"{limit}\n"


@pids_max.store
def pids_max_store(group: Cgroup, buf: str) -> None:
    """Linux: pids_max_write()."""
    text = buf.strip()
    if text == "max":
        pids_of(group).limit = None
        return
    limit = kstrtoll(text)
    if not 0 <= limit < PIDS_MAX:
        fail(errno.EINVAL)
    pids_of(group).limit = limit


@cgroup.attribute("pids.current", needs=limited)
def pids_current(group: Cgroup) -> int:
    """How many there are, here and below."""
    return pids_of(group).counter


@cgroup.attribute("pids.peak", needs=limited)
def pids_peak(group: Cgroup) -> int:
    """How many there were at most."""
    return pids_of(group).watermark


def _show(group: Cgroup, *, file: OpenFile) -> str:
    file.private = pids_of(group).events_max
    return f"max {file.private}\n"


def _poll(group: Cgroup, file: OpenFile) -> int:
    return DEFAULT_POLLMASK | (0 if file.private == pids_of(group).events_max else select.POLLERR | select.POLLPRI)


cgroup.attributes("pids.events", _show, needs=limited, wants_file=True, poll=_poll)


@cgroup.attribute("pids.events.local", needs=limited)
def pids_events_local(group: Cgroup) -> str:
    """How often the limit here was hit. Linux: pids_events_local_show()."""
    return f"max {pids_of(group).events_local_max}\n"
