"""`mmfs export`: the machine's tree as plain files, for whom a mount is too much.

Files get their modes, and as root their owners; symbolic links stay symbolic links. No simulated time passes while
the tree is written, so that the files agree with each other. A file that can only be written is there and empty. What
a plain file cannot hold is left out and named: files whose read fails, devices, and the binary ones that are as large
as an address space (pagemap, kpageflags).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mmfs.kernfs import ROOT, Binary
from mmfs.mount.errors import MountError

if TYPE_CHECKING:
    from mmfs.kernfs import Caller, Entry, Vfs

TEXT_LIMIT: Final = 64 << 20
BINARY_LIMIT: Final = 256 << 10
"""Files that are longer are left out."""
CHUNK: Final = 64 << 10


@dataclass
class Exported:
    """What was written, and what was not."""

    caller: Caller
    files: int = 0
    directories: int = 0
    symlinks: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)


def check_target(directory: str) -> None:
    """The target has to be new or an empty directory; raises MountError."""
    path = Path(directory)
    try:
        if path.exists() and not path.is_dir():
            raise MountError(f"{directory}: not a directory")
        if path.is_dir() and next(path.iterdir(), None) is not None:
            raise MountError(f"{directory}: not empty", "name a new directory")
        if not path.exists() and not path.parent.is_dir():
            raise MountError(f"{path.parent}: no such directory", f"mkdir -p {path.parent}")
    except OSError as error:
        raise MountError(f"{directory}: {error.strerror}") from error


def export_tree(vfs: Vfs, directory: str, caller: Caller = ROOT) -> Exported:
    """Write all that `caller` sees of `vfs` to `directory`; raises MountError if that cannot be written to."""
    done = Exported(caller)
    try:
        Path(directory).mkdir(exist_ok=True)
        _export(vfs.resolve("/"), Path(directory), "", done)
    except OSError as error:
        raise MountError(f"{error.filename or directory}: {error.strerror}") from error
    return done


def _export(entry: Entry, target: Path, name: str, done: Exported) -> None:
    """A directory and everything below it; its mode comes last, since it may forbid writing."""
    done.directories += 1
    for child, below in entry.readdir(done.caller):
        path = f"{name}/{child}"
        try:
            kind = stat.S_IFMT(below.stat(done.caller).mode)
        except OSError as error:
            done.skipped.append((path, error.strerror or str(error)))
            continue
        if kind == stat.S_IFDIR:
            (target / child).mkdir(0o700)
            _export(below, target / child, path, done)
        elif kind == stat.S_IFLNK:
            _export_symlink(below, target / child, path, done)
        elif kind == stat.S_IFREG:
            _export_file(below, target / child, path, done)
        else:
            done.skipped.append((path, "a device"))
    _adorn(target, entry, done)


def _export_symlink(entry: Entry, target: Path, path: str, done: Exported) -> None:
    try:
        leads_to = entry.readlink(done.caller)
    except OSError as error:
        done.skipped.append((path, error.strerror or str(error)))
        return
    target.symlink_to(leads_to)
    done.symlinks += 1


def _export_file(entry: Entry, target: Path, path: str, done: Exported) -> None:
    data = b""
    if entry.stat(done.caller).mode & 0o444:
        try:
            data = b"".join(_content(entry, done.caller))
        except OSError as error:
            done.skipped.append((path, error.strerror or str(error)))
            return
        if len(data) > _limit(entry):
            done.skipped.append((path, f"longer than {_limit(entry) >> 10} KB"))
            return
    target.write_bytes(data)
    _adorn(target, entry, done)
    done.files += 1


def _limit(entry: Entry) -> int:
    return BINARY_LIMIT if isinstance(entry.node, Binary) else TEXT_LIMIT


def _content(entry: Entry, caller: Caller) -> Iterator[bytes]:
    """The file in pieces, until its end or until it is too long."""
    file = entry.open(os.O_RDONLY | os.O_NONBLOCK, caller)
    try:
        offset = 0
        while offset <= _limit(entry) and (piece := file.read(CHUNK, offset)):
            offset += len(piece)
            yield piece
    finally:
        file.release()


def _adorn(target: Path, entry: Entry, done: Exported) -> None:
    """Owner and mode as the machine's file has them."""
    status = entry.stat(done.caller)
    if os.geteuid() == 0:
        os.chown(target, status.uid, status.gid)
    target.chmod(stat.S_IMODE(status.mode))
