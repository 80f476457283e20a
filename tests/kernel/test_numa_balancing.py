"""NUMA balancing: what the scan marks, what a hinting fault moves, where tasks go, what is promoted."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest

from mmfs.kernel.sched import CLONE_FILES, CLONE_FS, CLONE_SIGHAND, CLONE_THREAD, CLONE_VM

Boot = Callable[..., Any]
MB = 1 << 20
PAGES = MB // 4096
NODES = [{"memory": "384M", "cpus": 1}, {"memory": "384M", "cpus": 1}]
TIERED = [{"memory": "384M", "cpus": 1}, {"memory": "384M", "cpus": 0, "slow": True}]
GROUP, MODE = "/sys/fs/cgroup/g", "/proc/sys/kernel/numa_balancing"
TUNABLES = "/sys/kernel/debug/sched/numa_balancing"


def vmstat(kernel: Any, path: str = "/proc/vmstat") -> dict[str, int]:
    """The counters of a file."""
    return {name: int(value) for name, value in (line.split() for line in kernel.read(path).decode().splitlines())}


def sched(task: Any) -> dict[str, str]:
    """The rows of /proc/PID/sched, and the words of its last lines."""
    text = task.kernel.read(f"/proc/{task.pid}/sched").decode()
    rows = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}
    for line in text.splitlines():
        if line.startswith("numa_faults"):
            node, *words = line.split()[1:]
            rows |= {f"{node} {key}": value for key, _, value in (word.partition("=") for word in words)}
    return rows


def on_nodes(kernel: Any) -> list[int]:
    """Anonymous memory of the cgroup by node, in MB."""
    text = kernel.read(f"{GROUP}/memory.numa_stat").decode()
    row = next(line for line in text.splitlines() if line.startswith("anon "))
    return [round(int(part.partition("=")[2]) / MB) for part in row.split()[1:]]


def far_task(kernel: Any, megabytes: int = 32, cpus: str = "0", born: str = "0") -> tuple[Any, int]:
    """A process on node 0 whose memory is on node 1; it takes that on CPU `born`, from whose node huge pages come."""
    kernel.write("/sys/fs/cgroup/cgroup.subtree_control", "+memory +cpuset")
    kernel.mkdir(GROUP)
    kernel.write(f"{GROUP}/cpuset.mems", "1")
    kernel.write(f"{GROUP}/cpuset.cpus", born)
    task = kernel.spawn("far", cgroup="/g")
    addr = task.mmap(megabytes * MB)
    task.touch(addr, megabytes * MB, write=True)
    kernel.write(f"{GROUP}/cpuset.mems", "0-1")
    kernel.write(f"{GROUP}/cpuset.cpus", cpus)
    return task, addr


def work(task: Any, addr: int, size: int, seconds: float, write: bool = True) -> None:
    """Be busy, looking at all the memory fifty times a second."""
    kernel = task.kernel
    for _ in range(round(seconds * 50)):
        task.touch(addr, size, write=write)
        kernel.scheduler.charge(task, user_ns=18_000_000)
        kernel.run_for(0.02)
    kernel.check()


def mark(task: Any, addr: int) -> None:
    """Be busy until the address space has been scanned."""
    kernel = task.kernel
    before = vmstat(kernel)["numa_pte_updates"]
    for _ in range(60):
        task.touch(addr, 4096)
        if vmstat(kernel)["numa_pte_updates"] > before:
            return
        kernel.scheduler.charge(task, user_ns=90_000_000)
        kernel.run_for(0.1)
    raise AssertionError("it was not scanned")


@pytest.fixture
def kernel(boot: Boot) -> Any:
    return boot(nodes=NODES, preset="bare", cmdline="transparent_hugepage=never", seed=1)


def test_memory_follows_its_task(kernel: Any) -> None:
    """Once it has run for a second; with counts as a real 6.12 has them: a write faults once more behind the move."""
    task, addr = far_task(kernel)
    before = vmstat(kernel)
    work(task, addr, 32 * MB, 0.8)
    assert vmstat(kernel)["numa_pte_updates"] == 0 and on_nodes(kernel) == [0, 32]
    work(task, addr, 32 * MB, 2)
    after = vmstat(kernel)
    assert on_nodes(kernel) == [32, 0]
    for name in ("numa_hint_faults", "numa_pages_migrated", "pgmigrate_success"):
        assert after[name] - before[name] == 32 * PAGES, name
    assert 0 <= after["numa_pte_updates"] - 32 * PAGES < 32  # its stack and the like
    assert after["pgreuse"] - before["pgreuse"] == 32 * PAGES
    assert after["pgfault"] - before["pgfault"] == 2 * 32 * PAGES
    assert after["numa_hint_faults_local"] == after["numa_huge_pte_updates"] == 0
    rows = vmstat(kernel, f"{GROUP}/memory.stat")
    assert rows["numa_pages_migrated"] == rows["numa_hint_faults"] == 32 * PAGES
    assert rows["numa_pte_updates"] == after["numa_pte_updates"] and rows["pgpromote_success"] == 0
    table = sched(task)
    assert table["numa_pages_migrated"] == str(32 * PAGES) and table["numa_preferred_nid"] == "0"
    assert table["node=0 task_private"] == table["total_numa_faults"] != "0"
    assert table["node=1 task_private"] == table["node=0 task_shared"] == "0"
    assert int(table["mm->numa_scan_seq"]) >= 1


def test_a_read_faults_once(kernel: Any) -> None:
    task, addr = far_task(kernel)
    before = vmstat(kernel)
    work(task, addr, 32 * MB, 2.5, write=False)
    after = vmstat(kernel)
    assert on_nodes(kernel) == [32, 0]
    assert after["pgfault"] - before["pgfault"] == 32 * PAGES and after["pgreuse"] == before["pgreuse"]


def test_what_is_local_is_not_marked(kernel: Any) -> None:
    task = kernel.spawn("near")
    addr = task.mmap(32 * MB)
    task.touch(addr, 32 * MB, write=True)
    work(task, addr, 32 * MB, 3)
    assert vmstat(kernel)["numa_pte_updates"] < 32


@pytest.mark.parametrize("way", ["sysctl", "cmdline", "one node"])
def test_off(boot: Boot, way: str) -> None:
    cmdline = "transparent_hugepage=never" + (" numa_balancing=disable" if way == "cmdline" else "")
    kernel = boot(nodes=NODES[:1] if way == "one node" else NODES, preset="bare", cmdline=cmdline)
    if way == "sysctl":
        kernel.write(MODE, "0")
    assert kernel.read(MODE) == b"0\n"
    said = [text for *_, text in kernel.printk.records if "automatic NUMA balancing" in text]
    assert bool(said) is (way == "sysctl")
    task = kernel.spawn("far")
    addr = task.mmap(32 * MB)
    task.touch(addr, 32 * MB, write=True)
    work(task, addr, 32 * MB, 2)
    assert task.numa is None or way == "sysctl"
    assert vmstat(kernel)["numa_pte_updates"] == vmstat(kernel)["numa_hint_faults"] == 0


def test_marked_entries_are_mapped(kernel: Any) -> None:
    """Marked memory is resident, is in pagemap, goes to a child, can be locked, protected, moved and swapped."""
    task, addr = far_task(kernel)
    mark(task, addr)
    assert vmstat(kernel)["numa_pte_updates"] >= 32 * PAGES
    faults = vmstat(kernel)["numa_hint_faults"]
    assert task.mm.rss > 32 * PAGES
    assert "N1=" in kernel.read(f"/proc/{task.pid}/numa_maps").decode()
    kernel.check()
    child = task.fork()
    child.mprotect(addr + MB, MB, 1)
    child.madvise(addr + 2 * MB, MB, 4)
    moved = child.mremap(addr + 4 * MB, MB, 2 * MB, 1)
    child.touch(moved, MB, write=True)
    task.mlock(addr + 8 * MB, MB)
    kernel.check()
    child.exit()
    assert vmstat(kernel)["numa_hint_faults"] > faults
    task.touch(addr, 32 * MB, write=True)
    kernel.check()
    assert task.mm.rss > 32 * PAGES


def test_switched_off_with_entries_marked(kernel: Any) -> None:
    task, addr = far_task(kernel)
    mark(task, addr)
    kernel.write(MODE, "0")
    task.touch(addr, 32 * MB, write=True)
    kernel.check()
    assert vmstat(kernel)["numa_hint_faults"] >= 32 * PAGES - 2
    assert not kernel.numa_balancing.enabled


def test_a_policy_is_not_overruled(kernel: Any) -> None:
    task, addr = far_task(kernel)
    task.mbind(addr, 32 * MB, "bind", (1,))
    work(task, addr, 32 * MB, 3)
    assert on_nodes(kernel) == [0, 32] and vmstat(kernel)["numa_hint_faults"] < 32


def test_shared_libraries_stay(kernel: Any) -> None:
    """Pages of files that are only read are not marked."""
    kernel.create_file("/lib", "8M")
    task, _ = far_task(kernel)
    at = task.mmap(8 * MB, prot=1, flags=2, file="/lib")
    task.touch(at, 8 * MB)
    faults = vmstat(kernel)["numa_hint_faults"]
    for _ in range(100):
        task.touch(at, 8 * MB)
        kernel.scheduler.charge(task, user_ns=18_000_000)
        kernel.run_for(0.02)
    assert vmstat(kernel)["numa_hint_faults"] == faults


def test_the_target_may_be_full(boot: Boot) -> None:
    """A node at its high watermark takes nothing; the pages stay and give access again."""
    kernel = boot(nodes=NODES, preset="bare", cmdline="transparent_hugepage=never")
    task, addr = far_task(kernel)
    other = kernel.spawn("other")
    task_cpu = other.processor
    other.processor = 0
    room = other.mmap(600 * MB)
    free = int(kernel.vmstat.zone_stat[:5, 0].sum()) // PAGES
    other.mbind(room, 600 * MB, "bind", (0,))
    other.touch(room, (free - 4) * MB, write=True)
    other.processor = task_cpu
    work(task, addr, 32 * MB, 2.5)
    far = on_nodes(kernel)[1]
    rows = vmstat(kernel)
    assert far >= 28 and rows["numa_hint_faults"] >= 32 * PAGES and rows["numa_pages_migrated"] < 4 * PAGES


def test_huge_pages_follow_whole(boot: Boot) -> None:
    big = [{"memory": "512M", "cpus": 1}, {"memory": "512M", "cpus": 1}]
    kernel = boot(nodes=big, preset="bare")
    task, addr = far_task(kernel, 64, born="1")
    huge = vmstat(kernel, f"{GROUP}/memory.stat")["anon_thp"] // (2 * MB)
    assert huge >= 30
    before = vmstat(kernel)
    work(task, addr, 64 * MB, 3)
    after = vmstat(kernel)
    assert on_nodes(kernel) == [64, 0]
    assert after["thp_migration_success"] - before["thp_migration_success"] == huge
    assert after["numa_huge_pte_updates"] >= huge
    assert after["numa_pages_migrated"] >= huge * 512
    assert vmstat(kernel, f"{GROUP}/memory.stat")["anon_thp"] // (2 * MB) == huge


def test_the_task_follows_its_memory(kernel: Any) -> None:
    """Threads that share memory with both nodes; the one whose node has most of what it uses stays or goes there."""
    task, addr = far_task(kernel, cpus="0-1")
    first = task.clone(CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD)
    for _ in range(400):
        for one in (task, first):
            one.touch(addr, 32 * MB, write=True)
            kernel.scheduler.charge(one, user_ns=18_000_000)
        kernel.run_for(0.02)
    kernel.check()
    rows = vmstat(kernel)
    assert rows["numa_hint_faults"] > 32 * PAGES
    assert rows["numa_hint_faults_local"] > 0
    assert {sched(one)["numa_preferred_nid"] for one in (task, first)} <= {"0", "1"}
    assert sum(on_nodes(kernel)) == 32


def test_an_idle_cpu_of_the_preferred_node(kernel: Any) -> None:
    task, _ = far_task(kernel, cpus="0-1")
    task.processor = 0
    mine = kernel.numa_balancing.of_task(task)
    mine.fast.preferred_nid = 1
    kernel.numa_balancing.numa_migrate_preferred(task, mine)
    assert kernel.cpu_to_node(task.processor) == 1
    assert mine.fast.migrate_retry > kernel.numa_balancing.now_ms


def test_scan_size_limits_a_scan(kernel: Any) -> None:
    kernel.write(f"{TUNABLES}/scan_size_mb", "4")
    task, addr = far_task(kernel)
    mark(task, addr)
    assert 0 < vmstat(kernel)["numa_pte_updates"] <= 6 * PAGES
    kernel.write(f"{TUNABLES}/scan_size_mb", "0")
    updates = vmstat(kernel)["numa_pte_updates"]
    work(task, addr, 32 * MB, 2)
    assert vmstat(kernel)["numa_pte_updates"] == updates


def test_tunables(kernel: Any) -> None:
    """Numbers in any base, cut to 32 bits, as debugfs_create_u32() has them; asked of a real 6.12."""
    wanted = {"scan_delay_ms": 1000, "scan_period_min_ms": 1000, "scan_period_max_ms": 60000, "scan_size_mb": 256,
              "hot_threshold_ms": 1000}  # fmt: skip
    assert set(kernel.listdir(TUNABLES)) == set(wanted)
    for name, value in wanted.items():
        assert kernel.read(f"{TUNABLES}/{name}") == b"%d\n" % value
        assert kernel.stat(f"{TUNABLES}/{name}").st_mode & 0o777 == 0o644
    for text, value in (("500\n", 500), ("0x10", 16), ("4294967296", 0)):
        kernel.write(f"{TUNABLES}/scan_delay_ms", text)
        assert kernel.read(f"{TUNABLES}/scan_delay_ms") == b"%d\n" % value
    for text in ("-1", "abc", "\n"):
        with pytest.raises(OSError, match="Errno 22"):
            kernel.write(f"{TUNABLES}/scan_delay_ms", text)
    for text in ("5", "-1"):
        with pytest.raises(OSError, match="22"):
            kernel.write(MODE, text)


# -- memory tiering ------------------------------------------------------------------------------------------------


@pytest.fixture
def tiered(boot: Boot) -> Any:
    kernel = boot(nodes=TIERED, preset="bare", cmdline="transparent_hugepage=never", seed=1)
    kernel.write(MODE, "2")
    return kernel


def test_hot_pages_are_promoted(tiered: Any) -> None:
    task, addr = far_task(tiered)
    work(task, addr, 32 * MB, 2.5)
    assert on_nodes(tiered) == [32, 0]
    rows = vmstat(tiered)
    assert rows["pgpromote_success"] == rows["pgpromote_candidate"] == rows["numa_pages_migrated"] == 32 * PAGES
    node = vmstat(tiered, "/sys/devices/system/node/node0/vmstat")
    assert node["pgpromote_success"] == 32 * PAGES
    assert vmstat(tiered, f"{GROUP}/memory.stat")["pgpromote_success"] == 32 * PAGES


def test_cold_pages_are_not(tiered: Any) -> None:
    """What is accessed a second after it was marked, or later, is cold."""
    task, addr = far_task(tiered)
    mark(task, addr)
    tiered.run_for(1.5)
    task.touch(addr, 32 * MB, write=True)
    rows = vmstat(tiered)
    assert rows["numa_hint_faults"] >= 32 * PAGES - 1 and rows["pgpromote_candidate"] <= 1
    assert on_nodes(tiered) == [0, 32]


def test_promotion_is_limited(tiered: Any) -> None:
    """In MB a second; pages beyond that stay until they are marked again."""
    tiered.write(MODE + "_promote_rate_limit_MBps", "4")
    task, addr = far_task(tiered)
    mark(task, addr)
    task.touch(addr, 32 * MB, write=True)
    rows = vmstat(tiered)
    assert rows["pgpromote_candidate"] >= 32 * PAGES and 0 <= rows["pgpromote_success"] - 4 * PAGES <= 1


def test_top_tier_is_not_marked(tiered: Any) -> None:
    task = tiered.spawn("near")
    addr = task.mmap(16 * MB)
    task.touch(addr, 16 * MB, write=True)
    work(task, addr, 16 * MB, 2.5)
    assert vmstat(tiered)["numa_pte_updates"] == 0


def test_normal_balancing_promotes_at_the_second_fault(tiered: Any) -> None:
    """Without tiering nothing is known of a slow node's page at first. Linux: cpupid_valid()."""
    tiered.write(MODE, "1")
    task, addr = far_task(tiered)
    mark(task, addr)
    task.touch(addr, 32 * MB, write=True)
    assert on_nodes(tiered) == [0, 32] and vmstat(tiered)["numa_hint_faults"] >= 32 * PAGES
    work(task, addr, 32 * MB, 6)
    assert on_nodes(tiered) == [32, 0] and vmstat(tiered)["pgpromote_success"] == 0


def test_what_was_demoted_comes_back(tiered: Any) -> None:
    tiered.write("/sys/kernel/mm/numa/demotion_enabled", "1")
    task, addr = far_task(tiered)
    work(task, addr, 32 * MB, 2.5)
    assert on_nodes(tiered) == [32, 0]
    tiered.write(f"{GROUP}/memory.swap.max", "0")
    tiered.write(f"{GROUP}/memory.reclaim", "16M")
    assert on_nodes(tiered)[1] >= 14
    work(task, addr, 32 * MB, 6)
    assert on_nodes(tiered) == [32, 0]


def test_saved_and_restored(kernel: Any) -> None:
    task, addr = far_task(kernel)
    mark(task, addr)
    other = pickle.loads(pickle.dumps(kernel))
    other.check()
    for one in (kernel, other):
        work(one.tasks[task.pid], addr, 32 * MB, 1)
    assert kernel.read("/proc/vmstat") == other.read("/proc/vmstat")
    assert sched(task) == sched(other.tasks[task.pid])
    assert on_nodes(other) == [32, 0]
