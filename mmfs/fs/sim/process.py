"""Commands of /sim/control that a task makes: memory, processes, files.

Each is the system call of its name; the first word says who makes it.
"""

from __future__ import annotations

import errno
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from mmfs import workload
from mmfs.fs.sim.control import BadCommandError, Words, bits, command, number, protection, size, word
from mmfs.kernel import sched, signal
from mmfs.kernel.namei import O_CREAT, O_RDONLY, O_RDWR
from mmfs.kernel.signal import TaskKilled
from mmfs.kernel.socket import SO_RCVBUFFORCE
from mmfs.mm import mman
from mmfs.mm.ksm_contents import CONTENTS
from mmfs.mm_types import PAGE_SIZE
from mmfs.workload import WORKLOADS

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel

prot = protection(vars(mman))
map_flags = bits("MAP_", vars(mman))
mremap_flags = bits("MREMAP_", vars(mman))
mlock_flags = bits("MLOCK_", vars(mman))
mcl_flags = bits("MCL_", vars(mman))
advice = bits("MADV_", vars(mman))
rlimit = bits("RLIMIT_", vars(sched))
signal_number = bits("SIG", {name: value for name, value in vars(signal).items() if isinstance(value, int)})


# -- memory --------------------------------------------------------------------------------------------------------


@command("mmap", "PID SIZE [prot=] [flags=] [file=] [offset=] [addr=]")
def mmap(kernel: Kernel, words: Words) -> Generator[None, None, str]:
    """Map memory, or a file; answers the address."""
    task, length = words.task(), words.take("SIZE", size)
    file = words.option("file", word, "") or None
    default = mman.MAP_PRIVATE | (0 if file else mman.MAP_ANONYMOUS)
    rights = words.option("prot", prot, mman.PROT_READ | mman.PROT_WRITE)
    flags = words.option("flags", map_flags, default)
    if not flags & mman.MAP_TYPE:
        flags |= mman.MAP_PRIVATE
    if file is None:
        flags |= mman.MAP_ANONYMOUS
    offset, addr = words.option("offset", size, 0), words.option("addr", number, 0)
    words.end()
    where = yield from task.mmap_slices(length, rights, flags, file, offset, addr)
    return f"{where:#x}\n"


@command("munmap", "PID ADDR LENGTH")
def munmap(kernel: Kernel, words: Words) -> Generator[None, None, None]:
    """Unmap a range."""
    task, addr, length = words.task(), words.take("ADDR", number), words.take("LENGTH", size)
    words.end()
    yield from task.munmap_slices(addr, length)


@command("mprotect", "PID ADDR LENGTH PROT")
def mprotect(kernel: Kernel, words: Words) -> None:
    """Change the rights of a range."""
    task, addr, length = words.task(), words.take("ADDR", number), words.take("LENGTH", size)
    rights = words.take("PROT", prot)
    words.end()
    task.mprotect(addr, length, rights)


@command("madvise", "PID ADDR LENGTH ADVICE")
def madvise(kernel: Kernel, words: Words) -> None:
    """Say how a range will be used, or that it will not."""
    task, addr, length = words.task(), words.take("ADDR", number), words.take("LENGTH", size)
    what = words.take("ADVICE", advice)
    words.end()
    task.madvise(addr, length, what)


@command("contents", "PID ADDR LENGTH WHAT [number=]")
def contents(kernel: Kernel, words: Words) -> None:
    """Say what the pages of a range hold, for KSM: same or image (of a number), zero, unique, volatile, default."""
    task, addr, length = words.task(), words.take("ADDR", number), words.take("LENGTH", size)
    what, which = words.take("WHAT", word), words.option("number", number, 0)
    words.end()
    if what not in CONTENTS:
        raise BadCommandError(f"{what!r} is not one of {' '.join(CONTENTS)}")
    task.set_contents(addr, length, what, which)


