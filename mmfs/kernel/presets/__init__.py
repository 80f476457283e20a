"""Who lives on a machine when it has booted: a bare init, an idle server, or what runs on the host."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel

PRESETS = ("bare", "server", "host")


def populate(kernel: Kernel, preset: str) -> None:
    """Run init and what it starts. ValueError names the presets if there is no such one."""
    if preset not in PRESETS:
        raise ValueError(f"preset: {preset!r} is none of {', '.join(PRESETS)}")
    import_module(f"{__name__}.{preset}").start(kernel)
