"""statfs(2) for the commands of `mmfs run`: which file system the machine's files say that they are of.

A mount through FUSE answers FUSE_SUPER_MAGIC everywhere, and nothing in FUSE can change that. But systemd's tools and
container runtimes believe in a cgroup2 tree only if statfs says CGROUP2_SUPER_MAGIC. So a command of `mmfs run` has a
seccomp filter that hands its statfs and fstatfs calls, and no others, to the init of its namespaces. It makes the call
in the command's place, puts the magic number that a real machine has into the answer, and writes it into the caller's
memory. All that does not concern the machine, or that it has trouble with, it leaves to the kernel.

Linux: Documentation/userspace-api/seccomp_filter.rst; include/uapi/linux/seccomp.h, magic.h.

Needs Linux 5.5, and a command that has no listener of this kind of its own; without, all answers are FUSE's.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import platform
import socket
import struct
import threading
from typing import Final, NamedTuple

from mmfs.mount import libc

PROC_SUPER_MAGIC: Final = 0x9FA0
SYSFS_MAGIC: Final = 0x62656572
DEBUGFS_MAGIC: Final = 0x64626720
TMPFS_MAGIC: Final = 0x01021994
CGROUP_SUPER_MAGIC: Final = 0x27E0EB
CGROUP2_SUPER_MAGIC: Final = 0x63677270

CGROUPS: Final = "/sys/fs/cgroup"
MAGIC: Final = (
    ("/sys/kernel/debug", DEBUGFS_MAGIC),
    ("/sys", SYSFS_MAGIC),
    ("/proc", PROC_SUPER_MAGIC),
    ("/dev", TMPFS_MAGIC),
)

SECCOMP_SET_MODE_FILTER: Final = 1
SECCOMP_FILTER_FLAG_NEW_LISTENER: Final = 8
SECCOMP_RET_ALLOW: Final = 0x7FFF0000
SECCOMP_RET_USER_NOTIF: Final = 0x7FC00000
SECCOMP_USER_NOTIF_FLAG_CONTINUE: Final = 1
SECCOMP_IOCTL_NOTIF_RECV: Final = 0xC0502100
SECCOMP_IOCTL_NOTIF_SEND: Final = 0xC0182101
SECCOMP_IOCTL_NOTIF_ID_VALID: Final = 0x40082102
NOTIF: Final = struct.Struct("=QIIiIQ6Q")
"""struct seccomp_notif: id, pid, flags; nr, arch, instruction_pointer, args."""
RESPONSE: Final = struct.Struct("=QqiI")
BPF_LD: Final = 0x20
BPF_JEQ: Final = 0x15
BPF_RET: Final = 0x06
STATFS_BYTES: Final = 120
PATH_MAX: Final = 4096


class Arch(NamedTuple):
    """What a machine calls itself, and the numbers of its system calls."""

    audit: int
    seccomp: int
    statfs: int
    fstatfs: int


ARCHES: Final = {"x86_64": Arch(0xC000003E, 317, 137, 138), "aarch64": Arch(0xC00000B7, 277, 43, 44)}


def listen() -> int:
    """Have this process's statfs calls, and its children's, handed over: where to; raises OSError."""
    arch = ARCHES.get(platform.machine())
    if arch is None or tuple(int(part) for part in platform.release().split(".")[:2] if part.isdigit()) < (5, 5):
        raise OSError(0, "not on this kernel")
    steps = (
        (BPF_LD, 0, 0, 4), (BPF_JEQ, 0, 3, arch.audit),
        (BPF_LD, 0, 0, 0), (BPF_JEQ, 2, 0, arch.statfs), (BPF_JEQ, 1, 0, arch.fstatfs),
        (BPF_RET, 0, 0, SECCOMP_RET_ALLOW), (BPF_RET, 0, 0, SECCOMP_RET_USER_NOTIF),
    )  # fmt: skip
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    program = ctypes.create_string_buffer(struct.pack("@HP", len(steps), ctypes.addressof(code)))
    return libc.syscall(arch.seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, program)


def offer(channel: socket.socket) -> None:
    """In the command: listen(), and hand the listener to who is at the other end; nothing if there is none."""
    try:
        listener = listen()
    except OSError:
        channel.send(b"-")
        return
    socket.send_fds(channel, [b"+"], [listener])


def serve(channel: socket.socket, proc: str, mountpoint: str) -> None:
    """In the init: answer what the command's processes ask, in a thread; `proc` is the real procfs."""
    _, listeners, _, _ = socket.recv_fds(channel, 1, 1)
    if listeners:
        supervisor = Supervisor(listeners[0], proc, mountpoint)
        threading.Thread(target=supervisor.run, name="statfs", daemon=True).start()


