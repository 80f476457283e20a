"""Who was where when the kernel had something to complain about: dump_stack() in the log.

What runs is simulated, its call stack is not: a trace here has the functions that every such complaint of the real
kernel has in common, with that build's offsets, and no registers.

Linux: lib/dump_stack.c, arch/x86/kernel/dumpstack.c, arch/arm64/kernel/stacktrace.c; kernel/panic.c, print_tainted().

Simplified: traces end where the paths to an allocation part; offsets that were not seen on Debian 13's build are those
of Debian 12's build of the same source.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mmfs.profile import config, since, until

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task

_BACKTRACE: Final = ("dump_backtrace", "show_stack")
"""What arm64's backtraces have of themselves."""
_HEADER: Final = ("dump_stack_lvl", "dump_stack", "dump_header")
_PANIC: Final = ("panic: dump", "panic")
_OOM_KILL: Final = (*_HEADER, "oom_kill_process")
_ALLOC: Final = ("__alloc_pages_slowpath", "__alloc_pages_noprof")
_SYSRQ: Final = (
    "moom_callback", "process_one_work", "worker_thread", "kthread", "ret_from_fork", "ret_from_fork_asm",
)  # fmt: skip
TRACES: Final[dict[str, tuple[str, ...]]] = {
    "oom_kill": (*_OOM_KILL, "out_of_memory: worst", *_ALLOC),
    "oom_kill_allocating_task": (*_OOM_KILL, "out_of_memory: current", *_ALLOC),
    "oom_kill_sysrq": (*_OOM_KILL, "out_of_memory: worst", *_SYSRQ),
    "oom_nobody": (*_HEADER, "out_of_memory: nobody", *_ALLOC),
    "oom_nobody_sysrq": (*_HEADER, "out_of_memory: nobody", *_SYSRQ),
    "panic_on_oom": (*_HEADER, "out_of_memory: panic_on_oom header", *_ALLOC),
    "panic: panic_on_oom": (*_PANIC, "out_of_memory: panic_on_oom", *_ALLOC),
    "panic: deadlocked": (*_PANIC, "out_of_memory: deadlocked", *_ALLOC),
    "panic": _PANIC,
    "warn_alloc": ("dump_stack_lvl", "warn_alloc"),
}
"""By what complains: the call sites from the inside out."""

