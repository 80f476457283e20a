"""The mount table, and the file system types that the kernel knows.

What is mounted where on a simulated machine is what a Debian machine shows after its init has run: a bare one
mounts little, one with systemd the usual two dozen. File systems without a disk get device numbers 0:N in the order
in which they are first mounted, and some of them the kernel mounts for itself long before init: so the first
one that init mounts is 0:22.

Linux: fs/namespace.c, fs/proc_namespace.c, fs/super.c, fs/filesystems.c.
Simplified: one mount namespace; the table says what is mounted, paths are not resolved through it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from mmfs.mm_types import HPAGE_PMD_SIZE, PAGE_SIZE
from mmfs.profile import Needs, Profile, config, since, until


class FileSystemType(NamedTuple):
    """A kind of file system. Linux: struct file_system_type."""

    name: str
    requires_dev: bool = False
    needs: Needs | None = None


FILESYSTEMS: Final = (
    FileSystemType("sysfs"),
    FileSystemType("tmpfs"),
    FileSystemType("bdev", needs=~config("64BIT")),
    FileSystemType("bdev", needs=config("64BIT") & since(7, 0)),
    FileSystemType("proc"),
    FileSystemType("cgroup"),
    FileSystemType("cgroup2"),
    FileSystemType("cpuset", needs=until(6, 12)),
    FileSystemType("devtmpfs"),
    FileSystemType("debugfs"),
    FileSystemType("tracefs"),
    FileSystemType("securityfs"),
    FileSystemType("sockfs"),
    FileSystemType("bpf", needs=config("CGROUP_BPF")),
    FileSystemType("pipefs"),
    FileSystemType("ramfs"),
    FileSystemType("hugetlbfs"),
    FileSystemType("devpts"),
    FileSystemType("fuseblk", requires_dev=True, needs=config("FUSE_FS")),
    FileSystemType("fuse", needs=config("FUSE_FS")),
    FileSystemType("fusectl", needs=config("FUSE_FS")),
    FileSystemType("virtiofs", needs=config("FUSE_FS")),
    FileSystemType("mqueue", needs=config("X86")),
    FileSystemType("pstore", needs=config("X86")),
    FileSystemType("ext3", requires_dev=True),
    FileSystemType("ext2", requires_dev=True),
    FileSystemType("ext4", requires_dev=True),
    FileSystemType("mqueue", needs=config("ARM64")),
)
"""In the order of their registration."""


def filesystems(profile: Profile) -> tuple[FileSystemType, ...]:
    """Those that a kernel has."""
    return tuple(one for one in FILESYSTEMS if one.needs is None or one.needs(profile))


DEV_SHM_MNT: Final = 1
"""The tmpfs of shared anonymous memory, memfds and SysV segments (0:1)."""


class MountNumbers(NamedTuple):
    """Where a kernel's numbers begin, which depends on what it has mounted for itself.

    `kernel_devs`: instances that exist from boot and that every mount of the type shows.
    """

    first_id: int
    first_anon_dev: int
    kernel_devs: Mapping[str, int]
    needs: Needs


NUMBERS: Final = (
    MountNumbers(
        24, 22, {"devtmpfs": 6, "securityfs": 7, "debugfs": 8, "tracefs": 13, "mqueue": 20}, since(6, 12)
    ),
    MountNumbers(
        22, 20, {"devtmpfs": 5, "securityfs": 6, "debugfs": 7, "tracefs": 12, "mqueue": 19}, until(6, 12)
    ),
)
NOSUID: Final = "nosuid,nodev,noexec,relatime"


class Mount(NamedTuple):
    """One mount. Linux: fs/mount.h, struct mount and its superblock."""

    mnt_id: int
    parent_id: int
    dev: tuple[int, int]
    root: str
    mountpoint: str
    options: str
    """Of the mount: rw,nosuid,..."""
    fstype: str
    source: str
    super_options: str
    """Of the file system, beginning with rw or ro."""
    shared: int = 0
    """The peer group that mount events propagate in, 0 for a private mount."""

    @property
    def combined_options(self) -> str:
        """Both kinds of options, as /proc/mounts prints them. Linux: fs/proc_namespace.c, show_vfsmnt()."""
        extra = self.super_options.partition(",")[2]
        return f"{self.options},{extra}" if extra else self.options


class MountTable:
    """What is mounted, in the order in which it was. Linux: struct mnt_namespace."""

    def __init__(self, profile: Profile) -> None:
        self.inode64 = bool(profile.config("TMPFS_INODE64"))
        numbers = next(numbers for numbers in NUMBERS if numbers.needs(profile))
        self.mounts: list[Mount] = []
        self._kernel_devs = numbers.kernel_devs
        self._next_id = numbers.first_id
        self._next_peer_group = 1
        self._next_anon_dev = numbers.first_anon_dev

    def __iter__(self) -> Iterator[Mount]:
        return iter(self.mounts)

    def __len__(self) -> int:
        return len(self.mounts)

    def find(self, path: str) -> Mount:
        """The mount that a path lies on."""
        best = self.root
        for mount in self.mounts:
            prefix = mount.mountpoint.rstrip("/")
            if (path == prefix or path.startswith(prefix + "/")) and len(mount.mountpoint) >= len(best.mountpoint):
                best = mount
        return best

    @property
    def root(self) -> Mount:
        """The root of the namespace."""
        return next(mount for mount in self.mounts if mount.mountpoint == "/")

    def alloc_mount_id(self) -> int:
        """The next mount's number. Linux: fs/namespace.c, mnt_alloc_id()."""
        self._next_id += 1
        return self._next_id - 1

    def get_anon_bdev(self, fstype: str) -> tuple[int, int]:
        """A device number for a file system without a device. Linux: fs/super.c, get_anon_bdev()."""
        if fstype in self._kernel_devs:
            return 0, self._kernel_devs[fstype]
        self._next_anon_dev += 1
        return 0, self._next_anon_dev - 1

    def mount(
        self,
        source: str,
        mountpoint: str,
        fstype: str,
        options: str = "rw,relatime",
        super_options: str = "rw",
        *,
        dev: tuple[int, int] | None = None,
        shared: bool = False,
        mnt_id: int | None = None,
        parent_id: int | None = None,
    ) -> Mount:
        """mount(2)."""
        if not self.inode64:
            super_options = super_options.replace(",inode64", "")
        if parent_id is None:
            parent_id = self.find(mountpoint).mnt_id
        peer_group = 0
        if shared:
            peer_group, self._next_peer_group = self._next_peer_group, self._next_peer_group + 1
        mount = Mount(
            self.alloc_mount_id() if mnt_id is None else mnt_id,
            parent_id,
            self.get_anon_bdev(fstype) if dev is None else dev,
            "/",
            mountpoint,
            options,
            fstype,
            source,
            super_options,
            peer_group,
        )
        self.mounts.append(mount)
        return mount

    def reconfigure(self, fstype: str, super_options: str) -> None:
        """All mounts of a file system that there is one of show its new options."""
        self.mounts = [
            mount._replace(super_options=super_options) if mount.fstype == fstype else mount for mount in self.mounts
        ]

    def remount(self, dev: tuple[int, int], super_options: str) -> None:
        """The mounts of one file system show its new options."""
        self.mounts = [
            mount._replace(super_options=super_options) if mount.dev == dev else mount for mount in self.mounts
        ]

    def umount(self, mountpoint: str) -> None:
        """umount(2): the newest mount there goes."""
        for mount in reversed(self.mounts):
            if mount.mountpoint == mountpoint:
                self.mounts.remove(mount)
                return
        raise KeyError(mountpoint)


