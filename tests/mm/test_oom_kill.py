"""Who is killed, what of, and what the log says of it: held against real kernels' reports."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from mmfs.kernel.panic import KernelPanicError
from mmfs.kernel.sched import CLONE_VM
from mmfs.kernel.signal import SIGKILL, TaskKilled, exit_to_user_mode, fatal_signal_pending
from mmfs.mm.debug import gfp_flag_names, ranges
from mmfs.mm.mman import MAP_ANONYMOUS, MAP_SHARED
from mmfs.mm.oom_kill import OOM_REAPER_DELAY_NS, OomControl, OomKiller
from mmfs.mm_types import GFP_HIGHUSER_MOVABLE, GFP_KERNEL, GFP_NOWAIT, MM_ANONPAGES, VmEventItem
from tests.golden.oom import LOGS, report, with_levels

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task

pytestmark = pytest.mark.usefixtures("kernel")
Boot = Callable[..., "Kernel"]
MB = 1 << 20


def grow(task: Task, limit_mb: int = 1200, step_mb: int = 16) -> int:
    """Take anonymous memory step by step until the task is killed; how much it had then."""
    for had in range(0, limit_mb, step_mb):
        try:
            task.touch(task.mmap(step_mb * MB), step_mb * MB, write=True)
        except TaskKilled as killed:
            return had if killed.signal == SIGKILL else -1
    raise AssertionError("nobody killed it")


def log_since(kernel: Kernel, seq: int) -> str:
    return "".join(record.dmesg() for record in kernel.printk.since(seq))


def lines(kernel: Kernel) -> list[str]:
    return [record.text for record in kernel.printk.ring]


def meminfo(kernel: Any) -> dict[str, int]:
    """Its rows in kB."""
    return {name: int(kb) for name, kb in re.findall(r"(\w+): +(\d+)", kernel.read("/proc/meminfo").decode())}


# ---- the report -------------------------------------------------------------------------------------------------


@pytest.mark.slow  # minutes uncompiled: all of a machine is touched
@pytest.mark.parametrize(
    "log", sorted(LOGS.rglob("anon_growth_*.dmesg")), ids=lambda path: f"{path.parent.name}/{path.stem}"
)
def test_report_is_a_real_kernels(boot: Boot, log: Any) -> None:
    """Every line of a real kernel's report, in order, but for registers and path-dependent frames."""
    swap = None if "noswap" in log.stem else "256M"
    old = log.parent.name == "6.1"
    kernel = boot(ram="512M", swap=swap, cpus=2, seed=3, preset="bare", profile="6.1" if old else "6.12")
    parent = kernel.spawn("probe" if old else "golden", oom_score_adj=-1000)
    child = parent.fork()
    child.oom_score_adj = 0
    seq = kernel.printk.next_seq
    grow(child)
    golden = report(log.read_text())
    assert len(golden) > 40
    assert report(log_since(kernel, seq)) == golden


@pytest.mark.slow  # thousands of processes
def test_lowmem_runs_out_as_on_a_real_686_pae(boot: Boot) -> None:
    """60 GB, of which the kernel can use what the memory map leaves of 880 MB: forks take it, 58 GB stay free."""
    kernel = boot(ram="60G", cpus=2, preset="bare", arch="i386-pae", cmdline="psi=1")
    kernel.vm.oom_dump_tasks = 0
    header, *rows = (LOGS / "686-pae" / "forks.tsv").read_text().splitlines()
    real = {int(count): dict(zip(header.split()[1:], map(int, kb), strict=True)) for count, *kb in map(str.split, rows)}
    hold, probe = kernel.spawn("probe"), kernel.spawn("probe")
    hold.touch(hold.mmap("300M"), "300M", write=True)
    start, forks, seq = meminfo(kernel), 0, kernel.printk.next_seq
    while hold.alive:
        probe.fork()
        forks += 1
        if forks in real:
            now = meminfo(kernel)
            for row in ("LowFree", "KernelStack", "SUnreclaim"):
                assert now[row] - start[row] == pytest.approx(real[forks][row] - real[0][row], rel=0.04), (forks, row)
    assert forks == pytest.approx(5570, rel=0.04)
    assert meminfo(kernel)["HighFree"] > 58 << 20
    golden, own = report((LOGS / "686-pae" / "forks.dmesg").read_text()), report(log_since(kernel, seq))
    assert own[0].startswith("probe invoked oom-killer: "), "for whichever of fork's allocations"
    assert own[1:] == golden[1:]


