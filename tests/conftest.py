"""What all tests share: a booted kernel that is checked afterwards, and the reasons for which tests are skipped."""

from __future__ import annotations

import ctypes.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel

ROOT = Path(__file__).resolve().parent.parent


@cache
def why_not_mounted() -> str | None:
    """Why no file system can be mounted here, or None when one can."""
    if not Path("/dev/fuse").exists():
        return "no /dev/fuse (modprobe fuse; in a container: --device /dev/fuse)"
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "no permission for /dev/fuse"
    if ctypes.util.find_library("fuse3") is None:
        return "no libfuse 3 (scripts/setup installs it)"
    flags = "-m" if os.geteuid() == 0 else "-Urm"
    unshare = subprocess.run(["unshare", flags, "--propagation", "private", "true"], capture_output=True, text=True)
    if unshare.returncode:
        return f"no private mount namespace: {unshare.stderr.strip()}"
    return None


@cache
def why_not_differential() -> str | None:
    """Why no real kernel can be booted here, or None when one can."""
    if shutil.which("qemu-system-x86_64") is None:
        return "no qemu-system-x86_64 (scripts/setup --differential installs it)"
    return None


def pytest_report_header() -> list[str]:
    """Which fast path runs, and whether it is older than its sources."""
    from mmfs import fastpath

    if not fastpath.compiled:
        return [
            f"mmfs: fast path uncompiled{' (MMFS_PURE)' if fastpath.pure else ': scripts/build-fastpath compiles it'}"
        ]
    script, pages = ROOT / "scripts" / "build_fastpath.py", os.environ.get("MMFS_PAGE_SIZE") or "4K"
    command = [sys.executable, str(script), "--status", "--pages", pages]
    return [f"mmfs: {subprocess.run(command, capture_output=True, text=True).stdout.strip() or 'installed'}"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, with the reason, what this machine cannot run."""
    for marker, why in (("mounted", why_not_mounted), ("differential", why_not_differential)):
        marked = [item for item in items if item.get_closest_marker(marker)]
        if marked and (reason := why()) is not None:
            for item in marked:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture
def boot() -> Iterator[Callable[..., Kernel]]:
    """`mmfs.boot()`; every kernel it made is checked when the test is over."""
    import mmfs

    kernels: list[Kernel] = []

    def boot(**options: Any) -> Kernel:
        kernels.append(mmfs.boot(**options))
        return kernels[-1]

    yield boot
    for kernel in kernels:
        kernel.check()


@pytest.fixture
def kernel(boot: Callable[..., Kernel], request: pytest.FixtureRequest) -> Kernel:
    """A small machine with init only; `@pytest.mark.machine(ram="64G", preset="server")` asks for another."""
    options: dict[str, Any] = {"ram": "512M", "swap": "256M", "cpus": 2, "seed": 1, "preset": "bare"}
    marker = request.node.get_closest_marker("machine")
    return boot(**options | (marker.kwargs if marker else {}))


@pytest.fixture(scope="session")
def compiled() -> bool:
    """Whether the fast path runs as machine code; a test that would take minutes uncompiled makes itself smaller."""
    from mmfs import fastpath

    return fastpath.compiled
