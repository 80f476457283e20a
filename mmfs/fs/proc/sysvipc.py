"""/proc/sysvipc: the objects of System V IPC. Of messages and semaphores nothing simulated makes any.

Linux: ipc/util.c, ipc_init_proc_interface(); ipc/shm.c, ipc/msg.c, ipc/sem.c.

Simplified: `msg` and `sem` list nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mmfs.fs.proc.root import proc
from mmfs.mm_types import PAGE_SIZE
from mmfs.profile import config

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.shm import ShmidKernel

LONG_64: Final = config("64BIT")
HEADER_MSG: Final = (
    "       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid      stime      rtime"
    "      ctime\n"
)
HEADER_SEM: Final = "       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n"
WIDTH, WIDTH_32 = 21, 10

sysvipc = proc.directory("sysvipc")


@sysvipc.attribute("msg")
def msg(_: Kernel) -> str:
    """The header."""
    return HEADER_MSG


@sysvipc.attribute("sem")
def sem(_: Kernel) -> str:
    """The header."""
    return HEADER_SEM


@sysvipc.attribute("shm")
def shm(kernel: Kernel) -> str:
    """A row a segment, by place; sizes in bytes."""
    width = WIDTH if LONG_64(kernel) else WIDTH_32
    header = (
        f"       key      shmid perms {'size':>{width}}  cpid  lpid nattch   uid   gid  cuid  cgid      atime"
        f"      dtime      ctime {'rss':>{width}} {'swap':>{width}}\n"
    )
    return header + "".join(shm_show(segment, width) for segment in kernel.shm.ids.in_order())


def shm_show(segment: ShmidKernel, width: int) -> str:
    """Linux: ipc/shm.c, sysvipc_shm_proc_show()."""
    rss, swap = (pages * PAGE_SIZE for pages in segment.rss_swap())
    times = " ".join(f"{when:10d}" for when in (segment.atim, segment.dtim, segment.ctim))
    owners = " ".join(f"{who:5d}" for who in (segment.uid, segment.gid, segment.cuid, segment.cgid))
    return (
        f"{segment.key:10d} {segment.id:10d}  {segment.mode:4o} {segment.segsz:{width}d} {segment.cprid:5d}"
        f" {segment.lprid:5d}  {segment.nattch:5d} {owners} {times} {rss:{width}d} {swap:{width}d}\n"
    )
