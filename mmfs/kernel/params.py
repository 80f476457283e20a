"""Tunables and facts outside memory: the state behind /proc/sys/kernel and /proc/sys/fs.

An attribute a file, by the file's name with underscores for dashes and dots; defaults are Debian's 6.12 as it boots.
What another part of the kernel owns is not here: pid_max and threads-max (kernel/pid.py, fork.py), the
printk files (kernel/printk.py), counts of open files, dentries and inodes (mm/slub.py).

Linux: kernel/sysctl.c, kernel/utsname_sysctl.c, ipc/ipc_sysctl.c, kernel/panic.c, fs/file_table.c, fs/notify.
"""

from __future__ import annotations

from random import Random
from typing import Final, NamedTuple

from mmfs.mm_types import PAGE_SHIFT
from mmfs.profile import Profile, since

ULONG_MAX: Final = (1 << 64) - 1
SHM_HEADROOM: Final = 1 << 24
"""How far the limits of shared memory stay below the largest number."""
NR_FILE: Final = 8192
WATCHES_LIMIT: Final = 1048576


class FileCosts(NamedTuple):
    """Bytes of what limits count, and pages that are gone when the limit of files is set: some, and some a CPU.

    Linux: fs/notify, INOTIFY_WATCH_COST, FANOTIFY_MARK_USER_COST; fs/eventpoll.c, EP_ITEM_COST.
    """

    inotify_watch: int
    fanotify_mark: int
    ep_item: int
    early_pages: int
    early_percpu_pages: int


FILE_COSTS: Final = {64: FileCosts(1328, 1248, 184, 870, 110), 32: FileCosts(864, 816, 96, 480, 68)}
"""By the bits of a long."""
FILE_COSTS_64K: Final = FileCosts(1328, 1248, 184, 110, 18)
"""With pages of 64 KB."""


class UtsNamespace:
    """What uname(2) tells. Linux: struct new_utsname."""

    sysname = "Linux"
    domainname = "(none)"

    def __init__(self, release: str, version: str, machine: str, nodename: str = "debian") -> None:
        self.machine = machine
        self.release = release
        self.version = version
        self.nodename = nodename


class IpcSysctl:
    """System V IPC. Linux: struct ipc_namespace."""

    shmmni = 4096
    shm_rmid_forced = 0
    shm_next_id = -1
    msgmax = 8192
    msgmnb = 16384
    msgmni = 32000
    msg_next_id = -1
    sem_next_id = -1
    auto_msgmni = 0

    def __init__(self, ulong_max: int = ULONG_MAX) -> None:
        self.shmmax = self.shmall = ulong_max - SHM_HEADROOM
        self.sem = [32000, 1024000000, 500, 32000]


class KernelSysctl:
    """/proc/sys/kernel."""

    arch = "x86_64"
    cap_last_cap = 40
    core_pattern = "core"
    core_pipe_limit = 0
    core_uses_pid = 0
    ctrl_alt_del = 1
    dmesg_restrict = 1
    hung_task_all_cpu_backtrace = 0
    hung_task_check_count = 0
    hung_task_check_interval_secs = 0
    hung_task_panic = 0
    hung_task_timeout_secs = 120
    hung_task_sys_info = 0
    hung_task_warnings = 10
    io_uring_disabled = 0
    io_uring_group = -1
    kptr_restrict = 0
    modprobe = "/sbin/modprobe"
    modules_disabled = 0
    ngroups_max = 65536
    numa_balancing = 0
    numa_balancing_promote_rate_limit_MBps = 65536
    oops_all_cpu_backtrace = 0
    oops_limit = 10000
    overflowgid = 65534
    overflowuid = 65534
    panic = 0
    panic_on_io_nmi = 0
    panic_on_oops = 0
    panic_on_rcu_stall = 0
    panic_on_unrecovered_nmi = 0
    panic_on_warn = 0
    panic_print = 0
    perf_event_max_sample_rate = 100000
    perf_event_mlock_kb = 516
    perf_event_paranoid = 3
    printk_ratelimit = 5
    printk_ratelimit_burst = 10
    printk_delay = 0
    randomize_va_space = 2
    sched_autogroup_enabled = 1
    sched_child_runs_first = 0
    energy_aware = 1
    sched_cfs_bandwidth_slice_us = 5000
    sched_deadline_period_max_us = 4194304
    sched_deadline_period_min_us = 100
    sched_rr_timeslice_ms = 100
    sched_rt_period_us = 1000000
    sched_rt_runtime_us = 950000
    sched_schedstats = 0
    seccomp_actions_avail = "kill_process kill_thread trap errno user_notif trace log allow"
    seccomp_actions_logged = "kill_process kill_thread trap errno user_notif trace log"
    softlockup_panic = 0
    sysctl_writes_strict = 1
    sysrq = 438
    tainted = 0
    timer_migration = 1
    unprivileged_bpf_disabled = 2
    unprivileged_userns_clone = 1
    warn_limit = 0
    watchdog = 1
    watchdog_thresh = 10
    pty_max = 4096
    pty_nr = 0
    pty_reserve = 1024
    keys_maxkeys = 200
    keys_maxbytes = 20000
    keys_root_maxkeys = 1000000
    keys_root_maxbytes = 25000000
    keys_gc_delay = 300
    keys_persistent_keyring_expiry = 259200
    random_boot_id = ""
    random_poolsize = 256
    random_entropy_avail = 256
    random_write_wakeup_threshold = 256
    random_urandom_min_reseed_secs = 60
    yama_ptrace_scope = 0

    def __init__(self, random: Random) -> None:
        self.random = random
        """Where /proc/sys/kernel/random/uuid comes from."""
        self.acct = [4, 2, 30]

    def random_uuid(self) -> str:
        """A new random UUID (version 4), another at each call. Linux: drivers/char/random.c, proc_do_uuid()."""
        bits = self.random.getrandbits(128) & ~(0xF << 76 | 3 << 62) | 4 << 76 | 2 << 62
        digits = f"{bits:032x}"
        return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