PAGE_KB: Final = PAGE_SIZE >> 10
Hierarchies = Sequence[tuple[str, str]]
"""The directories below /sys/fs/cgroup on which those of cgroup v1 are mounted, with their options."""


def bare_mounts(
    root: tuple[str, tuple[int, int]], early_ram_pages: int, ram_pages: int, profile: Profile,
    cgroup1: Hierarchies = (), high_pages: int = 0,
) -> MountTable:  # fmt: skip
    """What an init that does the minimum mounts: an initramfs's /dev and root, then proc, sysfs and friends."""
    table = MountTable(profile)
    device, dev = root
    proc_id, dev_id, root_id = (table.alloc_mount_id() for _ in range(3))
    table.mount("dev", "/dev", "devtmpfs", super_options=devtmpfs_options(early_ram_pages, high_pages), mnt_id=dev_id,
                parent_id=root_id)  # fmt: skip
    table.mount(device, "/", "ext4", dev=dev, mnt_id=root_id, parent_id=1)
    table.mount("proc", "/proc", "proc", mnt_id=proc_id)
    table.mount("sysfs", "/sys", "sysfs")
    table.mount("debugfs", "/sys/kernel/debug", "debugfs")
    table.mount("tmpfs", "/dev/shm", "tmpfs", super_options="rw,inode64")
    table.mount("devpts", "/dev/pts", "devpts", super_options="rw,mode=600,ptmxmode=000")
    table.mount("tmpfs", "/tmp", "tmpfs", super_options=f"rw,size={ram_pages * PAGE_KB // 5}k,inode64")
    if cgroup1:
        table.mount("tmpfs", "/sys/fs/cgroup", "tmpfs", "ro,relatime", "ro,mode=755,inode64")
        for name, super_options in cgroup1:
            table.mount("cgroup", f"/sys/fs/cgroup/{name}", "cgroup", super_options=super_options)
    else:
        table.mount("none", "/sys/fs/cgroup", "cgroup2")
    return table