class Supervisor:
    """Who answers."""

    def __init__(self, listener: int, proc: str, mountpoint: str) -> None:
        self.listener = listener
        self.proc = proc
        self.mountpoint = mountpoint
        self.dev = os.stat("/proc").st_dev
        self.arch = ARCHES[platform.machine()]

    def run(self) -> None:
        """Answer until there is nobody left to ask."""
        while True:
            request = bytearray(NOTIF.size)
            try:
                fcntl.ioctl(self.listener, SECCOMP_IOCTL_NOTIF_RECV, request)
            except InterruptedError:
                continue
            except FileNotFoundError:  # who asked is dead
                continue
            except OSError:
                return
            identity, pid, _, number, _, _, *arguments = NOTIF.unpack(request)
            flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE
            with contextlib.suppress(OSError, ValueError):
                if self._answer(identity, pid, number, arguments):
                    flags = 0
            with contextlib.suppress(OSError):
                fcntl.ioctl(self.listener, SECCOMP_IOCTL_NOTIF_SEND, RESPONSE.pack(identity, 0, 0, flags))

    def _answer(self, identity: int, pid: int, number: int, arguments: list[int]) -> bool:
        """Put the answer into the caller's memory; False: it is the kernel's to give."""
        memory = os.open(f"{self.proc}/{pid}/mem", os.O_RDWR | os.O_CLOEXEC)
        try:
            if number == self.arch.fstatfs:
                path = f"{self.proc}/{pid}/fd/{arguments[0] & 0xFFFFFFFF}"
            else:
                path = self._path(pid, self._string(memory, arguments[0]))
            target = os.open(path, os.O_PATH | os.O_CLOEXEC)
            try:
                magic = self._magic(target)
                answer = libc.fstatfs(target, STATFS_BYTES)
            finally:
                os.close(target)
            if magic is None:
                return False
            fcntl.ioctl(self.listener, SECCOMP_IOCTL_NOTIF_ID_VALID, struct.pack("=Q", identity))
            answer = struct.pack("@l", magic) + answer[struct.calcsize("@l") :]
            return os.pwrite(memory, answer, arguments[1]) == STATFS_BYTES
        finally:
            os.close(memory)

    @staticmethod
    def _string(memory: int, address: int) -> str:
        """A path in the caller's memory, which may end where a page does."""
        text = b""
        while len(text) < PATH_MAX and b"\0" not in text:
            text += os.pread(memory, 4096 - (address + len(text)) % 4096, address + len(text))
        path, end, _ = text.partition(b"\0")
        if not end:
            raise ValueError("no path")
        return os.fsdecode(path)

    def _path(self, pid: int, path: str) -> str:
        """What a path of the caller means, said so that it means the same here: by its root and its directory."""
        own = f"{self.proc}/{pid}"
        for name, means in (("/proc/self", own), ("/proc/thread-self", own), ("/dev/fd", f"{own}/fd")):
            if path == name or path.startswith(f"{name}/"):
                return means + path[len(name) :]
        return f"{own}/root{path}" if path.startswith("/") else f"{own}/cwd/{path}"

    def _magic(self, target: int) -> int | None:
        """The number for an open file; None if it is none of the machine's."""
        if os.fstat(target).st_dev != self.dev:
            return None
        where = os.readlink(f"{self.proc}/self/fd/{target}").removeprefix("(unreachable)")  # another mount namespace
        if where.startswith(f"{self.mountpoint}/"):
            where = where[len(self.mountpoint) :]
        if where == CGROUPS or where.startswith(f"{CGROUPS}/"):
            if os.path.exists(f"{CGROUPS}/cgroup.controllers"):
                return CGROUP2_SUPER_MAGIC
            return TMPFS_MAGIC if where == CGROUPS else CGROUP_SUPER_MAGIC
        return next((magic for top, magic in MAGIC if where == top or where.startswith(f"{top}/")), None)
