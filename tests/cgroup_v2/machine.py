"""One machine, two makes: a simulated one and a real Linux 6.12, told what to do by the same calls.

Paths that do not begin with a slash lie below the root cgroup. What fails raises the OSError that the kernel answered
with; a process that is asked to do something and is not alive any more raises `Dead`.
"""

from __future__ import annotations

import contextlib
import errno
import select
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Protocol

import mmfs
from mmfs.kernel.kernel import Kernel
from mmfs.kernel.sched import PR_SET_THP_DISABLE, RLIMIT_NOFILE
from mmfs.kernel.signal import SIGKILL, TaskFaulting, TaskKilled
from mmfs.kernel.socket import SO_RCVBUFFORCE
from mmfs.kernel.task import Task
from mmfs.kernfs import Caller
from mmfs.kernfs.file import OpenFile
from mmfs.mm.mempolicy import MPOL_MF_MOVE
from mmfs.mm.mman import MADV_COLLAPSE, MADV_DONTNEED, MADV_REMOVE, MAP_ANONYMOUS, MAP_HUGETLB, MAP_PRIVATE, MAP_SHARED
from tests.differential.agent import FILES, MEMORY_MB, SLOW_MB, SPEEDS, SWAP_BYTES, Agent, Dead
from tests.mm.test_page_idle import frames

TOP = "/sys/fs/cgroup"
KB, MB = 1 << 10, 1 << 20
PAGE = 4096
BLOCK = 128 * KB
"""Files are read and written in parts of this size."""
USER = 1000
MODES = {"default": 0, "prefer": 1, "bind": 2, "interleave": 3, "local": 4, "prefer (many)": 5}
"""Linux: include/uapi/linux/mempolicy.h."""
__all__ = ["KB", "MB", "PAGE", "TOP", "USER", "Dead", "Linux", "Machine", "Opened", "Process", "Simulated", "errno_of"]


def errno_of(function: Callable[..., Any], *arguments: Any, **keywords: Any) -> str:
    """The name of the error that a call ends in; "" if there is none."""
    try:
        function(*arguments, **keywords)
    except OSError as error:
        return errno.errorcode[error.errno or 0].replace("ENOTSUP", "EOPNOTSUPP")
    return ""


