"""What a mount needs of the machine it runs on, and the remedy for what is missing.

`check_fuse()` is the part that `mmfs mount` asks before it boots a machine; `diagnose()` is all of `mmfs doctor`.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path

from mmfs.mount.errors import MountError

DEVICE = "/dev/fuse"
HELPERS = ("/sbin/mount.fuse.mmfs", "/sbin/mount.fuse")
"""What mount(8) runs for the type fuse.mmfs."""
PACKAGES = (("numpy", "numpy"), ("mfusepy", "mfusepy"), ("click", "click"), ("psutil", "psutil"))


@dataclass(frozen=True)
class Finding:
    """One line of `mmfs doctor`."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""


def find_libfuse(major: int = 3) -> str | None:
    """The shared library's name, None if the loader has none."""
    import ctypes

    name = "libfuse3.so.3" if major == 3 else "libfuse.so.2"
    for candidate in (name, "libfuse3.so.4") if major == 3 else (name,):
        try:
            ctypes.CDLL(candidate)
        except OSError:
            continue
        return candidate
    return None


def device() -> Finding:
    """Is /dev/fuse there, and may this user open it?"""
    try:
        status = os.stat(DEVICE)
    except FileNotFoundError:
        return Finding("FUSE device", False, f"no {DEVICE}", f"modprobe fuse; in a container --device {DEVICE}")
    mode = f"mode {stat.S_IMODE(status.st_mode):04o}, owner {status.st_uid}"
    if not stat.S_ISCHR(status.st_mode):
        return Finding("FUSE device", False, f"{DEVICE} is not a device", f"rm {DEVICE}; mknod {DEVICE} c 10 229")
    try:
        os.close(os.open(DEVICE, os.O_RDWR))
    except OSError as error:
        if error.errno in (errno.ENODEV, errno.ENXIO):
            return Finding("FUSE device", False, f"{DEVICE}: the kernel has no FUSE", "modprobe fuse")
        if error.errno == errno.EPERM:
            return Finding("FUSE device", False, f"{DEVICE}: forbidden here", "allow it in the container's cgroup")
        remedy = f"sudo chmod 666 {DEVICE}, or run as root"
        return Finding("FUSE device", False, f"no permission on {DEVICE} ({mode})", remedy)
    return Finding("FUSE device", True, f"{DEVICE} ({mode})")


def setuid_fusermount() -> str | None:
    """The path of fusermount3 if it can mount for an ordinary user."""
    path = shutil.which("fusermount3")
    if path is None:
        return None
    status = os.stat(path)
    return path if status.st_uid == 0 and status.st_mode & stat.S_ISUID else None


def fusermount() -> Finding:
    """Is fusermount3 there?"""
    path = shutil.which("fusermount3")
    if path is None:
        return Finding("fusermount3", False, "not found, nothing cleans up after a killed daemon", "apt install fuse3")
    if not setuid_fusermount():
        remedy = f"chmod u+s {path} lets ordinary users mount"
        return Finding("fusermount3", os.geteuid() == 0, f"{path}, not setuid root", remedy)
    return Finding("fusermount3", True, path)


def libfuse() -> Finding:
    """Is there a libfuse that the binding can load?"""
    name = find_libfuse(3)
    if name:
        return Finding("libfuse", True, name)
    name = find_libfuse(2)
    if name:
        return Finding("libfuse", True, f"{name} (libfuse 3 is faster: apt install libfuse3-3)")
    return Finding("libfuse", False, "neither libfuse3 nor libfuse2", "apt install fuse3")


def check_fuse() -> None:
    """Raise MountError if a mount cannot work."""
    for finding in (device(), libfuse()):
        if not finding.ok:
            raise MountError(finding.detail, finding.remedy)


