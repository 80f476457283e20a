"""What the command line says about modules that are built in, and about sysctls.

Linux: kernel/params.c, parse_args(); fs/proc/proc_sysctl.c, do_sysctl_args().
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from mmfs.kernel.printk import LOG_ERR
from mmfs.mm.zswap import AT_BOOT

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel

DAMON_MODULES: Final = ("damon_reclaim.", "damon_lru_sort.")
SYSCTL_ERRORS: Final = {
    errno.ENOENT: "parameter not found", errno.EACCES: "permission denied (read-only?)", errno.EINVAL: "invalid value",
}  # fmt: skip


def _flag(text: str) -> bool:
    """A yes or no of the command line by its first letter, or two; ValueError. Linux: lib/kstrtox.c, kstrtobool()."""
    word = text[:2].lower()
    if word[:1] in ("y", "t", "1") or word == "on":
        return True
    if word[:1] in ("n", "f", "0") or word == "of":
        return False
    raise ValueError(text)


def module_params(kernel: Kernel) -> None:
    """What the command line says of zswap, and zram if it says anything of it. Linux: kernel/params.c, parse_args()."""
    zswap = kernel.zswap
    setters: dict[str, Callable[[str], object]] = {
        "zswap.compressor": zswap.set_compressor,
        "zswap.zpool": zswap.set_zpool,
        "zswap.max_pool_percent": lambda value: setattr(zswap, "max_pool_percent", int(value)),
        "zswap.accept_threshold_percent": lambda value: setattr(zswap, "accept_threshold_percent", int(value)),
        "zswap.shrinker_enabled": lambda value: setattr(zswap, "shrinker_enabled", _flag(value)),
        "zswap.enabled": lambda value: zswap.set_enabled(_flag(value)),
        "zram.num_devices": lambda value: kernel.zrams.load(int(value)),
    }
    for name, value in _enabled_last(kernel):
        if name in setters:
            try:
                setters[name](value)
            except (OSError, ValueError):
                _refuse(kernel, "Booting kernel", name, value)
    if AT_BOOT(kernel) and not zswap.loops.ever_enabled:
        zswap.setup()
    zswap.update()


def _words(kernel: Kernel) -> list[tuple[str, str]]:
    """Names and values in their order."""
    return [(name, value) for name, _, value in (word.partition("=") for word in kernel.cmdline.split())]


def _enabled_last(kernel: Kernel) -> list[tuple[str, str]]:
    """The same, but what switches something on comes when all else is known."""
    return sorted(_words(kernel), key=lambda word: word[0].endswith(".enabled"))


def _refuse(kernel: Kernel, doing: str, name: str, value: str) -> None:
    kernel.printk.emit(f"{doing}: `{value}' invalid for parameter `{name}'", LOG_ERR)


def damon_params(kernel: Kernel) -> None:
    """Parameters of DAMON's modules, and the start of those that are enabled. Linux: damon_reclaim_init()."""
    for name, value in _enabled_last(kernel):
        if not name.startswith(DAMON_MODULES):
            continue
        try:
            kernel.write(f"/sys/module/{name.replace('.', '/parameters/')}", value)
        except FileNotFoundError:
            continue
        except OSError:
            _refuse(kernel, "Booting kernel", name, value)


def do_sysctl_args(kernel: Kernel) -> None:
    """Write what the command line says of sysctls (`sysctl.vm.swappiness=10`) to their files, before init runs."""
    for name, value in _words(kernel):
        if not name.startswith(("sysctl.", "sysctl/")):
            continue
        if not value:
            _refuse(kernel, "Setting sysctl args", name, value)
            continue
        name = name[len("sysctl.") :]
        try:
            kernel.write(f"/proc/sys/{name.replace('.', '/')}", value)
        except OSError as error:
            kernel.printk.emit(_complaint(f"'{name}={value}'", error.errno or errno.EINVAL), LOG_ERR)


def _complaint(what: str, number: int) -> str:
    if number in SYSCTL_ERRORS:
        return f"Failed to set sysctl parameter {what}: {SYSCTL_ERRORS[number]}"
    return f"Error -{errno.errorcode[number]} writing to proc file to set sysctl parameter {what}"
