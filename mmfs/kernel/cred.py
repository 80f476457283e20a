"""Credentials: who a task is and what it may do. A Cred is replaced whole, never changed.

Linux: kernel/cred.c, include/linux/cred.h.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from mmfs.kernel import sched


@dataclass(frozen=True, slots=True)
class Cred:
    """Who a task is. Linux: include/linux/cred.h, struct cred."""

    uid: int = 0
    euid: int = 0
    suid: int = 0
    fsuid: int = 0
    gid: int = 0
    egid: int = 0
    sgid: int = 0
    fsgid: int = 0
    groups: tuple[int, ...] = ()
    cap_inheritable: int = 0
    cap_permitted: int = sched.CAP_FULL_SET
    cap_effective: int = sched.CAP_FULL_SET
    cap_bset: int = sched.CAP_FULL_SET
    cap_ambient: int = 0

    def become(self, uid: int, gid: int, groups: tuple[int, ...] = ()) -> Cred:
        """All four user and group ids at once, as login programs set them; who is not root loses the capabilities.

        Linux: security/commoncap.c, cap_emulate_setxuid().
        """
        caps = self.cap_permitted if uid == 0 else 0
        return replace(
            self, uid=uid, euid=uid, suid=uid, fsuid=uid, gid=gid, egid=gid, sgid=gid, fsgid=gid, groups=groups,
            cap_permitted=caps, cap_effective=caps,
        )  # fmt: skip
