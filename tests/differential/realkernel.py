"""A real Linux 6.12 to ask: Debian's kernel in QEMU, with one static program as its init.

The kernel's package is downloaded and unpacked once, not installed; the guest program is `guest.c`.
Emulated: counts are sound, seconds are not.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "mmfs-differential"
PACKAGES = ("linux-image-6.12-amd64", "linux-image-amd64")
Counters = dict[str, dict[str, int]]


def image_package() -> str:
    """The package that holds Debian's 6.12; skips the test where apt knows none."""
    if shutil.which("apt-cache") is None:
        pytest.skip("no apt to take Debian's kernel from")
    for meta in PACKAGES:
        depends = subprocess.run(["apt-cache", "depends", meta], capture_output=True, text=True).stdout
        if found := re.search(r"Depends: (linux-image-6\.12\.\S+)", depends):
            return found[1]
    return pytest.skip("apt knows no kernel 6.12 (apt-get update?)")


@cache
def vmlinuz() -> Path:
    """The kernel, from the cache or from its package."""
    package = image_package()
    kernel = CACHE / package
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock, tempfile.TemporaryDirectory() as work:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kernel.exists():
            download = ["apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", package]
            subprocess.run(download, cwd=work, check=True)
            (deb,) = Path(work).glob("*.deb")
            subprocess.run(["dpkg", "-x", deb, f"{work}/root"], check=True)
            (inside,) = Path(work).glob("root/boot/vmlinuz-*")
            shutil.move(inside, kernel)
    return kernel


@cache
def guest() -> bytes:
    """The program that is the guest's init, linked statically."""
    with tempfile.TemporaryDirectory() as work:
        subprocess.run(["gcc", "-O1", "-static", "-o", f"{work}/init", HERE / "guest.c"], check=True)
        return Path(work, "init").read_bytes()


def cpio(files: dict[str, tuple[int, bytes]]) -> bytes:
    """An archive in the newc format, which is what an initial RAM disk is: name -> (mode, content)."""
    archive = bytearray()
    for inode, (name, (mode, content)) in enumerate([*files.items(), ("TRAILER!!!", (0, b""))], 1):
        fields = (inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
        archive += b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
        archive += bytes(-len(archive) % 4) + content
        archive += bytes(-len(archive) % 4)
    return bytes(archive)


def run(scenarios: str, memory: str = "512M", cpus: int = 1, timeout: int = 300) -> dict[str, Counters]:
    """Boot, play scenarios (see guest.c) and return their counters: scenario -> label -> name -> value."""
    with tempfile.TemporaryDirectory() as work:
        files = {"init": (0o100755, guest()), "scenarios": (0o100644, scenarios.encode())}
        Path(work, "initrd").write_bytes(cpio(files))
        command = [
            "qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-m", memory, "-smp", str(cpus),
            "-nodefaults", "-display", "none", "-no-reboot", "-serial", f"file:{work}/console",
            "-kernel", str(vmlinuz()), "-initrd", f"{work}/initrd", "-append", "console=ttyS0 panic=-1 loglevel=3",
        ]  # fmt: skip
        subprocess.run(command, check=True, timeout=timeout, env=os.environ | {"TMPDIR": work})
        console = Path(work, "console").read_text(errors="replace").replace("\r", "")
    _, begun, printed = console.partition("=====begin=====\n")
    printed, ended, _ = printed.partition("=====end=====")
    assert begun, f"the guest did not begin:\n{console[-4000:]}"
    assert ended, f"the guest did not finish:\n{console[-4000:]}"
    counters: dict[str, Counters] = {}
    for line in printed.splitlines():
        assert not line.startswith("error "), line
        scenario, label, name, value = line.split()
        counters.setdefault(scenario, {}).setdefault(label, {})[name] = int(value)
    return counters
