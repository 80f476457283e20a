"""/proc/sys: the directory of the tunables.

Linux: fs/proc/proc_sysctl.c; names are listed by letter, and a directory has one link.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from mmfs.kernfs import SYSCTL, Attribute, Directory
from mmfs.kernfs.sysctl import Parser, sysctl
from mmfs.profile import Needs

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel


def one(_: object) -> int:
    """Links of a directory below /proc/sys."""
    return 1


def sysctl_directory() -> Directory[Kernel]:
    """An empty directory of tunables."""
    return Directory(rules=SYSCTL, nlink=one)


def tunable(
    owner: Callable[[Kernel], Any],
    name: str,
    parser: Parser,
    after: Callable[[Kernel, Any], object] | None = None,
    *,
    field: str | None = None,
    mode: int = 0o644,
    needs: Needs | None = None,
) -> Attribute[Kernel]:
    """A row for a field of one of the kernel's objects; `after(kernel, old)` follows a write."""
    attribute = field or name.replace("-", "_")

    def load(kernel: Kernel) -> Any:
        return getattr(owner(kernel), attribute)

    def save(kernel: Kernel, value: Any) -> None:
        setattr(owner(kernel), attribute, value)

    return sysctl(name, parser, get=load, set=save, after=after, mode=mode, needs=needs)


def fact(name: str, show: Callable[[Kernel], str], needs: Needs | None = None) -> Attribute[Kernel]:
    """A row that can only be read."""
    return Attribute(name, show, one_read=True, needs=needs)


def register_sysctl(directory: Directory[Kernel], rows: Iterable[Attribute[Any]]) -> None:
    """Put a table of rows into a directory. Linux: fs/proc/proc_sysctl.c, register_sysctl()."""
    for row in rows:
        directory.add(row)
    _sort(directory)


def mount(directory: Directory[Kernel], name: str, inner: Directory[Kernel]) -> None:
    """Put a directory into another."""
    directory.mount(name, inner)
    _sort(directory)


def _sort(directory: Directory[Kernel]) -> None:
    directory.content.sort(key=lambda node: getattr(node, "name", ""))


sys = sysctl_directory()
