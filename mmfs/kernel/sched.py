"""The words of the task model: PF_ flags, states, clone flags, scheduling policies, resource limits, capabilities.

Values are Linux's own wherever /proc/PID/stat, status or limits print them.

Linux: include/linux/sched.h, include/uapi/linux/sched.h, include/uapi/asm-generic/resource.h,
include/uapi/linux/capability.h, include/uapi/linux/prctl.h, include/uapi/linux/wait.h.
"""

from __future__ import annotations

from typing import Final

# ---- task->flags -------------------------------------------------------------------------------------------------
PF_IDLE: Final = 0x0000_0002
PF_EXITING: Final = 0x0000_0004
PF_WQ_WORKER: Final = 0x0000_0020
PF_FORKNOEXEC: Final = 0x0000_0040
PF_MCE_PROCESS: Final = 0x0000_0080
PF_SUPERPRIV: Final = 0x0000_0100
PF_DUMPCORE: Final = 0x0000_0200
PF_SIGNALED: Final = 0x0000_0400
PF_MEMALLOC: Final = 0x0000_0800
PF_NOFREEZE: Final = 0x0000_8000
PF_KCOMPACTD: Final = 0x0001_0000
PF_KSWAPD: Final = 0x0002_0000
PF_MEMALLOC_NOFS: Final = 0x0004_0000
PF_KTHREAD: Final = 0x0020_0000
PF_RANDOMIZE: Final = 0x0040_0000
PF_NO_SETAFFINITY: Final = 0x0400_0000
PF_MCE_EARLY: Final = 0x0800_0000

# ---- states, as /proc/PID/stat prints them -----------------------------------------------------------------------
TASK_RUNNING: Final = "R"
TASK_INTERRUPTIBLE: Final = "S"
TASK_UNINTERRUPTIBLE: Final = "D"
TASK_STOPPED: Final = "T"
TASK_TRACED: Final = "t"
EXIT_DEAD: Final = "X"
EXIT_ZOMBIE: Final = "Z"
TASK_PARKED: Final = "P"
TASK_IDLE: Final = "I"
STATE_NAMES: Final = {
    "R": "running",
    "S": "sleeping",
    "D": "disk sleep",
    "T": "stopped",
    "t": "tracing stop",
    "X": "dead",
    "Z": "zombie",
    "P": "parked",
    "I": "idle",
}

# ---- clone(2) ----------------------------------------------------------------------------------------------------
CSIGNAL: Final = 0x0000_00FF
CLONE_VM: Final = 0x0000_0100
CLONE_FS: Final = 0x0000_0200
CLONE_FILES: Final = 0x0000_0400
CLONE_SIGHAND: Final = 0x0000_0800
CLONE_VFORK: Final = 0x0000_4000
CLONE_PARENT: Final = 0x0000_8000
CLONE_THREAD: Final = 0x0001_0000
CLONE_SYSVSEM: Final = 0x0004_0000
CLONE_CLEAR_SIGHAND: Final = 0x1_0000_0000

CLONE_PTHREAD: Final = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM
"""What pthread_create(3) asks of clone(2)."""

# ---- scheduling --------------------------------------------------------------------------------------------------
SCHED_NORMAL: Final = 0
SCHED_FIFO: Final = 1
SCHED_RR: Final = 2
SCHED_BATCH: Final = 3
SCHED_IDLE: Final = 5
SCHED_DEADLINE: Final = 6

MAX_RT_PRIO: Final = 100
DEFAULT_PRIO: Final = 120
MIN_NICE: Final = -20
MAX_NICE: Final = 19
NICE_0_WEIGHT: Final = 1024
WEIGHT_IDLEPRIO: Final = 3
# Weights of nice -20 to 19. Linux: kernel/sched/core.c, sched_prio_to_weight[].
PRIO_TO_WEIGHT: Final = (
    88761, 71755, 56483, 46273, 36291, 29154, 23254, 18705, 14949, 11916, 9548, 7620, 6100, 4904, 3906, 3121, 2501,
    1991, 1586, 1277, 1024, 820, 655, 526, 423, 335, 272, 215, 172, 137, 110, 87, 70, 56, 45, 36, 29, 23, 18, 15,
)  # fmt: skip

