"""The mmfs mounts that exist: what /proc/self/mountinfo says, what is stale, how one is taken away.

A FUSE mount outlives a daemon that was killed: every access to it then fails with ENOTCONN ("Transport endpoint is not
connected"). fusermount3 watches over that (auto_unmount); where it cannot, the next `mmfs mount` or `mmfs umount`
finds the dead mount here and clears it away.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import select
import shutil
import signal
import stat
import subprocess
from dataclasses import dataclass

from mmfs.mount.errors import MountError
from mmfs.mount.libc import MNT_DETACH, UMOUNT_NOFOLLOW, umount

FSTYPE = "fuse.mmfs"
PATIENCE = 3.0
"""Seconds after which a daemon is taken to hang."""
MEMFD_PREFIX = "mmfs:"
"""A daemon keeps a memfd open with this and its mountpoint for a name, so that `mmfs list` finds the process."""


@dataclass(frozen=True)
class Mount:
    """One line of mountinfo."""

    mountpoint: str
    source: str
    fstype: str
    root: str
    options: str
    device: str


def unescape(text: str) -> str:
    r"""Undo mountinfo's \040 for a space, and so on."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def all_mounts() -> list[Mount]:
    """Every mount of this process's namespace, in mounting order."""
    found = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            left, _, right = line.partition(" - ")
            fields, tail = left.split(" "), right.rstrip("\n").split(" ")
            device, root, target, options = fields[2], fields[3], fields[4], fields[5]
            found.append(Mount(unescape(target), unescape(tail[1]), tail[0], root, f"{options} {tail[2]}", device))
    return found


def mmfs_mounts() -> list[Mount]:
    """The machines that are mounted here."""
    return [mount for mount in all_mounts() if mount.fstype == FSTYPE and mount.root == "/"]


def mount_at(path: str) -> Mount | None:
    """The mount whose mountpoint `path` is: the topmost one if several are stacked."""
    wanted = canonical(path)
    for mount in reversed(all_mounts()):
        if mount.mountpoint == wanted:
            return mount
    return None


def canonical(path: str) -> str:
    """The path as mountinfo spells it; a mountpoint is not looked at, since what is mounted there may be dead."""
    head, tail = os.path.split(path.rstrip("/") or "/")
    if tail in ("", ".", ".."):
        return os.path.realpath(path)
    place = os.path.join(os.path.realpath(head or "."), tail)
    if any(mount.mountpoint == place for mount in all_mounts()):
        return place
    return os.path.realpath(place)


def probe(path: str, seconds: float = PATIENCE) -> str:
    """How the FUSE daemon behind a mountpoint is: "alive", "dead", or "hung" if it does not answer.

    A process of its own asks, because whoever asks a daemon that hangs waits with it, and cannot be killed.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        answer = b"alive"
        try:
            os.stat(path)
        except OSError as error:
            if error.errno in (errno.ENOTCONN, errno.ECONNABORTED):
                answer = b"dead"
        finally:
            os.write(writer, answer)
            os._exit(0)
    os.close(writer)
    try:
        if not select.select([reader], [], [], seconds)[0]:
            os.kill(pid, signal.SIGKILL)
            return "hung"
        answer = os.read(reader, 16)
    finally:
        os.close(reader)
    os.waitpid(pid, 0)
    return answer.decode()


def is_stale(path: str) -> bool:
    """Whether the FUSE daemon behind a mountpoint has died."""
    return probe(path) == "dead"


def unmount(path: str, lazy: bool = False) -> None:
    """Take the mount at `path` away, with umount2(2) or else through the setuid fusermount3; raises MountError."""
    flags = UMOUNT_NOFOLLOW | (MNT_DETACH if lazy else 0)
    try:
        umount(canonical(path), flags)
        return
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise busy(path) from error
        if error.errno == errno.EINVAL:
            raise MountError(f"{path}: not mounted") from error
        if error.errno != errno.EPERM:
            raise MountError(f"{path}: {error.strerror}") from error
    tool = shutil.which("fusermount3") or shutil.which("fusermount")
    if tool is None:
        raise MountError(f"{path}: only root may unmount it", "install fuse3 for fusermount3, or run as root")
    command = [tool, "-u", *(["-z"] if lazy else []), "--", canonical(path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        text = result.stderr.strip().splitlines()[-1:] or [f"{os.path.basename(tool)} failed"]
        if "busy" in text[0].lower():
            raise busy(path)
        raise MountError(f"{path}: {text[0].split(': ', 1)[-1]}")


def busy(path: str) -> MountError:
    """Somebody has a file open or stands in a directory of the mount."""
    return MountError(f"{path}: target is busy", "see who with `fuser -vm`, or detach it with `mmfs umount --lazy`")


def clear_stale(path: str) -> bool:
    """Unmount every dead mmfs mount stacked at `path`; whether there was one."""
    cleared = False
    while (mount := mount_at(path)) is not None and mount.fstype.startswith("fuse") and is_stale(path):
        if mount.fstype != FSTYPE:
            raise MountError(f"{path}: a dead {mount.fstype} mount is in the way", f"umount {path}")
        unmount(path, lazy=True)
        cleared = True
    return cleared


def lock_mountpoint(path: str) -> int:
    """A descriptor that keeps a second `mmfs mount` away from the directory while this one works; -1 if there is none.

    The lock is on the directory below, and goes with the descriptor when the mount is there for all to see.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:  # check_mountpoint() says why
        return -1
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise MountError(f"{path}: another mmfs mount is at work there") from error
    except OSError:
        pass
    return descriptor


def check_mountpoint(path: str) -> str:
    """The absolute path of a directory that can be mounted on; raises MountError with the reason if it cannot."""
    mount = mount_at(path)
    if mount is not None and mount.fstype == FSTYPE:
        raise MountError(f"{path}: a machine is already mounted there", f"mmfs umount {path}")
    if mount is not None:
        raise MountError(f"{path}: busy, {mount.fstype} is mounted there", "choose another directory")
    try:
        status = os.stat(path)
    except FileNotFoundError as error:
        raise MountError(f"{path}: no such directory", f"mkdir {path}") from error
    except OSError as error:
        raise MountError(f"{path}: {error.strerror}") from error
    if not stat.S_ISDIR(status.st_mode):
        raise MountError(f"{path}: not a directory")
    if os.geteuid() != 0 and not os.access(path, os.W_OK):
        raise MountError(f"{path}: you may not mount here", "a mountpoint has to be a directory you can write to")
    return canonical(path)


def daemon_pids() -> dict[str, int]:
    """Mountpoint -> pid of the daemons that can be seen."""
    found: dict[str, int] = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/comm", encoding="ascii", errors="replace") as comm:
                if comm.read().strip() != "mmfs":
                    continue
            for fd in os.listdir(f"/proc/{name}/fd"):
                target = os.readlink(f"/proc/{name}/fd/{fd}")
                if target.startswith(f"/memfd:{MEMFD_PREFIX}"):
                    found[target.removeprefix(f"/memfd:{MEMFD_PREFIX}").removesuffix(" (deleted)")] = int(name)
        except OSError:
            continue
    return found
