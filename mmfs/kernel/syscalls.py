# mypy: disable-error-code="misc"
"""The system calls of a task, by their own names, and what needs none: touching memory.

Each method is one system call of the calling thread. Sizes are bytes, or strings such as "64M"; protections, flags
and advice are Linux's numbers (`mmfs.mm.mman`, `mmfs.kernel.sched`). A call that fails raises OSError with the errno
of Linux.

A page fault that ends in a signal is not a failed call: the task dies of it, and the Python caller gets
`SegmentationFault`, `BusError` or (SIGKILL of the OOM killer) `TaskKilled` from `mmfs.kernel.signal`. A task that is
dead raises ProcessLookupError on every further call, one that is stopped, or waits at the limit of a memory cgroup that
does not kill, `TaskStopped`.

What a call costs is charged to the task at once (`kernel/cputime.py`), and faults are counted as its own.

Linux: the SYSCALL_DEFINEs of mm/, kernel/fork.c, exit.c, signal.c, sys.c, fs/read_write.c, fs/open.c.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mmfs.kernel import exec, exit, fork, sched
from mmfs.kernel.cputime import Cost
from mmfs.kernel.fs_writeback import filemap_write_and_wait
from mmfs.kernel.panic import check_panicked
from mmfs.kernel.sched import (
    CLONE_PTHREAD,
    CLONE_VFORK,
    CLONE_VM,
    PF_EXITING,
    RLIM_INFINITY,
    RLIMIT_STACK,
    TASK_COMM_LEN,
)
from mmfs.kernel.signal import (
    SIGBUS,
    SIGCHLD,
    SIGKILL,
    SIGSEGV,
    Action,
    BusError,
    SegmentationFault,
    TaskFaulting,
    TaskKilled,
    TaskStopped,
    deliver_pending,
    exit_to_user_mode,
    kill,
    send_signal,
    set_blocked,
    sigaction,
    tgkill,
)
from mmfs.kernel.sys import Size, nr_bytes
from mmfs.mm.access import access_pages, access_range
from mmfs.mm.brk import do_brk
from mmfs.mm.fault import SLICE_NS, Fault, OomWaitError
from mmfs.mm.madvise import do_madvise
from mmfs.mm.mlock import do_mlock, do_mlock2, do_mlockall, do_munlock, do_munlockall
from mmfs.mm.mman import (
    CAP_SYS_ADMIN,
    MAP_ANONYMOUS,
    MAP_NORESERVE,
    MAP_PRIVATE,
    MAP_STACK,
    MREMAP_MAYMOVE,
    PROT_NONE,
    PROT_READ,
    PROT_WRITE,
)
from mmfs.mm.mmap import do_mmap
from mmfs.mm.mprotect import do_mprotect
from mmfs.mm.mremap import do_mremap
from mmfs.mm.msync import do_msync
from mmfs.mm.munmap import do_munmap
from mmfs.mm_types import PAGE_SHIFT, PAGE_SIZE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mmfs.kernel.task import Task
    from mmfs.mm.inode import File
    from mmfs.mm.mm_struct import MmStruct

NOT_CALLING = frozenset({sched.TASK_STOPPED, sched.TASK_UNINTERRUPTIBLE})
"""States in which a task makes no system call."""
DEFAULT_PROT = PROT_READ | PROT_WRITE
PTHREAD_GUARD = PAGE_SIZE
PTHREAD_STACK_TOUCHED = 2 * PAGE_SIZE
ARENA_BYTES = 64 << 20
ARENA_START = 132 << 10


class Running:
    """The time in which a task runs in user mode: see `TaskSyscalls.running()`."""

    __slots__ = ("resume", "task")

    def __init__(self, task: Task, resume: bool) -> None:
        self.task = task
        self.resume = resume

    def __enter__(self) -> MmStruct:
        return self.task._resume() if self.resume else self.task._enter()

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        task = self.task
        kernel = task.kernel
        try:
            if isinstance(error, Fault):
                raise task._die_of(error) from None
            if isinstance(error, OomWaitError):
                raise TaskStopped(str(error)) from None
            if isinstance(error, OSError):
                task._check_killed()
        finally:
            kernel.cond_resched(task)
            kernel.collect_dirty_inodes()
        if error is not None:
            return
        if task.has_exit_work():
            task._check_killed()
        if kernel.lru.memcg.over_high_pages:
            task._handle_over_high()


class TaskSyscalls:
    """The calls that a task can make; `Task` inherits them."""

    __slots__ = ()

    # ---- entering the kernel --------------------------------------------------------------------------------

    def _syscall(self: Task) -> None:
        """Check that the task can run, and charge a system call. It comes when the work of earlier ones is done."""
        kernel = self.kernel
        scheduler = kernel.scheduler
        if kernel.panicked:
            check_panicked(kernel)
        if self.flags & PF_EXITING:
            raise OSError(errno.ESRCH, f"task {self.pid} has exited")
        if not kernel.clock.running and scheduler.backlog_ns(self) >= SLICE_NS:
            kernel.schedule(self)
        if self.has_exit_work():
            self._check_killed()
        if self.state in NOT_CALLING:
            raise TaskStopped(f"task {self.pid} is in state {self.state}")
        kernel.tasks.current = self
        kernel.page_alloc.buddy.cpu = self.processor
        if kernel.lru.memcg.over_high_pages:
            self._handle_over_high()
        scheduler.charge(self, system_ns=Cost.SYSCALL)

    def _handle_over_high(self: Task) -> None:
        """The last call has charged above memory.high. Linux: resume_user_mode_work()."""
        self.kernel.memcgs.handle_over_high(self)
        self._check_killed()

    def _resume(self: Task) -> MmStruct:
        """What `running()` goes on with; signals have come meanwhile, or the end of the kernel."""
        kernel = self.kernel
        check_panicked(kernel)
        exit_to_user_mode(self)
        self._check_killed()
        if self.state == sched.TASK_STOPPED:
            raise TaskStopped(f"task {self.pid} is in state {self.state}")
        assert self.mm is not None
        kernel.tasks.current = self
        kernel.page_alloc.buddy.cpu = self.processor
        return self.mm

    def _enter(self: Task) -> MmStruct:
        """A system call that needs an address space: that."""
        self._syscall()
        if self.mm is None:
            raise OSError(errno.EINVAL, f"task {self.pid} is a kernel thread")
        return self.mm

    def running(self: Task, resume: bool = False) -> Running:
        """Let the task run in user mode: faults are counted as its own, and those that end in a signal kill it.

        `resume`: it goes on with what it was doing before others ran.
        """
        return Running(self, resume)

    def account_faults(self: Task) -> None:
        """Faults, reads and time of the access loops since the last call are the task's, and it waits for its reads."""
        used, io = self.kernel.mmu.time, self.io
        if used.begin_unused(self.kernel.clock.now_ns):
            return
        wait_ns, stalled_ns, times = used.wait_ns, used.memstall_ns, used.nr_waits
        self.min_flt += used.minflt
        self.maj_flt += used.majflt
        io.read_bytes += used.nr_read << PAGE_SHIFT
        if used.cpu_ns:
            self.kernel.scheduler.charge(self, user_ns=used.user_ns, system_ns=used.cpu_ns - used.user_ns)
        used.begin(self.kernel.clock.now_ns)
        if self.kernel.numa_balancing.enabled:
            self.kernel.numa_balancing.tick(self)
        if wait_ns:
            self.kernel.io_wait(self, wait_ns, stalled_ns, times)

    @contextmanager
    def _unkillable(self: Task) -> Iterator[None]:
        """A call that the OOM killer cannot break off; signals that come meanwhile act at its end."""
        self.busy = True
        try:
            yield
        except OSError:
            self._end_busy()
            raise
        self._end_busy()

    def _end_busy(self: Task) -> None:
        self.busy = False
        deliver_pending(self)
        self._check_killed()

    def _die_of(self: Task, fault: Fault) -> TaskKilled | TaskFaulting:
        """The signal of a fault that cannot be served. Linux: arch/x86/mm/fault.c, bad_area()."""
        if not fault.signal:
            return TaskFaulting(f"task {self.pid} faults forever at {fault.address:#x}: nobody may be killed")
        kind = {SIGSEGV: SegmentationFault, SIGBUS: BusError}.get(fault.signal, TaskKilled)
        send_signal(self, fault.signal, group=False, forced=True)
        return kind(self, fault.signal, fault.address)

    def has_exit_work(self: Task) -> bool:
        """Whether there is something to be done before the task is in user mode. Linux: EXIT_TO_USER_MODE_WORK."""
        return bool(self.pending or self.signal.shared_pending or self.cgrp.freezing or self.flags & PF_EXITING)

    def _check_killed(self: Task) -> None:
        exit_to_user_mode(self)
        if self.flags & PF_EXITING:
            raise TaskKilled(self, self.exit_code & 0x7F or SIGKILL)

    # ---- memory ---------------------------------------------------------------------------------------------

    def touch(
        self: Task, addr: int | NDArray[np.integer[Any]] | Sequence[int], length: Size = 1, write: bool = False,
        stride: Size = PAGE_SIZE,
    ) -> None:  # fmt: skip
        """Access memory: one byte every `stride` of [addr, addr + length), or at each address of an array in turn.

        An access reads unless `write` is set (reading untouched anonymous memory maps the shared zero page).
        """
        with self.running() as mm:
            if isinstance(addr, int):
                access_range(mm, addr, addr + nr_bytes(length), write, nr_bytes(stride))
            else:
                access_pages(mm, addr, write)

    def mmap(
        self: Task, length: Size, prot: int = DEFAULT_PROT, flags: int | None = None,
        file: File | str | int | None = None, offset: Size = 0, addr: int = 0,
    ) -> int:  # fmt: skip
        """mmap(2): anonymous private memory unless `file` (an open File, a descriptor or a path) is given."""
        with self.running() as mm:
            start = nr_bytes(offset)
            if start & PAGE_SIZE - 1:
                raise OSError(errno.EINVAL, "the offset is not a multiple of the page size")
            if flags is None:
                flags = MAP_PRIVATE | (MAP_ANONYMOUS if file is None else 0)
            if file is None:
                if not flags & MAP_ANONYMOUS:
                    raise OSError(errno.EBADF, "neither a file nor MAP_ANONYMOUS")
                return do_mmap(mm, addr, nr_bytes(length), prot, flags, None, start >> PAGE_SHIFT)
            opened = self._file(file, bool(prot & PROT_WRITE))
            try:
                return do_mmap(mm, addr, nr_bytes(length), prot, flags, opened, start >> PAGE_SHIFT)
            finally:
                if isinstance(file, str):
                    opened.put()

    def _file(self: Task, file: File | str | int, write: bool) -> File:
        if isinstance(file, str):
            return self.kernel.namei.open(file, write=write)
        if isinstance(file, int):
            return self._fd(file)
        return file

    def munmap(self: Task, addr: int, length: Size) -> None:
        """munmap(2)."""
        with self.running() as mm:
            before = mm.rss
            do_munmap(mm, addr, nr_bytes(length))
            self.kernel.scheduler.charge(self, system_ns=max(before - mm.rss, 0) * Cost.UNMAP_PAGE)

    def mprotect(self: Task, addr: int, length: Size, prot: int) -> None:
        """mprotect(2)."""
        with self.running() as mm:
            do_mprotect(mm, addr, nr_bytes(length), prot)

    def madvise(self: Task, addr: int, length: Size, advice: int) -> None:
        """madvise(2)."""
        with self.running() as mm:
            do_madvise(mm, addr, nr_bytes(length), advice)

    def set_contents(self: Task, addr: int, length: Size, what: str, number: int = 0) -> None:
        """Say what the pages of a range hold: a word of mm/ksm_contents.py. Linux has no such call: programs write."""
        with self.running() as mm:
            self.kernel.ksm.set_contents(mm, addr, addr + nr_bytes(length), what, number)

    def msync(self: Task, addr: int, length: Size, flags: int) -> None:
        """msync(2): with MS_SYNC, wait until the disk has what a mapping has changed of its files."""
        mm = self._enter()
        for file, first, last in do_msync(mm, addr, nr_bytes(length), flags):
            filemap_write_and_wait(self, file.mapping, first, last)
            self.kernel.io_schedule(self, self.kernel.ext4.commit())

    def mremap(
        self: Task, addr: int, old_length: Size, new_length: Size, flags: int = MREMAP_MAYMOVE, new_addr: int = 0
    ) -> int:
        """mremap(2); may move unless told otherwise."""
        with self.running() as mm:
            return do_mremap(mm, addr, nr_bytes(old_length), nr_bytes(new_length), flags, new_addr)

    def mlock(self: Task, addr: int, length: Size, flags: int = 0) -> None:
        """mlock(2), or mlock2(2) with flags."""
        with self.running() as mm:
            if flags:
                do_mlock2(mm, addr, nr_bytes(length), flags)
            else:
                do_mlock(mm, addr, nr_bytes(length))

    def munlock(self: Task, addr: int, length: Size) -> None:
        """munlock(2)."""
        with self.running() as mm:
            do_munlock(mm, addr, nr_bytes(length))

    def mlockall(self: Task, flags: int) -> None:
        """mlockall(2)."""
        with self.running() as mm:
            do_mlockall(mm, flags)

    def munlockall(self: Task) -> None:
        """munlockall(2)."""
        with self.running() as mm:
            do_munlockall(mm)

    def brk(self: Task, addr: int = 0) -> int:
        """brk(2): move the end of the heap; returns where it is then. 0 asks where it is."""
        with self.running() as mm:
            return do_brk(mm, addr)

    def sbrk(self: Task, increment: Size) -> int:
        """Grow the heap by `increment`; returns its old end. ENOMEM if it cannot grow."""
        old = self.brk()
        new = old + nr_bytes(increment)
        if self.brk(new) != new:
            raise OSError(errno.ENOMEM, "the heap cannot grow")
        return old

    def swapon(self: Task, path: str, swap_flags: int = 0) -> None:
        """swapon(2)."""
        self._syscall()
        self.kernel.swap_files.swapon(path, swap_flags, self.capable(CAP_SYS_ADMIN))

    def swapoff(self: Task, path: str) -> None:
        """swapoff(2)."""
        with self.running():
            self.kernel.swap_files.swapoff(path, self, self.capable(CAP_SYS_ADMIN))

    # ---- processes ------------------------------------------------------------------------------------------

    def fork(self: Task) -> Task:
        """fork(2): the child."""
        return self.clone(0)

    def vfork(self: Task) -> Task:
        """vfork(2): the child, in the same address space; the caller sleeps until it execs or exits."""
        return self.clone(CLONE_VFORK | CLONE_VM)

    def clone(self: Task, flags: int, exit_signal: int = SIGCHLD) -> Task:
        """clone(2): the new task or thread."""
        self._syscall()
        self.kernel.scheduler.charge(self, system_ns=Cost.FORK)
        with self._unkillable():
            return fork.kernel_clone(self, flags, exit_signal)

    def pthread_create(self: Task, name: str | None = None, arena: bool = True) -> Task:
        """What glibc does for a new thread: a stack with a guard page, clone(2), and malloc's arena of 64 MB."""
        limit = self.rlimit(RLIMIT_STACK)
        size = limit if limit != RLIM_INFINITY else 8 << 20
        flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK
        stack = self.mmap(size + PTHREAD_GUARD, PROT_NONE, flags)
        self.mprotect(stack + PTHREAD_GUARD, size, DEFAULT_PROT)
        top = stack + PTHREAD_GUARD + size
        self.touch(top - PTHREAD_STACK_TOUCHED, PTHREAD_STACK_TOUCHED, write=True)
        thread = self.clone(CLONE_PTHREAD, 0)
        if name is not None:
            thread.comm = name[: TASK_COMM_LEN - 1]
        if arena:
            thread._map_arena()
        return thread

    def _map_arena(self: Task) -> None:
        """malloc's heap of a thread: 64 MB reserved at a multiple of that, 132 kB of it usable. glibc: new_heap()."""
        flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE
        start = self.mmap(2 * ARENA_BYTES, PROT_NONE, flags)
        aligned = -(-start // ARENA_BYTES) * ARENA_BYTES
        if aligned > start:
            self.munmap(start, aligned - start)
        self.munmap(aligned + ARENA_BYTES, start + ARENA_BYTES - aligned)
        self.mprotect(aligned, ARENA_START, DEFAULT_PROT)
        self.touch(aligned, 2 * PAGE_SIZE, write=True)

    def execve(
        self: Task, name: str, argv: Sequence[str | bytes] | None = None, environ: Mapping[str, str] | None = None
    ) -> None:
        """execve(2): become another program; `name` is a path, or a name that kernel/programs.py knows."""
        self._syscall()
        with self._unkillable():
            program = exec.execve(self, name, argv, environ)
        program.run(self)

    def exit(self: Task, status: int = 0) -> None:
        """exit_group(2): the process ends."""
        self._syscall()
        self.kernel.scheduler.charge(self, system_ns=Cost.EXIT)
        exit.do_group_exit(self, (status & 0xFF) << 8)

    def exit_thread(self: Task, status: int = 0) -> None:
        """exit(2): only this thread ends."""
        self._syscall()
        exit.do_exit(self, (status & 0xFF) << 8)

    def wait(self: Task, pid: int = -1, options: int = 0) -> tuple[int, int]:
        """wait4(2): (pid, status) of a child that died; (0, 0) if none did yet, ECHILD if there is none."""
        self._syscall()
        return exit.wait4(self, pid, options)

    def kill(self: Task, pid: int, sig: int) -> None:
        """kill(2)."""
        self._syscall()
        self.kernel.scheduler.charge(self, system_ns=Cost.SIGNAL)
        kill(self.kernel, pid, sig, self)

    def tgkill(self: Task, tgid: int, tid: int, sig: int) -> None:
        """tgkill(2)."""
        self._syscall()
        tgkill(self.kernel, tgid, tid, sig, self)

    def sigaction(self: Task, sig: int, action: Action) -> Action:
        """rt_sigaction(2): SIG_DFL, SIG_IGN or a function of task and signal; returns the old action."""
        self._syscall()
        return sigaction(self, sig, action)

    def sigprocmask(self: Task, mask: int) -> int:
        """rt_sigprocmask(SIG_SETMASK); returns the old mask."""
        self._syscall()
        return set_blocked(self, mask)
