"""/sim/control: a command a write(2), and the answer read back on the same open file.

    exec 3<> sim/control; echo "spawn hog anon=64M" >&3; read pid <&3

`spawn` starts the programs of mmfs/workload by name, and any other name as a process that only exists; `programs` lists
those that do something, `set` changes and `stop` ends them.

A command is a system call by its own name, the task that makes it, and its arguments. A command that cannot be
understood is EINVAL; a system call that fails has its own errno; one whose task dies of it (SIGSEGV, the OOM killer)
is EFAULT. In all cases the answer is the reason. `help` lists the commands, which stand in process.py and system.py
beside this file.

The words of a command are split as a shell does. Sizes are bytes or 64M, addresses may be 0x..., flags are
numbers or names joined by | or a comma, with or without their prefix (MAP_PRIVATE|MAP_ANONYMOUS, shared,anonymous), and
the rights of memory also letters: rw, rx, none.
"""

from __future__ import annotations

import errno
import os
import shlex
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from mmfs.fs.sim.root import sim
from mmfs.kernel.panic import KernelPanicError, check_panicked
from mmfs.kernel.signal import TaskKilled, TaskStopped
from mmfs.mm.mman import PROT_EXEC, PROT_READ, PROT_WRITE
from mmfs.sizes import parse_size
from mmfs.workload import WORKLOADS, Program
from mmfs.workload.parameters import parameters_of

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task
    from mmfs.kernfs import OpenFile

T = TypeVar("T")

PROT_LETTERS: Final = {"r": PROT_READ, "w": PROT_WRITE, "x": PROT_EXEC, "-": 0}
MAX_NUMBER: Final = (1 << 64) - 1
QUOTING: Final = frozenset("\"'\\")
"""What a shell's rules for words are needed for."""


class BadCommandError(ValueError):
    """A command that cannot be understood; its text is the answer."""


# -- words ---------------------------------------------------------------------------------------------------------


def number(text: str) -> int:
    """A number, decimal or 0x..."""
    try:
        value = int(text, 0)
    except ValueError:
        value = MAX_NUMBER + 1
    if not -MAX_NUMBER <= value <= MAX_NUMBER:
        raise BadCommandError(f"{text!r} is not a number")
    return value


def size(text: str) -> int:
    """Bytes: a number, 0x..., 64M."""
    if text[:2] in ("0x", "0X") or text == "0":
        return number(text)
    try:
        return parse_size(text)
    except ValueError as error:
        raise BadCommandError(str(error)) from None


def word(text: str) -> str:
    """Any text."""
    return text


def bits(prefix: str, names: Mapping[str, Any]) -> Callable[[str], int]:
    """Flags by the names that begin with `prefix` in a module, or a number."""
    known = {name[len(prefix) :]: value for name, value in names.items() if name.startswith(prefix)}

    def parse(text: str) -> int:
        if text[:1].isdigit():
            return number(text)
        value = 0
        for part in text.replace("|", ",").split(","):
            name = part.strip().upper().removeprefix(prefix)
            if name not in known:
                raise BadCommandError(f"{part!r} is none of {', '.join(sorted(known))}")
            value |= int(known[name])
        return value

    return parse


def protection(names: Mapping[str, Any]) -> Callable[[str], int]:
    """PROT_* by names, or as in maps: rw, r-x."""
    by_name = bits("PROT_", names)

    def parse(text: str) -> int:
        if text and all(letter in PROT_LETTERS for letter in text):
            return sum({PROT_LETTERS[letter] for letter in text})
        return by_name(text)

    return parse


class Words:
    """The words of a command, taken one by one; `end()` when all that may be there are taken."""

    def __init__(self, kernel: Kernel, words: list[str], options: set[str]) -> None:
        self.kernel = kernel
        self.positional: list[str] = []
        self.options: dict[str, str] = {}
        for one in words:
            name, equals, value = one.partition("=")
            if equals and name in options:
                self.options[name] = value
            else:
                self.positional.append(one)

    def take(self, what: str, parse: Callable[[str], T]) -> T:
        """The next word, which must be there."""
        if not self.positional:
            raise BadCommandError(f"{what} is missing")
        return self._parse(what, self.positional.pop(0), parse)

    def maybe(self, what: str, parse: Callable[[str], T], default: T) -> T:
        """The next word, if there is one."""
        return self._parse(what, self.positional.pop(0), parse) if self.positional else default

    def option(self, name: str, parse: Callable[[str], T], default: T) -> T:
        """NAME=VALUE, if it is there."""
        return self._parse(name, self.options.pop(name), parse) if name in self.options else default

    def flag(self, name: str) -> bool:
        """A word that is there or not."""
        if name in self.positional:
            self.positional.remove(name)
            return True
        return False

    def task(self) -> Task:
        """The next word is a pid."""
        pid = self.take("PID", number)
        task = self.kernel.tasks.get(pid)
        if task is None or not task.alive:
            raise OSError(errno.ESRCH, f"no process {pid}")
        return task

    def rest(self) -> list[str]:
        """All words that are left."""
        left, self.positional = self.positional, []
        return left

    def end(self) -> None:
        """There must be no more."""
        if self.positional:
            raise BadCommandError(f"{self.positional[0]!r} is one word too many")

    @staticmethod
    def _parse(what: str, text: str, parse: Callable[[str], T]) -> T:
        try:
            return parse(text)
        except BadCommandError as error:
            raise BadCommandError(f"{what}: {error}") from None


