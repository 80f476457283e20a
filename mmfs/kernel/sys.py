# mypy: disable-error-code="misc"
"""System calls about the caller itself: identity, session, limits, priority, prctl.

Linux: kernel/sys.c, kernel/groups.c, kernel/sched/syscalls.c, fs/open.c (chdir).
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mmfs.kernel import sched
from mmfs.kernel.sched import (
    CAP_SETGID,
    CAP_SETUID,
    CAP_SYS_NICE,
    CAP_SYS_RESOURCE,
    PF_NO_SETAFFINITY,
    RLIM_INFINITY,
    RLIM_NLIMITS,
    RLIMIT_NICE,
    RLIMIT_NOFILE,
    TASK_COMM_LEN,
    TIMER_SLACK_NS,
)
from mmfs.kernel.signal import NSIG
from mmfs.mm.madvise import prctl_set_vma_anon_name
from mmfs.mm.mempolicy import do_mbind, make_policy
from mmfs.mm.mman import PR_SET_VMA, PR_SET_VMA_ANON_NAME
from mmfs.sizes import parse_size

if TYPE_CHECKING:
    from mmfs.kernel.task import Task

Size = int | str


def nr_bytes(size: Size) -> int:
    """A size as a number: 4096 or "64M"; EINVAL for what is neither."""
    if isinstance(size, str):
        try:
            return parse_size(size)
        except ValueError as error:
            raise OSError(errno.EINVAL, str(error)) from None
    return int(size)


class SysSyscalls:
    """The calls of kernel/sys.c; `Task` inherits them."""

    __slots__ = ()

    # ---- who the task is ------------------------------------------------------------------------------------

    def setuid(self: Task, uid: int) -> None:
        """setuid(2)."""
        self._syscall()
        cred = self.cred
        if self.capable(CAP_SETUID):
            new = replace(cred, uid=uid, euid=uid, suid=uid, fsuid=uid)
            if uid:
                new = replace(new, cap_permitted=0, cap_effective=0)
        elif uid in (cred.uid, cred.suid):
            new = replace(cred, euid=uid, fsuid=uid)
        else:
            raise OSError(errno.EPERM, "setuid")
        self.kernel.tasks.commit_creds(self, new)

    def setgid(self: Task, gid: int) -> None:
        """setgid(2)."""
        self._syscall()
        cred = self.cred
        if self.capable(CAP_SETGID):
            new = replace(cred, gid=gid, egid=gid, sgid=gid, fsgid=gid)
        elif gid in (cred.gid, cred.sgid):
            new = replace(cred, egid=gid, fsgid=gid)
        else:
            raise OSError(errno.EPERM, "setgid")
        self.kernel.tasks.commit_creds(self, new)

    def setgroups(self: Task, groups: Sequence[int]) -> None:
        """setgroups(2)."""
        self._syscall()
        if not self.capable(CAP_SETGID):
            raise OSError(errno.EPERM, "setgroups")
        self.kernel.tasks.commit_creds(self, replace(self.cred, groups=tuple(sorted(groups))))

    def setsid(self: Task) -> int:
        """setsid(2): lead a new session without a terminal."""
        self._syscall()
        if self.pgrp == self.tgid or any(task.pgrp == self.tgid for task in self.kernel.tasks.processes()):
            raise OSError(errno.EPERM, "already a process group leader")
        self.set_session(self.tgid)
        return self.tgid

    def set_session(self: Task, session: int, tty_nr: int = 0) -> None:
        """Put the process into a session and group of its own, with a terminal if `tty_nr` is given."""
        signal = self.signal
        signal.session = signal.pgrp = session
        signal.leader = session == self.tgid
        signal.tty_nr = tty_nr
        signal.tty_pgrp = session if tty_nr else -1

    def setpgid(self: Task, pid: int = 0, pgid: int = 0) -> None:
        """setpgid(2)."""
        self._syscall()
        target = self.kernel.tasks.get(pid) if pid else self.group_leader
        if target is None or (target.tgid != self.tgid and target.group_leader.parent is not self.group_leader):
            raise OSError(errno.ESRCH, "neither the caller nor its child")
        if pgid < 0:
            raise OSError(errno.EINVAL, "a negative process group")
        if target.signal.leader or target.session != self.session:
            raise OSError(errno.EPERM, "a session leader, or of another session")
        target.signal.pgrp = pgid or target.tgid

    def chdir(self: Task, path: str) -> None:
        """chdir(2)."""
        self._syscall()
        self.fs.cwd = path

    def set_umask(self: Task, mask: int) -> int:
        """umask(2); returns the old mask."""
        self._syscall()
        old, self.fs.umask = self.fs.umask, mask & 0o777
        return old

    # ---- limits and scheduling ------------------------------------------------------------------------------

    def getrlimit(self: Task, resource: int) -> tuple[int, int]:
        """getrlimit(2): (soft, hard)."""
        self._syscall()
        if not 0 <= resource < RLIM_NLIMITS:
            raise OSError(errno.EINVAL, "no such resource")
        return self.rlimits[resource]

    def setrlimit(self: Task, resource: int, soft: Size, hard: Size | None = None) -> None:
        """setrlimit(2); the hard limit stays if it is not given. -1 is no limit.

        Linux: kernel/sys.c, do_prlimit().
        """
        self._syscall()
        if not 0 <= resource < RLIM_NLIMITS:
            raise OSError(errno.EINVAL, "no such resource")
        new_soft = nr_bytes(soft) & RLIM_INFINITY
        old_hard = self.rlimits[resource][1]
        new_hard = old_hard if hard is None else nr_bytes(hard) & RLIM_INFINITY
        if new_soft > new_hard:
            raise OSError(errno.EINVAL, "the soft limit is above the hard one")
        if resource == RLIMIT_NOFILE and new_hard > self.kernel.fs_sysctl.nr_open:
            raise OSError(errno.EPERM, "above fs.nr_open")
        if new_hard > old_hard and not self.capable(CAP_SYS_RESOURCE):
            raise OSError(errno.EPERM, "only root raises a hard limit")
        self.rlimits[resource] = (new_soft, new_hard)

    def setpriority(self: Task, nice: int) -> None:
        """setpriority(PRIO_PROCESS, 0, nice). Linux: kernel/sys.c, set_one_prio(); can_nice()."""
        self._syscall()
        nice = min(max(nice, sched.MIN_NICE), sched.MAX_NICE)
        if nice < self.nice and 20 - nice > self.rlimit(RLIMIT_NICE) and not self.capable(CAP_SYS_NICE):
            raise OSError(errno.EACCES, "only root lowers the nice value")
        self.static_prio = sched.DEFAULT_PRIO + nice
        self.kernel.scheduler.task_changed(self)

    def sched_setscheduler(self: Task, policy: int, priority: int = 0) -> None:
        """sched_setscheduler(2)."""
        self._syscall()
        realtime = policy in (sched.SCHED_FIFO, sched.SCHED_RR)
        if policy not in (sched.SCHED_NORMAL, sched.SCHED_BATCH, sched.SCHED_IDLE) and not realtime:
            raise OSError(errno.EINVAL, "no such policy")
        if realtime != (0 < priority < sched.MAX_RT_PRIO) or (not realtime and priority):
            raise OSError(errno.EINVAL, "not a priority of that policy")
        if realtime and not self.capable(CAP_SYS_NICE):
            raise OSError(errno.EPERM, "only root runs in real time")
        self.policy, self.rt_priority = policy, priority

    def sched_setaffinity(self: Task, cpus: Sequence[int]) -> None:
        """sched_setaffinity(2)."""
        self._syscall()
        cpuset = self.cgrp.e_css.get("cpuset")
        possible = frozenset(range(len(self.kernel.cpus))) if cpuset is None else cpuset.effective_cpus
        allowed = frozenset(cpus) & possible
        if not allowed or self.flags & PF_NO_SETAFFINITY:
            raise OSError(errno.EINVAL, "no such CPU")
        self.set_cpus_allowed(allowed, frozenset(cpus))

    def prctl(self: Task, option: int, *args: Any) -> int | str:
        """prctl(2), for the options that memory or /proc show. Linux: kernel/sys.c, SYSCALL_DEFINE5(prctl)."""
        mm = self._enter()
        if option == PR_SET_VMA:
            what, addr, length, name = args
            if what != PR_SET_VMA_ANON_NAME:
                raise OSError(errno.EINVAL, "not PR_SET_VMA_ANON_NAME")
            prctl_set_vma_anon_name(mm, addr, nr_bytes(length), name)
            return 0
        if option == sched.PR_GET_NAME:
            return self.comm
        if option == sched.PR_GET_CHILD_SUBREAPER:
            return int(self.signal.is_child_subreaper)
        if option == sched.PR_GET_TIMERSLACK:
            return self.timerslack_ns
        if option == sched.PR_GET_NO_NEW_PRIVS:
            return int(self.no_new_privs)
        if not args:
            raise OSError(errno.EINVAL, "prctl wants an argument")
        self._prctl_set(option, args[0])
        return 0

    def _prctl_set(self: Task, option: int, value: Any) -> None:
        if option == sched.PR_SET_NAME:
            self.comm = str(value)[: TASK_COMM_LEN - 1]
        elif option == sched.PR_SET_CHILD_SUBREAPER:
            self.signal.is_child_subreaper = bool(value)
        elif option == sched.PR_SET_PDEATHSIG:
            if not 0 <= value <= NSIG:
                raise OSError(errno.EINVAL, f"no signal {value}")
            self.pdeath_signal = value
        elif option == sched.PR_SET_TIMERSLACK:
            self.timerslack_ns = value if value > 0 else TIMER_SLACK_NS
        elif option == sched.PR_SET_NO_NEW_PRIVS:
            if value != 1:
                raise OSError(errno.EINVAL, "no_new_privs can only be set")
            self.no_new_privs = True
        else:
            raise OSError(errno.EINVAL, f"prctl {option} is not modelled")

    def set_name(self: Task, name: str) -> None:
        """prctl(PR_SET_NAME)."""
        self.prctl(sched.PR_SET_NAME, name)

    # ---- memory policy --------------------------------------------------------------------------------------

    def mbind(self: Task, addr: int, length: Size, mode: str, nodes: Sequence[int] = ()) -> None:
        """mbind(2): where the pages of a range will come from; `mode` is default, prefer, bind, interleave, local."""
        do_mbind(self._enter(), addr, nr_bytes(length), mode, tuple(nodes))

    def set_mempolicy(self: Task, mode: str, nodes: Sequence[int] = ()) -> None:
        """set_mempolicy(2): the same for every mapping without a policy of its own."""
        self._syscall()
        possible = tuple(pgdat.node_id for pgdat in self.kernel.node_data if pgdat.node_present_pages)
        self.mempolicy = make_policy(mode, tuple(nodes), possible)
