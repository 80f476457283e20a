"""The processes of the machine that this runs on, with their names, parents, users, threads, RSS and VSZ.

What psutil tells of each process is made by really mapping and touching: the shared part of its resident memory is
a private mapping of its program's file, the rest is anonymous memory, and what is mapped but not resident makes up
the size. Numbers are rounded to pages. Processes keep their numbers where they are free here; kernel threads are
those of the simulated kernel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import psutil  # type: ignore[import-untyped, unused-ignore]

from mmfs.kernel import fork
from mmfs.kernel.exec import ExecImage
from mmfs.kernel.presets.kthreads import start_root_file_system
from mmfs.kernel.programs import Program
from mmfs.kernel.sched import CLONE_PTHREAD, CLONE_VFORK, CLONE_VM, DEFAULT_PRIO, PF_FORKNOEXEC, PF_RANDOMIZE
from mmfs.kernel.signal import SIGCHLD, SIGTERM, exit_on_signal, reap_children
from mmfs.mm.mman import MAP_ANONYMOUS, MAP_NORESERVE, MAP_PRIVATE, PROT_EXEC, PROT_READ, PROT_WRITE
from mmfs.mm.mmap_layout import arch_pick_mmap_layout, randomize_stack_top
from mmfs.mm.special_mapping import map_vdso, setup_arg_pages
from mmfs.mm_types import PAGE_MASK, PAGE_SIZE

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task

MAX_TITLE: Final = 4000
ATTRIBUTES: Final = (
    "pid", "ppid", "name", "cmdline", "exe", "uids", "gids", "nice", "num_threads", "memory_info", "create_time",
)  # fmt: skip


@dataclass(frozen=True)
class HostProcess:
    """What is told of a process."""

    pid: int
    ppid: int
    name: str
    cmdline: tuple[str, ...]
    exe: str
    uid: int
    gid: int
    nice: int
    threads: int
    rss: int
    shared: int
    vms: int


def host_processes() -> list[HostProcess]:
    """The host's processes without its kernel threads, parents before their children."""
    found = []
    for process in psutil.process_iter(ATTRIBUTES):
        info = process.info
        memory = info["memory_info"]
        if memory is None or memory.vms == 0:
            continue
        uids, gids = info["uids"], info["gids"]
        found.append(
            HostProcess(
                info["pid"], info["ppid"] or 0, info["name"] or "?", tuple(info["cmdline"] or (info["name"] or "?",)),
                info["exe"] or f"/usr/bin/{info['name']}", uids.real if uids else 0, gids.real if gids else 0,
                info["nice"] or 0, info["num_threads"] or 1, memory.rss, min(getattr(memory, "shared", 0), memory.rss),
                memory.vms,
            )
        )  # fmt: skip
    found.sort(key=lambda process: process.pid)
    return _parents_first(found)


def _parents_first(processes: list[HostProcess]) -> list[HostProcess]:
    """Order a list so that whoever is in it comes after its parent."""
    waiting = {process.pid: process for process in processes}
    order: list[HostProcess] = []

    def visit(process: HostProcess) -> None:
        if waiting.pop(process.pid, None) is None:
            return
        if process.ppid in waiting:
            visit(waiting[process.ppid])
        order.append(process)

    for process in processes:
        visit(process)
    return order


class HostMachine:
    """The host's processes, made again here."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.tasks: dict[int, Task] = {}
        """By the host's number."""

    def start(self, processes: list[HostProcess]) -> None:
        """init becomes the host's process 1 (or the first without a parent), the others follow."""
        start_root_file_system(self.kernel)
        init = self.kernel.tasks[1]
        for number, process in enumerate(processes):
            if number == 0:
                self.tasks[process.pid] = init
                self.become(init, process)
                init.sighand.actions[SIGCHLD] = reap_children
            else:
                self.add(process)
        if not processes:
            init.execve("/sbin/init")
        for process in processes:  # now that every process has its own number
            for _ in range(process.threads - 1):
                fork.kernel_clone(self.tasks[process.pid], CLONE_PTHREAD, 0)

    def add(self, process: HostProcess) -> None:
        """One process, child of its parent (of init, if that is not here)."""
        parent = self.tasks.get(process.ppid, self.kernel.tasks[1])
        pids = self.kernel.tasks.pids
        if process.pid not in self.kernel.tasks and 1 < process.pid < pids.pid_max:
            pids.last_pid = process.pid - 1
        task = fork.kernel_clone(parent, CLONE_VM | CLONE_VFORK)
        self.tasks[process.pid] = task
        self.kernel.tasks.commit_creds(task, task.cred.become(process.uid, process.gid))
        task.sighand.flush_handlers()
        task.sighand.actions[SIGTERM] = exit_on_signal
        self.become(task, process)
        task.set_session(task.pid)

    def become(self, task: Task, process: HostProcess) -> None:
        """Give a task the name and the memory of a process of the host."""
        mm = fork.mm_alloc(task)
        old, task.mm = task.mm, mm
        if old is not None:
            fork.mmput(old, task)
        fork.vfork_done(task)
        task.flags = task.flags & ~PF_FORKNOEXEC | PF_RANDOMIZE
        arch_pick_mmap_layout(mm, self.kernel.tasks.rng, task.rlimit(3))
        top = randomize_stack_top(mm)
        cmdline = b"".join(word.encode(errors="replace") + b"\0" for word in process.cmdline)[:MAX_TITLE]
        mm.env_end = mm.env_start = mm.arg_end = top - 8
        mm.arg_start = top - 8 - len(cmdline)
        mm.start_stack = mm.arg_start - 512 & ~15
        setup_arg_pages(mm, top, (top - (mm.arg_start & PAGE_MASK)) // PAGE_SIZE)
        map_vdso(mm)
        program = Program(process.name, "static", process.exe)
        task.exec_image = ExecImage(process.exe, program, cmdline, b"", b"")
        task.comm = process.name[:15]
        task.static_prio = DEFAULT_PRIO + min(max(process.nice, -20), 19)
        self.fill(task, process)

    def fill(self, task: Task, process: HostProcess) -> None:
        """Map and touch as much as the process has."""
        mm = task.mm
        assert mm is not None
        stack = (mm.env_end - (mm.start_stack & PAGE_MASK)) // PAGE_SIZE + 1
        task.touch(mm.start_stack & PAGE_MASK, stack * PAGE_SIZE, write=True)
        shared = process.shared & PAGE_MASK
        private = max((process.rss & PAGE_MASK) - shared - (mm.rss * PAGE_SIZE), 0)
        if shared:
            file = self.kernel.namei.open(process.exe, create_size=shared)
            if file.inode.size < shared:
                file.inode.truncate(shared)
            text = task.mmap(shared, PROT_READ | PROT_EXEC, MAP_PRIVATE, file=file)
            mm.exe_file = file
            task.touch(text, shared)
            file.put()
        rest = (process.vms & PAGE_MASK) - mm.total_vm * PAGE_SIZE
        size = max(rest, private)
        if size > 0:
            flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE
            start = task.mmap(size, PROT_READ | PROT_WRITE, flags)
            if private:
                task.touch(start + size - private, private, write=True)


def start(kernel: Kernel) -> None:
    """Make the host's processes here."""
    HostMachine(kernel).start(host_processes())
