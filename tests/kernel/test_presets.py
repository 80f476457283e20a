"""Who lives on a machine: kernel threads as a real kernel has them, an idle server, the host's processes."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from mmfs.kernel import sched
from mmfs.kernel.presets import host
from mmfs.mm_types import NodeStatItem

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task

THREADS = Path(__file__).parent / "kthreads"
COMES_AND_GOES = re.compile(r"kworker/(\d+:[1-9]H?|u\d+:\d+)$|ext4lazyinit$")
"""Workers beyond a pool's first, which exist while there is work."""


def real_threads(cpus: int, prefix: str) -> dict[str, list[str]]:
    """Name to fields of a real kernel's threads."""
    rows = (line.split("\t") for line in (THREADS / f"{prefix}{cpus}cpus.tsv").read_text().splitlines()[1:])
    return {without_work(row[1]): row for row in rows}


def without_work(name: str) -> str:
    """A worker's name without what it last did."""
    return re.sub(r"^(kworker/[u\d]+:\d+H?)-.*", r"\1", name)


def fields(task: Task) -> list[str]:
    return [
        task.state, str(task.prio), str(task.nice), str(task.exit_signal), str(task.rt_priority), str(task.policy),
    ]  # fmt: skip


@pytest.mark.parametrize(("profile", "prefix"), [("6.12", ""), ("6.1", "6.1-")])
@pytest.mark.parametrize("cpus", [1, 2, 4])
def test_kernel_threads_are_those_of_a_real_kernel(
    boot: Callable[..., Kernel], cpus: int, profile: str, prefix: str
) -> None:
    kernel = boot(ram="512M" if cpus == 1 and not prefix else "1G", cpus=cpus, preset="bare", profile=profile)
    ours = {without_work(task.proc_name): task for task in kernel.tasks.processes() if task.is_kthread}
    real = real_threads(cpus, prefix)
    assert {name for name in real if not COMES_AND_GOES.match(name)} <= set(ours)
    assert {name for name in ours if not COMES_AND_GOES.match(name)} <= set(real)
    for name in set(ours) & set(real):
        _, _, state, flags, prio, nice, exit_signal, rt_priority, policy = real[name]
        assert fields(ours[name]) == [state, prio, nice, exit_signal, rt_priority, policy], name
        assert ours[name].flags & ~sched.PF_SUPERPRIV == int(flags) & ~sched.PF_SUPERPRIV, name
        assert ours[name].ppid == (0 if name == "kthreadd" else 2)
    order = sorted((int(row[0]), name) for name, row in real.items() if not re.match(r"kworker/[u\d]|ext4lazy", name))
    assert [name for _, name in order] == [name for name in ours if not re.match(r"kworker/[u\d]", name)]
    near = [abs(ours[name].pid - pid) <= 3 for pid, name in order if pid < 100]
    assert all(near), "only workers that come and go move the numbers, and programs of the initramfs later on"


def test_per_cpu_threads_are_bound(boot: Callable[..., Kernel]) -> None:
    kernel = boot(ram="2G", nodes=2, cpus=4, preset="bare")
    by_name = {task.proc_name: task for task in kernel.tasks.processes()}
    assert by_name["ksoftirqd/3"].cpus_allowed == {3} and by_name["ksoftirqd/3"].processor == 3
    assert by_name["kswapd1"].cpus_allowed == by_name["kcompactd1"].cpus_allowed == frozenset(kernel.node_data[1].cpus)
    assert "kswapd0" in by_name and by_name["rcu_preempt"].cpus_allowed is None


def test_where_threads_wait(kernel: Kernel) -> None:
    """As /proc/PID/wchan of a real kernel says."""
    wchan = {task.proc_name: task.wchan for task in kernel.tasks.processes()}
    assert wchan["kthreadd"] == "kthreadd" and wchan["init"] == "do_wait"
    assert wchan["kworker/R-netns"] == "rescuer_thread" and wchan["ksoftirqd/1"] == "smpboot_thread_fn"
    assert wchan["kswapd0"] == "kswapd" and wchan["rcu_tasks_kthread"] == "rcu_tasks_one_gp"
    task = kernel.spawn("prog")
    assert task.wchan == "__do_sys_pause"


def test_rcu_leaves(boot: Callable[..., Kernel]) -> None:
    def workers(cpus: int) -> list[str]:
        tasks = boot(ram="1G", cpus=cpus, preset="bare").tasks.processes()
        return [task.full_name[-2:] for task in tasks if task.full_name and "exp_par_gp" in task.full_name]

    assert workers(16) == ["/0"]
    assert workers(18) == ["/1", "/2"]


