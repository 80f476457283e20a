"""Tunables and facts outside memory: the state behind /proc/sys/kernel and /proc/sys/fs.

A field a file, by the file's name with underscores for dashes and dots; defaults are Debian's 6.12 as it boots.
What another part of the kernel owns is not here: pid_max and threads-max (kernel/pid.py, fork.py), the
printk files (kernel/printk.py), counts of open files, dentries and inodes (mm/slub.py).

Linux: kernel/sysctl.c, kernel/utsname_sysctl.c, ipc/ipc_sysctl.c, kernel/panic.c, fs/file_table.c, fs/notify.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Final
from uuid import UUID

from mmfs.mm_types import PAGE_SHIFT

ULONG_MAX: Final = (1 << 64) - 1
SHM_LIMIT: Final = ULONG_MAX - (1 << 24)
NR_FILE: Final = 8192
INOTIFY_WATCH_COST: Final = 1328
FANOTIFY_MARK_COST: Final = 1248
EP_ITEM_COST: Final = 184
WATCHES_LIMIT: Final = 1048576
EARLY_KERNEL_PAGES: Final = 870
EARLY_PERCPU_PAGES: Final = 110


@dataclass
class UtsNamespace:
    """What uname(2) tells. Linux: struct new_utsname."""

    release: str
    version: str
    nodename: str = "debian"
    sysname: str = "Linux"
    machine: str = "x86_64"
    domainname: str = "(none)"


@dataclass
class IpcSysctl:
    """System V IPC. Linux: struct ipc_namespace."""

    shmmax: int = SHM_LIMIT
    shmall: int = SHM_LIMIT
    shmmni: int = 4096
    shm_rmid_forced: int = 0
    shm_next_id: int = -1
    msgmax: int = 8192
    msgmnb: int = 16384
    msgmni: int = 32000
    msg_next_id: int = -1
    sem: list[int] = field(default_factory=lambda: [32000, 1024000000, 500, 32000])
    sem_next_id: int = -1
    auto_msgmni: int = 0


@dataclass
class KernelSysctl:
    """/proc/sys/kernel."""

    acct: list[int] = field(default_factory=lambda: [4, 2, 30])
    arch: str = "x86_64"
    cap_last_cap: int = 40
    core_pattern: str = "core"
    core_pipe_limit: int = 0
    core_uses_pid: int = 0
    ctrl_alt_del: int = 1
    dmesg_restrict: int = 1
    hung_task_all_cpu_backtrace: int = 0
    hung_task_check_count: int = 4194304
    hung_task_check_interval_secs: int = 0
    hung_task_panic: int = 0
    hung_task_timeout_secs: int = 120
    hung_task_warnings: int = 10
    io_uring_disabled: int = 0
    io_uring_group: int = -1
    kptr_restrict: int = 0
    modprobe: str = "/sbin/modprobe"
    modules_disabled: int = 0
    ngroups_max: int = 65536
    numa_balancing: int = 0
    numa_balancing_promote_rate_limit_MBps: int = 65536
    oops_all_cpu_backtrace: int = 0
    oops_limit: int = 10000
    overflowgid: int = 65534
    overflowuid: int = 65534
    panic: int = 0
    panic_on_io_nmi: int = 0
    panic_on_oops: int = 0
    panic_on_rcu_stall: int = 0
    panic_on_unrecovered_nmi: int = 0
    panic_on_warn: int = 0
    panic_print: int = 0
    perf_event_max_sample_rate: int = 100000
    perf_event_mlock_kb: int = 516
    perf_event_paranoid: int = 3
    printk_ratelimit: int = 5
    printk_ratelimit_burst: int = 10
    printk_delay: int = 0
    randomize_va_space: int = 2
    sched_autogroup_enabled: int = 1
    sched_cfs_bandwidth_slice_us: int = 5000
    sched_deadline_period_max_us: int = 4194304
    sched_deadline_period_min_us: int = 100
    sched_rr_timeslice_ms: int = 100
    sched_rt_period_us: int = 1000000
    sched_rt_runtime_us: int = 950000
    sched_schedstats: int = 0
    seccomp_actions_avail: str = "kill_process kill_thread trap errno user_notif trace log allow"
    seccomp_actions_logged: str = "kill_process kill_thread trap errno user_notif trace log"
    softlockup_panic: int = 0
    sysctl_writes_strict: int = 1
    sysrq: int = 438
    tainted: int = 0
    timer_migration: int = 1
    unprivileged_bpf_disabled: int = 2
    unprivileged_userns_clone: int = 1
    warn_limit: int = 0
    watchdog: int = 1
    watchdog_thresh: int = 10
    pty_max: int = 4096
    pty_nr: int = 0
    pty_reserve: int = 1024
    keys_maxkeys: int = 200
    keys_maxbytes: int = 20000
    keys_root_maxkeys: int = 1000000
    keys_root_maxbytes: int = 25000000
    keys_gc_delay: int = 300
    keys_persistent_keyring_expiry: int = 259200
    random_boot_id: str = ""
    random_poolsize: int = 256
    random_entropy_avail: int = 256
    random_write_wakeup_threshold: int = 256
    random_urandom_min_reseed_secs: int = 60
    yama_ptrace_scope: int = 0
    random: Random = field(default_factory=Random, repr=False)
    """Where /proc/sys/kernel/random/uuid comes from."""

    def random_uuid(self) -> str:
        """A new random UUID (version 4), another at each call. Linux: drivers/char/random.c, proc_do_uuid()."""
        return str(UUID(int=self.random.getrandbits(128), version=4))


@dataclass
class FsSysctl:
    """/proc/sys/fs."""

    file_max: int
    nr_open: int = 1048576
    aio_max_nr: int = 65536
    aio_nr: int = 0
    dir_notify_enable: int = 1
    epoll_max_user_watches: int = 0
    fanotify_max_queued_events: int = 16384
    fanotify_max_user_groups: int = 128
    fanotify_max_user_marks: int = 0
    inotify_max_queued_events: int = 16384
    inotify_max_user_instances: int = 128
    inotify_max_user_watches: int = 0
    lease_break_time: int = 45
    leases_enable: int = 1
    mount_max: int = 100000
    mqueue_msg_default: int = 10
    mqueue_msg_max: int = 10
    mqueue_msgsize_default: int = 8192
    mqueue_msgsize_max: int = 8192
    mqueue_queues_max: int = 256
    overflowgid: int = 65534
    overflowuid: int = 65534
    pipe_max_size: int = 1048576
    pipe_user_pages_hard: int = 0
    pipe_user_pages_soft: int = 16384
    protected_fifos: int = 0
    protected_hardlinks: int = 1
    protected_regular: int = 0
    protected_symlinks: int = 1
    suid_dumpable: int = 0


def files_maxfiles_init(ram_pages: int, nr_cpus: int) -> int:
    """fs.file-max: a file is a kilobyte, and files may take a tenth of the memory that is free early in boot.

    Linux: fs/file_table.c, files_maxfiles_init(). Simplified: what the kernel itself has taken by then is an estimate.
    """
    taken = EARLY_KERNEL_PAGES + EARLY_PERCPU_PAGES * nr_cpus
    reserve = min(taken * 3 // 2, ram_pages - 1)
    return max((ram_pages - reserve) * (1 << (PAGE_SHIFT - 10)) // 10, NR_FILE)


def fs_sysctl(ram_pages: int, nr_cpus: int) -> FsSysctl:
    """/proc/sys/fs of a machine that had so many pages before init's memory was given back."""
    percent = ram_pages // 100 << PAGE_SHIFT
    return FsSysctl(
        file_max=files_maxfiles_init(ram_pages, nr_cpus),
        epoll_max_user_watches=(ram_pages // 25 << PAGE_SHIFT) // EP_ITEM_COST,
        fanotify_max_user_marks=min(max(percent // FANOTIFY_MARK_COST, 8192), WATCHES_LIMIT),
        inotify_max_user_watches=min(max(percent // INOTIFY_WATCH_COST, 8192), WATCHES_LIMIT),
    )


def kernel_sysctl(seed: int, cmdline: str, nr_nodes: int) -> KernelSysctl:
    """/proc/sys/kernel at boot: panic= and norandmaps on the command line, NUMA balancing on several nodes."""
    random = Random(f"random {seed}")
    params = KernelSysctl(random=random)
    params.random_boot_id = params.random_uuid()
    params.numa_balancing = int(nr_nodes > 1)
    for word in cmdline.split():
        key, _, value = word.partition("=")
        if key == "panic" and value.lstrip("-").isdecimal():
            params.panic = int(value)
        elif key == "norandmaps":
            params.randomize_va_space = 0
    return params