@pytest.mark.slow
@pytest.mark.parametrize("profile", ["6.12-deb12", "6.1"])
@pytest.mark.parametrize(("name", "level"), [("deadlocked", 0), ("panic_on_oom2", 2)])
def test_report_of_a_panic_is_a_real_kernels(boot: Boot, name: str, level: int, profile: str) -> None:
    kernel = boot(ram="256M", swap=None, cpus=2, seed=3, preset="bare", profile=profile)
    name = name if profile == "6.12-deb12" else f"6.1/{name}"
    golden = (LOGS / f"{name}.dmesg").read_text()
    kernel.sysctl.panic = 5
    kernel.vm.panic_on_oom, kernel.vm.oom_dump_tasks = level, int(not level)
    kernel.overcommit.sysctl_overcommit_memory = 1
    task = kernel.spawn("probe", oom_score_adj=0 if level else -1000)
    seq = kernel.printk.next_seq
    with pytest.raises(KernelPanicError):
        grow(task)
    rows = [line for line in report(golden) if not line.startswith("[##")]  # the guest's shell is init's child
    assert [line for line in report(log_since(kernel, seq)) if not line.startswith("[##")] == rows
    assert kernel.printk.ring[-1].text == "Rebooting in 5 seconds.."


def test_report_of_a_cgroup_is_a_real_kernels(boot: Boot) -> None:
    """6.1 logs all of memory.stat in one record, which newer kernels do row by row."""
    kernel = boot(ram="256M", swap=None, cpus=2, seed=3, preset="bare", profile="6.1")
    kernel.write("/sys/fs/cgroup/cgroup.subtree_control", "+memory")
    kernel.vfs.mkdir("/sys/fs/cgroup/c")
    kernel.write("/sys/fs/cgroup/c/memory.max", "40M")
    task = kernel.spawn("probe", oom_score_adj=-1000).fork()
    task.oom_score_adj = 0
    kernel.write("/sys/fs/cgroup/c/cgroup.procs", str(task.pid))
    with pytest.raises(TaskKilled):
        task.touch(task.mmap("48M"), "48M", write=True)

    def of_cgroup(records: str) -> list[str]:
        found = with_levels(records)
        return found[next(n for n, line in enumerate(found) if "|memory: usage" in line) :]

    golden = of_cgroup((LOGS / "6.1/memcg.kmsg").read_text())
    assert len(golden) > 50
    ours = of_cgroup("".join(record.kmsg().decode() for record in kernel.printk.ring))
    assert [line for line in ours if "oom_reaper" not in line] == golden


def test_gfp_flags_have_names() -> None:
    assert gfp_flag_names(0x140DCA) == "GFP_HIGHUSER_MOVABLE|__GFP_COMP|__GFP_ZERO"
    assert gfp_flag_names(0xDC0) == "GFP_KERNEL|__GFP_ZERO"
    assert gfp_flag_names(GFP_KERNEL) == "GFP_KERNEL"
    assert gfp_flag_names(GFP_KERNEL | 1 << 30) == "GFP_KERNEL|0x40000000"


def test_node_lists_are_ranges() -> None:
    assert [ranges(nodes) for nodes in ([], [0], [0, 1], [0, 2, 3, 4, 7])] == ["", "0", "0-1", "0,2-4,7"]


