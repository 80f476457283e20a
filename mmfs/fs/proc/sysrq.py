"""/proc/sysrq-trigger: press the magic SysRq key.

Linux: drivers/tty/sysrq.c, write_sysrq_trigger().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmfs.fs.proc.root import proc
from mmfs.kernel.sysrq import handle_sysrq

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel

trigger = proc.attributes("sysrq-trigger")


@trigger.store
def sysrq_trigger(kernel: Kernel, buf: str) -> None:
    """The first character is the key; after an underscore, all others are."""
    for key in buf if buf.startswith("_") else buf[:1]:
        if key != "_":
            handle_sysrq(kernel, key)
