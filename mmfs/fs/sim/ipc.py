"""Commands of /sim/control for System V shared memory, and for memory of files in advance."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmfs.fs.sim.control import Words, bits, command, number, size, word
from mmfs.kernel import fallocate as falloc
from mmfs.kernel import shm
from mmfs.kernel.ipc_ids import IPC_CREAT, IPC_EXCL
from mmfs.kernel.namei import O_CREAT, O_RDWR

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel

shm_flags = bits("SHM_", {**vars(shm), "SHM_CREAT": IPC_CREAT, "SHM_EXCL": IPC_EXCL})
ipc_command = bits("IPC_", vars(shm))
falloc_mode = bits("FALLOC_FL_", vars(falloc))
DEFAULT = 0o600


@command("shmget", "PID KEY SIZE [flags=]")
def shmget(kernel: Kernel, words: Words) -> str:
    """Find a segment of shared memory, or make one (KEY 0, flags creat); answers its identifier."""
    task, key, length = words.task(), words.take("KEY", number), words.take("SIZE", size)
    flags = words.option("flags", shm_flags, 0)
    words.end()
    return f"{task.shmget(key, length, flags | DEFAULT)}\n"


@command("shmat", "PID ID [addr=] [flags=]")
def shmat(kernel: Kernel, words: Words) -> str:
    """Attach a segment; answers the address."""
    task, shmid = words.task(), words.take("ID", number)
    addr, flags = words.option("addr", number, 0), words.option("flags", shm_flags, 0)
    words.end()
    return f"{task.shmat(shmid, addr, flags):#x}\n"


@command("shmdt", "PID ADDR")
def shmdt(kernel: Kernel, words: Words) -> None:
    """Detach the segment that is attached there."""
    task, addr = words.task(), words.take("ADDR", number)
    words.end()
    task.shmdt(addr)


@command("shmctl", "PID ID rmid")
def shmctl(kernel: Kernel, words: Words) -> None:
    """Have a segment go as soon as nobody has it attached."""
    task, shmid, cmd = words.task(), words.take("ID", number), words.take("rmid", ipc_command)
    words.end()
    task.shmctl(shmid, cmd)


@command("fallocate", "PID FILE OFFSET LENGTH [mode=]")
def fallocate(kernel: Kernel, words: Words) -> None:
    """Have memory for a part of a file of tmpfs or hugetlbfs, or (punch_hole,keep_size) give it back."""
    task, path = words.task(), words.take("FILE", word)
    offset, length = words.take("OFFSET", size), words.take("LENGTH", size)
    mode = words.option("mode", falloc_mode, 0)
    words.end()
    descriptor = task.open(path, O_RDWR | O_CREAT)
    try:
        task.fallocate(descriptor, mode, offset, length)
    finally:
        if task.alive:
            task.close(descriptor)
