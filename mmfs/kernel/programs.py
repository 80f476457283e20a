"""The programs of the simulated machine: what each of them maps, touches and does when it starts.

An entry says which ELF file a program is, how much of its heap and anonymous memory it touches, which files it maps,
which threads it starts and which signals it catches. All of it is done by system calls and page faults of the task,
so that VSZ, RSS, Shared and page cache come out as the sum of what happened. Sizes were taken from idle Debian 12
servers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Final

from mmfs.kernel.elf_images import ElfImage, elf_image, has_image
from mmfs.kernel.signal import (
    SIG_IGN,
    SIGALRM,
    SIGCHLD,
    SIGHUP,
    SIGINT,
    SIGPIPE,
    SIGPWR,
    SIGQUIT,
    SIGTERM,
    SIGTSTP,
    SIGTTIN,
    SIGTTOU,
    SIGUSR1,
    SIGUSR2,
    SIGWINCH,
    Action,
    exit_on_signal,
    note_signal,
    reap_children,
    sigaction,
)
from mmfs.mm.mman import MAP_PRIVATE, MAP_SHARED, PROT_READ, PROT_WRITE
from mmfs.mm_types import PAGE_MASK

if TYPE_CHECKING:
    from mmfs.kernel.task import Task

KB: Final = 1 << 10
MB: Final = 1 << 20

HEAP_START_BYTES: Final = 136 << 10
"""The first sbrk of malloc: 132 kB and what the C start-up needs."""

# How much of a file's code and constants programs read, where it is not about all of it.
SHARES: Final = {
    "libcrypto.so.3": 0.22,
    "libsystemd-shared-252.so": 0.45,
    "libsystemd-core-252.so": 0.75,
    "libkrb5.so.3": 0.35,
    "libgnutls.so.30": 0.3,
    "libicudata.so.72": 0.004,
    "libicui18n.so.72": 0.1,
    "libunistring.so.2": 0.1,
    "libgcrypt.so.20": 0.3,
    "libzstd.so.1": 0.25,
    "libm.so.6": 0.2,
    "libc.so.6": 0.8,
    "sshd": 0.5,
    "python3.11": 0.6,
    "udevadm": 0.4,
    "nginx": 0.5,
    "busybox": 0.83,
    "static": 0.5,
}


@dataclass(frozen=True, slots=True)
class MappedFile:
    """A file that a program maps: read-only and private, or shared and written."""

    path: str
    size: int
    used: int
    shared: bool = False


@dataclass(frozen=True, slots=True)
class Program:
    """One program. Bytes, unless the name says otherwise."""

    name: str
    image: str
    path: str
    argv: tuple[str, ...] = ()
    heap: int = HEAP_START_BYTES
    heap_used: int = 24 * KB
    anon: tuple[tuple[int, int], ...] = ()
    """Anonymous mappings: (size, how much of it is written)."""
    stack_used: int = 8 * KB
    files: tuple[MappedFile, ...] = ()
    threads: tuple[str, ...] = ()
    signals: Mapping[int, Action] = field(default_factory=dict)
    wchan: str = "__do_sys_pause"
    """The system call in which it waits when it has nothing to do (/proc/PID/wchan)."""

    def share_of(self, image: ElfImage) -> float:
        """The part of a file's code and constants that the program reads."""
        return SHARES.get(image.name, 1.0)

    def start(self, task: Task) -> None:
        """What the program does between its start and its first sleep."""
        for sig, action in self.signals.items():
            sigaction(task, sig, action)
        mm = task.mm
        assert mm is not None
        task.wchan = self.wchan
        if self.heap:
            task.brk(mm.start_brk + self.heap)
            task.touch(mm.start_brk, min(self.heap_used, self.heap), write=True)
        bottom = (mm.start_stack & PAGE_MASK) - self.stack_used
        task.touch(bottom, self.stack_used, write=True)
        for size, used in self.anon:
            task.touch(task.mmap(size), used, write=True)
        for mapped in self.files:
            self._map(task, mapped)
        for name in self.threads:
            task.pthread_create(name)

    def _map(self, task: Task, mapped: MappedFile) -> None:
        file = task.kernel.namei.open(mapped.path, create_size=mapped.size, write=mapped.shared)
        if mapped.shared:
            addr = task.mmap(mapped.size, prot=PROT_READ | PROT_WRITE, flags=MAP_SHARED, file=file)
        else:
            addr = task.mmap(mapped.size, prot=PROT_READ, flags=MAP_PRIVATE, file=file)
        file.put()
        task.touch(addr, mapped.used, write=mapped.shared)