_DEB12: Final = {
    "dump_stack_lvl": "dump_stack_lvl+0x64/0x80",
    "dump_header": "dump_header+0x43/0x1d0",
    "oom_kill_process": "oom_kill_process+0xfa/0x200",
    "out_of_memory: worst": "out_of_memory+0x257/0x520",
    "out_of_memory: current": "out_of_memory+0x4f1/0x520",
    "out_of_memory: nobody": "out_of_memory+0x395/0x520",
    "out_of_memory: panic_on_oom": "out_of_memory+0xe7/0x520",
    "out_of_memory: deadlocked": "out_of_memory+0x51f/0x520",
    "out_of_memory: panic_on_oom header": "out_of_memory+0xc2/0x520",
    "panic": "panic+0x344/0x3a0",
    "warn_alloc": "warn_alloc+0x164/0x1e0",
    "__alloc_pages_slowpath": "__alloc_pages_slowpath.constprop.0+0x67f/0xe00",
    "__alloc_pages_noprof": "__alloc_pages_noprof+0x2ef/0x310",
    "moom_callback": "moom_callback+0x7a/0xc0",
    "process_one_work": "process_one_work+0x190/0x3a0",
    "worker_thread": "worker_thread+0x191/0x2f0",
    "kthread": "kthread+0xd2/0x100",
    "ret_from_fork": "ret_from_fork+0x34/0x50",
    "ret_from_fork_asm": "ret_from_fork_asm+0x1a/0x30",
}
_DEB13: Final = {
    **_DEB12,
    "dump_stack_lvl": "dump_stack_lvl+0x5d/0x80",
    "dump_header": "dump_header+0x43/0x1aa",
    "oom_kill_process": "oom_kill_process.cold+0x8/0x8d",
    "out_of_memory: worst": "out_of_memory+0x219/0x4b0",
    "__alloc_pages_slowpath": "__alloc_pages_slowpath.constprop.0+0xc27/0xdc0",
    "__alloc_pages_noprof": "__alloc_pages_noprof+0x2fb/0x310",
}
_6_1: Final = {
    "dump_stack_lvl": "dump_stack_lvl+0x44/0x5c",
    "dump_header": "dump_header+0x4c/0x22b",
    "oom_kill_process": "oom_kill_process.cold+0xb/0x10",
    "out_of_memory: worst": "out_of_memory+0x1fd/0x4c0",
    "out_of_memory: current": "out_of_memory+0x49d/0x4c0",
    "out_of_memory: nobody": "out_of_memory.cold+0xa/0x7e",
    "out_of_memory: panic_on_oom": "out_of_memory.cold+0x67/0x7e",
    "out_of_memory: deadlocked": "out_of_memory.cold+0x2f/0x7e",
    "out_of_memory: panic_on_oom header": "out_of_memory.cold+0x42/0x7e",
    "panic: dump": "dump_stack_lvl+0x44/0x5c",
    "panic": "panic+0x118/0x2f4",
    "warn_alloc": "warn_alloc+0x151/0x170",
    "__alloc_pages_slowpath": "__alloc_pages_slowpath.constprop.0+0x67f/0xe70",
    "__alloc_pages_noprof": "__alloc_pages+0x305/0x330",
    "moom_callback": "moom_callback+0x76/0xb0",
    "process_one_work": "process_one_work+0x1c7/0x380",
    "worker_thread": "worker_thread+0x4d/0x380",
    "kthread": "kthread+0xda/0x100",
    "ret_from_fork": "ret_from_fork+0x22/0x30",
}
_686_PAE: Final = {
    "dump_stack_lvl": "dump_stack_lvl+0x34/0x44",
    "dump_stack": "dump_stack+0xd/0x10",
    "dump_header": "dump_header+0x42/0x1fb",
    "oom_kill_process": "oom_kill_process.cold+0x9/0xe",
    "out_of_memory: worst": "out_of_memory+0xe1/0x290",
    "out_of_memory: nobody": "out_of_memory.cold+0x9/0x6e",
    "out_of_memory: deadlocked": "out_of_memory.cold+0x2a/0x6e",
    "panic": "panic+0xad/0x263",
    "__alloc_pages_noprof": "__alloc_pages+0xd80/0xf40",
}
_ARM64_64K: Final = {
    "dump_backtrace": "dump_backtrace+0xa0/0x128",
    "show_stack": "show_stack+0x20/0x38",
    "dump_stack_lvl": "dump_stack_lvl+0x78/0x90",
    "dump_stack": "dump_stack+0x18/0x28",
    "dump_header": "dump_header+0x44/0x1d0",
    "oom_kill_process": "oom_kill_process+0x140/0x368",
    "out_of_memory: worst": "out_of_memory+0xe8/0x580",
    "out_of_memory: current": "out_of_memory+0x518/0x580",
    "__alloc_pages_noprof": "__alloc_pages_noprof+0xc80/0xf28",
    "moom_callback": "moom_callback+0x90/0xe8",
    "process_one_work": "process_one_work+0x184/0x420",
    "worker_thread": "worker_thread+0x190/0x320",
    "kthread": "kthread+0x11c/0x128",
    "ret_from_fork": "ret_from_fork+0x10/0x20",
}
FRAMES: Final[dict[str, dict[str, str]]] = {
    "6.12": _DEB13, "6.12-deb12": _DEB12, "6.1": _6_1, "7.0": {}, "7.0.0": {}, "6.1-686-pae": _686_PAE,
    "6.12-686-pae": _686_PAE, "6.12-arm64-64k": _ARM64_64K,
}  # fmt: skip
"""By kernel: how it prints a call site; what is not there has no frame of its own, or is not known."""
PREEMPT_MODEL: Final = ((since(6, 16), "PREEMPT(lazy) "), (until(6, 16), ""))
"""What the CPU line says of preemption. Linux: kernel/sched/core.c, preempt_model_str()."""
UID: Final = since(6, 12)
"""Kernels that tell whose the process is."""
TAINT_EXPLAINED: Final = since(6, 12)
LONG_64: Final = config("64BIT") & config("X86")
"""Kernels that tell whose stack it is."""
X86: Final = config("X86")