class Process(Protocol):
    """A process; its threads only sleep."""

    pid: int

    @property
    def alive(self) -> bool:
        """Whether it is neither gone nor a zombie."""

    def grow(self, size: int) -> None:
        """Map anonymous memory and write to each page."""

    def try_to_grow(self, size: int) -> None:
        """Begin with it; the process may be at it forever."""

    def finish(self) -> None:
        """Wait until that is done."""

    def share(self, size: int) -> None:
        """The same with shared memory."""

    def huge(self, size: int) -> None:
        """The same with pages of hugetlbfs; ENOMEM or, at the first access, Dead."""

    def share_huge(self, size: int) -> None:
        """The same for all who inherit it."""

    def reserve(self, size: int) -> None:
        """Map huge pages of the pool, and touch none."""

    def thp(self, enabled: bool) -> None:
        """Have, or do without, transparent huge pages."""

    def collapse(self) -> None:
        """Make huge pages of what was mapped last."""

    def advise(self, advice: int) -> None:
        """madvise() what was mapped last."""

    def advise_part(self, advice: int, offset: int, size: int) -> None:
        """madvise() a part of it."""

    def lock(self, offset: int, size: int, flags: int = 0) -> None:
        """mlock2() a part of what was mapped last."""

    def unlock(self, offset: int, size: int) -> None:
        """munlock() a part of it."""

    def punch(self, first: int, size: int, every: int) -> None:
        """MADV_DONTNEED of so many bytes at an offset of what was mapped last, and at each so many bytes behind it."""

    def dirty(self) -> None:
        """Write to what was mapped last."""

    def map(self, path: str, size: int) -> None:
        """Map a file, shared."""

    def drain(self, offset: int, size: int) -> None:
        """Punch a hole into the file that was mapped last."""

    def cancel(self, offset: int, size: int) -> None:
        """Unmap a part of what was mapped last."""

    def frame(self, offset: int) -> int:
        """The frame that is mapped at an offset of what was mapped last."""

    def again(self) -> None:
        """Read all that was mapped."""

    def release(self) -> None:
        """Unmap all that was mapped."""

    def read(self, path: str, offset: int, size: int) -> None:
        """Read a part of a file."""

    def fill(self, path: str, size: int) -> None:
        """Make a file of so many bytes."""

    def drop(self, path: str) -> None:
        """fsync(2) and posix_fadvise(2) with POSIX_FADV_DONTNEED."""

    def write(self, path: str, text: str) -> None:
        """Write to a file itself."""

    def set_mempolicy(self, mode: str, *nodes: int) -> None:
        """set_mempolicy(2), the mode in the words of numa_maps."""

    def mbind(self, mode: str, nodes: tuple[int, ...], flags: int = 0) -> None:
        """mbind(2) of what was mapped last."""

    def move_page(self, offset: int, node: int | None, flags: int = MPOL_MF_MOVE) -> int:
        """move_pages(2) for a page of what was mapped last: where it is then, or a negative errno. None: only ask."""

    def migrate_pages(self, old: int, new: int) -> int:
        """migrate_pages(2) from one node to another: how many stayed."""

    def socket(self, room: int) -> None:
        """A UDP socket that is its own peer, with SO_RCVBUFFORCE."""

    def send(self, length: int, times: int = 1) -> None:
        """Put datagrams of so many bytes into it."""

    def receive(self, times: int = 1) -> None:
        """Take some out."""

    def shut(self) -> None:
        """Close it."""

    def shmget(self, key: int, size: int, flags: int) -> int:
        """A segment's identifier."""

    def shmat(self, shmid: int, flags: int = 0) -> None:
        """Attach it, untouched: it is what was mapped last."""

    def shmdt(self) -> None:
        """Detach what was mapped last."""

    def shmrm(self, shmid: int) -> None:
        """Mark it to go."""

    def fallocate(self, path: str, mode: int, offset: int, size: int) -> None:
        """Of a file, which is made if there is none."""

    def dup(self, fd: int) -> None:
        """Open a descriptor with that number, RLIMIT_NOFILE raised for it."""

    def fork(self) -> Process:
        """A child."""

    def thread(self) -> int:
        """A new thread: its number."""

    def wait(self) -> None:
        """Reap a child that has ended."""

    def exit(self) -> None:
        """End; a child becomes a zombie until its parent waits for it."""

    def kill(self) -> None:
        """SIGKILL, and reap it unless it is another's child."""


class Opened(Protocol):
    """An open file."""

    def read(self) -> str:
        """All of it, from its beginning."""

    def write(self, text: str) -> None:
        """write(2)."""

    def woken(self) -> bool:
        """Whether poll(2) reports POLLPRI, after a moment."""

    def close(self) -> None:
        """close(2)."""


