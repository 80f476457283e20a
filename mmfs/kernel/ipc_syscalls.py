# mypy: disable-error-code="misc"
"""The system calls on System V shared memory. Linux: the SYSCALL_DEFINEs of ipc/shm.c."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from mmfs.kernel import shm
from mmfs.kernel.shm import ShmidDs
from mmfs.kernel.sys import Size, nr_bytes

if TYPE_CHECKING:
    from mmfs.kernel.task import Task


class IpcSyscalls:
    """The calls on segments; `Task` inherits them."""

    __slots__ = ()

    def shmget(self: Task, key: int, size: Size, flags: int = 0) -> int:
        """shmget(2): the identifier of the segment of a key, or of a new one."""
        self._syscall()
        signed = (key & 0xFFFF_FFFF ^ 1 << 31) - (1 << 31)
        shmid = self.kernel.shm.shmget(self, signed, nr_bytes(size), flags)
        self._check_killed()
        return shmid

    def shmat(self: Task, shmid: int, addr: int = 0, flags: int = 0) -> int:
        """shmat(2): where it is mapped."""
        with self.running() as mm:
            return self.kernel.shm.shmat(self, mm, shmid, addr, flags)

    def shmdt(self: Task, addr: int) -> None:
        """shmdt(2)."""
        with self.running() as mm:
            self.kernel.shm.shmdt(mm, addr)

    def shmctl(self: Task, shmid: int, cmd: int, uid: int = 0, gid: int = 0, mode: int = 0) -> ShmidDs | None:
        """shmctl(2): IPC_RMID, IPC_SET to `uid`, `gid` and `mode`, IPC_STAT; SHM_STAT and SHM_STAT_ANY of a place."""
        self._syscall()
        segments = self.kernel.shm
        if cmd == shm.IPC_RMID:
            segments.rmid(self, shmid)
        elif cmd == shm.IPC_SET:
            segments.set(self, shmid, uid, gid, mode)
        elif cmd == shm.IPC_STAT:
            return segments.stat(self, segments.ids.obtain(shmid))
        elif cmd in (shm.SHM_STAT, shm.SHM_STAT_ANY):
            return segments.stat(self, segments.ids.at(shmid), anybody=cmd == shm.SHM_STAT_ANY)
        else:
            raise OSError(errno.EINVAL, f"shmctl: command {cmd}")
        return None