TAINT_FLAGS: Final = (
    ("P", "PROPRIETARY_MODULE"), ("F", "FORCED_MODULE"), ("S", "CPU_OUT_OF_SPEC"), ("R", "FORCED_RMMOD"),
    ("M", "MACHINE_CHECK"), ("B", "BAD_PAGE"), ("U", "USER"), ("D", "DIE"), ("A", "OVERRIDDEN_ACPI_TABLE"),
    ("W", "WARN"), ("C", "CRAP"), ("I", "FIRMWARE_WORKAROUND"), ("O", "OOT_MODULE"), ("E", "UNSIGNED_MODULE"),
    ("L", "SOFTLOCKUP"), ("K", "LIVEPATCH"), ("X", "AUX"), ("T", "RANDSTRUCT"), ("N", "TEST"),
)  # fmt: skip
"""By bit. Linux: kernel/panic.c, taint_flags."""


def current(kernel: Kernel) -> Task:
    """The task on whose behalf the kernel works. Linux: current."""
    return kernel.tasks.current or kernel.init_task


def _tainted(mask: int) -> list[str]:
    """What the CPU line says of taints, and the line that explains them, if any. Linux: print_tainted()."""
    if not mask:
        return ["Not tainted"]
    letters = "".join(
        letter if mask >> bit & 1 else "G" if letter == "P" else " " for bit, (letter, _) in enumerate(TAINT_FLAGS)
    )
    meant = [f"[{letter}]={name}" for bit, (letter, name) in enumerate(TAINT_FLAGS) if mask >> bit & 1]
    return [f"Tainted: {letters}", f"Tainted: {', '.join(meant)}"]


def dump_stack(kernel: Kernel, complaint: str, work: str = "", level: int | None = None) -> None:
    """Log who is running on what, and where: `complaint` is a key of TRACES, `work` what a kworker is doing.

    Linux: lib/dump_stack.c, dump_stack_print_info(); arch/x86/kernel/dumpstack.c, show_trace_log_lvl().
    """
    task, profile = current(kernel), kernel.profile
    tainted, *explained = _tainted(kernel.sysctl.tainted)
    number, _, rest = profile.build.partition(" ")
    package = rest.removeprefix("SMP PREEMPT_DYNAMIC ").partition(" (")[0] if X86(profile) else ""
    frames = FRAMES[profile.name]
    model = next(text for needs, text in PREEMPT_MODEL if needs(profile))
    uid = f" UID: {task.euid}" if UID(profile) else ""
    lines = [
        f"CPU: {task.processor}{uid} PID: {task.pid} Comm: {task.comm} {tainted} {profile.release} {number} {model}"
        + (f" {package}" if package else ""),
        *(explained if TAINT_EXPLAINED(profile) else ()),
        f"Hardware name: {kernel.machine.hardware_name}" + (f", {kernel.machine.bios}" if X86(profile) else ""),
        *([f"Workqueue: {work}"] if work else []),
        "Call Trace:" if X86(profile) else "Call trace:",
        *((" <TASK>",) if LONG_64(profile) else ()),
        *(f" {frames[site]}" for site in (*_BACKTRACE, *TRACES[complaint]) if site in frames),
        *((" </TASK>",) if LONG_64(profile) else ()),
    ]
    for line in lines:
        kernel.printk.emit(line, kernel.printk.default_message_loglevel if level is None else level)