# ---- what programs catch ----------------------------------------------------------------------------------------

SERVICE: Final[dict[int, Action]] = {SIGTERM: exit_on_signal, SIGINT: exit_on_signal}
RELOADS: Final[dict[int, Action]] = {**SERVICE, SIGHUP: note_signal, SIGPIPE: SIG_IGN}
SYSTEMD: Final[dict[int, Action]] = {
    **dict.fromkeys((SIGHUP, SIGINT, SIGUSR1, SIGUSR2, SIGTERM, SIGWINCH, SIGPWR), note_signal),
    SIGCHLD: reap_children,
    SIGPIPE: SIG_IGN,
}
SHELL: Final[dict[int, Action]] = {
    **dict.fromkeys((SIGTERM, SIGTSTP, SIGTTIN, SIGTTOU), SIG_IGN),
    **dict.fromkeys((SIGINT, SIGQUIT, SIGALRM, SIGWINCH), note_signal),
    SIGHUP: exit_on_signal,
    SIGCHLD: reap_children,
}
REAPS: Final[dict[int, Action]] = {**RELOADS, SIGCHLD: reap_children}

LOCALE: Final = MappedFile("/usr/lib/locale/locale-archive", 3_048_144, 128 * KB)
GCONV: Final = MappedFile("/usr/lib/x86_64-linux-gnu/gconv/gconv-modules.cache", 27_028, 27_028)
JOURNAL: Final = MappedFile("/var/log/journal/5f2a4e2f4c6d4b0e9a6f0a7f0d1c2b3a/system.journal", 16 * MB, 3 * MB, True)
HWDB: Final = MappedFile("/usr/lib/udev/hwdb.bin", 11_815_004, 192 * KB)
PYTHON_MODULES: Final = tuple(
    MappedFile(f"/usr/lib/python3/dist-packages/{name}", size, size // 2)
    for name, size in (("apt_pkg.cpython-311-x86_64-linux-gnu.so", 359_416), ("_dbus_bindings.so", 169_032))
)

PROGRAMS: Final = {
    program.name: program
    for program in (
        Program("init", "busybox", "/sbin/init", ("/sbin/init",), heap_used=20 * KB, stack_used=4 * KB,
                signals={SIGCHLD: reap_children, SIGINT: note_signal}, wchan="do_wait"),
        Program("systemd", "systemd", "/usr/lib/systemd/systemd", ("/sbin/init",), heap=3300 * KB, heap_used=2100 * KB,
                anon=((1 * MB, 300 * KB), (256 * KB, 256 * KB)), stack_used=24 * KB, signals=SYSTEMD,
                wchan="do_epoll_wait"),
        Program("systemd-journald", "systemd-journald", "/usr/lib/systemd/systemd-journald", heap=700 * KB,
                heap_used=560 * KB, stack_used=20 * KB, files=(JOURNAL,), signals=RELOADS, wchan="do_epoll_wait"),
        Program("systemd-udevd", "udevadm", "/usr/lib/systemd/systemd-udevd", heap=1500 * KB, heap_used=1300 * KB,
                stack_used=20 * KB, files=(HWDB,), signals=REAPS, wchan="do_epoll_wait"),
        Program("systemd-timesyncd", "systemd-timesyncd", "/usr/lib/systemd/systemd-timesyncd", heap=400 * KB,
                heap_used=280 * KB, stack_used=16 * KB, threads=("sd-resolve",), signals=SERVICE,
                wchan="do_epoll_wait"),
        Program("systemd-logind", "systemd-logind", "/usr/lib/systemd/systemd-logind", heap=640 * KB,
                heap_used=440 * KB, stack_used=16 * KB, signals=RELOADS, wchan="do_epoll_wait"),
        Program("dbus-daemon", "dbus-daemon", "/usr/bin/dbus-daemon",
                ("/usr/bin/dbus-daemon", "--system", "--address=systemd:", "--nofork", "--nopidfile",
                 "--systemd-activation", "--syslog-only"),
                heap=400 * KB, heap_used=300 * KB, stack_used=12 * KB, signals=RELOADS, wchan="do_epoll_wait"),
        Program("cron", "cron", "/usr/sbin/cron", ("/usr/sbin/cron", "-f"), heap_used=60 * KB, files=(LOCALE,),
                signals={SIGCHLD: reap_children, SIGHUP: note_signal}, wchan="hrtimer_nanosleep"),
        Program("rsyslogd", "rsyslogd", "/usr/sbin/rsyslogd", ("/usr/sbin/rsyslogd", "-n", "-iNONE"), heap=800 * KB,
                heap_used=620 * KB, stack_used=16 * KB, threads=("in:imuxsock", "in:imklog", "rs:main Q:Reg"),
                signals=REAPS, wchan="do_select"),
        Program("agetty", "agetty", "/usr/sbin/agetty", heap_used=16 * KB, files=(LOCALE, GCONV),
                signals={SIGHUP: SIG_IGN}, wchan="wait_woken"),
        Program("sshd", "sshd", "/usr/sbin/sshd",
                ("sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups",), heap=264 * KB, heap_used=200 * KB,
                stack_used=16 * KB, signals=REAPS, wchan="do_sys_poll"),
        Program("nginx", "nginx", "/usr/sbin/nginx",
                ("nginx: master process /usr/sbin/nginx -g daemon on; master_process on;",), heap=640 * KB,
                heap_used=520 * KB, anon=((512 * KB, 96 * KB),), stack_used=12 * KB, signals=REAPS, wchan="sigsuspend"),
        Program("postgres", "postgres", "/usr/lib/postgresql/15/bin/postgres",
                ("/usr/lib/postgresql/15/bin/postgres", "-D", "/var/lib/postgresql/15/main", "-c",
                 "config_file=/etc/postgresql/15/main/postgresql.conf"),
                heap=1200 * KB, heap_used=900 * KB, stack_used=20 * KB, signals=REAPS, wchan="do_epoll_wait"),
        Program("python3", "python3.11", "/usr/bin/python3.11", ("python3",), heap=3200 * KB, heap_used=3100 * KB,
                anon=((1 * MB, 1 * MB), (2 * MB, 1900 * KB)), stack_used=40 * KB, files=(LOCALE, GCONV),
                signals={SIGINT: note_signal, SIGPIPE: SIG_IGN}, wchan="do_select"),
        Program("unattended-upgr", "python3.11", "/usr/bin/python3.11",
                ("/usr/bin/python3", "/usr/share/unattended-upgrades/unattended-upgrade-shutdown", "--wait-for-signal"),
                heap=4400 * KB, heap_used=4300 * KB, anon=((1 * MB, 1 * MB), (4 * MB, 3800 * KB)), stack_used=48 * KB,
                files=(LOCALE, GCONV, *PYTHON_MODULES), threads=("gmain",), signals=SERVICE, wchan="do_sys_poll"),
        Program("bash", "bash", "/usr/bin/bash", ("-bash",), heap=1200 * KB, heap_used=1000 * KB, stack_used=20 * KB,
                files=(LOCALE, GCONV), signals=SHELL, wchan="do_select"),
        Program("sh", "dash", "/usr/bin/dash", ("sh",), heap_used=32 * KB, wchan="wait_woken"),
        Program("sleep", "sleep", "/usr/bin/sleep", ("sleep", "infinity"), heap_used=16 * KB, files=(LOCALE,),
                wchan="hrtimer_nanosleep"),
        Program("cat", "cat", "/usr/bin/cat", ("cat",), heap_used=16 * KB, anon=((136 * KB, 4 * KB),), files=(LOCALE,),
                wchan="wait_woken"),
    )
}  # fmt: skip


@cache
def find_program(name: str) -> Program:
    """The program of a name or path; one that nobody described is a small static binary."""
    base = name.rpartition("/")[2]
    program = PROGRAMS.get(base)
    if program is None:
        path = name if name.startswith("/") else f"/usr/bin/{base}"
        image = base if has_image(base) and not base.startswith("lib") else "static"
        program = Program(base, image, elf_image(image).path if image != "static" else path, (name,))
    return program