# ---- setrlimit(2) ------------------------------------------------------------------------------------------------
RLIMIT_CPU: Final = 0
RLIMIT_FSIZE: Final = 1
RLIMIT_DATA: Final = 2
RLIMIT_STACK: Final = 3
RLIMIT_CORE: Final = 4
RLIMIT_RSS: Final = 5
RLIMIT_NPROC: Final = 6
RLIMIT_NOFILE: Final = 7
RLIMIT_MEMLOCK: Final = 8
RLIMIT_AS: Final = 9
RLIMIT_LOCKS: Final = 10
RLIMIT_SIGPENDING: Final = 11
RLIMIT_MSGQUEUE: Final = 12
RLIMIT_NICE: Final = 13
RLIMIT_RTPRIO: Final = 14
RLIMIT_RTTIME: Final = 15
RLIM_NLIMITS: Final = 16
RLIM_INFINITY: Final = (1 << 64) - 1

_STK_LIM: Final = 8 << 20
MLOCK_LIMIT: Final = 8 << 20
INR_OPEN_CUR: Final = 1024
INR_OPEN_MAX: Final = 4096
MQ_BYTES_MAX: Final = 819_200

Rlimits = dict[int, tuple[int, int]]
"""RLIMIT_* to (soft, hard)."""


def init_rlimits(max_threads: int) -> Rlimits:
    """The limits of the first task, from which all others inherit.

    Linux: include/asm-generic/resource.h, INIT_RLIMITS; kernel/fork.c, fork_init().
    """
    limits = dict.fromkeys(range(RLIM_NLIMITS), (RLIM_INFINITY, RLIM_INFINITY))
    limits[RLIMIT_STACK] = (_STK_LIM, RLIM_INFINITY)
    limits[RLIMIT_CORE] = (0, RLIM_INFINITY)
    limits[RLIMIT_NPROC] = limits[RLIMIT_SIGPENDING] = (max_threads // 2, max_threads // 2)
    limits[RLIMIT_NOFILE] = (INR_OPEN_CUR, INR_OPEN_MAX)
    limits[RLIMIT_MEMLOCK] = (MLOCK_LIMIT, MLOCK_LIMIT)
    limits[RLIMIT_MSGQUEUE] = (MQ_BYTES_MAX, MQ_BYTES_MAX)
    limits[RLIMIT_NICE] = limits[RLIMIT_RTPRIO] = (0, 0)
    return limits


# ---- capabilities ------------------------------------------------------------------------------------------------
CAP_CHOWN: Final = 0
CAP_KILL: Final = 5
CAP_SETGID: Final = 6
CAP_SETUID: Final = 7
CAP_NET_ADMIN: Final = 12
CAP_IPC_LOCK: Final = 14
CAP_SYS_ADMIN: Final = 21
CAP_SYS_NICE: Final = 23
CAP_SYS_RESOURCE: Final = 24
CAP_LAST_CAP: Final = 40
CAP_FULL_SET: Final = (1 << (CAP_LAST_CAP + 1)) - 1

# ---- prctl(2) ----------------------------------------------------------------------------------------------------
PR_SET_PDEATHSIG: Final = 1
PR_SET_NAME: Final = 15
PR_GET_NAME: Final = 16
PR_SET_TIMERSLACK: Final = 29
PR_GET_TIMERSLACK: Final = 30
PR_MCE_KILL: Final = 33
PR_MCE_KILL_GET: Final = 34
PR_SET_CHILD_SUBREAPER: Final = 36
PR_GET_CHILD_SUBREAPER: Final = 37
PR_SET_NO_NEW_PRIVS: Final = 38
PR_GET_NO_NEW_PRIVS: Final = 39
PR_SET_THP_DISABLE: Final = 41
PR_GET_THP_DISABLE: Final = 42
PR_SET_MEMORY_MERGE: Final = 67
PR_GET_MEMORY_MERGE: Final = 68

PR_MCE_KILL_CLEAR: Final = 0
PR_MCE_KILL_SET: Final = 1
PR_MCE_KILL_LATE: Final = 0
PR_MCE_KILL_EARLY: Final = 1
PR_MCE_KILL_DEFAULT: Final = 2

TASK_COMM_LEN: Final = 16

# ---- wait(2) -----------------------------------------------------------------------------------------------------
WNOHANG: Final = 1
WUNTRACED: Final = 2
WCONTINUED: Final = 8

OOM_SCORE_ADJ_MIN: Final = -1000
OOM_SCORE_ADJ_MAX: Final = 1000

MMF_DUMP_FILTER_DEFAULT: Final = 0x33
TIMER_SLACK_NS: Final = 50_000