@command("mremap", "PID ADDR OLD_LENGTH NEW_LENGTH [flags=] [addr=]")
def mremap(kernel: Kernel, words: Words) -> str:
    """Grow, shrink or move a mapping; answers where it is then."""
    task, addr = words.task(), words.take("ADDR", number)
    old, new = words.take("OLD_LENGTH", size), words.take("NEW_LENGTH", size)
    flags, new_addr = words.option("flags", mremap_flags, mman.MREMAP_MAYMOVE), words.option("addr", number, 0)
    words.end()
    return f"{task.mremap(addr, old, new, flags, new_addr):#x}\n"


@command("mlock", "PID ADDR LENGTH [flags=]")
def mlock(kernel: Kernel, words: Words) -> Generator[None, None, None]:
    """Keep a range in memory."""
    task, addr, length = words.task(), words.take("ADDR", number), words.take("LENGTH", size)
    flags = words.option("flags", mlock_flags, 0)
    words.end()
    yield from task.mlock_slices(addr, length, flags)


@command("munlock", "PID ADDR LENGTH")
def munlock(kernel: Kernel, words: Words) -> Generator[None, None, None]:
    """Keep it no longer."""
    task, addr, length = words.task(), words.take("ADDR", number), words.take("LENGTH", size)
    words.end()
    yield from task.munlock_slices(addr, length)


@command("mlockall", "PID [FLAGS]")
def mlockall(kernel: Kernel, words: Words) -> None:
    """Keep all memory of the process, now and later unless FLAGS say otherwise."""
    task, flags = words.task(), words.maybe("FLAGS", mcl_flags, mman.MCL_CURRENT | mman.MCL_FUTURE)
    words.end()
    task.mlockall(flags)


@command("munlockall", "PID")
def munlockall(kernel: Kernel, words: Words) -> None:
    """Keep none of it."""
    task = words.task()
    words.end()
    task.munlockall()


@command("brk", "PID [ADDR]")
def brk(kernel: Kernel, words: Words) -> str:
    """Move the end of the heap; answers where it is."""
    task, addr = words.task(), words.maybe("ADDR", number, 0)
    words.end()
    return f"{task.brk(addr):#x}\n"


@command("touch", "PID ADDR [LENGTH] [write] [stride=]")
def touch(kernel: Kernel, words: Words) -> Generator[None, None, None]:
    """Read memory, or write it: one byte every STRIDE of a range, a page if none is given."""
    write = words.flag("write")
    task, addr, length = words.task(), words.take("ADDR", number), words.maybe("LENGTH", size, 1)
    stride = words.option("stride", size, PAGE_SIZE)
    words.end()
    if stride <= 0 or length <= 0 or addr < 0:
        raise BadCommandError("a range and a stride are above zero")
    yield from task.touch_slices(addr, length, write, stride)


# -- processes -----------------------------------------------------------------------------------------------------


@command("spawn", "NAME [uid=] [gid=] [oom_score_adj=] [cgroup=] [nice=] [cwd=] [parent=] [anon=] [ARG...]")
def spawn(kernel: Kernel, words: Words) -> Generator[None, None, int]:
    """Start a program that does something (see help PROGRAM), or one that only exists and has ANON bytes of memory.

    Answers its pid.
    """
    name = words.take("NAME", word)
    anon_text = words.option("anon", word, "")
    uid, gid = words.option("uid", number, 0), words.option("gid", number, -1)
    adj, nice = words.option("oom_score_adj", number, 0), words.option("nice", number, 0)
    cgroup, cwd = words.option("cgroup", word, "/"), words.option("cwd", word, "/")
    parent = words.option("parent", number, 0)
    arguments = words.rest()
    if not 0 <= uid <= 0xFFFFFFFE or not -1 <= gid <= 0xFFFFFFFE:
        raise BadCommandError("uid and gid are numbers below 4294967295")
    if parent and (parent not in kernel.tasks or not kernel.tasks[parent].alive):
        raise OSError(errno.ESRCH, f"no process {parent}")
    options = {
        "uid": uid, "gid": None if gid < 0 else gid, "oom_score_adj": adj, "cgroup": cgroup, "nice": nice, "cwd": cwd,
        "parent": kernel.tasks[parent] if parent else None,
    }  # fmt: skip
    if name in WORKLOADS:
        texts = pairs([*arguments, *([f"anon={anon_text}"] if anon_text else [])])
        return (yield from start_program(kernel, name, texts, options))
    anon = size(anon_text) if anon_text else 0
    task = kernel.spawn(name, argv=[name, *arguments] if arguments else None, **options)
    if anon:
        yield from task.touch_slices(task.mmap(anon), anon, write=True)
    return task.pid