def systemd_mounts(
    root: tuple[str, tuple[int, int]], early_ram_pages: int, ram_pages: int, profile: Profile,
    cgroup1: Hierarchies = (), high_pages: int = 0,
) -> MountTable:  # fmt: skip
    """What systemd mounts on a Debian server."""
    table = MountTable(profile)
    device, dev = root
    sys_id, proc_id, dev_id, pts_id, run_id, root_id = (table.alloc_mount_id() for _ in range(6))
    tenth = ram_pages * PAGE_KB // 10
    rows: Iterable[tuple[str, str, str, str, str, int | None]] = (
        ("sysfs", "/sys", "sysfs", f"rw,{NOSUID}", "rw", sys_id),
        ("proc", "/proc", "proc", f"rw,{NOSUID}", "rw", proc_id),
        ("udev", "/dev", "devtmpfs", "rw,nosuid,relatime", devtmpfs_options(early_ram_pages, high_pages), dev_id),
        ("devpts", "/dev/pts", "devpts", "rw,nosuid,noexec,relatime", "rw,gid=5,mode=620,ptmxmode=000", pts_id),
        ("tmpfs", "/run", "tmpfs", f"rw,{NOSUID}", f"rw,size={tenth}k,mode=755,inode64", run_id),
        ("securityfs", "/sys/kernel/security", "securityfs", f"rw,{NOSUID}", "rw", None),
        ("tmpfs", "/dev/shm", "tmpfs", "rw,nosuid,nodev", "rw,inode64", None),
        *_cgroup_rows(cgroup1),
        ("none", "/sys/fs/pstore", "pstore", f"rw,{NOSUID}", "rw", None),
        ("bpf", "/sys/fs/bpf", "bpf", f"rw,{NOSUID}", "rw,mode=700", None),
        ("hugetlbfs", "/dev/hugepages", "hugetlbfs", "rw,nosuid,nodev,relatime",
         f"rw,pagesize={HPAGE_PMD_SIZE >> 20}M", None),
        ("debugfs", "/sys/kernel/debug", "debugfs", f"rw,{NOSUID}", "rw", None),
        ("mqueue", "/dev/mqueue", "mqueue", f"rw,{NOSUID}", "rw", None),
        ("tracefs", "/sys/kernel/tracing", "tracefs", f"rw,{NOSUID}", "rw", None),
        ("tmpfs", "/run/lock", "tmpfs", f"rw,{NOSUID}", "rw,size=5120k,inode64", None),
        ("tmpfs", "/tmp", "tmpfs", "rw,nosuid,nodev",
         f"rw,size={ram_pages * PAGE_KB // 2}k,nr_inodes=1048576,inode64", None),
        ("tmpfs", "/run/user/0", "tmpfs", "rw,nosuid,nodev,relatime",
         f"rw,size={tenth}k,nr_inodes={ram_pages // 10},mode=700,inode64", None),
    )  # fmt: skip
    parents = {"/sys": root_id, "/proc": root_id, "/dev": root_id, "/dev/pts": dev_id, "/run": root_id}
    for source, where, fstype, options, super_options, mnt_id in rows:
        table.mount(source, where, fstype, options, super_options, shared=True, mnt_id=mnt_id,
                    parent_id=parents.get(where))  # fmt: skip
        if where == "/run":
            table.mount(device, "/", "ext4", "rw,relatime", "rw,errors=remount-ro", dev=dev, shared=True,
                        mnt_id=root_id, parent_id=1)  # fmt: skip
    return table


def _cgroup_rows(cgroup1: Hierarchies) -> list[tuple[str, str, str, str, str, int | None]]:
    """The unified hierarchy, or those of cgroup v1 below a tmpfs. Linux's part of it: kernel/cgroup/cgroup-v1.c."""
    if not cgroup1:
        return [("cgroup2", "/sys/fs/cgroup", "cgroup2", f"rw,{NOSUID}", "rw,nsdelegate,memory_recursiveprot", None)]
    tmpfs = "ro,size=4096k,nr_inodes=1024,mode=755,inode64"
    return [
        ("tmpfs", "/sys/fs/cgroup", "tmpfs", "ro,nosuid,nodev,noexec", tmpfs, None),
        *(("cgroup", f"/sys/fs/cgroup/{name}", "cgroup", f"rw,{NOSUID}", options, None) for name, options in cgroup1),
    ]


def devtmpfs_options(early_ram_pages: int, high_pages: int) -> str:
    """The size limit of /dev: half of the memory there was when it was made; inodes cannot lie in high memory.

    Linux: mm/shmem.c, shmem_default_max_blocks(), shmem_default_max_inodes().
    """
    pages = early_ram_pages // 2
    inodes = min(early_ram_pages - high_pages, pages)
    return f"rw,size={pages * PAGE_KB}k,nr_inodes={inodes},mode=755,inode64"