def test_bare_has_init_only(kernel: Kernel) -> None:
    assert [task.pid for task in kernel.tasks.processes() if task.mm is not None] == [1]
    init = kernel.tasks[1]
    assert (init.comm, init.ppid, init.cmdline, init.exit_signal) == ("init", 0, b"/sbin/init\0", 17)
    assert init.mm is not None and init.mm.total_vm * 4 == 2260
    assert init.mm.rss * 4 == pytest.approx(1684, rel=0.1)
    assert init.mm.pgtables_bytes >> 10 == pytest.approx(38, abs=12)


@pytest.fixture(scope="module")
def server() -> Kernel:
    import mmfs

    return mmfs.boot(ram="4G", swap="1G", cpus=2, seed=3)


def named(kernel: Kernel, comm: str) -> Task:
    return next(task for task in kernel.tasks.processes() if task.comm == comm)


def test_server_is_sound(server: Kernel) -> None:
    server.check()
    assert 60 <= len(server.tasks) <= 140


# Resident and virtual kB on idle Debian 12 machines, rounded; libraries that programs load while they run are left
# out of the model, so a third up or down is right.
@pytest.mark.parametrize(
    ("comm", "uid", "rss", "vsz"),
    [
        ("systemd", 0, 12_900, None), ("systemd-journal", 0, 12_500, 33_000), ("systemd-udevd", 0, 6_500, 26_500),
        ("systemd-timesyn", 997, 7_000, 90_000), ("dbus-daemon", 100, 4_900, 9_200), ("cron", 0, 2_700, 6_600),
        ("systemd-logind", 0, 8_000, 17_500), ("rsyslogd", 0, 6_000, 222_000), ("agetty", 0, 1_900, 5_900),
        ("sshd", 0, 9_000, 15_400), ("bash", 0, 4_600, 8_000), ("nginx", 0, 5_000, 11_000),
    ],
)  # fmt: skip
def test_services_have_believable_sizes(server: Kernel, comm: str, uid: int, rss: int, vsz: int | None) -> None:
    task = named(server, comm)
    assert task.mm is not None and task.uid == uid
    assert task.mm.rss * 4 == pytest.approx(rss, rel=0.35)
    if vsz is not None:
        assert task.mm.total_vm * 4 == pytest.approx(vsz, rel=0.2)


def test_server_tree(server: Kernel) -> None:
    bash = named(server, "bash")
    session = bash.group_leader.parent
    assert session is not None and session.cmdline == b"sshd: root@pts/0\0"
    assert session.ppid == named(server, "sshd").pid and named(server, "sshd").ppid == 1
    assert bash.tty_nr == 0x8800 and bash.session == bash.pid == bash.tty_pgrp
    assert [file.path for file in bash.fdtable.values()] == ["/dev/pts/0"] * 3
    assert [file.path for file in named(server, "cron").fdtable.values()] == ["/dev/null"] * 3
    assert {task.tty_nr for task in server.tasks.processes() if task.comm == "agetty"} == {0x401, 0x440}
    workers = [task for task in server.tasks.processes() if task.cmdline == b"nginx: worker process\0"]
    assert len(workers) == 2 and all(task.uid == 33 for task in workers)
    pam = named(server, "(sd-pam)")
    assert pam.group_leader.parent is not None and pam.group_leader.parent.comm == "systemd"
    assert len(named(server, "rsyslogd").threads) == 4
    assert named(server, "unattended-upgr").exe == "/usr/bin/python3.11"


def test_server_cgroups_and_oom_adjustments(server: Kernel) -> None:
    assert server.tasks[1].cgroup == "/init.scope"
    assert named(server, "cron").cgroup == "/system.slice/cron.service"
    assert named(server, "bash").cgroup == "/user.slice/user-0.slice/session-1.scope"
    assert named(server, "kthreadd").cgroup == "/"
    adjusted = {"systemd-udevd": -1000, "systemd-journal": -250, "dbus-daemon": -900, "sshd": -1000}
    assert {comm: named(server, comm).oom_score_adj for comm in adjusted} == adjusted
    assert named(server, "bash").oom_score_adj == 0


def test_server_has_used_its_time_and_started_in_order(server: Kernel) -> None:
    leaders = [task for task in server.tasks.processes() if task.mm is not None]
    starts = [task.start_time_ns for task in leaders]
    assert starts == sorted(starts) and starts[-1] < server.clock.now_ns
    assert server.tasks[1].utime_ns > server.tasks[1].stime_ns > 100_000_000
    assert all(task.min_flt > 0 for task in leaders if task.comm != "(sd-pam)")
    server.scheduler.check()


