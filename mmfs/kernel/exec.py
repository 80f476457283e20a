"""execve(2): a task becomes another program.

A new address space is filled by the ELF loader (`binfmt_elf`), the old one goes, other threads of the process die,
caught signals return to their defaults, files marked close-on-exec are closed. Then the program runs: ld.so maps and
relocates the libraries, and the program allocates and touches what its entry in `kernel/programs.py` says, through
the same page faults as everything else. A program that nobody described runs as a small static binary.

Linux: fs/exec.c.

Simplified: set-user-id bits and scripts are not looked at; a path need not exist before it is executed.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mmfs.kernel import binfmt_elf, fork
from mmfs.kernel.cputime import Cost
from mmfs.kernel.elf_images import INTERPRETERS, ElfImage, elf_image, libraries
from mmfs.kernel.exit import do_exit
from mmfs.kernel.programs import Program, find_program
from mmfs.kernel.sched import PF_FORKNOEXEC, PF_RANDOMIZE, RLIMIT_STACK, TASK_COMM_LEN
from mmfs.kernel.signal import SIGCHLD
from mmfs.mm.fault import Fault
from mmfs.mm.mmap_layout import arch_pick_mmap_layout

if TYPE_CHECKING:
    from mmfs.kernel.cred import Cred
    from mmfs.kernel.task import Task
    from mmfs.mm.inode import File
    from mmfs.mm.mm_struct import MmStruct

MAX_ARG_STRLEN: Final = 128 << 10
ARG_MAX: Final = 128 << 10
STK_LIM: Final = 8 << 20
TLS_BYTES: Final = 12 << 10
DEFAULT_ENVIRON: Final = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "PWD": "/",
}


@dataclass(frozen=True, slots=True)
class ExecImage:
    """What a process runs, and what it was told: /proc/PID/exe, cmdline, environ, auxv."""

    path: str
    program: Program
    cmdline: bytes
    environ: bytes
    auxv: bytes


@dataclass(slots=True)
class LinuxBinprm:
    """A program on its way to be run. Linux: include/linux/binfmts.h, struct linux_binprm."""

    mm: MmStruct
    image: ElfImage
    filename: bytes
    cmdline: bytes
    environ: bytes
    argc: int
    envc: int
    cred: Cred
    exec_addr: int = 0


def _join(strings: Sequence[str | bytes]) -> bytes:
    """Strings as they lie in memory, each ended by a NUL; E2BIG if one is too long."""
    encoded = [text.encode() if isinstance(text, str) else text for text in strings]
    if any(len(text) >= MAX_ARG_STRLEN for text in encoded):
        raise OSError(errno.E2BIG, "an argument is longer than MAX_ARG_STRLEN")
    return b"".join(text + b"\0" for text in encoded)


def _check_size(task: Task, nr_bytes: int, nr_pointers: int) -> None:
    """The arguments may fill a quarter of the stack. Linux: fs/exec.c, bprm_stack_limits()."""
    limit = max(min(STK_LIM // 4 * 3, task.rlimit(RLIMIT_STACK) // 4), ARG_MAX)
    if nr_bytes + nr_pointers * 8 > limit:
        raise OSError(errno.E2BIG, "arguments and environment are too long")


def execve(
    task: Task,
    name: str,
    argv: Sequence[str | bytes] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Started:
    """Run the program `name` (a path, or a name that is looked up in `kernel/programs.py`) in `task`.

    Linux: fs/exec.c, do_execveat_common(), bprm_execve().
    """
    if not name or len(name) > 4095:
        raise OSError(errno.ENOENT if not name else errno.ENAMETOOLONG, "not the path of a program")
    program = find_program(name)
    arguments = list(argv) if argv is not None else list(program.argv or (name,))
    variables = [f"{key}={value}" for key, value in (DEFAULT_ENVIRON if environ is None else environ).items()]
    path = name if name.startswith("/") else program.path
    cmdline, env = _join(arguments), _join(variables)
    _check_size(task, len(cmdline) + len(env), len(arguments) + len(variables))
    file = task.kernel.namei.open_exec(program, path)
    interpreter = None
    machine = task.kernel.profile.arch.machine
    image = elf_image(program.image, machine)
    if image.has_interpreter:
        interpreter = task.kernel.namei.open_image(elf_image(INTERPRETERS[machine], machine))
    bprm = LinuxBinprm(
        fork.mm_alloc(task), image, path.encode(), cmdline, env, len(arguments), len(variables), task.cred
    )
    try:
        layout = _load(task, bprm, file, interpreter)
    except OSError:
        fork.mmput(bprm.mm, task)
        raise
    finally:
        file.put()
        if interpreter is not None:
            interpreter.put()
    _begin_new_exec(task, bprm)
    task.exec_image = ExecImage(file.path, program, cmdline, env, bprm.mm.saved_auxv)
    task.comm = (path.rpartition("/")[2] if name.startswith("/") else program.name)[: TASK_COMM_LEN - 1]
    task.kernel.scheduler.charge(task, system_ns=Cost.EXEC)
    return Started(layout)


def _load(task: Task, bprm: LinuxBinprm, file: File, interpreter: File | None) -> binfmt_elf.Layout:
    """Choose the layout of the new address space and fill it. Linux: setup_new_exec(), load_elf_binary()."""
    mm = bprm.mm
    mm.randomize = task.kernel.sysctl.randomize_va_space > 0
    mm.exe_file = file
    arch_pick_mmap_layout(mm, task.kernel.tasks.rng, task.rlimit(RLIMIT_STACK))
    try:
        return binfmt_elf.load_elf_binary(bprm, file, interpreter)
    except Fault as fault:
        raise OSError(errno.ENOMEM, "no memory for the new program's stack") from fault


def _begin_new_exec(task: Task, bprm: LinuxBinprm) -> None:
    """The point of no return: the old program goes. Linux: fs/exec.c, begin_new_exec()."""
    _de_thread(task)
    old, task.mm = task.mm, bprm.mm
    task.kernel.tasks.proc_flush_pid(task.pid)
    if old is not None:
        task.signal.maxrss = max(task.signal.maxrss, old.rss)
        fork.mmput(old, task)
    fork.vfork_done(task)
    if task.numa is not None:
        task.numa.forget()
    task.flags &= ~PF_FORKNOEXEC
    if bprm.mm.randomize:
        task.flags |= PF_RANDOMIZE
    task.exit_signal = SIGCHLD
    _unshare(task)
    task.sighand.flush_handlers()
    task.full_name = None


def _de_thread(task: Task) -> None:
    """Kill the other threads; the caller takes the leader's number. Linux: fs/exec.c, de_thread()."""
    leader = task.group_leader
    for thread in list(task.signal.threads):
        if thread is not task and thread is not leader:
            do_exit(thread, 9)
    if task is leader:
        return
    _exchange_tids(task, leader)
    do_exit(leader, 9)


