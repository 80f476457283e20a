"""What the threads of a process share besides memory and files.

Linux: include/linux/sched/signal.h, include/linux/task_io_accounting.h.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mmfs.kernel import sched

if TYPE_CHECKING:
    from mmfs.kernel.task import Task
    from mmfs.mm.mm_struct import MmStruct


@dataclass(slots=True)
class IoAccounting:
    """The figures of /proc/PID/io. Linux: include/linux/task_io_accounting.h."""

    rchar: int = 0
    wchar: int = 0
    syscr: int = 0
    syscw: int = 0
    read_bytes: int = 0
    write_bytes: int = 0
    cancelled_write_bytes: int = 0

    def add(self, other: IoAccounting) -> None:
        """Add another task's figures."""
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class SignalStruct:
    """What the threads of a process share besides memory, and the sums over those that are gone.

    Linux: include/linux/sched/signal.h, struct signal_struct.
    """

    __slots__ = (
        "threads", "shared_pending", "group_exit", "group_exit_code", "unkillable", "stop_code", "continued",
        "rlimits", "pgrp", "session", "leader", "tty_nr", "tty_pgrp", "oom_score_adj", "oom_score_adj_min",
        "utime_ns", "stime_ns", "gtime_ns", "min_flt", "maj_flt", "nvcsw", "nivcsw", "io",
        "cutime_ns", "cstime_ns", "cgtime_ns", "cmin_flt", "cmaj_flt", "cnvcsw", "cnivcsw", "maxrss", "cmaxrss",
        "is_child_subreaper", "oom_mm", "oom_flag_origin", "obj", "cred_obj",
    )  # fmt: skip

    def __init__(self, rlimits: sched.Rlimits) -> None:
        self.threads: list[Task] = []
        self.shared_pending = 0
        self.obj = self.cred_obj = 0
        """Its object of the slab, and that of the threads' credentials."""
        self.group_exit = False
        self.group_exit_code = 0
        self.unkillable = False
        self.stop_code = 0
        self.continued = False
        self.rlimits = rlimits
        self.pgrp = self.session = 0
        self.leader = False
        self.tty_nr = 0
        self.tty_pgrp = -1
        self.oom_score_adj = self.oom_score_adj_min = 0
        self.utime_ns = self.stime_ns = self.gtime_ns = 0
        self.min_flt = self.maj_flt = self.nvcsw = self.nivcsw = 0
        self.io = IoAccounting()
        self.cutime_ns = self.cstime_ns = self.cgtime_ns = 0
        self.cmin_flt = self.cmaj_flt = self.cnvcsw = self.cnivcsw = 0
        self.maxrss = self.cmaxrss = 0
        self.is_child_subreaper = False
        self.oom_mm: MmStruct | None = None
        """Whose memory the OOM killer wants back; set once it has chosen the process."""
        self.oom_flag_origin = False
        """The process knows that it may take much memory and is to be killed first."""

    def copy(self) -> SignalStruct:
        """The child's at fork: limits, group, session, terminal and OOM adjustment are inherited."""
        new = SignalStruct(dict(self.rlimits))
        new.pgrp, new.session = self.pgrp, self.session
        new.tty_nr, new.tty_pgrp = self.tty_nr, self.tty_pgrp
        new.oom_score_adj, new.oom_score_adj_min = self.oom_score_adj, self.oom_score_adj_min
        return new
