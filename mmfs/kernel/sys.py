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
from mmfs.kernel.cgroup import task_css
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
from mmfs.kernel.tmpfs import reconfigure_tmpfs
from mmfs.mm.huge_memory import set_thp_disabled, thp_disabled
from mmfs.mm.hugetlbfs import HugetlbfsSuperBlock, hugetlbfs_super
from mmfs.mm.madvise import prctl_set_vma_anon_name
from mmfs.mm.mempolicy import MPOL_MF_MOVE, MPOL_MF_MOVE_ALL, do_mbind, make_policy
from mmfs.mm.migrate import do_migrate_pages, do_pages_move
from mmfs.mm.mman import CAP_SYS_ADMIN, PR_SET_VMA, PR_SET_VMA_ANON_NAME
from mmfs.sizes import parse_size

if TYPE_CHECKING:
    from mmfs.kernel.task import Task
    from mmfs.mm.mm_struct import MmStruct

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
        cpuset = task_css(self, "cpuset")
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
        if option == sched.PR_GET_THP_DISABLE:
            return int(thp_disabled(mm))
        if option == sched.PR_GET_MEMORY_MERGE:
            return int(mm.ksm.merge_any)
        if option == sched.PR_MCE_KILL_GET:
            return sched.PR_MCE_KILL_DEFAULT if self.mce_early is None else int(self.mce_early)
        if not args:
            raise OSError(errno.EINVAL, "prctl wants an argument")
        if option == sched.PR_MCE_KILL:
            self._set_mce_kill(*args)
            return 0
        if option == sched.PR_SET_MEMORY_MERGE:
            self.kernel.ksm.set_merge_any(mm, bool(args[0]))
            return 0
        if option == sched.PR_SET_THP_DISABLE:
            set_thp_disabled(mm, bool(args[0]))
            return 0
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

    def _set_mce_kill(self: Task, what: int, policy: int = 0) -> None:
        """Whether memory that fails kills the task at once, or when it looks; EINVAL."""
        allowed = {sched.PR_MCE_KILL_CLEAR: (0,), sched.PR_MCE_KILL_SET: (0, 1, 2)}
        if policy not in allowed.get(what, ()):
            raise OSError(errno.EINVAL, "no such policy")
        self.flags &= ~sched.PF_MCE_PROCESS
        if what == sched.PR_MCE_KILL_SET:
            self.flags &= ~sched.PF_MCE_EARLY
            if policy != sched.PR_MCE_KILL_DEFAULT:
                self.flags |= sched.PF_MCE_PROCESS | sched.PF_MCE_EARLY * (policy == sched.PR_MCE_KILL_EARLY)

    def set_name(self: Task, name: str) -> None:
        """prctl(PR_SET_NAME)."""
        self.prctl(sched.PR_SET_NAME, name)

    # ---- memory policy --------------------------------------------------------------------------------------

    def mbind(
        self: Task, addr: int, length: Size, mode: str, nodes: Sequence[int] = (), flags: int = 0
    ) -> None:  # fmt: skip
        """mbind(2): where the pages of a range will come from; `mode`: as numa_maps names it.

        With MPOL_MF_MOVE in `flags`, pages that are elsewhere move.
        """
        if flags & MPOL_MF_MOVE_ALL and not self.capable(CAP_SYS_NICE):
            raise OSError(errno.EPERM, "only CAP_SYS_NICE moves pages of others")
        do_mbind(self._enter(), addr, nr_bytes(length), mode, tuple(nodes), flags)

    def migrate_pages(self: Task, pid: int, old: Sequence[int], new: Sequence[int]) -> int:
        """migrate_pages(2): move a process's pages from some nodes to others; how many stayed. ESRCH, EPERM, EINVAL."""
        mm = self._mm_to_move(pid)
        self._nodes_with_memory(new)
        return do_migrate_pages(mm, tuple(old), tuple(new), self.capable(CAP_SYS_NICE))

    def move_pages(
        self: Task, pid: int, pages: Sequence[int], nodes: Sequence[int] | None = None, flags: int = MPOL_MF_MOVE
    ) -> list[int]:  # fmt: skip
        """move_pages(2): the node of each page or a negative errno, after moving each to one of `nodes` if given."""
        if flags & ~(MPOL_MF_MOVE | MPOL_MF_MOVE_ALL):
            raise OSError(errno.EINVAL, "no such flags")
        if flags & MPOL_MF_MOVE_ALL and not self.capable(CAP_SYS_NICE):
            raise OSError(errno.EPERM, "only CAP_SYS_NICE moves pages of others")
        mm = self._mm_to_move(pid)
        if nodes is not None:
            for nid in nodes:
                if not 0 <= nid < len(self.kernel.node_data) or not self.kernel.node_data[nid].node_present_pages:
                    raise OSError(errno.ENODEV, f"node {nid} has no memory")
        return do_pages_move(mm, pages, nodes, bool(flags & MPOL_MF_MOVE_ALL))

    def _mm_to_move(self: Task, pid: int) -> MmStruct:
        """The address space of a process whose pages this one may move. Linux: find_mm_struct()."""
        self._syscall()
        task = self.kernel.tasks.get(pid) if pid else self
        if task is None:
            raise OSError(errno.ESRCH, f"no process {pid}")
        if task is not self and not (self.cred.uid in (0, task.cred.uid) or self.capable(CAP_SYS_NICE)):
            raise OSError(errno.EPERM, f"process {pid} is another user's")
        if task.mm is None:
            raise OSError(errno.EINVAL, f"{pid} is a kernel thread")
        return task.mm

    def _nodes_with_memory(self: Task, nodes: Sequence[int]) -> None:
        if not nodes or not set(nodes) <= {p.node_id for p in self.kernel.node_data if p.node_present_pages}:
            raise OSError(errno.EINVAL, "a node without memory")

    def set_mempolicy(self: Task, mode: str, nodes: Sequence[int] = ()) -> None:
        """set_mempolicy(2): the same for every mapping without a policy of its own."""
        self._syscall()
        possible = tuple(pgdat.node_id for pgdat in self.kernel.node_data if pgdat.node_present_pages)
        self.mempolicy = make_policy(mode, tuple(nodes), possible)

    def mount(self: Task, source: str, target: str, fstype: str, options: str = "") -> None:
        """mount(2): a hugetlbfs, which other files than those of huge pages have no need of; or new options of a tmpfs,
        with `remount` as the first. Linux: fs/namespace.c.

        Simplified: only hugetlbfs can be mounted, and its options are all that there are; a tmpfs has the option huge.
        """
        self._syscall()
        if not self.capable(CAP_SYS_ADMIN):
            raise OSError(errno.EPERM, "needs CAP_SYS_ADMIN")
        words = options.split(",")
        if words[0] == "remount":
            reconfigure_tmpfs(self.kernel, target, words[1:])
            return
        if fstype != "hugetlbfs":
            raise OSError(errno.ENODEV, "only hugetlbfs can be mounted")
        if not target.startswith("/") or target == "/":
            raise OSError(errno.ENOENT, f"no directory {target}")
        kernel = self.kernel
        sb = HugetlbfsSuperBlock(kernel, options)
        mount = kernel.mounts.mount(source, target.rstrip("/"), fstype, super_options=f"rw{sb.show_options()}")
        kernel.hugetlb.mounts[mount.dev] = sb

    def umount(self: Task, target: str) -> None:
        """umount(2): a hugetlbfs goes with its files; EBUSY while one is in use. Linux: fs/namespace.c."""
        self._syscall()
        if not self.capable(CAP_SYS_ADMIN):
            raise OSError(errno.EPERM, "needs CAP_SYS_ADMIN")
        kernel = self.kernel
        mount = next((one for one in reversed(kernel.mounts.mounts) if one.mountpoint == target.rstrip("/")), None)
        if mount is None:
            raise OSError(errno.EINVAL, "nothing is mounted there")
        if mount.fstype != "hugetlbfs" or any(i.dev == mount.dev and i.i_count for i in kernel.hugetlb.inodes):
            raise OSError(errno.EBUSY, "in use")
        for path in [path for path, inode in kernel.namei.inodes.items() if inode.dev == mount.dev]:
            kernel.namei.unlink(path)
        hugetlbfs_super(kernel, mount).put_super()
        del kernel.hugetlb.mounts[mount.dev]
        kernel.mounts.umount(mount.mountpoint)
