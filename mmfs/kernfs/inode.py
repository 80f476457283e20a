"""Attributes of an entry that were changed from outside: mode, owner, extended attributes.

A directory template with `iattrs` lets these be changed of it and of the files in it; what was
changed is kept with the object, so it goes when the object does.

Linux: fs/kernfs/inode.c.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final

from mmfs.kernfs.kstrtox import fail
from mmfs.kernfs.node import Iattrs

if TYPE_CHECKING:
    from mmfs.kernfs.entry import Caller, Entry

MAX_USER_XATTRS: Final = 128
USER_XATTR_SIZE_LIMIT: Final = 128 << 10
XATTR_SIZE_MAX: Final = 64 << 10
XATTR_NAME_MAX: Final = 255


def iattrs_of(entry: Entry) -> Iattrs | None:
    """The attributes of an entry if they can be changed; they are made with the first call."""
    if entry.iattrs is None:
        return None
    return entry.iattrs(entry.obj).setdefault("" if entry.directory is not None else entry.name, Iattrs())


def chmod(entry: Entry, mode: int, caller: Caller) -> None:
    """chmod(2): EPERM for others than the owner. Linux: fs/attr.c, setattr_prepare()."""
    iattrs = iattrs_of(entry)
    if iattrs is None or caller.uid not in (0, entry.owner[0]):
        fail(errno.EPERM)
    iattrs.mode = mode & 0o7777


def chown(entry: Entry, uid: int, gid: int, caller: Caller) -> None:
    """chown(2), -1 for what stays: to others by root alone; the owner may choose among his groups."""
    iattrs = iattrs_of(entry)
    old_uid, old_gid = entry.owner
    new = old_uid if uid < 0 else uid, old_gid if gid < 0 else gid
    mine = caller.uid == old_uid and new[0] == old_uid and new[1] in (old_gid, caller.gid, *caller.groups)
    if iattrs is None or (caller.uid and not mine):
        fail(errno.EPERM)
    iattrs.owner = new


# ---- extended attributes --------------------------------------------------------------------------------------------


def _xattrs(entry: Entry, name: str, caller: Caller, write: bool) -> dict[str, bytes]:
    """Those of an entry. Linux: fs/xattr.c, xattr_permission(), xattr_resolve_name()."""
    space, dot, rest = name.partition(".")
    iattrs = iattrs_of(entry)
    if iattrs is None or not dot or space not in ("user", "trusted", "security"):
        fail(errno.EOPNOTSUPP)
    if not rest:
        fail(errno.EINVAL)
    if len(name) > XATTR_NAME_MAX:
        fail(errno.ERANGE)
    if space == "trusted" and caller.uid:
        fail(errno.EPERM if write else errno.ENODATA)
    if space == "security" and caller.uid and write:
        fail(errno.EPERM)
    if space == "user":
        entry.permission(2 if write else 4, caller)
    return iattrs.xattrs


def getxattr(entry: Entry, name: str, caller: Caller) -> bytes:
    """getxattr(2); ENODATA."""
    value = _xattrs(entry, name, caller, False).get(name)
    return fail(errno.ENODATA) if value is None else value


def setxattr(entry: Entry, name: str, value: bytes, flags: int, caller: Caller) -> None:
    """setxattr(2); users' own are limited in number and size: ENOSPC. Linux: kernfs_vfs_user_xattr_add()."""
    xattrs = _xattrs(entry, name, caller, True)
    if len(value) > XATTR_SIZE_MAX:
        fail(errno.E2BIG)
    if name.startswith("user."):  # one that is to be replaced counts, too
        there = [len(data) for key, data in xattrs.items() if key.startswith("user.")]
        if len(there) + 1 > MAX_USER_XATTRS or sum(there) + len(value) > USER_XATTR_SIZE_LIMIT:
            fail(errno.ENOSPC)
    if flags & os.XATTR_CREATE and name in xattrs:
        fail(errno.EEXIST)
    if flags & os.XATTR_REPLACE and name not in xattrs:
        fail(errno.ENODATA)
    xattrs[name] = value


def removexattr(entry: Entry, name: str, caller: Caller) -> None:
    """removexattr(2); ENODATA."""
    xattrs = _xattrs(entry, name, caller, True)
    if name not in xattrs:
        fail(errno.ENODATA)
    del xattrs[name]


def listxattr(entry: Entry, caller: Caller) -> list[str]:
    """listxattr(2), by name; trusted ones are for root. Linux: fs/xattr.c, simple_xattr_list()."""
    iattrs = iattrs_of(entry)
    if iattrs is None:
        return []
    return sorted(name for name in iattrs.xattrs if not (caller.uid and name.startswith("trusted.")))
