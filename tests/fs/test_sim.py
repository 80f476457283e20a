"""/sim: commands and their answers, the clock, the translation buffers."""

from __future__ import annotations

import errno
import os
import re
from typing import TYPE_CHECKING

import pytest

import mmfs
from mmfs.fs.sim.clock import parse_duration, parse_rate
from mmfs.fs.sim.control import COMMANDS
from mmfs.kernfs import Caller
from mmfs.mm.mman import MADV_DONTNEED, PROT_EXEC, PROT_READ

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task

MB = 1 << 20


class Control:
    """An open sim/control, used as a program with a file position does."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.file = kernel.vfs.open("/sim/control", os.O_RDWR)
        self.position = 0

    def __call__(self, command: str) -> str:
        self.position += self.file.write(command.encode(), self.position)
        return self.answer()

    def answer(self) -> str:
        pieces = []
        while piece := self.file.read(16, self.position):
            pieces.append(piece)
            self.position += len(piece)
        return b"".join(pieces).decode()

    def refused(self, command: str) -> tuple[str, str]:
        """The errno and the answer."""
        with pytest.raises(OSError) as caught:
            self.file.write(command.encode(), self.position)
        assert caught.value.errno
        return errno.errorcode[caught.value.errno], self.answer()

    def task(self, command: str) -> Task:
        """A command whose answer is a pid."""
        return self.kernel.tasks[int(self(command))]


@pytest.fixture
def kernel() -> Kernel:
    return mmfs.boot(ram="256M", cpus=2, swap="64M", preset="bare", seed=1)


@pytest.fixture
def control(kernel: Kernel) -> Control:
    return Control(kernel)


def test_memory(kernel: Kernel, control: Control) -> None:
    task = control.task("spawn hog")
    assert (task.comm, task.uid, task.mm is not None) == ("hog", 0, True)
    rss, vm = task.mm.rss, task.mm.total_vm
    addr = int(control(f"mmap {task.pid} 64M\n"), 0)
    assert task.mm.total_vm - vm == 64 * MB >> 12
    assert control(f"touch {task.pid} {addr:#x} 1M write") == ""
    assert task.mm.rss - rss == MB >> 12
    assert control(f"touch {task.pid} {addr + 2 * MB} 1M write stride=8192") == ""
    assert task.mm.rss - rss == (MB >> 12) + (MB >> 13)
    control(f"madvise {task.pid} {addr} 64M MADV_DONTNEED")
    control(f"madvise {task.pid} {addr} 64M {MADV_DONTNEED}")
    assert task.mm.rss == rss
    control(f"mprotect {task.pid} {addr} 1M rx")
    vma = task.mm.find_vma(addr)
    assert vma.vm_flags & 7 == PROT_READ | PROT_EXEC
    control(f"munmap {task.pid} {addr} 1M")
    assert control(f"mremap {task.pid} {addr + MB} 63M 32M").strip() == hex(addr + MB)
    control(f"mlock {task.pid} {addr + MB} 64K")
    assert task.mm.locked_vm == 16
    control(f"munlock {task.pid} {addr + MB} 64K")
    assert task.mm.locked_vm == 0
    end = int(control(f"brk {task.pid}"), 0)
    assert int(control(f"brk {task.pid} {end + 65536}"), 0) == end + 65536
    assert control("check") == "ok\n"


def test_processes(kernel: Kernel, control: Control) -> None:
    kernel.cgroups.makedirs("/work")
    task = control.task("spawn worker uid=1000 gid=100 oom_score_adj=500 cgroup=/work nice=5 anon=2M 'first word' -v")
    assert (task.uid, task.gid, task.oom_score_adj, task.cgroup, task.nice) == (1000, 100, 500, "/work", 5)
    assert task.cmdline == b"worker\0first word\0-v\0"
    assert task.mm.rss >= 512
    child = control.task(f"fork {task.pid}")
    assert child.parent is task
    thread = control.task(f"pthread_create {task.pid} helper")
    assert (thread.tgid, thread.comm) == (task.pid, "helper")
    control(f"execve {child.pid} other")
    assert child.comm == "other"
    control(f"exit {child.pid} 3")
    assert control(f"wait {task.pid}") == f"{child.pid} {3 << 8}\n"
    control(f"setrlimit {task.pid} AS 1G unlimited")
    assert control.refused(f"mmap {task.pid} 2G")[0] == "ENOMEM"
    control(f"kill {task.pid} SIGKILL")
    assert not task.alive
    assert control.refused(f"fork {task.pid}") == ("ESRCH", f"No such process: no process {task.pid}\n")
    assert control("check") == "ok\n"


def test_files(kernel: Kernel, control: Control) -> None:
    pid = control("spawn reader").strip()
    control("create /data/file 10M")
    assert control(f"read {pid} /data/file 1M 64K") == "65536\n"
    inode = kernel.namei.lookup("/data/file")
    assert inode.mapping.nrpages == 16
    assert control(f"read {pid} /data/file") == f"{10 * MB}\n"
    assert control(f"write {pid} /data/file 0 8K") == "8192\n"
    assert inode.mapping.nr_dirty == 2
    addr = control(f"mmap {pid} 1M file=/data/file flags=MAP_SHARED prot=r").strip()
    control(f"touch {pid} {addr} 1M")
    control(f"unlink {pid} /data/file")
    assert control.refused(f"read {pid} /data/file")[0] == "ENOENT"
    assert control("check") == "ok\n"


def test_translate(kernel: Kernel, control: Control) -> None:
    task = control.task("spawn hog")
    addr = control(f"mmap {task.pid} 1M").strip()
    assert control(f"translate {task.pid} {addr}").splitlines()[-1].startswith("not mapped: the ")
    control(f"touch {task.pid} {addr} write")
    assert "frame 0x" in control(f"translate {task.pid} {addr}")
    assert control.refused("translate 9999 0") == ("ESRCH", "No such process: no process 9999\n")
    assert control.refused("translate 2 0")[0] == "EINVAL"


def test_bad_commands(control: Control) -> None:
    """EINVAL, and the answer says why."""
    pid = control("spawn hog").strip()
    for command, reason in {
        "": "no command",
        "\n": "no command",
        "frobnicate": "no command 'frobnicate'",
        "'": "No closing quotation",
        "mmap": "PID is missing",
        "mmap one 1M": "PID: 'one' is not a number",
        f"mmap {pid}": "SIZE is missing; usage: mmap PID SIZE",
        f"mmap {pid} -1": "is not a size",
        f"mmap {pid} 1M prot=q": "prot: 'q' is none of",
        f"mmap {pid} 1M 2M": "'2M' is one word too many",
        f"mmap {pid} 1M colour=red": "one word too many",
        f"madvise {pid} 0 4096 MADV_WHATEVER": "is none of",
        "spawn x uid=-5": "uid and gid are numbers",
        "help nothing": "no command 'nothing'",
    }.items():
        name, answer = control.refused(command)
        assert (name, reason in answer) == ("EINVAL", True), (command, name, answer)
    assert control("check") == "ok\n"


def test_failing_calls(kernel: Kernel, control: Control) -> None:
    """A system call's own errno; a task that dies of it."""
    pid = control("spawn hog").strip()
    assert control.refused(f"munmap {pid} 1 4096")[0] == "EINVAL"
    assert control.refused("spawn x cgroup=/none")[0] == "ENOENT"
    assert control.refused("kill 9999 9")[0] == "ESRCH"
    name, answer = control.refused(f"touch {pid} 0x1000 write")
    assert (name, answer) == ("EFAULT", f"hog[{pid}] was killed by SIGSEGV at 0x1000\n")
    assert control.refused("create /huge 1000T")[0] == "ENOMEM"
    kernel.vm.oom_kill_allocating_task = 1
    hog = control("spawn hog").strip()
    addr = control(f"mmap {hog} 150M").strip()
    other = control(f"mmap {hog} 150M").strip()
    control(f"touch {hog} {addr} 150M write")
    name, answer = control.refused(f"touch {hog} {other} 150M write")
    assert (name, "was killed by SIGKILL" in answer) == ("EFAULT", True)
    assert control("check") == "ok\n"


