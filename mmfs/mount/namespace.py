"""`mmfs run`: a command for which /proc and /sys are the machine's.

Programs need more of /proc than a simulated machine has: themselves. bash opens /dev/fd, which is /proc/self/fd; ps
reads its own status before anything else; psutil asks for its own start time. So the real procfs stays reachable at a
hidden place, and what the machine does not know about the caller is a symbolic link into it:

    /proc/.host         the real procfs, mounted here in the command's namespace, listed nowhere
    /proc/self          -> .host/self, and so /proc/mounts (self/mounts)
    /proc/thread-self   -> .host/thread-self
    /proc/net           -> .host/net, since a machine of memory has no network
    /proc/4711          -> .host/4711 if no simulated process has that pid; not listed

`HostProc` answers these for the FUSE adapter. A caller outside of any `mmfs run` finds himself at /proc/self, the real
one, and no pids but simulated ones.

statfs(2) on these places answers what it does on a real machine (statfs.py), as far as this kernel lets it.

Three processes live through a run. The *daemon* holds the temporary machine; its /proc stays the real one, because a
FUSE daemon that reads a file of its own mount waits for itself for ever. The *init* has a mount namespace and a PID
namespace of its own: in it, the pids of simulated processes stand for nothing, so that `kill 1234`, htop's F9 or an
OOM daemon under test cannot hit a process of this machine. The *command* is its child. An ordinary user gets all this
in a user namespace, in which he is root.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import signal
import socket
import stat
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from mmfs.mount import libc, statfs
from mmfs.mount.errors import MountError
from mmfs.mount.mounts import FSTYPE, canonical, mount_at, probe, unmount

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel

HOST: Final = ".host"
NET: Final = "/proc/net"
SHOWN: Final = {"cgroup2": "/sys/fs/cgroup/cgroup.controllers", "tracefs": "/sys/kernel/tracing/available_events"}
"""File systems that tools look for in /proc/mounts (cgroup-tools, damo), each by a file that it has at its top."""
PID_ENTRY: Final = re.compile(r"/proc/[1-9][0-9]{0,9}")
FIRST_PID: Final = 1_000_000
"""Where the pids of a run's own processes begin, far from simulated ones, if this machine's pid_max allows it."""
NOT_FOUND: Final = 127
NOT_EXECUTABLE: Final = 126
AWAITED: Final = (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
"""What the processes that wait for the command take one by one: its end, and signals that are meant for it."""
Dispositions = dict[int, signal.Handlers]


class HostProc:
    """The way from a mounted /proc to the caller's own entries in the real one.

    All reading of the real procfs goes through a descriptor that was opened when the daemon started, so
    that nothing mounted over /proc later can lead the daemon into its own mount.
    """

    def __init__(self) -> None:
        self.fd = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._own = os.readlink("self/ns/mnt", dir_fd=self.fd)
        self._runs: set[str] = set()

    def in_run(self, pid: int) -> bool:
        """Whether the caller lives in the mount namespace of some `mmfs run`."""
        if pid == 0:  # no such process from where the daemon stands
            return True
        try:
            namespace = os.readlink(f"{pid}/ns/mnt", dir_fd=self.fd)
            if namespace == self._own:
                return False
            if namespace not in self._runs and self._has_host_proc(pid):
                self._runs.add(namespace)
        except OSError:
            return False
        return namespace in self._runs

    def _has_host_proc(self, pid: int) -> bool:
        descriptor = os.open(f"{pid}/mountinfo", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.fd)
        with open(descriptor, "rb") as lines:
            return any(line.split(b" ")[4] == b"/proc/" + HOST.encode() for line in lines)

    def readlink(self, path: str, pid: int) -> str | None:
        """Where a link of this module leads for the caller; None if the path is not ours."""
        inside = self.in_run(pid)
        if path in ("/proc/self", "/proc/thread-self"):
            return f"{HOST}/{path[6:]}" if inside else path
        if inside and (path == NET or PID_ENTRY.fullmatch(path)):
            return f"{HOST}/{path[6:]}"
        return None

    def mode(self, path: str, pid: int) -> int | None:
        """File type and permissions of a path of /proc that is not the machine's; None if there is no such thing."""
        if path == f"/proc/{HOST}":
            return stat.S_IFDIR | 0o555
        if path in ("/proc/self", "/proc/thread-self"):
            return stat.S_IFLNK | 0o777
        if (path == NET or PID_ENTRY.fullmatch(path)) and self.in_run(pid):
            return stat.S_IFLNK | 0o777
        return None


def new_mount_namespace() -> None:
    """Leave the mount namespace for a copy from which nothing propagates."""
    libc.unshare(libc.CLONE_NEWNS)
    libc.mount("none", "/", flags=libc.MS_REC | libc.MS_PRIVATE)


