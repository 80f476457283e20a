"""Memory: memory.stat and memory.numa_stat

Not modelled: zeros for want of what they count: sec_pagetables, file_thp, *_khugepaged.
"""

from __future__ import annotations

import pytest

from tests.cgroup_v2.machine import MB, PAGE, Machine, errno_of

SLACK = 2 * 64 * PAGE
"""What two CPUs may have counted and not told of yet."""
PER_NODE = {
    "anon", "file", "kernel_stack", "pagetables", "sec_pagetables", "shmem", "file_mapped", "file_dirty",
    "file_writeback", "swapcached", "anon_thp", "file_thp", "shmem_thp", "inactive_anon", "active_anon",
    "inactive_file", "active_file", "unevictable", "slab_reclaimable", "slab_unreclaimable",
    "workingset_refault_anon", "workingset_refault_file", "workingset_activate_anon", "workingset_activate_file",
    "workingset_restore_anon", "workingset_restore_file", "workingset_nodereclaim", "pgdemote_kswapd",
    "pgdemote_direct", "pgdemote_khugepaged", "pgpromote_success",
}  # fmt: skip
"""Those that the manual does not tag npn, without those of zswap, which the kernel does not keep by node."""


@pytest.fixture
def tree(machine: Machine) -> Machine:
    """A cgroup `a` with the memory controller."""
    machine.enable("memory")
    machine.make("a")
    return machine


def stat(tree: Machine) -> dict[str, int]:
    return tree.rows("a/memory.stat")


def test_all_rows_are_there(tree: Machine) -> None:
    """The rows of the manual are there, in the kernel's order; it is in the root, too."""
    names = list(stat(tree))
    assert names[:3] == ["anon", "file", "kernel"] and PER_NODE - {"zswap"} <= set(names)
    assert {
        "percpu", "sock", "vmalloc", "zswap", "zswapped", "slab", "pgscan", "pgsteal", "pgscan_kswapd", "pgscan_direct",
        "pgscan_khugepaged", "pgsteal_kswapd", "pgsteal_direct", "pgsteal_khugepaged", "pgfault", "pgmajfault",
        "pgrefill", "pgactivate", "pgdeactivate", "pglazyfree", "pglazyfreed", "zswpin", "zswpout", "zswpwb",
        "thp_fault_alloc", "thp_collapse_alloc", "thp_swpout", "thp_swpout_fallback",
    } <= set(names)  # fmt: skip
    assert list(tree.rows("memory.stat")) == names


def test_anon(tree: Machine) -> None:
    """`anon`: memory in anonymous mappings."""
    before = stat(tree)["anon"]
    tree.spawn("a").grow(8 * MB)
    assert abs(stat(tree)["anon"] - before - 8 * MB) <= SLACK


HUGE = 2 * MB
ENABLED = "/sys/kernel/mm/transparent_hugepage/enabled"


def test_anon_thp(tree: Machine) -> None:
    """`anon_thp`: memory in huge pages; `thp_fault_alloc`: how many of them a fault has brought."""
    process = tree.spawn("a")
    process.thp(True)
    tree.write(ENABLED, "always")
    process.grow(32 * MB)
    tree.write(ENABLED, "never")  # as it is at boot on a machine this small
    after = settled(tree)
    assert 30 * MB <= after["anon_thp"] <= 32 * MB
    assert after["thp_fault_alloc"] == after["anon_thp"] // HUGE and after["thp_collapse_alloc"] == 0


def test_shmem_thp(tree: Machine) -> None:
    """`shmem_thp`: shared memory in huge pages."""
    tree.tmpfs("huge=always")
    tree.spawn("a").fill("/dev/shm/f", 6 * MB)
    assert settled(tree)["shmem_thp"] == settled(tree)["shmem"] == 6 * MB
    tree.cut("/dev/shm/f", MB)
    assert settled(tree)["shmem_thp"] == 0
    tree.unlink("/dev/shm/f")
    tree.tmpfs("huge=never")


def test_thp_collapse_alloc(tree: Machine) -> None:
    """`thp_collapse_alloc`: huge pages that took the place of pages in use."""
    process = tree.spawn("a")
    process.thp(False)
    process.grow(32 * MB)
    before = settled(tree)
    assert before["anon_thp"] == before["thp_fault_alloc"] == 0
    process.thp(True)
    process.collapse()
    after = settled(tree)
    assert 30 * MB <= after["anon_thp"] <= 32 * MB
    assert after["thp_collapse_alloc"] == after["anon_thp"] // HUGE and after["thp_fault_alloc"] == 0


def settled(tree: Machine) -> dict[str, int]:
    """memory.stat once the kernel has added up what CPUs have counted, which it does every two seconds."""
    tree.sleep(2.2)
    return stat(tree)


