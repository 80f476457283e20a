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
    return "".join([m_show(module, caller.uid == 0) for module in kernel.modules.list])


def m_show(module: Module, show_value: bool) -> str:
    """One row."""
    users = "".join([f"{name}," for name in module.source_list]) or "-"
    base = module.base if show_value else 0
    return f"{module.name} {module.size} {module.refcnt} {users} Live 0x{base:016x}\n"