def become_root_in_new_namespace() -> None:
    """An ordinary user's way: a user namespace in which he is root, and a mount namespace that it owns."""
    uid, gid = os.geteuid(), os.getegid()
    libc.unshare(libc.CLONE_NEWUSER | libc.CLONE_NEWNS)
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)
    libc.mount("none", "/", flags=libc.MS_REC | libc.MS_PRIVATE)


def enter_namespaces() -> None:
    """A private mount namespace, by whichever way this user has; raises OSError."""
    if os.geteuid() == 0:
        new_mount_namespace()
    else:
        become_root_in_new_namespace()


def own_namespaces() -> None:
    """As `enter_namespaces()`; raises MountError."""
    try:
        enter_namespaces()
    except OSError as error:
        raise MountError(f"no namespace for the command: {error.strerror}", "see mmfs doctor") from error


def new_pid_namespace() -> None:
    """Try a PID namespace with a procfs of its own; raises OSError, also for the child's part of it."""
    enter_namespaces()
    libc.unshare(libc.CLONE_NEWPID)
    pid = os.fork()
    if pid == 0:
        code = 0
        try:
            libc.mount("proc", "/proc", "proc")
        except OSError as error:
            code = error.errno or 1
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code:
        raise OSError(code, os.strerror(code))


def check_machine(mountpoint: str) -> str:
    """The absolute path of a mounted machine; raises MountError."""
    mount = mount_at(mountpoint)
    if mount is None or mount.fstype != FSTYPE:
        raise MountError(f"{mountpoint}: no machine is mounted there", f"mmfs mount {mountpoint}")
    state = probe(mountpoint)
    if state == "dead":
        raise MountError(f"{mountpoint}: its daemon has died", f"mmfs umount {mountpoint}, then mount it again")
    if state == "hung":
        raise MountError(f"{mountpoint}: its daemon does not answer", "mmfs list names its process")
    return canonical(mountpoint)


def bind_machine(mountpoint: str, fresh_proc: bool) -> None:
    """Put the machine's /proc, /sys and /dev/kmsg in place of this namespace's; raises OSError."""
    host = f"{mountpoint}/proc/{HOST}"
    if fresh_proc:
        libc.mount("proc", host, "proc", libc.MS_NOSUID | libc.MS_NODEV | libc.MS_NOEXEC)
    else:
        libc.mount("/proc", host, flags=libc.MS_BIND | libc.MS_REC)
    libc.mount(f"{mountpoint}/proc", "/proc", flags=libc.MS_BIND | libc.MS_REC)
    if os.path.isdir(f"{mountpoint}/sys"):
        for fstype, file in SHOWN.items():
            if os.path.exists(mountpoint + file):
                show_mount(os.path.dirname(file), fstype)
        libc.mount(f"{mountpoint}/sys", "/sys", flags=libc.MS_BIND | libc.MS_REC)
    if os.path.exists(f"{mountpoint}/dev/kmsg") and os.path.exists("/dev/kmsg"):
        libc.mount(f"{mountpoint}/dev/kmsg", "/dev/kmsg", flags=libc.MS_BIND)


def show_mount(path: str, fstype: str) -> None:
    """Have /proc/mounts, the host's, tell of a file system where the machine has it: there tools look for it.

    What is mounted here is hidden by the machine's /sys; if it may not be, those tools find what the host has.
    """
    mount = mount_at(path)
    if mount is not None and mount.fstype == fstype:
        return
    with contextlib.suppress(OSError):
        libc.umount(path, libc.MNT_DETACH)
    with contextlib.suppress(OSError):
        libc.mount(fstype, path, fstype, libc.MS_NOSUID | libc.MS_NODEV | libc.MS_NOEXEC)


def set_first_pid() -> None:
    """Number this PID namespace's processes from far above the simulated ones."""
    folder = f"/proc/{HOST}/sys/kernel"
    with contextlib.suppress(OSError, ValueError):
        pid_max = int(Path(f"{folder}/pid_max").read_text())
        first = FIRST_PID if pid_max > 2 * FIRST_PID else pid_max // 2
        Path(f"{folder}/ns_last_pid").write_text(str(first))


def ignore_terminal() -> Dispositions:
    """Leave ^C and ^\\ to the command, which the terminal sends them as well; what the command is to do of them."""
    inherited: Dispositions = {}
    for number in (signal.SIGINT, signal.SIGQUIT):
        before = signal.signal(number, signal.SIG_IGN)
        inherited[number] = signal.SIG_IGN if before is signal.SIG_IGN else signal.SIG_DFL
    return inherited


