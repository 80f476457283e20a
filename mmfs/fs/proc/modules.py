"""/proc/modules: what is loaded, how large it is, who needs it.

Linux: kernel/module/procfs.c, m_show().
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmfs.fs.proc.root import proc

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.module import Module
    from mmfs.kernfs import Caller


@proc.attribute("modules", wants_caller=True)
def modules(kernel: Kernel, caller: Caller) -> str:
    """A row a module, newest first; addresses are for root only."""
    digits = kernel.profile.arch.bits_per_long // 4
    return "".join([m_show(module, caller.uid == 0, digits) for module in kernel.modules.list])


def m_show(module: Module, show_value: bool, digits: int = 16) -> str:
    """One row, its address with so many digits."""
    users = "".join([f"{name}," for name in module.source_list]) or "-"
    base = module.base if show_value else 0
    return f"{module.name} {module.size} {module.refcnt} {users} Live 0x{base:0{digits}x}\n"