def test_ten_reports_in_five_seconds(kernel: Kernel) -> None:
    for _ in range(13):
        kernel.spawn("hog")
        kernel.tasks.current = None
        kernel.oom_killer.out_of_memory(GFP_HIGHUSER_MOVABLE, 0)
    said = lines(kernel)
    assert sum("invoked oom-killer" in line for line in said) == 10
    assert sum(line.startswith("Out of memory: Killed process") for line in said) == 13
    kernel.run_for(6)
    kernel.spawn("hog")
    kernel.tasks.current = None
    kernel.oom_killer.out_of_memory(GFP_HIGHUSER_MOVABLE, 0)
    assert "oom_kill_process: 3 callbacks suppressed" in lines(kernel)


def test_failed_allocations_are_told_once_in_ten_seconds(kernel: Kernel) -> None:
    task = kernel.spawn("hog")
    task.touch(task.mmap("1M"), write=True)
    assert kernel.page_alloc.alloc_pages(GFP_KERNEL | 0x10000, 10) >= 0
    while kernel.page_alloc.alloc_pages(0x10000 | GFP_KERNEL, 10) >= 0:
        pass
    said = [line for line in lines(kernel) if "page allocation failure" in line]
    assert said == [
        "hog: page allocation failure: order:10, mode:0x10cc0(GFP_KERNEL|__GFP_NORETRY), "
        "nodemask=(null),cpuset=/,mems_allowed=0"
    ]
    assert "Mem-Info:" in lines(kernel)
    assert kernel.page_alloc.alloc_pages(GFP_KERNEL | 0x10000, 10) < 0
    assert kernel.page_alloc.alloc_pages(GFP_NOWAIT, 10) < 0
    assert len([line for line in lines(kernel) if "page allocation failure" in line]) == 1


# ---- who --------------------------------------------------------------------------------------------------------


def chosen(kernel: Kernel, **request: Any) -> Task | None:
    killer = OomKiller(kernel, lambda task: None, fatal_signal_pending)
    oc = OomControl(GFP_HIGHUSER_MOVABLE, 0, totalpages=kernel.totalram_pages(), **request)
    killer.select_bad_process(oc)
    return oc.chosen


def test_selection(kernel: Kernel) -> None:
    assert chosen(kernel) is None
    small, big = kernel.spawn("small"), kernel.spawn("big")
    big.touch(big.mmap("32M"), "32M", write=True)
    assert chosen(kernel) is big
    small.oom_score_adj = 1000
    assert chosen(kernel) is small
    small.exit(0)
    assert chosen(kernel) is big
    origin = kernel.spawn("swapoff")
    origin.signal.oom_flag_origin = True
    assert chosen(kernel) is origin


def test_sharers_die_too(kernel: Kernel) -> None:
    hog = kernel.spawn("hog")
    other = hog.clone(CLONE_VM)
    thread = hog.pthread_create("worker")
    bystander = kernel.spawn("bystander", oom_score_adj=-1000)
    kernel.tasks.current = None
    assert kernel.oom_killer.out_of_memory(GFP_HIGHUSER_MOVABLE, 0)
    assert not any(task.pid in kernel.tasks and task.alive for task in (hog, other, thread))
    assert bystander.alive and int(kernel.vmstat.event[VmEventItem.OOM_KILL]) == 1


def test_init_pins_what_it_shares(kernel: Kernel) -> None:
    child = kernel.tasks[1].clone(CLONE_VM)
    kernel.tasks.current = None
    kernel.oom_killer.out_of_memory(GFP_HIGHUSER_MOVABLE, 0)
    assert f"oom killer {child.pid} (init) has mm pinned by 1 (init)" in lines(kernel)
    assert child.pid not in kernel.tasks and kernel.tasks[1].alive
    kernel.run_for(3)
    assert not [line for line in lines(kernel) if line.startswith("oom_reaper:")]


@pytest.mark.slow
def test_oom_kill_allocating_task(boot: Boot) -> None:
    kernel = boot(ram="128M", swap=None, cpus=1, preset="bare")
    kernel.vm.oom_kill_allocating_task = 1
    big, small = kernel.spawn("big"), kernel.spawn("small")
    big.touch(big.mmap("50M"), "50M", write=True)
    grow(small, step_mb=4)
    assert big.alive and any("(oom_kill_allocating_task): Killed process" in line for line in lines(kernel))


