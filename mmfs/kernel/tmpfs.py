"""The mount options of a tmpfs. Linux: mm/shmem.c, shmem_reconfigure(), shmem_show_options()."""

from __future__ import annotations

from errno import EINVAL
from typing import TYPE_CHECKING

from mmfs.mm.shmem_huge import MOUNT_MODES

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel


def reconfigure_tmpfs(kernel: Kernel, target: str, options: list[str]) -> None:
    """Give the tmpfs that is mounted on a directory new options. EINVAL: there is none, or no such option."""
    mount = next((one for one in reversed(kernel.mounts.mounts) if one.mountpoint == target.rstrip("/")), None)
    if mount is None or mount.fstype not in ("tmpfs", "devtmpfs"):
        raise OSError(EINVAL, f"no tmpfs is mounted on {target}")
    mode = kernel.shmem_huge.mounts.get(mount.dev, "never")
    for option in options:
        key, _, value = option.partition("=")
        if key != "huge" or value not in MOUNT_MODES:
            raise OSError(EINVAL, f"tmpfs: {option!r}")
        mode = value
    kernel.shmem_huge.set_mount(mount.dev, mode)
    shown = [one for one in mount.super_options.split(",") if not one.startswith("huge=")]
    shown += [f"huge={mode}"] if mode != "never" else []
    kernel.mounts.remount(mount.dev, ",".join(shown))