# -- commands ------------------------------------------------------------------------------------------------------

Answer = str | int | None
Function = Callable[["Kernel", Words], Answer | Generator[None, None, Answer]]
"""What does a command; if that may take long, in slices."""


@dataclass(frozen=True)
class Command:
    """One command: how it is written, what it does."""

    name: str
    usage: str
    function: Function

    @property
    def options(self) -> set[str]:
        """The names before = in the usage."""
        return {part.strip("[]").partition("=")[0] for part in self.usage.split() if "=" in part}

    @property
    def summary(self) -> str:
        """The first line of the function's docstring."""
        return (self.function.__doc__ or "").partition("\n")[0]


COMMANDS: Final[dict[str, Command]] = {}


def command(name: str, usage: str = "") -> Callable[[Function], Function]:
    """Decorator: a command by the name of a system call; `usage` names its words, options as [name=]."""

    def add(function: Function) -> Function:
        COMMANDS[name] = Command(name, usage, function)
        return function

    return add


def program_help(kind: type[Program]) -> str:
    """A program's parameters, each with its default."""
    rows = [f"    {f'{one.name}={one.default}':<24} {one.help}\n" for one in parameters_of(kind).values()]
    return f"spawn {kind.name}\n    {(kind.__doc__ or '').partition(chr(10))[0]}\n{''.join(rows)}"


@command("help", "[COMMAND | PROGRAM]")
def help_(kernel: Kernel, words: Words) -> str:
    """Tell how commands are written, or what a program that can be spawned is told."""
    wanted = words.maybe("COMMAND", word, "")
    words.end()
    if wanted in WORKLOADS:
        return program_help(WORKLOADS[wanted])
    if wanted and wanted not in COMMANDS:
        raise BadCommandError(f"no command {wanted!r}")
    shown = [COMMANDS[wanted]] if wanted else list(COMMANDS.values())
    text = "".join(f"{' '.join((one.name, one.usage)).rstrip()}\n    {one.summary}\n" for one in shown)
    return text if wanted else f"{text}programs to spawn: {', '.join(WORKLOADS)} (help PROGRAM tells more)\n"


def execute(kernel: Kernel, text: str) -> Generator[None, None, str]:
    """Do a command; returns its answer. BadCommandError, OSError, TaskKilled or TaskStopped if it could not be done."""
    check_panicked(kernel)
    try:
        name, *words = shlex.split(text) if QUOTING.intersection(text) else text.split()
    except ValueError as error:
        raise BadCommandError(str(error) if text.strip() else "no command, help lists them") from None
    found = COMMANDS.get(name)
    if found is None:
        raise BadCommandError(f"no command {name!r}, help lists them")
    try:
        answer = found.function(kernel, Words(kernel, words, found.options))
        if isinstance(answer, Generator):
            answer = yield from answer
    except BadCommandError as error:
        raise BadCommandError(f"{error}; usage: {' '.join((name, found.usage)).rstrip()}") from None
    if answer is None:
        return ""
    return f"{answer}\n" if isinstance(answer, int) else answer


# -- the file ------------------------------------------------------------------------------------------------------


@sim.attribute("control", mode=0o600, transaction=True, wants_file=True)
def control(kernel: Kernel, *, file: OpenFile) -> str:
    """The answer to the last command; before the first one, nothing."""
    answer: str = file.private or ""
    return answer


@control.store
def control_store(kernel: Kernel, buf: str, *, file: OpenFile) -> Generator[None, None, None]:
    """Do a command."""
    try:
        file.private = yield from execute(kernel, buf)
        return
    except BadCommandError as error:
        number, reason = errno.EINVAL, str(error)
    except OSError as error:
        number = error.errno or errno.EIO
        standard = os.strerror(number)
        reason = standard if error.strerror in (None, standard) else f"{standard}: {error.strerror}"
    except MemoryError as full:
        number, reason = errno.ENOMEM, str(full) or os.strerror(errno.ENOMEM)
    except KernelPanicError as panic:
        number, reason = errno.EIO, f"kernel panic: {panic}"
    except TaskKilled as killed:
        number, reason = errno.EFAULT, str(killed)
    except TaskStopped as stopped:
        number, reason = errno.EAGAIN, str(stopped)
    file.private = f"{reason}\n"
    raise OSError(number, os.strerror(number))