def test_no_kill_without_fs(kernel: Kernel) -> None:
    """A request that may not enter the file system has not tried everything: nobody dies of it."""
    hog = kernel.spawn("hog")
    assert kernel.oom_killer.out_of_memory(GFP_KERNEL & ~0x80, 0)
    assert hog.alive


@pytest.mark.slow
def test_bound_to_a_node(boot: Boot) -> None:
    """A policy's nodes are the memory in question: who is bound to others is spared, the report shows these."""
    kernel = boot(ram="256M", swap=None, cpus=2, nodes=2, seed=1, preset="bare")
    elsewhere, here, bound = kernel.spawn("elsewhere"), kernel.spawn("here"), kernel.spawn("bound")
    elsewhere.set_mempolicy("bind", [0])
    elsewhere.touch(elsewhere.mmap("60M"), "60M", write=True)
    bound.set_mempolicy("bind", [1])
    kernel.vm.panic_on_oom = 1
    seq = kernel.printk.next_seq
    grow(bound, step_mb=8)
    assert elsewhere.alive and here.alive
    said = log_since(kernel, seq)
    assert "oom-kill:constraint=CONSTRAINT_MEMORY_POLICY,nodemask=1,cpuset=/,mems_allowed=0-1,global_oom," in said
    assert "Node 1 DMA32 free:" in said and "Node 0" not in said
    assert " elsewhere\n" not in said and " here\n" in said


# ---- who cannot go yet ------------------------------------------------------------------------------------------


@pytest.fixture
def stuck(kernel: Kernel) -> Task:
    """A process in the middle of a call, chosen by the OOM killer."""
    hog = kernel.spawn("hog")
    hog.touch(hog.mmap("32M"), "32M", write=True)
    kernel.tasks.current = None
    hog.busy = True
    assert kernel.oom_killer.out_of_memory(GFP_HIGHUSER_MOVABLE, 0)
    assert hog.alive and fatal_signal_pending(hog) and hog.signal.oom_mm is hog.mm
    return hog


def test_reaper(kernel: Kernel, stuck: Task) -> None:
    mm, clock = stuck.mm, kernel.clock
    assert mm is not None and mm.get_mm_counter(MM_ANONPAGES) > 8192
    clock.run_for(OOM_REAPER_DELAY_NS - 1)
    assert mm.get_mm_counter(MM_ANONPAGES) > 8192
    clock.run_for(1)
    assert mm.get_mm_counter(MM_ANONPAGES) == 0
    file = mm.rss << 2
    reaped = f"oom_reaper: reaped process {stuck.pid} (hog), now anon-rss:0kB, file-rss:{file}kB, shmem-rss:0kB"
    assert kernel.printk.ring[-1].text == reaped
    kernel.check()
    stuck.busy = False
    exit_to_user_mode(stuck)
    assert stuck.pid not in kernel.tasks


def test_who_dies_in_time_is_not_reaped(kernel: Kernel, stuck: Task) -> None:
    stuck.busy = False
    kernel.run_for(3)
    assert stuck.pid not in kernel.tasks
    assert not [line for line in lines(kernel) if line.startswith("oom_reaper:")]


def test_one_victim_at_a_time(kernel: Kernel, stuck: Task) -> None:
    """Who needs memory meanwhile gets the victim's, and nobody else dies; only when that is gone another one does."""
    other = kernel.spawn("other")
    kernel.tasks.current = None
    assert kernel.oom_killer.out_of_memory(GFP_HIGHUSER_MOVABLE, 0)
    assert other.alive and any(line.startswith(f"oom_reaper: reaped process {stuck.pid}") for line in lines(kernel))
    assert kernel.oom_killer.out_of_memory(GFP_HIGHUSER_MOVABLE, 0)
    assert other.pid not in kernel.tasks
    assert int(kernel.vmstat.event[VmEventItem.OOM_KILL]) == 2