def test_programs(kernel: Kernel, control: Control) -> None:
    """Programs are started, listed, changed and stopped by commands."""
    kernel.cgroups.makedirs("/web")
    leak = control.task("spawn leak anon=4M/s cgroup=/web oom_score_adj=500")
    assert (leak.comm, leak.cgroup, leak.oom_score_adj) == ("leak", "/web", 500)
    kernel.run_for(1)
    assert control("programs").startswith(f"{leak.pid} leak anon=4M/s until=0: leaked ")
    assert control(f"set {leak.pid} anon=1M/s until=8M") == ""
    assert " anon=1M/s until=8M: " in control("programs")
    hog = control.task("spawn hog anon=16M")
    assert hog.mm is not None and hog.mm.rss >= 16 * MB >> 12, "it has its memory when the command returns"
    assert control(f"stop {leak.pid}") == ""
    assert not leak.alive
    assert control("programs").splitlines()[-1] == f"{leak.pid} leak: killed by SIGTERM"
    assert control("help leak").startswith("spawn leak\n") and "anon=10M/s" in control("help leak")
    assert "programs to spawn: " in control("help")


def test_bad_programs(kernel: Kernel, control: Control) -> None:
    name, answer = control.refused("spawn leak anonn=1M/s")
    assert name == "EINVAL" and answer.startswith("leak has no parameter 'anonn' (known: anon, until); usage: spawn ")
    name, answer = control.refused("spawn leak anon=fast")
    assert name == "EINVAL" and answer.startswith("anon: ")
    assert control.refused("spawn leak quickly")[1].startswith("'quickly' is not NAME=VALUE")
    plain = control.task("spawn anything")
    assert control.refused(f"set {plain.pid} x=1") == (
        "ESRCH", f"No such process: {plain.pid} runs no program, programs lists them\n"
    )  # fmt: skip
    leak = control.task("spawn leak")
    assert control.refused(f"set {leak.pid} anon=0x")[0] == "EINVAL"
    assert control.refused(f"stop {plain.pid}")[0] == "ESRCH"
    assert control("programs").count("\n") == 1


