"""/sys/module: parameters of what the kernel is built with.

Linux: kernel/params.c; mm/zswap.c.

Simplified: zswap's are the only ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmfs.fs.sys.root import DIRECTORY, sys
from mmfs.kernfs import kstrtobool
from mmfs.kernfs.kstrtox import kstrtouint

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel

module = sys.directory("module", mode=DIRECTORY)
zswap = module.directory("zswap", mode=DIRECTORY).directory("parameters", mode=DIRECTORY)


@zswap.attribute("accept_threshold_percent")
def accept_threshold_percent(kernel: Kernel) -> int:
    """How full the pool may be, of its limit, to take pages again after it was full."""
    return kernel.zswap.accept_threshold_percent


@accept_threshold_percent.store
def accept_threshold_percent_store(kernel: Kernel, buf: str) -> None:
    """Linux: param_set_uint()."""
    kernel.zswap.accept_threshold_percent = kstrtouint(buf)
    kernel.zswap.update()


@zswap.attribute("compressor")
def compressor(kernel: Kernel) -> str:
    """What pages are compressed with."""
    return f"{kernel.zswap.compressor}\n"


@compressor.store
def compressor_store(kernel: Kernel, buf: str) -> None:
    """Linux: zswap_compressor_param_set()."""
    kernel.zswap.set_compressor(buf.strip())


@zswap.attribute("enabled")
def enabled(kernel: Kernel) -> str:
    """Whether pages are compressed before they are swapped out."""
    return "Y\n" if kernel.zswap.enabled else "N\n"


@enabled.store
def enabled_store(kernel: Kernel, buf: str) -> None:
    """Linux: zswap_enabled_param_set()."""
    kernel.zswap.set_enabled(kstrtobool(buf))


@zswap.attribute("max_pool_percent")
def max_pool_percent(kernel: Kernel) -> int:
    """How much of memory the pool may have."""
    return kernel.zswap.max_pool_percent


@max_pool_percent.store
def max_pool_percent_store(kernel: Kernel, buf: str) -> None:
    """Linux: param_set_uint()."""
    kernel.zswap.max_pool_percent = kstrtouint(buf)
    kernel.zswap.update()


@zswap.attribute("shrinker_enabled")
def shrinker_enabled(kernel: Kernel) -> str:
    """Whether pages are written back whenever memory is short, not only when the pool is full."""
    return "Y\n" if kernel.zswap.shrinker_enabled else "N\n"


@shrinker_enabled.store
def shrinker_enabled_store(kernel: Kernel, buf: str) -> None:
    """Linux: param_set_bool()."""
    kernel.zswap.shrinker_enabled = kstrtobool(buf)


@zswap.attribute("zpool")
def zpool(kernel: Kernel) -> str:
    """Where the copies are."""
    return f"{kernel.zswap.zpool}\n"


@zpool.store
def zpool_store(kernel: Kernel, buf: str) -> None:
    """Linux: zswap_zpool_param_set()."""
    kernel.zswap.set_zpool(buf.strip())
