"""The system calls of mounts and namespaces that Python 3.11's `os` does not have."""

from __future__ import annotations

import ctypes
import os
from typing import Final

CLONE_NEWNS: Final = 0x00020000
CLONE_NEWUSER: Final = 0x10000000
CLONE_NEWPID: Final = 0x20000000

MS_RDONLY: Final = 1
MS_NOSUID: Final = 2
MS_NODEV: Final = 4
MS_NOEXEC: Final = 8
MS_BIND: Final = 4096
MS_REC: Final = 16384
MS_PRIVATE: Final = 1 << 18

MNT_DETACH: Final = 2
UMOUNT_NOFOLLOW: Final = 8

PR_SET_PDEATHSIG: Final = 1
PR_SET_NAME: Final = 15

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), what)


def unshare(flags: int) -> None:
    """Leave some of the caller's namespaces for new ones."""
    _check(_libc.unshare(ctypes.c_int(flags)), "unshare")


def mount(source: str, target: str, fstype: str = "", flags: int = 0, data: str = "") -> None:
    """mount(2)."""
    arguments = [os.fsencode(text) if text else None for text in (source, target, fstype)]
    _check(_libc.mount(*arguments, ctypes.c_ulong(flags), os.fsencode(data) if data else None), target)


def umount(target: str, flags: int = 0) -> None:
    """umount2(2)."""
    _check(_libc.umount2(os.fsencode(target), ctypes.c_int(flags)), target)


def prctl(option: int, value: int | bytes) -> None:
    """prctl(2) with one argument."""
    argument = ctypes.c_char_p(value) if isinstance(value, bytes) else ctypes.c_ulong(value)
    _check(_libc.prctl(ctypes.c_int(option), argument, 0, 0, 0), "prctl")


def syscall(number: int, *arguments: int | ctypes.Array[ctypes.c_char]) -> int:
    """A system call that has no function."""
    passed = [ctypes.c_ulong(one) if isinstance(one, int) else one for one in arguments]
    result = int(_libc.syscall(ctypes.c_long(number), *passed))
    _check(result, "syscall")
    return result


def fstatfs(fd: int, size: int) -> bytes:
    """fstatfs(2): the struct, as it is."""
    answer = ctypes.create_string_buffer(max(size, 256))
    _check(_libc.fstatfs(ctypes.c_int(fd), answer), "fstatfs")
    return answer.raw[:size]