def test_answers_belong_to_their_file(kernel: Kernel) -> None:
    one, two = Control(kernel), Control(kernel)
    pid = one("spawn a")
    assert two.answer() == ""
    two.refused("nonsense")
    assert one.file.read(100, 0).decode() == pid
    assert kernel.vfs.stat("/sim/control").mode & 0o777 == 0o600
    with pytest.raises(PermissionError):
        kernel.vfs.open("/sim/control", os.O_RDWR, Caller(uid=1000, gid=1000))


def test_help(control: Control) -> None:
    """Every command says how it is written and what it does."""
    text = control("help")
    for name, command in COMMANDS.items():
        assert re.search(rf"^{name}\b", text, re.MULTILINE)
        assert command.summary.endswith(".")
    assert control("help mmap").startswith("mmap PID SIZE [prot=]")


def test_clock(kernel: Kernel) -> None:
    before = kernel.clock.now_ns
    kernel.write("/sim/clock", "step 5s\n")
    assert kernel.clock.now_ns == before + 5_000_000_000
    kernel.write("/sim/clock", b"pause")
    assert kernel.clock.paused
    kernel.write("/sim/clock", "rate 10")
    kernel.write("/sim/clock", "run")
    assert (kernel.clock.paused, kernel.clock.rate) == (False, 10.0)
    lines = kernel.read("/sim/clock").decode().splitlines()
    assert lines[:2] == ["state running", "rate 10"]
    assert lines[2] == f"uptime {kernel.clock.now_ns // 10**9}.{kernel.clock.now_ns % 10**9:09d}"
    assert lines[3].startswith("date 2026-01-01T00:00:")
    for wrong in (
        "",
        "stop",
        "step",
        "step 5 apples",
        "step -1",
        "rate 0",
        "rate -1",
        "rate x",
        "pause now",
        "rate 1e9",
    ):
        with pytest.raises(OSError) as caught:
            kernel.write("/sim/clock", wrong)
        assert caught.value.errno == errno.EINVAL, wrong


def test_durations() -> None:
    assert [parse_duration(t) for t in ("5s", "1", "100ms", "2.5", "1.5us", "3ns", "1m", "1h")] == [
        5 * 10**9, 10**9, 10**8, 2_500_000_000, 1500, 3, 60 * 10**9, 3600 * 10**9,
    ]  # fmt: skip
    assert [parse_rate(t) for t in ("1", "0.5", "10x", ".25")] == [1.0, 0.5, 10.0, 0.25]


def test_tlb(kernel: Kernel, control: Control) -> None:
    """Misses when pages are first touched, hits when they are touched again."""
    pid = control("spawn hog").strip()
    addr = control(f"mmap {pid} 64K").strip()

    def counts() -> list[int]:
        rows = kernel.read("/sim/tlb").decode().splitlines()
        assert rows[0].split() == ["hits", "misses", "shootdowns"]
        assert [row.split()[0] for row in rows[1:]] == ["cpu0", "cpu1"]
        return [sum(column) for column in zip(*([int(n) for n in row.split()[1:]] for row in rows[1:]), strict=True)]

    start = counts()
    control(f"touch {pid} {addr} 64K write")
    first = counts()
    assert first[1] - start[1] >= 16
    control(f"touch {pid} {addr} 64K write")
    second = counts()
    assert second[0] - first[0] >= 16
    assert second[1] == first[1]


def test_sockets(kernel: Kernel, control: Control) -> None:
    pid = control("spawn peer").strip()
    assert control(f"open {pid} /data/log") == "0\n"
    assert control(f"socket {pid} room=1M") == "1\n"
    control(f"send {pid} 1 1000 times=16")
    assert kernel.udp_prot.memory_allocated == 9
    assert control(f"recv {pid} 1 times=2") == "1000\n"
    assert control.refused(f"recv {pid} 0")[0] == "ENOTSOCK"
    control(f"setrlimit {pid} NOFILE 4096")
    assert control(f"dup2 {pid} 0 4000") == "4000\n"
    control(f"close {pid} 1")
    assert kernel.udp_prot.memory_allocated == 0