def pairs(words: list[str]) -> dict[str, str]:
    """NAME=VALUE words as a dictionary."""
    found = {}
    for text in words:
        name, equals, value = text.partition("=")
        if not equals:
            raise BadCommandError(f"{text!r} is not NAME=VALUE")
        found[name] = value
    return found


def start_program(
    kernel: Kernel, name: str, texts: dict[str, str], options: dict[str, Any]
) -> Generator[None, None, int]:
    """Start a program of mmfs/workload and let it take what it takes at the start."""
    try:
        program = workload.spawn(kernel, name, texts, **options)
    except ValueError as error:
        raise BadCommandError(str(error)) from None
    if not kernel.clock.running:
        yield from program.settle_slices()
    if not program.task.alive:
        raise TaskKilled(program.task, program.task.exit_code & 0x7F)
    return program.task.pid


def named_program(kernel: Kernel, words: Words) -> workload.Program:
    """The next word is the pid of a program that does something."""
    task = words.task()
    program = workload.programs_of(kernel).get(task)
    if program is None or not program.name:
        raise OSError(errno.ESRCH, f"{task.pid} runs no program, programs lists them")
    return program


@command("programs")
def programs(kernel: Kernel, words: Words) -> str:
    """List the programs that run, with their parameters and how far they are, and how the last ones ended."""
    words.end()
    running = workload.programs_of(kernel)
    lines = [f"{one.task.pid} {one.name} {one.parameters()}: {one.progress()}" for one in running.running()]
    lines += [f"{ended.pid or '-'} {ended.name}: {ended.how}" for ended in running.ended]
    return "".join(f"{line}\n" for line in lines)


@command("set", "PID NAME=VALUE...")
def set_(kernel: Kernel, words: Words) -> None:
    """Change parameters of a program while it runs."""
    program = named_program(kernel, words)
    try:
        program.set(pairs(words.rest()))
    except ValueError as error:
        raise BadCommandError(str(error)) from None


@command("stop", "PID")
def stop(kernel: Kernel, words: Words) -> None:
    """End a program and the processes that it has started, with SIGTERM."""
    program = named_program(kernel, words)
    words.end()
    workload.stop(program)


@command("fork", "PID")
def fork(kernel: Kernel, words: Words) -> int:
    """Copy the process; answers the child's pid."""
    task = words.task()
    words.end()
    return task.fork().pid


@command("pthread_create", "PID [NAME]")
def pthread_create(kernel: Kernel, words: Words) -> int:
    """Start a thread as the C library does, with a stack and an arena; answers its number."""
    task, name = words.task(), words.maybe("NAME", word, "")
    words.end()
    return task.pthread_create(name or None).pid


@command("execve", "PID NAME [ARG...]")
def execve(kernel: Kernel, words: Words) -> None:
    """Become another program."""
    task, name = words.task(), words.take("NAME", word)
    arguments = words.rest()
    task.execve(name, [name, *arguments] if arguments else None)


@command("exit", "PID [STATUS]")
def exit_(kernel: Kernel, words: Words) -> None:
    """End the process."""
    task, status = words.task(), words.maybe("STATUS", number, 0)
    words.end()
    task.exit(status)


@command("wait", "PID [CHILD]")
def wait(kernel: Kernel, words: Words) -> str:
    """Collect a child that has ended; answers its pid and status, 0 0 if none has."""
    task, child = words.task(), words.maybe("CHILD", number, -1)
    words.end()
    pid, status = task.wait(child)
    return f"{pid} {status}\n"


@command("setrlimit", "PID RESOURCE SOFT [HARD]")
def setrlimit(kernel: Kernel, words: Words) -> None:
    """Set a limit such as AS or MEMLOCK; -1 is none."""

    def limit(text: str) -> int:
        return -1 if text in ("-1", "unlimited") else size(text)

    task, resource, soft = words.task(), words.take("RESOURCE", rlimit), words.take("SOFT", limit)
    hard = words.maybe("HARD", limit, -2)
    words.end()
    task.setrlimit(resource, soft, None if hard == -2 else hard)


