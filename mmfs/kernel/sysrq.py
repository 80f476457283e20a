"""The magic SysRq key: what an administrator can still ask of a kernel that is in trouble.

Linux: drivers/tty/sysrq.c.

Simplified: only the keys that concern memory, signals and the log, as /proc/sysrq-trigger presses them (which does not
look at kernel.sysrq, as Linux does not there); no other key does anything but print the help.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mmfs.kernel.printk import LOG_INFO
from mmfs.kernel.signal import SIGKILL, SIGTERM, send_signal
from mmfs.mm.oom_kill import SYSRQ_ORDER
from mmfs.mm.show_mem import show_mem
from mmfs.mm_types import GFP_KERNEL

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel

CONSOLE_LOGLEVEL_DEBUG: Final = 10


@dataclass(frozen=True)
class SysrqKeyOp:
    """What a key does. Linux: include/linux/sysrq.h, struct sysrq_key_op."""

    keys: str
    handler: Callable[[Kernel, str], None]
    help_msg: str
    action_msg: str


def pr_info(kernel: Kernel, text: str) -> None:
    """A line of this driver's in the log."""
    kernel.printk.emit(f"sysrq: {text}", LOG_INFO)


def _loglevel(kernel: Kernel, key: str) -> None:
    """Linux: drivers/tty/sysrq.c, sysrq_handle_loglevel()."""
    kernel.printk.console_loglevel = int(key)
    pr_info(kernel, f"Loglevel set to {key}")


def _send_sig_all(kernel: Kernel, sig: int) -> None:
    """Signal every process but init and kernel threads. Linux: drivers/tty/sysrq.c, send_sig_all()."""
    for task in list(kernel.tasks.values()):
        if task.pid == task.tgid and not task.is_kthread and task.pid != 1:
            send_signal(task, sig, forced=sig == SIGKILL)
    kernel.printk.console_loglevel = CONSOLE_LOGLEVEL_DEBUG


def _term(kernel: Kernel, key: str) -> None:
    _send_sig_all(kernel, SIGTERM)


def _kill(kernel: Kernel, key: str) -> None:
    _send_sig_all(kernel, SIGKILL)


def _moom(kernel: Kernel, key: str) -> None:
    """A worker of the system workqueue kills somebody. Linux: drivers/tty/sysrq.c, moom_callback()."""
    caller = kernel.tasks.current
    cpu = caller.processor if caller is not None else 0
    workers = (task for task in kernel.tasks.values() if task.is_kthread)
    kernel.tasks.current = next(
        (task for task in workers if task.comm.startswith(f"kworker/{cpu}:") and not task.comm.endswith("H")), None
    )
    try:
        if not kernel.oom_killer.out_of_memory(GFP_KERNEL, SYSRQ_ORDER):
            pr_info(kernel, "OOM request ignored. No task eligible")
    finally:
        kernel.tasks.current = caller if caller is not None and caller.pid in kernel.tasks else None


def _showmem(kernel: Kernel, key: str) -> None:
    show_mem(kernel)


SYSRQ_KEYS: Final = (
    SysrqKeyOp("0123456789", _loglevel, "loglevel(0-9)", "Changing Loglevel"),
    SysrqKeyOp("e", _term, "terminate-all-tasks(e)", "Terminate All Tasks"),
    SysrqKeyOp("f", _moom, "memory-full-oom-kill(f)", "Manual OOM execution"),
    SysrqKeyOp("i", _kill, "kill-all-tasks(i)", "Kill All Tasks"),
    SysrqKeyOp("m", _showmem, "show-memory-usage(m)", "Show Memory"),
)
"""In the order of the help. Linux: drivers/tty/sysrq.c, sysrq_key_table."""


def handle_sysrq(kernel: Kernel, key: str) -> None:
    """Press a key. Linux: drivers/tty/sysrq.c, __handle_sysrq()."""
    op = next((op for op in SYSRQ_KEYS if key in op.keys), None)
    if op is None:
        pr_info(kernel, "HELP : " + "".join(f"{op.help_msg} " for op in SYSRQ_KEYS))
        return
    pr_info(kernel, op.action_msg)
    op.handler(kernel, key)
