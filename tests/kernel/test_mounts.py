"""The mount table is a real machine's."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmfs.kernel.mounts import Mount, MountTable, bare_mounts, filesystems, systemd_mounts
from mmfs.profile import load_profile

CAPTURES = Path(__file__).parents[1] / "golden/captures"
BOOT = CAPTURES / "512M/00-boot"


def mountinfo(mount: Mount) -> str:
    """A line of /proc/PID/mountinfo. Linux: fs/proc_namespace.c, show_mountinfo()."""
    shared = f" shared:{mount.shared}" if mount.shared else ""
    major, minor = mount.dev
    return (
        f"{mount.mnt_id} {mount.parent_id} {major}:{minor} {mount.root} {mount.mountpoint} {mount.options}{shared}"
        f" - {mount.fstype} {mount.source} {mount.super_options}"
    )


@pytest.fixture
def bare() -> MountTable:
    # MemTotal of the capture, and what it was when /dev was made (its size is half of that).
    ram = {"early_ram_pages": 464440 // 4, "ram_pages": 472940 // 4}
    return bare_mounts(("/dev/vda", (254, 0)), **ram, profile=load_profile())


@pytest.fixture
def server() -> MountTable:
    return systemd_mounts(("/dev/vda", (254, 0)), 2_000_000, 2_031_000, load_profile())


def test_bare_is_golden(bare: MountTable) -> None:
    golden = (BOOT / "proc/self/mountinfo").read_text().splitlines()
    assert [mountinfo(mount) for mount in bare] == golden


def test_options_of_both_kinds_in_proc_mounts(bare: MountTable) -> None:
    assert next(iter(bare)).combined_options == "rw,relatime,size=232220k,nr_inodes=58055,mode=755,inode64"
    assert bare.root.combined_options == "rw,relatime"


@pytest.mark.parametrize(("profile", "machine"), [("6.12", "512M"), ("6.1", "512M-6.1")])
def test_filesystems_are_golden(profile: str, machine: str) -> None:
    golden = (CAPTURES / machine / "00-boot/proc/filesystems").read_text()
    kinds = filesystems(load_profile(profile))
    assert "".join(f"{'' if fs.requires_dev else 'nodev'}\t{fs.name}\n" for fs in kinds) == golden


def test_systemd_parents_exist_and_ids_and_devices_differ(server: MountTable) -> None:
    ids = [mount.mnt_id for mount in server]
    assert len(set(ids)) == len(ids)
    assert all(mount.parent_id in ids for mount in server if mount is not server.root)
    assert len({mount.dev for mount in server}) == len(server)
    assert server.find("/sys/fs/cgroup").parent_id == server.find("/sys").mnt_id
    assert sorted(mount.shared for mount in server) == list(range(1, len(server) + 1))


def test_find_takes_the_longest_mountpoint(server: MountTable) -> None:
    assert server.find("/usr/bin/top").mountpoint == "/"
    assert server.find("/dev/shm/x").mountpoint == "/dev/shm"
    assert server.find("/developers").mountpoint == "/"


def test_umount(server: MountTable) -> None:
    server.umount("/dev/shm")
    assert server.find("/dev/shm/x").mountpoint == "/dev"
    with pytest.raises(KeyError):
        server.umount("/dev/shm")
