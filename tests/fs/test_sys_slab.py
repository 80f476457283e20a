"""/sys/kernel/slab: directories, links, values and errno of a real 6.12."""

from __future__ import annotations

import errno
import os
import stat

import pytest

from mmfs.kernel.kernel import Kernel
from mmfs.kernel.namei import O_CREAT, O_RDWR
from tests.golden.captures import CAPTURES

SLAB = "/sys/kernel/slab"
BOOT = CAPTURES / "512M/00-boot/sys/kernel/slab"
# What depends on what has happened since boot.
STATE = {
    "cpu_slabs", "objects", "objects_partial", "partial", "slabs", "slabs_cpu_partial", "total_objects",
}  # fmt: skip


def read(kernel: Kernel, path: str) -> str:
    return kernel.read(f"{SLAB}/{path}").decode()


def control(kernel: Kernel, text: str) -> str:
    """A command of sim/control, and its answer."""
    file = kernel.vfs.open("/sim/control", os.O_RDWR)
    file.write(text.encode())
    return file.read(4096, 0).decode()


def errno_of(kernel: Kernel, path: str, text: str) -> str:
    try:
        kernel.write(f"{SLAB}/{path}", text)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "ok"


def test_links_are_those_of_a_real_kernel(kernel: Kernel) -> None:
    links = {path.name.removesuffix(".LINK"): path.read_text().strip() for path in BOOT.glob("*.LINK")}
    for name, target in links.items():
        assert kernel.vfs.readlink(f"{SLAB}/{name}") == target
    names = set(kernel.listdir(SLAB))
    ours = {name for name in names if stat.S_ISLNK(kernel.vfs.lstat(f"{SLAB}/{name}").mode)}
    assert ours >= set(links)
    assert {kernel.vfs.readlink(f"{SLAB}/{name}") for name in ours} == {name for name in names if name.startswith(":")}
    assert len(names - ours) == len(kernel.slab)


@pytest.mark.parametrize("cache", [path.name for path in BOOT.iterdir() if path.is_dir()])
def test_attributes_are_those_of_a_real_kernel(kernel: Kernel, cache: str) -> None:
    real = {path.name: path.read_text() for path in (BOOT / cache).iterdir()}
    assert set(kernel.listdir(f"{SLAB}/{cache}")) == set(real)
    for name, text in real.items():
        if name not in STATE:
            assert read(kernel, f"{cache}/{name}") == text, name


def test_lists_are_told_by_node_and_cpu(kernel: Kernel) -> None:
    task = kernel.spawn("maker")
    for number in range(2000):
        task.close(task.open(f"/data/f{number}", O_RDWR | O_CREAT))
    kernel.write("/proc/sys/vm/drop_caches", "2")
    cache = kernel.slab["dentry"]
    rows = {name: read(kernel, f"dentry/{name}").split() for name in STATE}
    kept = int(cache.cpus["partial_slabs"].sum())
    assert kept > 0 and int(cache.nodes["nr_partial"][0]) > 0
    assert rows["slabs"] == [str(cache.nr_slabs), f"N0={cache.nr_slabs}"]
    assert rows["total_objects"] == [str(cache.num_objs), f"N0={cache.num_objs}"]
    assert rows["objects"] == [str(cache.active_objs), f"N0={cache.active_objs}"]
    assert int(rows["cpu_slabs"][0]) == kept + int((cache.cpus["slab"] != 0).sum())
    assert rows["slabs_cpu_partial"][0] == f"{kept * 21 // 2}({kept})"
    assert rows["partial"][0] == str(cache.nodes["nr_partial"][0])
    slabinfo = next(line for line in kernel.read("/proc/slabinfo").decode().splitlines() if line.startswith("dentry "))
    assert slabinfo.split()[1:3] == [rows["objects"][0], rows["total_objects"][0]]


WRITES = [
    ("min_partial", "0", "ok", "0"), ("min_partial", "7\n", "ok", "7"), ("min_partial", "-1", "EINVAL", "5"),
    ("min_partial", "x", "EINVAL", "5"), ("min_partial", "0x10", "EINVAL", "5"),
    ("min_partial", "99999999999999999999", "ERANGE", "5"), ("min_partial", " 7", "EINVAL", "5"),
    ("cpu_partial", "0", "ok", "0"), ("cpu_partial", "4294967295", "ok", "4294967295"),
    ("cpu_partial", "4294967296", "ERANGE", "120"), ("cpu_partial", "-1", "EINVAL", "120"),
    ("remote_node_defrag_ratio", "0", "ok", "0"), ("remote_node_defrag_ratio", "101", "ERANGE", "100"),
    ("remote_node_defrag_ratio", "-1", "EINVAL", "100"), ("remote_node_defrag_ratio", "4294967296", "ERANGE", "100"),
    ("shrink", "1", "ok", ""), ("shrink", "11", "ok", ""), ("shrink", "0", "EINVAL", ""), ("shrink", "x", "EINVAL", ""),
    ("validate", "1", "EINVAL", ""), ("validate", "0", "EINVAL", ""),
    ("skip_kfence", "1", "ok", "1"), ("skip_kfence", "0", "ok", "0"), ("skip_kfence", "2", "EINVAL", "0"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "error", "after"), WRITES)
