"""Kernel memory of cgroups by the byte: what a real 6.12 charged for the same, and what becomes of it."""

from __future__ import annotations

import pytest

from mmfs.kernel.kernel import Kernel
from mmfs.kernel.namei import O_CREAT, O_RDWR
from mmfs.kernel.signal import TaskKilled
from mmfs.mm.check_memcg import pages_by_row
from mmfs.mm.mman import MADV_DONTNEED
from mmfs.mm_types import NodeStatItem

PAGE, MB = 4096, 1 << 20
G = "/sys/fs/cgroup"


def make(kernel: Kernel, path: str) -> str:
    parent = f"{G}/{path}".rpartition("/")[0]
    kernel.write(f"{parent}/cgroup.subtree_control", "+memory")
    kernel.mkdir(f"{G}/{path}")
    return f"{G}/{path}"


def stat(kernel: Kernel, path: str) -> dict[str, int]:
    lines = kernel.read(f"{path}/memory.stat").decode().splitlines()
    return {name: int(value) for name, value in (line.split() for line in lines)}


def current(kernel: Kernel, path: str) -> int:
    return int(kernel.read(f"{path}/memory.current"))


def test_what_a_hundred_tasks_take(kernel: Kernel) -> None:
    """A real 6.12 with as many: a busybox shell in a cgroup that had started 100 `sleep`s, on two CPUs.

    Its stacks, 16384 a task, and percpu counters, 64 an address space, to the byte; the slab within 15 %, as VMAs are
    a matter of the C library.
    """
    g = make(kernel, "g")
    shell = kernel.spawn("busybox", cgroup="/g")
    before = stat(kernel, g)
    for _ in range(100):
        shell.fork().execve("busybox")
    after = stat(kernel, g)
    grown = {name: after[name] - before[name] for name in after}
    assert grown["kernel_stack"] == 100 * 4 * PAGE
    assert grown["percpu"] == 100 * 64
    assert grown["slab_unreclaimable"] / 100 == pytest.approx(1810760 / 101, rel=0.15)
    rest = after["kernel"] - sum(after[name] for name in ("kernel_stack", "pagetables", "percpu", "slab"))
    assert 0 <= rest - 101 * 2 * PAGE < 2 * PAGE  # page directories are in no row


def test_what_names_and_inodes_take(kernel: Kernel) -> None:
    """A real 6.12 that made 3000 files in a cgroup: an ext4 inode and a dentry each, 8 bytes more to tell whose."""
    g = make(kernel, "g")
    task = kernel.spawn("maker", cgroup="/g")
    before = stat(kernel, g)
    for number in range(3000):
        task.close(task.open(f"/data/d/f{number}", O_RDWR | O_CREAT))
    after = stat(kernel, g)
    assert after["slab_reclaimable"] - before["slab_reclaimable"] == pytest.approx(4333176 - 177840, rel=0.01)
    assert current(kernel, g) >= after["slab_reclaimable"]
    kernel.write("/proc/sys/vm/drop_caches", "2")
    gone = after["slab_reclaimable"] - stat(kernel, g)["slab_reclaimable"]
    assert gone == 3000 * (1168 + 8 + 192 + 8)  # buffer heads of the inodes' blocks stay


def test_what_the_trees_and_buffer_heads_of_cached_pages_take(kernel: Kernel) -> None:
    """A real 6.12 that wrote 64 MB in a cgroup: 1988688 bytes, a buffer head a page and a node for each 64."""
    g = make(kernel, "g")
    task = kernel.spawn("writer", cgroup="/g")
    before = stat(kernel, g)
    fd = task.open("/data/big", O_RDWR | O_CREAT)
    task.write(fd, 64 << 20)
    grown = stat(kernel, g)["slab_reclaimable"] - before["slab_reclaimable"]
    assert grown == pytest.approx(1988688, rel=0.01)
    task.close(fd)
    kernel.sync()
    kernel.write("/proc/sys/vm/drop_caches", "3")
    assert stat(kernel, g)["slab_reclaimable"] <= before["slab_reclaimable"]


def test_a_full_cgroup_gives_up_its_own_names(kernel: Kernel) -> None:
    """Reclaim in one cgroup leaves the names and inodes of another alone."""
    groups = {name: make(kernel, name) for name in ("a", "b")}
    for name in groups:
        task = kernel.spawn("maker", cgroup=f"/{name}")
        for number in range(3000):
            task.close(task.open(f"/data/{name}/f{number}", O_RDWR | O_CREAT))
    kernel.sync()
    before = {name: stat(kernel, path)["slab_reclaimable"] for name, path in groups.items()}
    with pytest.raises(OSError):  # all of it is more than there is
        kernel.write(f"{groups['a']}/memory.reclaim", "64M")
    after = {name: stat(kernel, path)["slab_reclaimable"] for name, path in groups.items()}
    assert after["a"] < before["a"] / 2
    assert after["b"] == before["b"]


@pytest.mark.machine(ram="256M", cpus=1)
@pytest.mark.slow
def test_nodes_that_hold_nothing_but_shadows_are_given_back(kernel: Kernel) -> None:
    """Reading a file of many times the memory leaves no more of them than a shadow for each eighth page."""
    task = kernel.spawn("reader")
    kernel.create_file("/data/huge", "8G")
    fd = task.open("/data/huge", O_RDWR)
    xa_nodes = kernel.mmu.folios.nodes
    for step in range(8):
        task.read(fd, 1 << 30, step << 30)
    listed = kernel.vmstat.global_node_page_state(NodeStatItem.WORKINGSET_NODES)
    assert 0 < listed == xa_nodes.nr_shadow_nodes(0)
    present = sum(pgdat.node_present_pages for pgdat in kernel.node_data)
    assert listed < present // 8 + 4096
    assert kernel.vmstat.global_node_page_state(NodeStatItem.WORKINGSET_NODERECLAIM) > 10_000
    kernel.check()


