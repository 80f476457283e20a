"""What all kinds of System V IPC share: identifiers, keys, and who may use an object.

An identifier is a place in a table and, above it, a sequence number that grows when places are taken again: so that who
holds the identifier of what was removed does not get at what has its place now.

Linux: ipc/util.c.
"""

from __future__ import annotations

from errno import EACCES, EEXIST, EINVAL, ENOENT, ENOSPC, EPERM
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from mmfs.mm.mman import CAP_IPC_OWNER, CAP_SYS_ADMIN

if TYPE_CHECKING:
    from mmfs.kernel.task import Task

IPC_PRIVATE: Final = 0
IPC_CREAT, IPC_EXCL = 0o1000, 0o2000
IPCMNI_SHIFT: Final = 15
IPCMNI: Final = 1 << IPCMNI_SHIFT
SEQ_MAX: Final = (1 << 31) - 1 >> IPCMNI_SHIFT
MIN_CYCLE: Final = 64
"""So many places are taken in turn before one is taken again."""
S_IRWXUGO: Final = 0o777


class KernIpcPerm:
    """An object's identifier, key, owners and mode. Linux: struct kern_ipc_perm."""

    def __init__(self, key: int, mode: int, task: Task) -> None:
        self.key = key
        self.mode = mode
        self.id = self.seq = -1
        self.uid = self.cuid = task.euid
        self.gid = self.cgid = task.egid

    def permits(self, task: Task, flag: int) -> bool:
        """Whether a task has the rights that a flag's mode bits name. Linux: ipcperms()."""
        wanted, granted = flag >> 6 | flag >> 3 | flag, self.mode
        groups = (task.egid, *task.cred.groups)
        if task.euid in (self.cuid, self.uid):
            granted >>= 6
        elif self.cgid in groups or self.gid in groups:
            granted >>= 3
        return not wanted & ~granted & 0o7 or task.capable(CAP_IPC_OWNER)

    def check_owner(self, task: Task) -> None:
        """EPERM unless a task may change or remove the object. Linux: ipcctl_obtain_check()."""
        if task.euid not in (self.cuid, self.uid) and not task.capable(CAP_SYS_ADMIN):
            raise OSError(EPERM, "neither the owner nor who has made it")

    def update(self, uid: int, gid: int, mode: int) -> None:
        """Linux: ipc_update_perm()."""
        self.uid, self.gid = uid, gid
        self.mode = self.mode & ~S_IRWXUGO | mode & S_IRWXUGO


T = TypeVar("T", bound=KernIpcPerm)


class IpcIds(Generic[T]):
    """The objects of a kind, by place. Linux: struct ipc_ids."""

    def __init__(self) -> None:
        self.objects: dict[int, T] = {}
        self.seq = 0
        self.last_idx = -1
        self._next = 0

    @property
    def in_use(self) -> int:
        """How many there are."""
        return len(self.objects)

    def in_order(self) -> list[T]:
        """All, by place."""
        return [self.objects[idx] for idx in sorted(self.objects)]

    def max_idx(self) -> int:
        """The highest place that is taken, -1 if none is. Linux: ipc_get_maxidx()."""
        return max(self.objects, default=-1)

    def add(self, new: T, limit: int) -> None:
        """Give an object its identifier. ENOSPC. Linux: ipc_addid(), ipc_idr_alloc()."""
        if self.in_use >= min(limit, IPCMNI):
            raise OSError(ENOSPC, "no more of them are allowed")
        end = min(max(self.in_use * 3 // 2, MIN_CYCLE), IPCMNI)
        places = (*range(self._next, end), *range(self._next))
        idx = next((idx for idx in places if idx not in self.objects), -1)
        if idx < 0:
            raise OSError(ENOSPC, "no place is free")
        self._next = idx + 1
        if idx <= self.last_idx:
            self.seq = (self.seq + 1) % SEQ_MAX
        self.last_idx = idx
        new.seq = self.seq
        new.id = (new.seq << IPCMNI_SHIFT) + idx
        self.objects[idx] = new

    def remove(self, old: T) -> None:
        """Linux: ipc_rmid()."""
        del self.objects[old.id % IPCMNI]

    def at(self, idx: int) -> T:
        """Who has a place, the lower bits of a number. EINVAL. Linux: ipc_obtain_object_idr()."""
        found = self.objects.get(idx % IPCMNI) if idx >= 0 else None
        if found is None:
            raise OSError(EINVAL, "no such identifier")
        return found

    def obtain(self, ipc_id: int) -> T:
        """The object of an identifier. EINVAL. Linux: ipc_obtain_object_check()."""
        found = self.at(ipc_id)
        if found.seq != ipc_id >> IPCMNI_SHIFT:
            raise OSError(EINVAL, "what had this identifier was removed")
        return found

    def find(self, key: int, flag: int) -> T | None:
        """The object of a key, None if one is to be made. ENOENT, EEXIST. Linux: ipcget_public()."""
        found = None if key == IPC_PRIVATE else next((one for one in self.objects.values() if one.key == key), None)
        if found is None and key != IPC_PRIVATE and not flag & IPC_CREAT:
            raise OSError(ENOENT, "no object has this key")
        if found is not None and flag & (IPC_CREAT | IPC_EXCL) == IPC_CREAT | IPC_EXCL:
            raise OSError(EEXIST, "an object has this key")
        return found


def check_permission(perm: KernIpcPerm, task: Task, flag: int) -> None:
    """EACCES. Linux: ipc_check_perms()."""
    if not perm.permits(task, flag):
        raise OSError(EACCES, "the object's mode does not allow it")
