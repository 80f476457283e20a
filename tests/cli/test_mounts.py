"""What mountinfo says."""

from __future__ import annotations

from pathlib import Path

from mmfs.mount.mounts import all_mounts, canonical, mmfs_mounts, mount_at, unescape


def test_mountinfo() -> None:
    """The mounts of this process are found by their directories."""
    kinds = {mount.mountpoint: mount.fstype for mount in all_mounts()}
    assert kinds["/proc"] == "proc"
    found = mount_at("/proc/")
    assert found is not None
    assert found.fstype == "proc"
    assert found.root == "/"
    assert mount_at("/proc/self") is None
    assert all(mount.fstype == "fuse.mmfs" for mount in mmfs_mounts())


def test_escapes() -> None:
    """Spaces and tabs in a mountpoint."""
    assert unescape(r"/mnt/a\040b\011c\134d") == "/mnt/a b\tc\\d"


def test_canonical(tmp_path: Path) -> None:
    """Links and dots on the way are resolved; the last name may not exist."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert canonical(f"{tmp_path}/link/../link/x") == f"{tmp_path}/real/x"
    assert canonical(f"{tmp_path}/link/") == f"{tmp_path}/real"
    assert canonical(f"{tmp_path}/link/.") == f"{tmp_path}/real"
    assert canonical("/") == "/"
    assert canonical("//proc//") == "/proc"
    assert canonical("here") == str(Path.cwd() / "here")