def _in_child(attempt: Callable[[], None]) -> OSError | None:
    """What `attempt()` raises in a forked process, whose namespaces end with it."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 0
        try:
            attempt()
        except OSError as error:
            code = error.errno or 1
        finally:
            os.write(writer, str(code).encode())
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as answer:
        code = int(answer.read() or b"1")
    os.waitpid(pid, 0)
    return OSError(code, os.strerror(code)) if code else None


def _switch(path: str) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None


def user_namespaces() -> Finding:
    """May this user make a user namespace, and is he root in it?"""
    from mmfs.mount.namespace import become_root_in_new_namespace

    error = _in_child(become_root_in_new_namespace)
    if error is None:
        return Finding("user namespaces", True, "allowed")
    remedy = "see user_namespaces(7)"
    if _switch("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1":
        remedy = "AppArmor forbids them: sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0"
    elif _switch("/proc/sys/kernel/unprivileged_userns_clone") == "0":
        remedy = "sudo sysctl kernel.unprivileged_userns_clone=1"
    elif _switch("/proc/sys/user/max_user_namespaces") == "0":
        remedy = "sudo sysctl user.max_user_namespaces=10000"
    elif error.errno == errno.EPERM:
        remedy = "a container's seccomp or capability policy forbids them: run as root there, with --privileged"
    needed = os.geteuid() != 0
    return Finding("user namespaces", not needed, f"{error.strerror}{'' if needed else ' (root needs none)'}", remedy)


def mount_namespaces() -> Finding:
    """Can `mmfs run` make a mount namespace and put a procfs into it?"""
    from mmfs.mount.namespace import enter_namespaces

    error = _in_child(enter_namespaces)
    if error is None:
        return Finding("mount namespaces", True, "allowed")
    remedy = "mmfs run needs CAP_SYS_ADMIN or user namespaces; mmfs mount works without"
    if error.errno == errno.EINVAL:
        remedy = "/ is not a mount point here (chroot?): mount --bind ROOT ROOT before entering it"
    return Finding("mount namespaces", False, error.strerror or "", remedy)


def pid_namespaces() -> Finding:
    """Can `mmfs run` keep kill(2) from reaching this machine's own processes?"""
    from mmfs.mount.namespace import new_pid_namespace

    error = _in_child(new_pid_namespace)
    if error is None:
        return Finding("PID namespaces", True, "allowed")
    return Finding("PID namespaces", True, f"{error.strerror}: in mmfs run, kill reaches this machine's processes")


def python_packages() -> Iterator[Finding]:
    """The packages that mmfs is built on."""
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding("Python", sys.version_info >= (3, 11), version, "mmfs needs Python 3.11 or newer")
    for module, package in PACKAGES:
        if util.find_spec(module) is None:
            yield Finding(package, False, "not installed", f"pip install {package}")
        else:
            yield Finding(package, True, metadata.version(package))


def fast_path() -> Finding:
    """Are the inner loops compiled?"""
    if os.environ.get("MMFS_PURE"):
        return Finding("fast path", True, "uncompiled, as MMFS_PURE says")
    package = util.find_spec("mmfs.fastpath")
    folder = Path(package.origin).parent if package and package.origin else None
    if folder is None:
        return Finding("fast path", False, "mmfs.fastpath is missing", "reinstall mmfs")
    compiled = {path.name.split(".")[0] for path in folder.glob("*.so")}
    missing = sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__" and path.stem not in compiled)
    if missing:
        return Finding("fast path", True, f"not compiled ({', '.join(missing)}), slow: run scripts/build-fastpath")
    return Finding("fast path", True, "compiled")


def mount_helper() -> Finding:
    """Does mount(8) find mmfs? It runs helpers with the default path."""
    path = shutil.which("mmfs", path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    helper = next((name for name in HELPERS if os.path.exists(name)), None)
    if helper is None:
        return Finding("mount -t fuse.mmfs", True, "optional: apt install fuse3 makes mount(8) take it")
    if path is None:
        here = shutil.which("mmfs") or "PATH/TO/mmfs"
        return Finding(
            "mount -t fuse.mmfs", True, f"optional: sudo ln -s {here} /usr/local/bin/mmfs makes mount(8) take it"
        )
    return Finding("mount -t fuse.mmfs", True, f"{helper} runs {path}")


def diagnose() -> Iterator[Finding]:
    """Every finding, in the order in which a user would look."""
    yield device()
    yield libfuse()
    yield fusermount()
    yield user_namespaces()
    yield mount_namespaces()
    yield pid_namespaces()
    yield mount_helper()
    yield from python_packages()
    yield fast_path()