def test_a_victim_may_use_the_reserves(boot: Boot) -> None:
    kernel = boot(ram="96M", swap=None, cpus=1, preset="bare")
    task = kernel.spawn("hog")
    kernel.tasks.current = task
    got = []
    while (pfn := kernel.page_alloc.alloc_pages(GFP_KERNEL | 0x10000)) >= 0:
        got.append(pfn)
    assert kernel.page_alloc.alloc_pages(GFP_KERNEL) >= 0, "it is killed, and dips into the reserves"
    assert task.alive and fatal_signal_pending(task)
    for pfn in got:
        kernel.page_alloc.free_pages(pfn)
    with pytest.raises(TaskKilled):
        task.mmap("4K")
    assert task.pid not in kernel.tasks


def fork_on(task: Task) -> None:
    for _ in range(20):
        task.fork()
        task.kernel.check()


@pytest.mark.slow
def test_fork_out_of_memory(boot: Boot) -> None:
    """The forker is the victim in the middle of its call; it dies at its end, and the copy with it."""
    kernel = boot(ram="128M", swap=None, cpus=1, preset="bare")
    kernel.overcommit.sysctl_overcommit_memory = 1
    task = kernel.spawn("hog")
    task.touch(task.mmap("12G"), "12G", write=True, stride="2M")  # a page table a page
    with pytest.raises(TaskKilled):
        fork_on(task)
    kernel.check()
    assert task.pid not in kernel.tasks
    assert f"Out of memory: Killed process {task.pid} (hog)" in kernel.printk.dmesg()


# ---- nobody can be killed ---------------------------------------------------------------------------------------


def out_of_memory(kernel: Kernel, task: Task, command: str) -> str:
    """Touch more than there is through /sim/control; the answer, which is an error."""
    control = kernel.vfs.open("/sim/control", 2)
    with pytest.raises(OSError, match="Errno 5"):
        control.write(command.encode())
    answer: str = control.read(4096, 0).decode()
    return answer


@pytest.mark.slow
@pytest.mark.parametrize(
    ("panic_on_oom", "bound", "reason"),
    [
        (0, False, "System is deadlocked on memory"),
        (0, True, "System is deadlocked on memory"),
        (1, False, "Out of memory: system-wide panic_on_oom is enabled"),
        (2, False, "Out of memory: compulsory panic_on_oom is enabled"),
        (2, True, "Out of memory: compulsory panic_on_oom is enabled"),
    ],
)
def test_the_end_of_a_kernel(boot: Boot, panic_on_oom: int, bound: bool, reason: str) -> None:
    """Whom it happens to is told, what can still be read is, and nothing moves any more."""
    kernel = boot(ram="192M", swap=None, cpus=2, nodes=2, seed=1, preset="bare")
    kernel.write("/proc/sys/vm/panic_on_oom", str(panic_on_oom))
    adj = 0 if panic_on_oom else -1000
    task = kernel.spawn("hog", oom_score_adj=adj)
    kernel.write("/proc/sys/vm/overcommit_memory", "1")
    addr = task.mmap("1G")
    if bound:
        task.mbind(addr, "1G", "bind", [1])
    assert out_of_memory(kernel, task, f"touch {task.pid} {addr:#x} 1G write") == f"kernel panic: {reason}\n"
    said = lines(kernel)
    assert f"Kernel panic - not syncing: {reason}" in said
    assert said[-1] == f"---[ end Kernel panic - not syncing: {reason} ]---"
    assert ("Out of memory and no killable processes..." in said) == (not panic_on_oom)
    with pytest.raises(OSError, match=f"Errno 5.*{reason}"):
        kernel.write("/proc/sys/vm/swappiness", "10")
    with pytest.raises(KernelPanicError, match=reason):
        kernel.run_for(1)
    assert kernel.read("/sim/clock").startswith(b"state halted\n")
    assert kernel.read("/proc/uptime") == kernel.read("/proc/uptime")
    assert int(kernel.vmstat.event[VmEventItem.OOM_KILL]) == 0
    kernel.check()


