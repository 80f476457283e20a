"""A task: one thread of a program or of the kernel.

What threads of a process share hangs off the task in Linux's own structs: `SignalStruct` (thread group, limits,
what dead threads and children used), `Sighand`, `FsStruct`, `FilesStruct`, and the mm; `Cred` is replaced whole,
never changed. For those who only look, `Task` has the fields of all of them as attributes. Its system calls are in
`kernel/syscalls.py`.

Linux: include/linux/sched.h, include/linux/sched/signal.h, kernel/cred.c.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mmfs.kernel import sched
from mmfs.kernel.cgroup.cgroup1 import mounted
from mmfs.kernel.cred import Cred
from mmfs.kernel.fdtable import FilesStruct, FsStruct
from mmfs.kernel.ipc_syscalls import IpcSyscalls
from mmfs.kernel.read_write import FileSyscalls
from mmfs.kernel.signal import Sighand
from mmfs.kernel.signal_struct import IoAccounting, SignalStruct
from mmfs.kernel.slices import SliceSyscalls
from mmfs.kernel.socket import SocketSyscalls
from mmfs.kernel.sys import SysSyscalls
from mmfs.kernel.syscalls import TaskSyscalls
from mmfs.mm.mempolicy import nodemask_of
from mmfs.mm.page_writeback import DIRTY_POLL_THRESH
from mmfs.mm.rows import vma_changed

if TYPE_CHECKING:
    from mmfs.kernel.cgroup import Cgroup
    from mmfs.kernel.exec import ExecImage
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.namei import OpenFile
    from mmfs.kernel.numa_balancing import TaskScan
    from mmfs.mm.mempolicy import Mempolicy
    from mmfs.mm.mm_struct import MmStruct



class Task(TaskSyscalls, SysSyscalls, FileSyscalls, SocketSyscalls, IpcSyscalls, SliceSyscalls):
    """One schedulable thread. Linux: include/linux/sched.h, struct task_struct."""

    __slots__ = (
        "obj", "pid_obj",
        "kernel", "pid", "tgid", "comm", "full_name", "wq_desc", "group_leader", "parent", "children", "state", "flags",
        "cred", "signal", "sighand", "pending", "blocked", "fs", "files", "mm", "exec_image", "cset", "memcg",
        "memcg_nr_pages_over_high",
        "static_prio", "rt_priority", "policy", "cpus_allowed", "processor", "start_time_ns",
        "gtime_ns", "delays", "blkio_delay_ns", "min_flt", "maj_flt", "nvcsw", "nivcsw", "io", "sched",
        "exit_code", "exit_signal", "pdeath_signal", "vfork_child", "vfork_parent", "wchan", "stack_pages",
        "timerslack_ns", "no_new_privs", "personality", "mempolicy", "mems_allowed", "user_cpus", "busy", "frozen",
        "nr_dirtied", "nr_dirtied_pause", "dirty_paused_when", "numa",
    )  # fmt: skip

    def __init__(self, kernel: Kernel, pid: int, comm: str, signal: SignalStruct, sighand: Sighand) -> None:
        self.kernel = kernel
        self.pid = self.tgid = pid
        self.obj = self.pid_obj = 0
        """Its object of the slab, and its number's."""
        self.comm = comm[: sched.TASK_COMM_LEN - 1]
        self.full_name: str | None = None
        """A kernel thread's whole name where `comm` cuts it."""
        self.wq_desc = ""
        """A workqueue worker's last work, which /proc shows behind its name."""
        self.group_leader: Task = self
        self.parent: Task | None = None
        self.children: list[Task] = []
        self.state = sched.TASK_INTERRUPTIBLE
        self.flags = 0
        self.cred = Cred()
        self.signal = signal
        self.sighand = sighand
        self.pending = self.blocked = 0
        self.fs = FsStruct()
        self.files: FilesStruct | None = FilesStruct(kernel)
        self.mm: MmStruct | None = None
        self.exec_image: ExecImage | None = None
        self.cset: list[Cgroup] = [root.root for root in kernel.cgroup_roots]
        """Its cgroup in each hierarchy. Linux: struct css_set."""
        self.memcg = 0
        """The row of its memory cgroup."""
        self.memcg_nr_pages_over_high = 0
        """Pages it has charged above memory.high since it was in user mode, while it does not run."""
        self.static_prio = sched.DEFAULT_PRIO
        self.rt_priority = 0
        self.policy = sched.SCHED_NORMAL
        self.cpus_allowed: frozenset[int] | None = None
        """None: every possible CPU."""
        self.processor = 0
        self.start_time_ns = kernel.clock.now_ns
        self.gtime_ns = 0
        self.delays = bool(kernel.scheduler.delayacct_on)
        """Whether it began while its delays were to be accounted for."""
        self.blkio_delay_ns = 0
        """How long it has waited for disks. Linux: kernel/delayacct.c, delayacct_blkio_end()."""
        self.min_flt = self.maj_flt = self.nvcsw = self.nivcsw = 0
        self.io = IoAccounting()
        self.sched: Any = None
        """The SchedEntity of a task that has ever run (kernel/rq.py)."""
        self.exit_code = 0
        self.exit_signal = 0
        self.pdeath_signal = 0
        self.vfork_child: Task | None = None
        self.vfork_parent: Task | None = None
        self.wchan = "0"
        self.stack_pages: list[int] = []
        self.timerslack_ns = sched.TIMER_SLACK_NS
        self.no_new_privs = False
        self.personality = 0
        self.mempolicy: Mempolicy | None = None
        self.nr_dirtied = self.dirty_paused_when = 0
        self.nr_dirtied_pause = DIRTY_POLL_THRESH
        """After how many pages it looks whether it must sleep (mm/page_writeback.py)."""
        self.mems_allowed: frozenset[int] | None = None
        """The nodes that its cpuset allows; None: all."""
        self.user_cpus: frozenset[int] | None = None
        """What sched_setaffinity(2) asked for."""
        self.numa: TaskScan | None = None
        """How its memory is balanced among nodes (kernel/numa_balancing.py)."""
        self.frozen = False
        """Stands still because its cgroup does (kernel/cgroup/freezer.py)."""
        self.busy = False
        """In the middle of a call during which it cannot die: a SIGKILL waits until that is over."""

    def __repr__(self) -> str:
        return f"<Task {self.pid} ({self.proc_name}) {self.state}>"

    # ---- names ----------------------------------------------------------------------------------------------

    @property
    def proc_name(self) -> str:
        """The name that stat, status and comm show. Linux: fs/proc/array.c, proc_task_name()."""
        name = self.full_name or self.comm
        if self.wq_desc:
            name += self.wq_desc
        return name[:63]

    @property
    def is_kthread(self) -> bool:
        """Whether this is a thread of the kernel's own."""
        return bool(self.flags & sched.PF_KTHREAD)

    @property
    def thread_group_leader(self) -> bool:
        """Whether this task is the process's first thread, the one that /proc lists."""
        return self.pid == self.tgid

    @property
    def mce_early(self) -> bool | None:
        """Whether memory that fails kills it at once; None: as vm.memory_failure_early_kill says. See PR_MCE_KILL."""
        return bool(self.flags & sched.PF_MCE_EARLY) if self.flags & sched.PF_MCE_PROCESS else None

    @property
    def threads(self) -> list[Task]:
        """All threads of the process, the leader first."""
        return self.signal.threads

    @property
    def ppid(self) -> int:
        """The process number of the parent, 0 for those without."""
        parent = self.group_leader.parent
        return parent.tgid if parent is not None else 0

    @property
    def alive(self) -> bool:
        """Neither a zombie nor gone."""
        return not self.flags & sched.PF_EXITING

    # ---- credentials ----------------------------------------------------------------------------------------

    uid = property(lambda self: self.cred.uid)
    euid = property(lambda self: self.cred.euid)
    suid = property(lambda self: self.cred.suid)
    fsuid = property(lambda self: self.cred.fsuid)
    gid = property(lambda self: self.cred.gid)
    egid = property(lambda self: self.cred.egid)
    sgid = property(lambda self: self.cred.sgid)
    fsgid = property(lambda self: self.cred.fsgid)
    groups = property(lambda self: self.cred.groups)

    def capable(self, capability: int) -> bool:
        """Whether the effective set has `capability`. Linux: kernel/capability.c, capable()."""
        return bool(self.cred.cap_effective >> capability & 1)

    # ---- the shared structs' fields -------------------------------------------------------------------------

    @property
    def rlimits(self) -> sched.Rlimits:
        """RLIMIT_* to (soft, hard)."""
        return self.signal.rlimits

    def rlimit(self, resource: int) -> int:
        """The soft limit of a resource."""
        return self.signal.rlimits[resource][0]

    @property
    def pgrp(self) -> int:
        """The process group."""
        return self.signal.pgrp

    @property
    def session(self) -> int:
        """The session."""
        return self.signal.session

    @property
    def tty_nr(self) -> int:
        """The controlling terminal's device number, 0 for none."""
        return self.signal.tty_nr

    @property
    def tty_pgrp(self) -> int:
        """The foreground process group of the controlling terminal, -1 without one."""
        return self.signal.tty_pgrp if self.signal.tty_nr else -1

    @property
    def oom_score_adj(self) -> int:
        """-1000 (never kill) to 1000."""
        return self.signal.oom_score_adj

    @oom_score_adj.setter
    def oom_score_adj(self, value: int) -> None:
        self.signal.oom_score_adj = value

    @property
    def cutime_ns(self) -> int:
        """User time of children that were waited for."""
        return self.signal.cutime_ns

    @property
    def cstime_ns(self) -> int:
        """System time of children that were waited for."""
        return self.signal.cstime_ns

    @property
    def cmin_flt(self) -> int:
        """Minor faults of children that were waited for."""
        return self.signal.cmin_flt

    @property
    def cmaj_flt(self) -> int:
        """Major faults of children that were waited for."""
        return self.signal.cmaj_flt

    @property
    def cwd(self) -> str:
        """The working directory."""
        return self.fs.cwd

    @property
    def root(self) -> str:
        """The root directory."""
        return self.fs.root

    @property
    def umask(self) -> int:
        """The file creation mask."""
        return self.fs.umask

    @property
    def fdtable(self) -> dict[int, OpenFile]:
        """Open files by number; empty once the task is exiting."""
        return self.files.fdt if self.files is not None else {}

    @property
    def cgrp(self) -> Cgroup:
        """Its cgroup in the default hierarchy. Linux: task_dfl_cgroup()."""
        return self.cset[0]

    @property
    def cgroup(self) -> str:
        """The path of its cgroup in the hierarchy that was mounted first; a zombie's may have been removed."""
        return mounted(self.kernel)[0].path_of(self)

    # ---- the program ----------------------------------------------------------------------------------------

    @property
    def exe(self) -> str:
        """The path of the program; empty for kernel threads and zombies."""
        return self.exec_image.path if self.exec_image is not None and self.mm is not None else ""

    @property
    def cmdline(self) -> bytes:
        """The arguments, each ended by a NUL; empty for kernel threads and zombies."""
        return self.exec_image.cmdline if self.exec_image is not None and self.mm is not None else b""

    @property
    def environ(self) -> bytes:
        """The environment, each entry ended by a NUL."""
        return self.exec_image.environ if self.exec_image is not None and self.mm is not None else b""

    @property
    def auxv(self) -> bytes:
        """The auxiliary vector that the program was given; whoever has the file open reads it after the death, too."""
        return self.exec_image.auxv if self.exec_image is not None else b""

    def set_title(self, title: str) -> None:
        """What setproctitle(3) does: the arguments that ps shows are overwritten in place."""
        if self.exec_image is not None:
            self.exec_image = replace(self.exec_image, cmdline=title.encode() + b"\0")

    @property
    def run_state(self) -> str:
        """The state that /proc shows: R with work to do, D in a wait. Linux: fs/proc/array.c, get_task_state()."""
        if self.state in (sched.TASK_INTERRUPTIBLE, sched.TASK_IDLE):
            if self.kernel.scheduler.is_waiting(self):
                return sched.TASK_UNINTERRUPTIBLE
            if self.kernel.scheduler.is_running(self):
                return sched.TASK_RUNNING
        return self.state

    # ---- scheduling -----------------------------------------------------------------------------------------

    @property
    def nice(self) -> int:
        """-20 to 19."""
        return self.static_prio - sched.DEFAULT_PRIO

    @property
    def prio(self) -> int:
        """The priority as /proc/PID/stat prints it: 20 + nice, or -1 - rt_priority. Linux: task_prio()."""
        if self.policy in (sched.SCHED_FIFO, sched.SCHED_RR):
            return -1 - self.rt_priority
        return self.static_prio - sched.MAX_RT_PRIO

    def set_cpus_allowed(self, cpus: frozenset[int], asked: frozenset[int] | None = None) -> None:
        """Bind the task to CPUs, those of `asked` that it may use; it moves if it is on none of them.

        Linux: kernel/sched/core.c, set_cpus_allowed_ptr().
        """
        self.cpus_allowed = cpus
        self.user_cpus = asked or self.user_cpus
        if self.processor not in cpus:
            self.processor = min(cpus)
        self.kernel.scheduler.task_changed(self)

    def set_mems_allowed(self, nodes: frozenset[int] | None) -> None:
        """The nodes whose memory it may have. Linux: kernel/cgroup/cpuset.c, cpuset_change_task_nodemask()."""
        if nodes != self.mems_allowed:
            self.mems_allowed = nodes
            if self.kernel.tasks.current is self:
                self.kernel.page_alloc.buddy.mems_allowed = nodemask_of(nodes)
            if self.mm is not None:
                for vma in self.mm.mmap:
                    vma_changed(vma)

    @property
    def utime_ns(self) -> int:
        """Time in user mode until now."""
        return self.kernel.scheduler.cputime(self)[0]

    @property
    def stime_ns(self) -> int:
        """Time in the kernel until now."""
        return self.kernel.scheduler.cputime(self)[1]

    def thread_group_cputime(self) -> tuple[int, int]:
        """User and system nanoseconds of all threads, living and dead. Linux: kernel/sched/cputime.c."""
        threads = self.signal.threads
        return (
            self.signal.utime_ns + sum(t.utime_ns for t in threads),
            self.signal.stime_ns + sum(t.stime_ns for t in threads),
        )

    def thread_group_faults(self) -> tuple[int, int]:
        """Minor and major faults of all threads, living and dead."""
        threads = self.signal.threads
        return (
            self.signal.min_flt + sum(t.min_flt for t in threads),
            self.signal.maj_flt + sum(t.maj_flt for t in threads),
        )