class Machine(ABC):
    """What both have: files in words and numbers."""

    real = False

    @abstractmethod
    def mkdir(self, path: str, uid: int = 0) -> None: ...

    @abstractmethod
    def rmdir(self, path: str, uid: int = 0) -> None: ...

    @abstractmethod
    def read(self, path: str) -> str: ...

    @abstractmethod
    def write(self, path: str, text: object, uid: int = 0) -> None: ...

    @abstractmethod
    def listdir(self, path: str) -> set[str]: ...

    @abstractmethod
    def chown(self, path: str, uid: int) -> None: ...

    @abstractmethod
    def mode(self, path: str) -> int: ...

    @abstractmethod
    def open(self, path: str) -> Opened: ...

    @abstractmethod
    def remount(self, options: str) -> None:
        """Mount the hierarchy with these options, split by commas."""

    @abstractmethod
    def tmpfs(self, options: str) -> None:
        """Give the tmpfs on /dev/shm these options."""

    @abstractmethod
    def cut(self, path: str, size: int) -> None:
        """truncate(2)."""

    @abstractmethod
    def unlink(self, path: str) -> None: ...

    @abstractmethod
    def swapon(self, path: str) -> None: ...

    @abstractmethod
    def swapoff(self, path: str) -> None: ...

    @abstractmethod
    def spawn(self, cgroup: str = "") -> Process:
        """A new process, moved to a cgroup."""

    @abstractmethod
    def sleep(self, seconds: float) -> None:
        """Let time pass."""

    @abstractmethod
    def close(self) -> None:
        """The test is over."""

    @staticmethod
    def absolute(path: str) -> str:
        return path if path.startswith("/") else f"{TOP}/{path}".rstrip("/")

    def enable(self, controllers: str, path: str = "") -> None:
        """Enable controllers for what is below a cgroup."""
        self.write(f"{path}/cgroup.subtree_control".lstrip("/"), " ".join(f"+{one}" for one in controllers.split()))

    def make(self, path: str, **settings: object) -> str:
        """A new cgroup with memory.NAME set; an underscore stands for a dot."""
        self.mkdir(path)
        for name, value in settings.items():
            self.write(f"{path}/memory.{name.replace('_', '.')}", value)
        return path

    def number(self, path: str) -> int:
        return int(self.read(path))

    def rows(self, path: str) -> dict[str, int]:
        """A flat keyed file."""
        return {key: int(value) for key, value in (line.split() for line in self.read(path).splitlines())}

    def pids(self, path: str) -> set[int]:
        """cgroup.procs or cgroup.threads."""
        return {int(word) for word in self.read(path).split()}

    def eventually(self, true: Callable[[], bool]) -> bool:
        """Whether it becomes true; what happens behind a call takes a moment."""
        for _ in range(100):
            if true():
                return True
            self.sleep(0.05)
        return False


# ---- simulated ---------------------------------------------------------------------------------------------------


