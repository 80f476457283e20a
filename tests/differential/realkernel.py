"""A real Linux to ask, 6.12 if no other is named: Debian's kernel in QEMU, with one static program as its init.

The kernel's package is downloaded and unpacked once, not installed; the guest program is `guest.c`.
Emulated: counts are sound, seconds are not.
"""

from __future__ import annotations

import fcntl
import lzma
import os
import re
import shutil
import struct
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "mmfs-differential"
MODULES = ("virtio_pci", "virtio_blk", "crc32c_generic", "ext4")
"""What the guest needs to have a disk; Debian's kernel has it as modules."""
DISK_SECTORS = 256 << 11
SERIES = "6.12"
PAE = "-686-pae"
"""Ends the name of a series of 32 bits; wants `dpkg --add-architecture i386` and gcc-multilib."""
M32 = ("-m32", "-D_FILE_OFFSET_BITS=64", "-I/usr/include/x86_64-linux-gnu")
Counters = dict[str, dict[str, int]]


def image_package(series: str) -> str:
    """The package that holds Debian's kernel of a series; skips the test where apt knows none."""
    if shutil.which("apt-cache") is None:
        pytest.skip("no apt to take Debian's kernel from")
    version, pae, _ = series.partition(PAE)
    for meta in ("linux-image-686-pae:i386",) if pae else (f"linux-image-{version}-amd64", "linux-image-amd64"):
        depends = subprocess.run(["apt-cache", "depends", meta], capture_output=True, text=True).stdout
        if found := re.search(rf"Depends: (linux-image-{re.escape(version)}\.[^\s:]+)", depends):
            return found[1] + (":i386" if pae else "")
    return pytest.skip(f"apt knows no kernel {series} (apt-get update, or name a bzImage in {variable(series)})")


def variable(series: str) -> str:
    """The environment variable that names a kernel of a series, where apt has none."""
    return f"MMFS_KERNEL_{series.replace('.', '_').replace('-', '_').upper()}"


@cache
def vmlinuz(series: str = SERIES) -> Path:
    """The kernel: what the environment names, or from the cache, or from its package.

    Beside a kernel NAME lies a directory NAME.modules, if there is anything to load, in the order of names.
    """
    if variable(series) in os.environ:
        return Path(os.environ[variable(series)])
    package = image_package(series)
    kernel = CACHE / package
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock, tempfile.TemporaryDirectory() as work:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kernel.exists() or not kernel.with_name(f"{package}.modules").exists():
            download = ["apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", package]
            subprocess.run(download, cwd=work, check=True)
            (deb,) = Path(work).glob("*.deb")
            subprocess.run(["dpkg", "-x", deb, f"{work}/root"], check=True)
            (inside,) = Path(work).glob("root/boot/vmlinuz-*")
            keep_modules(next(Path(work).glob("root/**/lib/modules/*")), CACHE / f"{package}.modules")
            shutil.move(inside, kernel)
    return kernel


def keep_modules(tree: Path, target: Path) -> None:
    """Keep MODULES and what they need, unpacked, named in the order in which they are loaded."""
    target.mkdir(exist_ok=True)
    version, base = tree.name, tree.parent.parent.parent
    subprocess.run(["depmod", "-b", base, version], stderr=subprocess.DEVNULL, check=True)
    rows = (line.split(":") for line in (tree / "modules.dep").read_text().splitlines())
    needs = {Path(at).name.partition(".")[0].replace("-", "_"): [*reversed(rest.split()), at] for at, rest in rows}
    order = list(dict.fromkeys(path for name in MODULES for path in needs.get(name, [])))
    for number, path in enumerate(order):
        packed = (tree / path).read_bytes()
        name = Path(path).name.partition(".")[0]
        (target / f"{number:02}-{name}.ko").write_bytes(lzma.decompress(packed) if path.endswith(".xz") else packed)


def modules(series: str = SERIES) -> dict[str, tuple[int, bytes]]:
    """The modules as files of the initial RAM disk."""
    kept = vmlinuz(series).with_name(f"{vmlinuz(series).name}.modules")
    return {f"mods/{path.name}": (0o100644, path.read_bytes()) for path in sorted(kept.glob("*.ko"))}


def make_disk(path: Path, files: dict[str, int]) -> None:
    """An ext4 file system with files of so many bytes, none of them zero."""
    if shutil.which("mkfs.ext4") is None:
        pytest.skip("no mkfs.ext4 (apt install e2fsprogs)")
    with tempfile.TemporaryDirectory() as root:
        for name, size in files.items():
            Path(root, name).write_bytes(b"mmfs" * (size // 4))
        path.touch()
        os.truncate(path, DISK_SECTORS << 9)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0", "-d", root, path], check=True)


def make_swap(path: Path, size: int) -> None:
    """A swap area. Linux: include/linux/swap.h, union swap_header."""
    with path.open("wb") as area:
        area.truncate(size)
        area.seek(1024)
        area.write(struct.pack("<III", 1, size // 4096 - 1, 0))
        area.seek(4096 - 10)
        area.write(b"SWAPSPACE2")


@cache
def guest(source: str = "guest.c", series: str = SERIES) -> bytes:
    """The program that is the guest's init, linked statically."""
    command = ["gcc", "-O1", "-w", "-static", "-pthread", *(M32 if series.endswith(PAE) else ())]
    with tempfile.TemporaryDirectory() as work:
        made = subprocess.run([*command, "-o", f"{work}/init", HERE / source], capture_output=True, text=True)
        if made.returncode and series.endswith(PAE):
            pytest.skip("gcc makes no programs of 32 bits (apt install gcc-multilib)")
        assert not made.returncode, made.stderr
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


def qemu(
    work: Path, files: dict[str, tuple[int, bytes]], memory: str, cpus: int, disks: list[Path], series: str = SERIES
) -> list[str]:
    """The command that boots a guest with these files in its initial RAM disk; its console is `work`/console.

    One thread of the host runs all CPUs: with one each, a CPU at times still meets the breakpoint with which another
    patches the kernel's code, and the guest dies at boot ("Oops: int3").
    """
    if disks:
        files = {"mods": (0o040755, b"")} | modules(series) | files
    (work / "initrd").write_bytes(cpio(files))
    drives = [word for disk in disks for word in ("-drive", f"file={disk},if=virtio,format=raw,cache=unsafe")]
    return [
        "qemu-system-x86_64", "-accel", "tcg,thread=single", "-cpu", "max", "-m", memory, "-smp", str(cpus),
        "-nodefaults", "-display", "none", "-no-reboot", "-serial", f"file:{work}/console",
        "-kernel", str(vmlinuz(series)), "-initrd", f"{work}/initrd",
        "-append", "console=ttyS0 panic=-1 loglevel=3 nokaslr",
        *drives,
    ]  # fmt: skip


def run(
    scenarios: str, memory: str = "512M", cpus: int = 1, timeout: int = 300, disk: dict[str, int] | None = None
) -> dict[str, Counters]:
    """Boot, play scenarios (see guest.c) and return their counters: scenario -> label -> name -> value.

    `disk`: files of a disk that is mounted on /data, with their sizes.
    """
    with tempfile.TemporaryDirectory() as work:
        files = {"init": (0o100755, guest()), "scenarios": (0o100644, scenarios.encode())}
        disks = []
        if disk is not None:
            make_disk(Path(work, "disk"), disk)
            disks = [Path(work, "disk")]
        command = qemu(Path(work), files, memory, cpus, disks)
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
