"""pids.*: how many tasks a cgroup has and may have.

Linux: kernel/cgroup/pids.c, pids_files[].
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from mmfs.fs.cgroup.core import cgroup, enabled
from mmfs.kernel.cgroup import Cgroup
from mmfs.kernel.cgroup.pids import PIDS_MAX, PidsCgroup
from mmfs.kernfs import Attribute, fail, kstrtoll
from mmfs.profile import both, since

if TYPE_CHECKING:
    from collections.abc import Callable

needs = enabled("pids")


def css_pids(group: Cgroup) -> PidsCgroup:
    """The controller's state in a cgroup in which it is enabled."""
    css: PidsCgroup = group.subsys["pids"]
    return css


@cgroup.attribute("pids.max", needs=needs)
def pids_max(group: Cgroup) -> str:
    """Linux: pids_max_show()."""
    limit = css_pids(group).limit
    return "max\n" if limit >= PIDS_MAX else f"{limit}\n"


@pids_max.store
def pids_max_store(group: Cgroup, buf: str) -> None:
    """Linux: pids_max_write()."""
    word = buf.strip()
    limit = PIDS_MAX if word == "max" else kstrtoll(word)
    if limit < 0 or (limit > group.kernel.tasks.pids.pid_max_max and word != "max"):
        fail(errno.EINVAL)
    css_pids(group).limit = limit


def _number(
    name: str, show: Callable[[PidsCgroup], str], needs: Callable[[Cgroup], bool] = needs
) -> Attribute[Cgroup]:
    def shown(group: Cgroup) -> str:
        return show(css_pids(group))

    return cgroup.attributes(name, shown, needs=needs)


pids_current = _number("pids.current", lambda pids: f"{pids.counter}\n")
pids_peak = _number("pids.peak", lambda pids: f"{pids.watermark}\n")
pids_events = _number("pids.events", lambda pids: f"max {pids.forkfail if pids.only_local_events else pids.events}\n")
_number(
    "pids.events.local",
    lambda pids: f"max {pids.forkfail if pids.only_local_events else pids.events_local}\n",
    both(since(6, 12), needs),
)