def test_all_of_it_comes_back(kernel: Kernel) -> None:
    g = make(kernel, "g")
    shell = kernel.spawn("sh", cgroup="/g")
    children = [shell.fork() for _ in range(20)]
    for child in children:
        child.exit()
        shell.wait(child.pid)
    shell.exit()
    left = stat(kernel, g)
    assert left["percpu"] == left["kernel_stack"] == left["pagetables"] == 0
    assert left["slab_unreclaimable"] < PAGE  # its zombie
    assert left["kernel"] <= 5 * PAGE


def test_a_cgroup_that_is_removed_hands_it_on(kernel: Kernel) -> None:
    """Names and inodes do not keep it dying; its parent pays until they go."""
    parent, g = make(kernel, "p"), make(kernel, "p/g")
    before = stat(kernel, parent)
    task = kernel.spawn("maker", cgroup="/p/g")
    for number in range(100):
        task.close(task.open(f"/tmp/f{number}", O_RDWR | O_CREAT))
    task.exit()
    kernel.rmdir(g)
    kernel.write("/proc/sys/vm/drop_caches", "1")
    kernel.mkdir(f"{parent}/other")  # whoever is gone is let go now
    kernel.rmdir(f"{parent}/other")
    kernel.check()
    grown = stat(kernel, parent)["slab"] - before["slab"]
    assert grown >= 100 * (760 + 8 + 192 + 8)
    assert current(kernel, parent) >= grown
    for number in range(100):
        kernel.namei.unlink(f"/tmp/f{number}")
    kernel.check()
    assert stat(kernel, parent)["slab"] < before["slab"] + 100 * (760 + 8 + 192 + 8)


@pytest.mark.parametrize("above", ["p", ""], ids=["below another", "below the root"])
def test_a_cgroup_that_is_removed_hands_on_pages_of_the_kernel(kernel: Kernel, above: str) -> None:
    """Stacks and page tables of who has moved out do not keep it dying; its parent pays until they go."""
    parent, g = make(kernel, "p"), make(kernel, "p/g" if above else "g")
    before = stat(kernel, parent)
    shell = kernel.spawn("sh", cgroup="/p/g" if above else "/g")
    mover = shell.fork()
    shell.exit()
    addr = mover.mmap(8 * MB)
    mover.touch(addr, 8 * MB)
    tables, stack = stat(kernel, g)["pagetables"], stat(kernel, g)["kernel_stack"]
    assert tables >= 4 * PAGE and stack == 16384
    kernel.write("/sys/fs/cgroup/cgroup.procs", str(mover.pid))
    kernel.rmdir(g)
    kernel.check()
    for line in kernel.read(f"/proc/{mover.pid}/maps").decode().splitlines():
        if "[v" not in line:  # what reclaim could have taken goes, the tables stay
            start, end = (int(word, 16) for word in line.split()[0].split("-"))
            mover.madvise(start, end - start, MADV_DONTNEED)
    kernel.write("/proc/sys/vm/drop_caches", "3")
    assert "nr_dying_descendants 0\n" in kernel.read(f"{G}/cgroup.stat").decode()
    kernel.check()
    if above:
        now = stat(kernel, parent)
        assert (now["pagetables"] - before["pagetables"], now["kernel_stack"]) == (tables, stack)
        assert current(kernel, parent) >= tables + stack
    mover.exit()
    kernel.check()
    assert pages_by_row(kernel)[1][0] == 0, "nothing is left with the root"
    assert stat(kernel, parent)["pagetables"] == before["pagetables"] and not stat(kernel, parent)["kernel_stack"]


def test_a_full_cgroup_cannot_fork(kernel: Kernel) -> None:
    g = make(kernel, "g")
    shell = kernel.spawn("sh", cgroup="/g")
    kernel.write(f"{g}/memory.max", str(current(kernel, g)))
    kernel.write(f"{g}/memory.swap.max", "0")

    def fill() -> None:
        for _ in range(200):
            shell.fork()

    with pytest.raises((OSError, TaskKilled)):
        fill()
    assert "max 0" not in kernel.read(f"{g}/memory.events").decode()
    kernel.check()


def test_zswap_pays_for_its_copies(kernel: Kernel) -> None:
    """memory.current holds what copies take, which is less than the pages did."""
    kernel.write("/sys/module/zswap/parameters/enabled", "1")
    g = make(kernel, "g")
    task = kernel.spawn("hog", cgroup="/g")
    area = task.mmap(8 << 20)
    task.touch(area, 8 << 20, write=True)
    full, kernel_before = current(kernel, g), stat(kernel, g)["kernel"]
    with pytest.raises(OSError):  # all of it is more than there is
        kernel.write(f"{g}/memory.reclaim", "16M")
    row = stat(kernel, g)
    assert row["zswapped"] > 4 << 20
    assert current(kernel, g) < full - row["zswapped"] + row["zswap"] + 256 * PAGE
    assert row["kernel"] - kernel_before == pytest.approx(row["zswap"], abs=2 * PAGE + 64 * PAGE)
    kernel.check()
    task.exit()
    assert stat(kernel, g)["zswap"] == 0