TRUE_SIZES = {0: 960, 300: 960, 400: 1280, 1000: 2304, 4000: 8448, 16000: 16640, 17000: 17960, 65507: 66467}
"""What datagrams of so many bytes count for: their data with its headroom, as the slab rounds it, and a descriptor."""


def test_sock(tree: Machine) -> None:
    """`sock`: memory of sockets' buffers, in pages; it is in memory.current and goes with the socket."""
    process = tree.spawn("a")
    for length, size in TRUE_SIZES.items():
        process.socket(4 * MB)
        current = tree.number("a/memory.current")
        process.send(length, 48)
        pages = -(-48 * size // PAGE)
        assert settled(tree)["sock"] == pages * PAGE
        assert abs(tree.number("a/memory.current") - current - pages * PAGE) <= SLACK
        process.shut()
        assert settled(tree)["sock"] == 0


def test_sock_is_given_back(tree: Machine) -> None:
    """What was received counts until a quarter of the buffer has come together, or all is read; a page stays."""
    process = tree.spawn("a")
    process.socket(128 << 10)
    process.send(1000, 60)
    assert settled(tree)["sock"] == 34 * PAGE
    process.receive(28)
    assert settled(tree)["sock"] == 34 * PAGE
    process.receive(1)
    assert settled(tree)["sock"] == 18 * PAGE
    process.receive(31)
    assert settled(tree)["sock"] == PAGE
    process.exit()
    assert tree.eventually(lambda: stat(tree)["sock"] == 0)


def test_sock_is_dropped_above_the_buffer(tree: Machine) -> None:
    """A full buffer takes one datagram more and drops what comes then."""
    process = tree.spawn("a")
    process.socket(64 << 10)
    process.send(1000, 200)
    assert settled(tree)["sock"] == -(-(2 * 65536 // 2304 + 1) * 2304 // PAGE) * PAGE


def test_sock_stays_with_the_cgroup(tree: Machine) -> None:
    """Sockets are charged to the cgroup in which they were made, also when the process has left it."""
    process = tree.spawn("a")
    process.socket(1 * MB)
    tree.make("b")
    tree.write("b/cgroup.procs", process.pid)
    process.send(65507, 10)
    assert settled(tree)["sock"] == 163 * PAGE
    assert tree.rows("b/memory.stat")["sock"] == 0


def test_sock_is_forced_above_the_limit(tree: Machine) -> None:
    """What comes in for a socket is taken above memory.max, and memory.events' `max` tells of it."""
    process = tree.spawn("a")
    process.socket(8 * MB)
    tree.write("a/memory.max", tree.number("a/memory.current"))
    process.send(65507, 40)
    assert settled(tree)["sock"] == 650 * PAGE
    assert tree.number("a/memory.current") > tree.number("a/memory.max") + 1 * MB
    assert tree.rows("a/memory.events")["max"] >= 30 and tree.rows("a/memory.events")["oom"] == 0


def test_vmalloc(tree: Machine) -> None:
    """`vmalloc`: areas for the cgroup's processes, such as a table for a million files; kernel stacks are not in it."""
    process = tree.spawn("a")
    process.fork()
    assert settled(tree)["vmalloc"] == 0
    process.dup(100_000)
    now = settled(tree)
    assert now["vmalloc"] == 0 and now["slab_unreclaimable"] >= (1 << 20) + (64 << 10)
    process.dup(1_048_575)
    now = settled(tree)
    assert now["vmalloc"] == 8 * MB and now["slab_unreclaimable"] < 1 * MB and now["kernel"] >= now["vmalloc"]
    process.exit()
    assert tree.eventually(lambda: stat(tree)["vmalloc"] == 0)


def test_file(tree: Machine) -> None:
    """`file`: cached files, tmpfs and shared memory included; `shmem`: the part of it that is swap-backed."""
    process = tree.spawn("a")
    process.read("/data/f", 0, 8 * MB)
    process.share(4 * MB)
    found = stat(tree)
    assert abs(found["shmem"] - 4 * MB) <= SLACK and found["file"] >= 12 * MB - SLACK


def test_kernel_is_the_sum(tree: Machine) -> None:
    """`kernel`: all kernel memory, at least the rows for stacks, page tables, percpu, vmalloc and slab together."""
    tree.spawn("a").fork().grow(16 * MB)
    found = stat(tree)
    parts = ("kernel_stack", "pagetables", "percpu", "vmalloc", "slab_reclaimable", "slab_unreclaimable")
    assert found["kernel"] + SLACK >= sum(found[name] for name in parts)


def test_kernel_stack(tree: Machine) -> None:
    """`kernel_stack`: 16 KB for each thread."""
    process = tree.spawn("a")
    tree.sleep(2.5)  # after which all has been told of
    before = stat(tree)["kernel_stack"]
    process.fork()
    process.thread()
    assert tree.eventually(lambda: stat(tree)["kernel_stack"] - before == 2 * 16384)


def test_pagetables(tree: Machine) -> None:
    """`pagetables`: a page for each 2 MB that are touched."""
    process = tree.spawn("a")
    before = stat(tree)["pagetables"]
    process.grow(32 * MB)
    assert 15 * PAGE <= stat(tree)["pagetables"] - before <= 20 * PAGE


def test_file_dirty(tree: Machine) -> None:
    """`file_dirty`: cached data that was changed and is not on the disk."""
    process = tree.spawn("a")
    process.fill("/data/new", 8 * MB)
    assert stat(tree)["file_dirty"] >= 6 * MB
    process.drop("/data/new")
    assert stat(tree)["file_dirty"] + stat(tree)["file_writeback"] <= SLACK


def test_swapcached_counts_for_both(tree: Machine) -> None:
    """`swapcached`: what is in memory and on swap is charged as both."""
    tree.write("a/memory.high", 16 * MB)
    process = tree.spawn("a")
    process.grow(32 * MB)
    process.again()
    both = tree.number("a/memory.current") + tree.number("a/memory.swap.current")
    assert stat(tree)["swapcached"] <= both - 32 * MB + SLACK


def test_lists(tree: Machine) -> None:
    """active and inactive, anon and file, are the lists; what is shared memory is on those of anon."""
    process = tree.spawn("a")
    process.grow(8 * MB)
    process.share(4 * MB)
    process.read("/data/f", 0, 8 * MB)
    found = stat(tree)
    assert abs(found["active_anon"] + found["inactive_anon"] - found["anon"] - found["shmem"]) <= 2 * SLACK
    file = found["active_file"] + found["inactive_file"]
    assert abs(file - (found["file"] - found["shmem"])) <= 2 * SLACK


def test_pgfault_and_pgmajfault(tree: Machine) -> None:
    """`pgfault` counts faults; `pgmajfault` those that had to read."""
    process = tree.spawn("a")
    before = stat(tree)
    process.grow(4 * MB)
    between = stat(tree)
    assert 1024 <= between["pgfault"] - before["pgfault"] <= 1100 and between["pgmajfault"] == before["pgmajfault"]
    errno_of(tree.write, "a/memory.reclaim", "4M swappiness=200")
    process.again()
    assert stat(tree)["pgmajfault"] > between["pgmajfault"]


def test_scan_and_steal(tree: Machine) -> None:
    """`pgscan` and `pgsteal`: pages looked at and taken, by kswapd, directly and by khugepaged, and their sum."""
    tree.write("a/memory.max", 16 * MB)
    tree.spawn("a").read("/data/f", 0, 48 * MB)
    found = stat(tree)
    assert 7000 <= found["pgsteal"] <= found["pgscan"] <= 12000
    for name in ("pgscan", "pgsteal"):
        assert found[name] == sum(found[f"{name}_{by}"] for by in ("kswapd", "direct", "khugepaged"))
    assert found["pgscan_kswapd"] == 0


def test_refaults(tree: Machine) -> None:
    """`workingset_refault_file` and `_anon` count pages that come back after they were taken."""
    tree.write("a/memory.max", 16 * MB)
    process = tree.spawn("a")
    process.read("/data/f", 0, 24 * MB)
    before = stat(tree)
    process.read("/data/f", 0, 24 * MB)
    assert stat(tree)["workingset_refault_file"] - before["workingset_refault_file"] >= 2000
    tree.write("a/memory.max", "max")
    process.grow(8 * MB)
    errno_of(tree.write, "a/memory.reclaim", "28M swappiness=200")
    process.again()
    assert stat(tree)["workingset_refault_anon"] > 0


def test_numa_stat(machine_with_nodes: Machine) -> None:
    """memory.numa_stat has the rows that are kept by node, in bytes of each node."""
    machine = machine_with_nodes
    machine.enable("memory cpuset")
    machine.make("a")
    machine.write("a/cpuset.mems", 1)
    machine.spawn("a").grow(8 * MB)
    rows = dict(line.split(" ", 1) for line in machine.read("a/memory.numa_stat").splitlines())
    assert set(rows) == PER_NODE
    nodes = dict(part.split("=") for part in rows["anon"].split())
    assert set(nodes) == {"N0", "N1"} and int(nodes["N1"]) >= 8 * MB - SLACK > int(nodes["N0"])


def test_numa_stat_adds_up(machine_with_nodes: Machine) -> None:
    """The nodes of a row add up to that row of memory.stat."""
    machine = machine_with_nodes
    machine.enable("memory")
    machine.make("a")
    for _ in range(3):
        process = machine.spawn("a")
        process.grow(4 * MB)
        process.read("/data/f", 0, 4 * MB)
    total = machine.rows("a/memory.stat")
    for line in machine.read("a/memory.numa_stat").splitlines():
        name, *nodes = line.split()
        assert sum(int(node.partition("=")[2]) for node in nodes) == total[name], name