@pytest.mark.slow
def test_a_mapping_bound_to_a_node(boot: Boot) -> None:
    """mbind(2) restricts the request: who has no policy of its own may die, who is bound elsewhere may not."""
    kernel = boot(ram="192M", swap=None, cpus=2, nodes=2, seed=1, preset="bare")
    kernel.vm.panic_on_oom = 1  # not for a shortage that a policy has made
    elsewhere, big, task = kernel.spawn("elsewhere", oom_score_adj=1000), kernel.spawn("big"), kernel.spawn("hog")
    elsewhere.set_mempolicy("bind", [0])
    big.touch(big.mmap("60M"), "60M", write=True)
    addr = task.mmap("100M")
    task.mbind(addr, "100M", "bind", [1])
    seq = kernel.printk.next_seq
    with pytest.raises(TaskKilled):
        task.touch(addr, "100M", write=True)
    said = log_since(kernel, seq)
    assert "oom-kill:constraint=CONSTRAINT_MEMORY_POLICY,nodemask=1,cpuset=/,mems_allowed=0-1,global_oom," in said
    assert " elsewhere\n" not in said and " big\n" in said and "Node 0" not in said
    assert elsewhere.alive
    kernel.check()


@pytest.mark.slow
def test_minus_1000_is_spared_and_the_next_dies(boot: Boot) -> None:
    kernel = boot(ram="96M", swap=None, cpus=1, preset="bare")
    spared, other = kernel.spawn("spared", oom_score_adj=-1000), kernel.spawn("other")
    other.touch(other.mmap("1M"), "1M", write=True)
    kernel.overcommit.sysctl_overcommit_memory = 1
    addr = spared.mmap("100M")
    kernel.vm.oom_kill_allocating_task = 1  # it may not take who is spared either
    with pytest.raises(KernelPanicError, match="deadlocked"):
        spared.touch(addr, "100M", write=True)
    assert spared.alive and not other.alive
    assert any(line.startswith(f"Out of memory: Killed process {other.pid} (other)") for line in lines(kernel))


# ---- again and again --------------------------------------------------------------------------------------------

KERNEL_STACK_AND_PGD = 4 + 2
"""What a process without threads has besides what its report tells, in pages; two tables at the top for PTI."""


def reported(line: str) -> int:
    """The pages that a kill's line says will come free: page tables and what was resident, none of it a disk's."""
    return sum(int(kb) >> 2 for kb in re.findall(r"(?:(?:anon|shmem)-rss|pgtables):(\d+)kB", line))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("lru_gen", "kills"), [("y", 1000), ("n", 100)])
def test_a_thousand_kills(
    boot: Boot, compiled: bool, lru_gen: str, kills: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each comes after all that reclaim tries, and frees exactly what its report says."""
    kernel = boot(ram="96M", swap=None, cpus=1, preset="bare")
    kernel.write("/sys/kernel/mm/lru_gen/enabled", lru_gen)
    free_before: list[int] = []
    kill = kernel.oom_killer.kill

    def free() -> int:
        kernel.page_alloc.drain_all_pages()
        return kernel.page_alloc.nr_free_pages()

    monkeypatch.setattr(kernel.oom_killer, "kill", lambda task: (free_before.append(free()), kill(task)))
    kills = kills if compiled else 5
    for number in range(kills):
        hog = kernel.spawn("hog")
        hog.touch(hog.mmap("2M", flags=MAP_SHARED | MAP_ANONYMOUS), "2M", write=True)
        grow(hog, step_mb=4)
        said = next(r.text for r in reversed(kernel.printk.ring) if r.text.startswith("Out of memory: Killed"))
        assert f"Killed process {hog.pid} (hog)" in said and "shmem-rss:2048kB" in said
        assert len(free_before) == number + 1
        assert free() - free_before[-1] == reported(said) + KERNEL_STACK_AND_PGD
        kernel.check()
    assert int(kernel.vmstat.event[VmEventItem.OOM_KILL]) == kills
