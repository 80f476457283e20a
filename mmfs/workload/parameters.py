"""What a program can be told: parameters with a name, a way to write them, a default and a line of help.

A parameter is declared in the class of its program and read as an attribute:

    class Leak(Program):
        anon = Parameter(rate, "10M/s", "how fast it grows")
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, overload

from mmfs.kernel.clock import NSEC_PER_SEC, UNITS, parse_duration
from mmfs.sizes import parse_size

if TYPE_CHECKING:
    from mmfs.workload.program import Program

T = TypeVar("T")

PER: Final = {name: nsec for name, nsec in UNITS.items() if name}


class Parameter(Generic[T]):
    """One parameter of a program; its value is made of text by `parse`, which raises ValueError."""

    def __init__(self, parse: Callable[[str], T], default: str, help: str) -> None:
        self.parse = parse
        self.default = default
        self.help = help
        self.name = ""

    def __set_name__(self, owner: type[Program], name: str) -> None:
        self.name = name

    @overload
    def __get__(self, program: None, owner: type[Program]) -> Parameter[T]: ...

    @overload
    def __get__(self, program: Program, owner: type[Program]) -> T: ...

    def __get__(self, program: Program | None, owner: type[Program]) -> Parameter[T] | T:
        if program is None:
            return self
        value: T = program.values[self.name]
        return value


def parameters_of(kind: type[Program]) -> dict[str, Parameter[Any]]:
    """A program's parameters by name, in the order in which they are declared."""
    return {name: value for name, value in vars(kind).items() if isinstance(value, Parameter)}


def parse_parameters(kind: type[Program], texts: Mapping[str, str]) -> dict[str, Any]:
    """Values of those that are given; ValueError says which one is wrong, or which there are."""
    known = parameters_of(kind)
    values = {}
    for name, text in texts.items():
        if name not in known:
            names = ", ".join(known) or "none"
            raise ValueError(f"{kind.name} has no parameter {name!r} (known: {names})")
        try:
            values[name] = known[name].parse(str(text))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return values


# ---- ways to write a value --------------------------------------------------------------------------------------


def size(text: str) -> int:
    """Bytes: 64M, 4096; 0 is none."""
    return 0 if text == "0" else parse_size(text)


def _per_second(text: str, amount: Callable[[str], int], example: str) -> int:
    quantity, slash, per = text.partition("/")
    if slash and per not in PER:
        raise ValueError(f"{text!r} is not a rate such as {example}")
    return amount(quantity) * NSEC_PER_SEC // (PER[per] if slash else NSEC_PER_SEC)


def rate(text: str) -> int:
    """Bytes a second: 100M/s, 6G/h; 0 is none."""
    return _per_second(text, size, "100M/s")


def frequency(text: str) -> int:
    """How often a second: 50/s, 600/min."""
    return _per_second(text, count, "50/s")


def count(text: str) -> int:
    """A number from 0 on."""
    if not (text.isascii() and text.isdecimal()) or len(text) > 12:
        raise ValueError(f"{text!r} is not a number")
    return int(text)


def positive(text: str) -> int:
    """A number above zero."""
    number = count(text)
    if not number:
        raise ValueError("not above zero")
    return number


def duration(text: str) -> int:
    """Nanoseconds: 5s, 100ms."""
    return parse_duration(text)


def share(text: str) -> float:
    """A part of the whole: 20%, 0.2."""
    number, percent = (text[:-1], 100) if text.endswith("%") else (text, 1)
    try:
        value = float(number) / percent
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise ValueError(f"{text!r} is not a share such as 20%")
    return value


def skew(text: str) -> float:
    """How much the most popular pages stand out: the exponent of a Zipf distribution."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 4:
        raise ValueError(f"{text!r} is not an exponent from 0 to 4")
    return value


def path(text: str) -> str:
    """An absolute path."""
    if not text.startswith("/"):
        raise ValueError(f"{text!r} does not begin with /")
    return text


def one_of(*words: str) -> Callable[[str], str]:
    """One of some words."""

    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(f"{text!r} is none of {', '.join(words)}")
        return text

    return parse


yes_or_no: Final = one_of("yes", "no")
