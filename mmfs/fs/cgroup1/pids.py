"""pids.*: as in cgroup v2, without events of what is below.

Linux: kernel/cgroup/pids.c, pids_files_legacy[].
"""

from __future__ import annotations

from mmfs.fs.cgroup import pids
from mmfs.fs.cgroup1.core import cgroup1

for _node in (pids.pids_max, pids.pids_current, pids.pids_peak, pids.pids_events):
    cgroup1.attributes(_node.name, _node.show, _node.storer, needs=pids.needs)