def execute(command: Sequence[str], mountpoint: str, inherited: Dispositions) -> NoReturn:
    """Become the command; its exit status says it if there is no such program."""
    for signum, disposition in inherited.items():
        signal.signal(signum, disposition)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, AWAITED)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvpe(command[0], list(command), {**os.environ, "MMFS_MOUNT": mountpoint})
    except OSError as error:
        os.write(2, f"mmfs run: {command[0]}: {error.strerror}\n".encode(errors="surrogateescape"))
        os._exit(NOT_FOUND if error.errno in (errno.ENOENT, errno.ENOTDIR) else NOT_EXECUTABLE)


def _exit_code(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if code < 0 else code


def wait_for(pid: int, from_outside: bool = False) -> int:
    """Reap until `pid` ends and return its exit status as a shell would; signals are passed on to it.

    With `from_outside` only those that come from another PID namespace: `kill 1` is meant for the simulated init. The
    signals of `AWAITED` have to be blocked.
    """
    while True:
        received = signal.sigwaitinfo(AWAITED)
        if received.si_signo != signal.SIGCHLD and (received.si_pid == 0 or not from_outside):
            _kill(pid, received.si_signo)
        while True:
            try:
                done, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if done == pid:
                return _exit_code(status)
            if done == 0:
                break


def _kill(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _init(
    command: Sequence[str], mountpoint: str, pid_namespace: bool, parent: int, inherited: Dispositions
) -> NoReturn:
    """The first process of the command's namespaces."""
    code = 125
    try:
        libc.prctl(libc.PR_SET_PDEATHSIG, int(signal.SIGKILL))
        if not pid_namespace and os.getppid() != parent:
            os._exit(code)
        new_mount_namespace()
        bind_machine(mountpoint, fresh_proc=pid_namespace)
        if not pid_namespace:
            execute(command, mountpoint, inherited)
        set_first_pid()
        ours, its = socket.socketpair()
        child = os.fork()
        if child == 0:
            statfs.offer(its)
            execute(command, mountpoint, inherited)
        its.close()
        statfs.serve(ours, f"/proc/{HOST}", mountpoint)
        code = wait_for(child, from_outside=pid_namespace)
    except OSError as error:
        os.write(2, f"mmfs run: {error.filename or 'namespace'}: {error.strerror}\n".encode())
    finally:
        os._exit(code)


def pid_namespace_works() -> bool:
    """Whether a PID namespace can be had; asked in a process of its own, since there is no way back from one."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            new_pid_namespace()
            code = 0
        except OSError:
            pass
        finally:
            os._exit(code)
    return os.waitpid(pid, 0)[1] == 0


def run_on(mountpoint: str, command: Sequence[str]) -> int:
    """Run `command` on a mounted machine and return its exit status; raises MountError."""
    pid_namespace = pid_namespace_works()
    parent = os.getpid()
    if os.geteuid() != 0:
        own_namespaces()
    if pid_namespace:
        libc.unshare(libc.CLONE_NEWPID)
    inherited = ignore_terminal()
    signal.pthread_sigmask(signal.SIG_BLOCK, AWAITED)
    pid = os.fork()
    if pid == 0:
        _init(command, mountpoint, pid_namespace, parent, inherited)
    return wait_for(pid)


def run_temporary(boot: Callable[[], Kernel], command: Sequence[str], **settings: object) -> int:
    """Boot a machine for `command` alone and return the command's exit status; raises MountError."""
    from mmfs.mount import daemon
    from mmfs.mount.doctor import check_fuse

    check_fuse()
    folder = tempfile.mkdtemp(prefix="mmfs-")
    machine = daemon.Settings(folder, **settings)  # type: ignore[arg-type]

    def serve(ready: Callable[[], None]) -> None:
        libc.prctl(libc.PR_SET_PDEATHSIG, int(signal.SIGTERM))
        os.setpgid(0, 0)  # ^C is the command's
        daemon.serve(boot(), machine, ready)

    pid = 0
    try:
        own_namespaces()  # nobody else sees the mount, and it ends with the namespace
        pid = daemon.in_background(serve, detach=False)
        return run_on(folder, command)
    finally:
        if pid:
            end_daemon(pid)
        if mount_at(folder) is not None:
            with contextlib.suppress(MountError):
                unmount(folder, lazy=True)
        with contextlib.suppress(OSError):
            os.rmdir(folder)


def end_daemon(pid: int) -> None:
    """Ask the daemon to unmount, and do not ask twice."""
    _kill(pid, signal.SIGTERM)
    with contextlib.suppress(ChildProcessError):  # reaped by wait_for() if it died first
        for _ in range(500):
            if os.waitpid(pid, os.WNOHANG)[0]:
                return
            time.sleep(0.01)
        _kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