def test_libraries_are_shared(server: Kernel) -> None:
    mapped = server.vmstat.global_node_page_state(NodeStatItem.NR_FILE_MAPPED)
    rss_file = sum(task.mm.get_mm_counter(0) for task in server.tasks.processes() if task.mm is not None)
    assert mapped * 2 < rss_file
    assert server.vmstat.global_node_page_state(NodeStatItem.NR_FILE_PAGES) > mapped


def test_server_is_cheap(boot: Callable[..., Kernel]) -> None:
    """Idle, it wakes a few times a second, and no more often when it is larger: what it costs is wakeups.

    `scripts/bench server boot` has the times.
    """

    def wakeups(**machine: object) -> float:
        kernel = boot(preset="server", **machine)
        kernel.run_for(5)
        before = kernel.clock.nr_timers
        kernel.run_for(20)
        return (kernel.clock.nr_timers - before) / 20

    small, large = wakeups(ram="4G", cpus=4), wakeups(ram="64G", cpus=32)
    assert 1 < small < 20  # a periodic work every half a second or more seldom, and services that look around
    assert large == pytest.approx(small, rel=0.2)  # the kernel threads of each CPU sleep


def test_host_processes_are_made_again(boot: Callable[..., Kernel]) -> None:
    kernel = boot(ram="64G", cpus=2, preset="host")
    me = psutil.Process()
    task = next(t for t in kernel.tasks.processes() if t.pid == me.pid)
    assert task.comm == me.name()[:15] and task.uid == me.uids().real
    assert task.cmdline.split(b"\0")[0].decode() == me.cmdline()[0]
    memory = me.memory_info()
    assert task.mm is not None
    assert task.mm.total_vm * 4096 == pytest.approx(memory.vms, rel=0.3)
    assert task.mm.rss * 4096 == pytest.approx(memory.rss, rel=0.5)
    parent = kernel.tasks.get(me.ppid())
    assert parent is None or task.ppid == parent.pid


@pytest.mark.parametrize(
    ("rss", "shared", "vms", "threads"),
    [(40_960, 8192, 1 << 20, 1), (300 << 20, 50 << 20, 4 << 40, 7), (0, 0, 4096, 1)],
)
def test_host_sizes_are_exact_to_the_page(
    boot: Callable[..., Kernel], monkeypatch: pytest.MonkeyPatch, rss: int, shared: int, vms: int, threads: int
) -> None:
    init = host.HostProcess(1, 0, "init", ("init",), "/sbin/init", 0, 0, 0, 1, 1 << 20, 0, 4 << 20)
    child = host.HostProcess(77, 1, "app", ("app", "-x"), "/opt/app", 1000, 100, 5, threads, rss, shared, vms)
    monkeypatch.setattr(host, "host_processes", lambda: [init, child])
    kernel = boot(ram="2G", cpus=1, preset="host")
    task = next(t for t in kernel.tasks.processes() if t.comm == "app")
    assert task.mm is not None and (task.ppid, task.uid, task.gid, task.nice) == (1, 1000, 100, 5)
    assert len(task.threads) == threads
    smallest = 4096 * 40
    assert task.mm.total_vm * 4096 == max(vms, smallest) or vms < smallest
    assert abs(task.mm.rss * 4096 - rss) <= 3 * 4096
    assert task.mm.get_mm_counter(0) * 4096 == shared


def test_parents_come_before_children() -> None:
    def process(pid: int, ppid: int) -> host.HostProcess:
        return host.HostProcess(pid, ppid, "x", (), "", 0, 0, 0, 1, 0, 0, 4096)

    order = host._parents_first([process(3, 9), process(5, 3), process(9, 1), process(10, 77)])
    assert [p.pid for p in order] == [9, 3, 5, 10]


def test_unknown_preset(boot: Callable[..., Kernel]) -> None:
    with pytest.raises(ValueError, match="bare"):
        boot(ram="512M", preset="nonsense")


@pytest.mark.machine(preset="server")
def test_same_seed_same_server(kernel: Kernel, boot: Callable[..., Kernel]) -> None:
    def picture(kernel: Kernel) -> list[object]:
        return [
            (t.pid, t.proc_name, t.utime_ns, t.stime_ns, t.mm and (t.mm.rss, t.mm.mmap[0].vm_start))
            for t in kernel.tasks.processes()
        ]

    other = boot(ram="512M", swap="256M", cpus=2, seed=1, preset="server")
    assert picture(kernel) == picture(other)
    different = boot(ram="512M", swap="256M", cpus=2, seed=2, preset="server")
    assert picture(kernel) != picture(different)