def _exchange_tids(task: Task, leader: Task) -> None:
    """Make `task` the first thread of its process in all respects. Linux: de_thread(), exchange_tids()."""
    kernel = task.kernel
    tid, pid = task.pid, leader.pid
    task.signal.threads.remove(task)
    task.signal.threads.append(task)
    for cgroup in task.cset:
        del cgroup.tasks[tid]
    for cgroup in leader.cset:
        del cgroup.tasks[pid]
    kernel.tasks.detach(task)
    leader.pid = tid
    kernel.tasks.swap(leader, task, pid)
    task.children, leader.children = leader.children, []
    for child in task.children:
        for thread in child.signal.threads:
            thread.parent = task
    task.parent, parent = leader.parent, leader.parent
    if parent is not None:
        parent.children[parent.children.index(leader)] = task
    task.exit_signal, leader.exit_signal = leader.exit_signal, -1
    task.group_leader = leader.group_leader = task
    task.start_time_ns = leader.start_time_ns


def _unshare(task: Task) -> None:
    """Stop sharing the signal table and the files with who cloned us. Linux: unshare_sighand(), unshare_files()."""
    slab = task.kernel.slab
    if task.sighand.count > 1:
        task.sighand.count -= 1
        task.sighand = task.sighand.copy()
        task.sighand.obj = slab.alloc("sighand_cache", force=True)
    files = task.files
    if files is not None and files.count > 1:
        files.count -= 1
        task.files = files.copy()
        task.files.obj = slab.alloc("files_cache", force=True)
    if task.files is not None:
        task.files.close_files(only_cloexec=True)


@dataclass(frozen=True, slots=True)
class Started:
    """A program that has been loaded and is about to run its first instruction."""

    layout: binfmt_elf.Layout

    def run(self, task: Task) -> None:
        """ld.so and the program's own start, in user mode. The pages it takes are charged to the task."""
        assert task.exec_image is not None
        program, image, layout = task.exec_image.program, self.layout.image, self.layout
        machine = task.kernel.profile.arch.machine
        with task.running() as mm:
            binfmt_elf.link_object(mm, image, layout.load_bias, program.share_of(image))
            if image.has_interpreter:
                binfmt_elf.link_object(mm, elf_image(INTERPRETERS[machine], machine), layout.interp_base, 1.0)
                for library in libraries(program.image, machine):
                    file = task.kernel.namei.open_image(library)
                    bias = binfmt_elf.map_library(mm, file, library)
                    file.put()
                    binfmt_elf.link_object(mm, library, bias, program.share_of(library))
                binfmt_elf.map_tls(mm, TLS_BYTES)
        program.start(task)