def test_writes(kernel: Kernel, name: str, text: str, error: str, after: str) -> None:
    """As a real 6.12 answered, whose shell did not tell which error it was: that is the kernel's source's."""
    assert errno_of(kernel, f"dentry/{name}", text) == error
    assert read(kernel, f"dentry/{name}").strip() == after


def test_shrinking_gives_pages_back(kernel: Kernel) -> None:
    task = kernel.spawn("maker")
    for number in range(5000):
        task.close(task.open(f"/data/f{number}", O_RDWR | O_CREAT))
    kernel.write("/proc/sys/vm/drop_caches", "2")
    before = kernel.slab["dentry"].nr_slabs
    kernel.write(f"{SLAB}/dentry/shrink", "1")
    cache = kernel.slab["dentry"]
    assert cache.nr_slabs < before
    assert read(kernel, "dentry/cpu_slabs") == "0\n"
    assert cache.num_objs - cache.nr_objects_inuse < before * 21 - cache.nr_objects_inuse


def test_a_full_list_of_a_cpu_is_as_long_as_is_said(kernel: Kernel) -> None:
    kernel.write(f"{SLAB}/kmalloc-64/cpu_partial", "0")
    assert int(kernel.slab["kmalloc-64"].record["cpu_partial_slabs"]) == 0
    objects = [kernel.slab.kmalloc(64) for _ in range(64 * 20)]
    for obj in objects:
        kernel.slab.kfree(obj)
    assert max(kernel.slab["kmalloc-64"].cpus["partial_slabs"]) <= 1


def slab_kb(kernel: Kernel) -> dict[str, int]:
    lines = kernel.read("/proc/meminfo").decode().splitlines()
    return {line.split(":")[0]: int(line.split()[1]) for line in lines}


def test_a_leak_grows_until_it_is_freed(kernel: Kernel) -> None:
    """A driver that keeps 64 MB of kmalloc-1k: SUnreclaim tells, and so does the cache's row."""
    before = slab_kb(kernel)
    assert control(kernel, "kmalloc 1000 count=65536") == "65536\n"
    after = slab_kb(kernel)
    assert after["SUnreclaim"] - before["SUnreclaim"] == pytest.approx(65536, abs=64)
    assert after["SReclaimable"] == before["SReclaimable"]
    assert kernel.slab["kmalloc-1k"].active_objs >= 65536
    assert control(kernel, "kfree 1000 count=65000") == "536\n"
    kernel.write(f"{SLAB}/kmalloc-1k/shrink", "1")
    assert slab_kb(kernel)["SUnreclaim"] - before["SUnreclaim"] < 700
    assert control(kernel, "kmalloc 20000 count=10") == "10\n"
    kernel.check()
    assert control(kernel, "kfree 20000") == "0\n"


def test_a_storm_of_names_is_reclaimable(kernel: Kernel) -> None:
    task = kernel.spawn("locate")
    before = slab_kb(kernel)
    control(kernel, f"find {task.pid} /data/maildir 20000")
    after = slab_kb(kernel)
    assert after["SReclaimable"] - before["SReclaimable"] == pytest.approx(20000 * (192 + 1168 + 15) / 1024, rel=0.05)
    kernel.write("/proc/sys/vm/drop_caches", "2")
    assert slab_kb(kernel)["SReclaimable"] - before["SReclaimable"] < 1500


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("kmalloc 0", "EINVAL"), ("kmalloc 5M", "EINVAL"), ("kmalloc 64 kind=x", "EINVAL"),
        ("kfree 64 count=1", "EINVAL"), ("find 99999 /data/x 1", "ESRCH"),
    ],
)  # fmt: skip
def test_bad_commands(kernel: Kernel, text: str, error: str) -> None:
    with pytest.raises(OSError) as raised:
        control(kernel, text)
    assert errno.errorcode[raised.value.errno or 0] == error