# -- files ---------------------------------------------------------------------------------------------------------


@command("read", "PID FILE [OFFSET] [LENGTH]")
def read(kernel: Kernel, words: Words) -> Generator[None, None, int]:
    """Open a file, read a part or all of it, close it; answers how many bytes there were."""
    task, path = words.task(), words.take("FILE", word)
    offset, length = words.maybe("OFFSET", size, 0), words.maybe("LENGTH", size, -1)
    words.end()
    descriptor = task.open(path, O_RDONLY)
    try:
        inode = kernel.namei.lookup(path)
        count = inode.size if length < 0 and inode is not None else max(length, 0)
        return (yield from task.read_slices(descriptor, count, offset))
    finally:
        if task.alive:
            task.close(descriptor)


@command("write", "PID FILE OFFSET LENGTH")
def write(kernel: Kernel, words: Words) -> Generator[None, None, int]:
    """Open a file, write a part of it, close it; answers how many bytes were taken."""
    task, path = words.task(), words.take("FILE", word)
    offset, length = words.take("OFFSET", size), words.take("LENGTH", size)
    words.end()
    descriptor = task.open(path, O_RDWR | O_CREAT)
    try:
        return (yield from task.write_slices(descriptor, length, offset))
    finally:
        if task.alive:
            task.close(descriptor)


@command("open", "PID FILE")
def open_(kernel: Kernel, words: Words) -> int:
    """Open a file, and make it if there is none; answers the descriptor."""
    task, path = words.task(), words.take("FILE", word)
    words.end()
    return task.open(path, O_RDWR | O_CREAT)


@command("close", "PID FD")
def close(kernel: Kernel, words: Words) -> None:
    """Close a file, or a socket."""
    task, fd = words.task(), words.take("FD", number)
    words.end()
    task.close(fd)


@command("dup2", "PID FD NEW_FD")
def dup2(kernel: Kernel, words: Words) -> int:
    """Give an open file one more descriptor; the table of files grows with the number."""
    task, old, new = words.task(), words.take("FD", number), words.take("NEW_FD", number)
    words.end()
    return task.dup2(old, new)


@command("socket", "PID [room=]")
def socket(kernel: Kernel, words: Words) -> int:
    """Make a datagram socket that is its own peer; answers the descriptor. ROOM sets its buffer (SO_RCVBUFFORCE)."""
    task, room = words.task(), words.option("room", size, 0)
    words.end()
    fd = task.socket()
    if room:
        task.setsockopt(fd, SO_RCVBUFFORCE, room)
    return fd


@command("send", "PID FD LENGTH [times=]")
def send(kernel: Kernel, words: Words) -> None:
    """Put a datagram into a socket, where it waits to be received, or several; what has no room is dropped."""
    task, fd, length = words.task(), words.take("FD", number), words.take("LENGTH", size)
    times = words.option("times", number, 1)
    words.end()
    for _ in range(times):
        task.send(fd, length)


@command("recv", "PID FD [times=]")
def recv(kernel: Kernel, words: Words) -> int:
    """Take a datagram out of a socket, or several; answers the length of the last."""
    task, fd, times = words.task(), words.take("FD", number), words.option("times", number, 1)
    words.end()
    length = 0
    for _ in range(times):
        length = task.recv(fd)
    return length


@command("unlink", "PID FILE")
def unlink(kernel: Kernel, words: Words) -> None:
    """Take a file's name away."""
    task, path = words.task(), words.take("FILE", word)
    words.end()
    task.unlink(path)


@command("kill", "PID [SIGNAL]")
def kill(kernel: Kernel, words: Words) -> None:
    """Send a process a signal, as root; SIGTERM if none is named."""
    pid, sig = words.take("PID", number), words.maybe("SIGNAL", signal_number, int(signal.SIGTERM))
    words.end()
    kernel.kill(pid, sig)