class SimulatedProcess:
    """A task of a simulated kernel."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.pid = task.pid
        self._areas: list[tuple[int, int]] = []
        self._peer = -1

    def _act(self, call: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
        if not self.task.alive:
            raise Dead
        try:
            return call(*arguments, **keywords)
        except TaskKilled:
            raise Dead from None

    @property
    def alive(self) -> bool:
        return self.task.alive

    def _map(self, size: int, flags: int) -> None:
        address = self._act(self.task.mmap, size, flags=MAP_ANONYMOUS | flags)
        self._areas.append((address, size))
        self._act(self.task.touch, address, size, write=True)

    def grow(self, size: int) -> None:
        self._map(size, MAP_PRIVATE)

    def try_to_grow(self, size: int) -> None:
        with contextlib.suppress(TaskFaulting):
            self.grow(size)

    def finish(self) -> None:
        address, size = self._areas[-1]
        self._act(self.task.touch, address, size, write=True)

    def share(self, size: int) -> None:
        self._map(size, MAP_SHARED)

    def huge(self, size: int) -> None:
        self._map(size, MAP_PRIVATE | MAP_HUGETLB)

    def share_huge(self, size: int) -> None:
        self._map(size, MAP_SHARED | MAP_HUGETLB)

    def reserve(self, size: int) -> None:
        flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB
        self._areas.append((self._act(self.task.mmap, size, flags=flags), size))

    def thp(self, enabled: bool) -> None:
        self._act(self.task.prctl, PR_SET_THP_DISABLE, int(not enabled), 0, 0, 0)

    def collapse(self) -> None:
        self._act(self.task.madvise, *self._areas[-1], MADV_COLLAPSE)

    def advise(self, advice: int) -> None:
        self._act(self.task.madvise, *self._areas[-1], advice)

    def advise_part(self, advice: int, offset: int, size: int) -> None:
        self._act(self.task.madvise, self._areas[-1][0] + offset, size, advice)

    def lock(self, offset: int, size: int, flags: int = 0) -> None:
        self._act(self.task.mlock, self._areas[-1][0] + offset, size, flags)

    def unlock(self, offset: int, size: int) -> None:
        self._act(self.task.munlock, self._areas[-1][0] + offset, size)

    def punch(self, first: int, size: int, every: int) -> None:
        address, length = self._areas[-1]
        for offset in range(first, length, every):
            self._act(self.task.madvise, address + offset, size, MADV_DONTNEED)

    def dirty(self) -> None:
        self.finish()

    def map(self, path: str, size: int) -> None:
        self._areas.append((self._act(self.task.mmap, size, flags=MAP_SHARED, file=path), size))

    def drain(self, offset: int, size: int) -> None:
        self._act(self.task.madvise, self._areas[-1][0] + offset, size, MADV_REMOVE)

    def cancel(self, offset: int, size: int) -> None:
        self._act(self.task.munmap, self._areas[-1][0] + offset, size)

    def frame(self, offset: int) -> int:
        return frames(self.task, self._areas[-1][0] + offset, 1)[0]

    def again(self) -> None:
        for address, size in self._areas:
            self._act(self.task.touch, address, size)

    def release(self) -> None:
        while self._areas:
            self._act(self.task.munmap, *self._areas.pop())

    def read(self, path: str, offset: int, size: int) -> None:
        fd = self._act(self.task.open, path)
        for at in range(offset, offset + size, BLOCK):
            self._act(self.task.read, fd, min(BLOCK, offset + size - at), at)
        self._act(self.task.close, fd)

    def fill(self, path: str, size: int) -> None:
        fd = self._act(self.task.open, path, 0o101)
        for at in range(0, size, BLOCK):
            self._act(self.task.write, fd, min(BLOCK, size - at))
        self._act(self.task.close, fd)

    def drop(self, path: str) -> None:
        fd = self._act(self.task.open, path)
        self._act(self.task.fsync, fd)
        self._act(self.task.fadvise, fd, 0, 0, 4)
        self._act(self.task.close, fd)

    def write(self, path: str, text: str) -> None:
        self.task.kernel.vfs.write(Machine.absolute(path), text, Caller(pid=self.pid))

    def set_mempolicy(self, mode: str, *nodes: int) -> None:
        self._act(self.task.set_mempolicy, mode, nodes)

    def mbind(self, mode: str, nodes: tuple[int, ...], flags: int = 0) -> None:
        self._act(self.task.mbind, *self._areas[-1], mode, nodes, flags)

    def move_page(self, offset: int, node: int | None, flags: int = MPOL_MF_MOVE) -> int:
        where: list[int] = self._act(
            self.task.move_pages, 0, [self._areas[-1][0] + offset], None if node is None else [node], flags
        )
        return where[0]

    def migrate_pages(self, old: int, new: int) -> int:
        stayed: int = self._act(self.task.migrate_pages, 0, [old], [new])
        return stayed

    def socket(self, room: int) -> None:
        self._peer = self._act(self.task.socket)
        self._act(self.task.setsockopt, self._peer, SO_RCVBUFFORCE, room)

    def send(self, length: int, times: int = 1) -> None:
        for _ in range(times):
            self._act(self.task.send, self._peer, length)

    def receive(self, times: int = 1) -> None:
        for _ in range(times):
            self._act(self.task.recv, self._peer)

    def shut(self) -> None:
        self._act(self.task.close, self._peer)

    def shmget(self, key: int, size: int, flags: int) -> int:
        return int(self._act(self.task.shmget, key, size, flags))

    def shmat(self, shmid: int, flags: int = 0) -> None:
        size = self._act(self.task.shmctl, shmid, 2).segsz
        self._areas.append((self._act(self.task.shmat, shmid, 0, flags), size))

    def shmdt(self) -> None:
        self._act(self.task.shmdt, self._areas[-1][0])
        self._areas.pop()

    def shmrm(self, shmid: int) -> None:
        self._act(self.task.shmctl, shmid, 0)

    def fallocate(self, path: str, mode: int, offset: int, size: int) -> None:
        fd = self._act(self.task.open, path, 0o102)
        try:
            self._act(self.task.fallocate, fd, mode, offset, size)
        finally:
            self._act(self.task.close, fd)

    def dup(self, fd: int) -> None:
        if not self.task.fdtable:
            self._act(self.task.open, "/data/f")
        self._act(self.task.setrlimit, RLIMIT_NOFILE, fd + 1, fd + 1)
        self._act(self.task.dup2, 0, fd)

    def fork(self) -> SimulatedProcess:
        child = SimulatedProcess(self._act(self.task.fork))
        child._areas = list(self._areas)
        return child

    def thread(self) -> int:
        return int(self._act(self.task.pthread_create).pid)

    def wait(self) -> None:
        self._act(self.task.wait)

    def exit(self) -> None:
        self._act(self.task.exit)

    def kill(self) -> None:
        self.task.kernel.kill(self.pid, SIGKILL)


class SimulatedFile:
    """An open file of a simulated kernel."""

    def __init__(self, kernel: Kernel, file: OpenFile) -> None:
        self._kernel, self._file = kernel, file

    def read(self) -> str:
        return self._file.read(1 << 16).decode()

    def write(self, text: str) -> None:
        self._file.write(text.encode())

    def woken(self) -> bool:
        self._kernel.run_for(0.3)
        return bool(self._file.poll() & select.POLLPRI)

    def close(self) -> None:
        self._file.release()


def slow_node() -> list[dict[str, Any]]:
    """A node of DRAM with both CPUs and one of slow memory, as the guest has them."""
    rows = zip((MEMORY_MB - SLOW_MB, SLOW_MB), (2, 0), ([10, 40], [40, 10]), SPEEDS, strict=True)
    return [
        {"memory": f"{size}M", "cpus": cpus, "distances": row, "latency": latency, "bandwidth": f"{bandwidth}M"}
        for size, cpus, row, (latency, bandwidth) in rows
    ]


class Simulated(Machine):
    """A simulated machine like the real one."""

    def __init__(
        self, nr_nodes: int = 1, slow: bool = False, memory_mb: int = MEMORY_MB, cmdline: str = "",
        profile: str | None = None,
    ) -> None:  # fmt: skip
        memory: dict[str, Any] = {"ram": f"{memory_mb}M", "nodes": slow_node() if slow else nr_nodes}
        self.kernel = mmfs.boot(
            **memory, swap=str(SWAP_BYTES), cpus=2, preset="bare", seed=1, disks="nvme", cmdline=cmdline,
            profile=profile,
        )  # fmt: skip
        self.kernel.tasks[1].mount("none", "/dev/hugepages", "hugetlbfs", "")
        for name, size in FILES.items():
            self.kernel.create_file(f"/data/{name}", size)
        self.kernel.sync()
        self.kernel.write("/proc/sys/vm/drop_caches", "3")

    def mkdir(self, path: str, uid: int = 0) -> None:
        self.kernel.vfs.mkdir(self.absolute(path), 0o755, Caller(uid=uid, gid=uid))

    def rmdir(self, path: str, uid: int = 0) -> None:
        self.kernel.vfs.rmdir(self.absolute(path), Caller(uid=uid, gid=uid))

    def read(self, path: str) -> str:
        return self.kernel.read(self.absolute(path)).decode()

    def write(self, path: str, text: object, uid: int = 0) -> None:
        self.kernel.vfs.write(self.absolute(path), str(text), Caller(uid=uid, gid=uid))
        self.kernel.check()

    def listdir(self, path: str) -> set[str]:
        return set(self.kernel.listdir(self.absolute(path)))

    def chown(self, path: str, uid: int) -> None:
        self.kernel.vfs.chown(self.absolute(path), uid, -1)

    def mode(self, path: str) -> int:
        return self.kernel.stat(self.absolute(path)).st_mode & 0o7777

    def open(self, path: str) -> Opened:
        flags = 2 if self.mode(path) & 0o200 else 0
        return SimulatedFile(self.kernel, self.kernel.vfs.open(self.absolute(path), flags))

    def remount(self, options: str) -> None:
        self.kernel.cgroups.reconfigure(options)

    def tmpfs(self, options: str) -> None:
        self.kernel.tasks[1].mount("none", "/dev/shm", "tmpfs", f"remount,{options}")

    def cut(self, path: str, size: int) -> None:
        self.kernel.namei.stat(path).truncate(size)

    def unlink(self, path: str) -> None:
        self.kernel.namei.unlink(path)

    def swapon(self, path: str) -> None:
        self.kernel.swapon(path)

    def swapoff(self, path: str) -> None:
        self.kernel.swapoff(path)

    def spawn(self, cgroup: str = "") -> Process:
        process = SimulatedProcess(self.kernel.spawn("worker"))
        if cgroup:
            self.write(f"{cgroup}/cgroup.procs", process.pid)
        return process

    def sleep(self, seconds: float) -> None:
        self.kernel.run_for(seconds)

    def close(self) -> None:
        self.kernel.check()


# ---- real --------------------------------------------------------------------------------------------------------


class RealProcess:
    """A process of the guest."""

    def __init__(self, agent: Agent, pid: int, child: bool = False) -> None:
        self._agent, self.pid, self._child = agent, pid, child

    def _do(self, *words: object) -> str:
        return self._agent.call("do", self.pid, *words)

    @property
    def alive(self) -> bool:
        return self._agent.call("alive", self.pid) == "1"

    def grow(self, size: int) -> None:
        self._do("grow", size)

    def try_to_grow(self, size: int) -> None:
        self._agent.call("post", self.pid, "grow", size)

    def finish(self) -> None:
        self._do()

    def share(self, size: int) -> None:
        self._do("share", size)

    def huge(self, size: int) -> None:
        self._do("huge", size)

    def share_huge(self, size: int) -> None:
        self._do("share_huge", size)

    def reserve(self, size: int) -> None:
        self._do("reserve", size)

    def thp(self, enabled: bool) -> None:
        self._do("thp", int(enabled))

    def collapse(self) -> None:
        self._do("collapse")

    def advise(self, advice: int) -> None:
        self._do("advise", advice)

    def advise_part(self, advice: int, offset: int, size: int) -> None:
        self._do("advise_part", advice, offset, size)

    def lock(self, offset: int, size: int, flags: int = 0) -> None:
        self._do("lock", offset, size, flags)

    def unlock(self, offset: int, size: int) -> None:
        self._do("unlock", offset, size)

    def punch(self, first: int, size: int, every: int) -> None:
        self._do("punch", first, size, every)

    def dirty(self) -> None:
        self._do("dirty")

    def map(self, path: str, size: int) -> None:
        self._do("map", path, size)

    def drain(self, offset: int, size: int) -> None:
        self._do("drain", offset, size)

    def cancel(self, offset: int, size: int) -> None:
        self._do("cancel", offset, size)

    def frame(self, offset: int) -> int:
        return int(self._do("frame", offset))

    def again(self) -> None:
        self._do("again")

    def release(self) -> None:
        self._do("release")

    def read(self, path: str, offset: int, size: int) -> None:
        self._do("read", path, offset, size)

    def fill(self, path: str, size: int) -> None:
        self._do("fill", path, size)

    def drop(self, path: str) -> None:
        self._do("drop", path)

    def write(self, path: str, text: str) -> None:
        self._do("write", Machine.absolute(path), text)

    def set_mempolicy(self, mode: str, *nodes: int) -> None:
        self._do("policy", MODES[mode], sum(1 << node for node in nodes))

    def mbind(self, mode: str, nodes: tuple[int, ...], flags: int = 0) -> None:
        self._do("mbind", MODES[mode], sum(1 << node for node in nodes), flags)

    def move_page(self, offset: int, node: int | None, flags: int = MPOL_MF_MOVE) -> int:
        return int(self._do("move", offset, -1 if node is None else node, flags))

    def migrate_pages(self, old: int, new: int) -> int:
        return int(self._do("migrate", 1 << old, 1 << new))

    def socket(self, room: int) -> None:
        self._do("socket", room)

    def send(self, length: int, times: int = 1) -> None:
        for _ in range(times):
            self._do("send", length)

    def receive(self, times: int = 1) -> None:
        for _ in range(times):
            self._do("receive")

    def shut(self) -> None:
        self._do("shut")

    def shmget(self, key: int, size: int, flags: int) -> int:
        return int(self._do("shmget", key, size, flags))

    def shmat(self, shmid: int, flags: int = 0) -> None:
        self._do("shmat", shmid, flags)

    def shmdt(self) -> None:
        self._do("shmdt")

    def shmrm(self, shmid: int) -> None:
        self._do("shmrm", shmid)

    def fallocate(self, path: str, mode: int, offset: int, size: int) -> None:
        self._do("fallocate", path, mode, offset, size)

    def dup(self, fd: int) -> None:
        self._do("dup", fd)

    def fork(self) -> RealProcess:
        return RealProcess(self._agent, int(self._do("fork")), child=True)

    def thread(self) -> int:
        return int(self._do("thread"))

    def wait(self) -> None:
        self._do("wait")

    def exit(self) -> None:
        try:
            self._do("exit")
        except Dead:
            return

    def kill(self) -> None:
        self._agent.call("kill", self.pid)
        if not self._child:
            self._agent.call("reap", self.pid)


class RealFile:
    """An open file of the guest."""

    def __init__(self, agent: Agent, number: str) -> None:
        self._agent, self._number = agent, number

    def read(self) -> str:
        return self._agent.call("fread", self._number)

    def write(self, text: str) -> None:
        self._agent.call("fwrite", self._number, text)

    def woken(self) -> bool:
        return self._agent.call("woken", self._number) == "1"

    def close(self) -> None:
        self._agent.call("close", self._number)


class Linux(Machine):
    """The guest, which all tests share."""

    real = True

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def mkdir(self, path: str, uid: int = 0) -> None:
        self._agent.call("mkdir", self.absolute(path), uid=uid)

    def rmdir(self, path: str, uid: int = 0) -> None:
        self._agent.call("rmdir", self.absolute(path), uid=uid)

    def read(self, path: str) -> str:
        return self._agent.call("read", self.absolute(path))

    def write(self, path: str, text: object, uid: int = 0) -> None:
        self._agent.call("write", self.absolute(path), text, uid=uid)

    def listdir(self, path: str) -> set[str]:
        return set(self._agent.call("list", self.absolute(path)).split("\n")) - {".", "..", ""}

    def chown(self, path: str, uid: int) -> None:
        self._agent.call("chown", self.absolute(path), uid)

    def mode(self, path: str) -> int:
        return int(self._agent.call("mode", self.absolute(path)), 8)

    def open(self, path: str) -> Opened:
        return RealFile(self._agent, self._agent.call("open", self.absolute(path)))

    def remount(self, options: str) -> None:
        self._agent.call("remount", options)

    def tmpfs(self, options: str) -> None:
        self._agent.call("tmpfs", options)

    def cut(self, path: str, size: int) -> None:
        self._agent.call("cut", path, size)

    def unlink(self, path: str) -> None:
        self._agent.call("unlink", path)

    def swapon(self, path: str) -> None:
        self._agent.call("swapon", path)

    def swapoff(self, path: str) -> None:
        self._agent.call("swapoff", path)

    def spawn(self, cgroup: str = "") -> Process:
        process = RealProcess(self._agent, int(self._agent.call("spawn")))
        if cgroup:
            self.write(f"{cgroup}/cgroup.procs", process.pid)
        return process

    def sleep(self, seconds: float) -> None:
        self._agent.call("sleep", int(seconds * 1000))

    def close(self) -> None:
        self._agent.call("reset")