class FsSysctl:
    """/proc/sys/fs."""

    file_max = NR_FILE
    nr_open = 1048576
    aio_max_nr = 65536
    aio_nr = 0
    dentry_negative = 0
    dir_notify_enable = 1
    epoll_max_user_watches = 0
    fanotify_max_queued_events = 16384
    fanotify_max_user_groups = 128
    fanotify_max_user_marks = 0
    inotify_max_queued_events = 16384
    inotify_max_user_instances = 128
    inotify_max_user_watches = 0
    lease_break_time = 45
    leases_enable = 1
    mount_max = 100000
    mqueue_msg_default = 10
    mqueue_msg_max = 10
    mqueue_msgsize_default = 8192
    mqueue_msgsize_max = 8192
    mqueue_queues_max = 256
    overflowgid = 65534
    overflowuid = 65534
    pipe_max_size = 1048576
    pipe_user_pages_hard = 0
    pipe_user_pages_soft = 16384
    protected_fifos = 0
    protected_hardlinks = 1
    protected_regular = 0
    protected_symlinks = 1
    suid_dumpable = 0


def files_maxfiles_init(ram_pages: int, nr_cpus: int, costs: FileCosts = FILE_COSTS[64]) -> int:
    """fs.file-max: a file is a kilobyte, and files may take a tenth of the memory that is free early in boot.

    Linux: fs/file_table.c, files_maxfiles_init(). Simplified: what the kernel itself has taken by then is an estimate.
    """
    taken = costs.early_pages + costs.early_percpu_pages * nr_cpus
    reserve = min(taken * 3 // 2, ram_pages - 1)
    return max((ram_pages - reserve) * (1 << (PAGE_SHIFT - 10)) // 10, NR_FILE)


def fs_sysctl(ram_pages: int, nr_cpus: int, high_pages: int = 0, bits_per_long: int = 64) -> FsSysctl:
    """/proc/sys/fs of a machine that had so many pages before init's memory was given back, some in high memory."""
    costs, low_pages = FILE_COSTS[bits_per_long] if PAGE_SHIFT == 12 else FILE_COSTS_64K, ram_pages - high_pages
    percent = low_pages // 100 << PAGE_SHIFT
    params = FsSysctl()
    params.file_max = files_maxfiles_init(ram_pages, nr_cpus, costs)
    params.epoll_max_user_watches = (low_pages // 25 << PAGE_SHIFT) // costs.ep_item
    params.fanotify_max_user_marks = min(max(percent // costs.fanotify_mark, 8192), WATCHES_LIMIT)
    params.inotify_max_user_watches = min(max(percent // costs.inotify_watch, 8192), WATCHES_LIMIT)
    return params


AUTOGROUP_ON: Final = since(6, 12)
"""Debian's kernels that have autogroups on; its older ones are patched to have them off."""


def kernel_sysctl(seed: int, cmdline: str, nr_nodes: int, profile: Profile) -> KernelSysctl:
    """/proc/sys/kernel at boot: panic=, norandmaps, numa_balancing= of the command line; balancing on several nodes."""
    random = Random(f"random {seed}")
    params = KernelSysctl(random)
    params.random_boot_id = params.random_uuid()
    params.numa_balancing = int(nr_nodes > 1)
    params.sched_autogroup_enabled = int(AUTOGROUP_ON(profile))
    params.hung_task_check_count = profile.arch.pid_max_limit
    for word in cmdline.split():
        key, _, value = word.partition("=")
        if key == "panic" and value.lstrip("-").isdecimal():
            params.panic = int(value)
        elif key == "numa_balancing" and value in ("enable", "disable"):
            params.numa_balancing = int(value == "enable")
        elif key == "norandmaps":
            params.randomize_va_space = 0
    return params
