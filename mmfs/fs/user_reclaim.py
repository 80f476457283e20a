"""How files ask for reclaim: memory.reclaim of a cgroup, and `reclaim` of a node.

Linux: mm/vmscan.c, user_proactive_reclaim(); until 6.18 mm/memcontrol.c, memory_reclaim().
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from mmfs.kernfs.kstrtox import fail, kstrtoint, memparse
from mmfs.mm.lru_gen import ANON_ONLY, SWAPPINESS_ANON_ONLY
from mmfs.mm_types import PAGE_SIZE

if TYPE_CHECKING:
    from mmfs.profile import Profile


def reclaim_request(profile: Profile, buf: str) -> tuple[int, int]:
    """The pages that are wanted, and with which swappiness: -1 if none was said. Linux: user_proactive_reclaim()."""
    text = buf.strip()
    wanted, rest = memparse(text)
    if rest == text:
        fail(errno.EINVAL)
    swappiness = -1
    for word in rest.strip().split(" "):
        if not word:
            continue
        name, equals, value = word.partition("=")
        if name != "swappiness" or not equals:
            fail(errno.EINVAL)
        if value == "max" and ANON_ONLY(profile):
            swappiness = SWAPPINESS_ANON_ONLY
            continue
        swappiness = kstrtoint(value)
        if not 0 <= swappiness <= 200:
            fail(errno.EINVAL)
    return wanted // PAGE_SIZE, swappiness
