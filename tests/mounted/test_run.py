"""mmfs run: programs see the machine, themselves, and nothing of the processes of this machine."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.mounted.machines import ENVIRONMENT, MMFS, Machine, Machines, Result, alive, call, mmfs, need, wait_until

pytestmark = pytest.mark.mounted

BARE = ("--ram", "512M", "--preset", "bare", "--seed", "1")


@pytest.mark.parametrize("status", [0, 1, 7, 255])
def test_exit_status(still: Machine, status: int) -> None:
    """The command's is ours."""
    assert still.run("sh", "-c", f"exit {status}").returncode == status


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV])
def test_death_by_signal(still: Machine, number: signal.Signals) -> None:
    """128 and the signal, as a shell says it."""
    assert still.run("sh", "-c", f"kill -{int(number)} $$").returncode == 128 + number


def test_not_found(still: Machine, tmp_path: Path) -> None:
    """127 for no such program, 126 for one that cannot be executed."""
    missing = still.run("no-such-program")
    assert (missing.returncode, missing.stderr) == (127, "mmfs run: no-such-program: No such file or directory\n")
    (tmp_path / "plain").write_text("text")
    plain = still.run(str(tmp_path / "plain"))
    assert (plain.returncode, plain.stderr) == (126, f"mmfs run: {tmp_path}/plain: Permission denied\n")


def test_arguments_pass_through(still: Machine) -> None:
    """Options and odd words are the command's."""
    words = ["--ram", "-x", "a b", "", "--", "$HOME", "\u00e9"]
    assert still.output("printf", "%s\n", *words).split("\n")[:-1] == words


def test_streams_and_directory(still: Machine, tmp_path: Path) -> None:
    """Standard input, the working directory and the environment are the caller's."""
    result = still.run("sh", "-c", "cat; pwd; echo $MMFS_MOUNT", input="hello\n", cwd=tmp_path)
    assert result.stdout == f"hello\n{tmp_path}\n{still.path}\n"


def test_proc_and_sys_are_the_machines(still: Machine) -> None:
    """The same files, listed and read."""
    for path in ("proc/meminfo", "proc/zoneinfo", "sys/devices/system/node/online", "proc/sys/vm/swappiness"):
        assert still.output("cat", f"/{path}") == still.read(path)
    listed = still.output("ls", "-U", "/proc").split()
    assert sorted(listed) == sorted(os.listdir(still.path / "proc"))
    assert sorted(still.output("ls", "/sys").split()) == sorted(os.listdir(still.path / "sys"))


def test_self(still: Machine) -> None:
    """Programs find themselves."""
    script = """
        cat /proc/self/comm                       # cat
        cat /proc/$$/comm                         # sh
        readlink /proc/$$/exe > /dev/null && echo exe
        cat <&0 /dev/stdin                        # /proc/self/fd/0
        grep -c . /proc/mounts > /dev/null && echo mounts
        ls /proc/net/dev
        ls -d /proc/thread-self/
        """
    result = still.run("sh", "-c", script, input="in\n")
    assert result.stderr == ""
    assert result.stdout.split() == ["cat", "sh", "exe", "in", "mounts", "/proc/net/dev", "/proc/thread-self/"]
    assert still.output("bash", "-c", "cat <(echo substitution)") == "substitution\n"
    code = "import os; print(os.path.samefile('/proc/self/', f'/proc/{os.getpid()}/'))"
    assert still.output(sys.executable, "-c", code) == "True\n"


def test_other_pids_do_not_exist(still: Machine) -> None:
    """Neither this test nor any process of this machine is visible or listed."""
    pid = max(os.getpid(), max(still.pids()) + 1)
    result = still.run("sh", "-c", f"test -e /proc/{pid}; echo $?; ls -d /proc/[0-9]* | wc -l")
    assert result.stdout.split() == ["1", str(len(still.pids()))]


def test_outside(still: Machine) -> None:
    """Whoever is in no run finds himself at self, and nobody else."""
    assert (still.path / "proc/self/comm").read_text() == Path("/proc/self/comm").read_text()
    own = still.path / f"proc/{os.getpid()}"
    assert own.exists() == (os.getpid() in still.pids())
    assert ".host" not in os.listdir(still.path / "proc")


def test_kill_hits_nobody(still: Machine) -> None:
    """The pids of this machine mean nothing inside: a signal to one of them is lost, and 1 is not our init."""
    if os.readlink("/proc/self/ns/pid") == still.output("readlink", "/proc/self/ns/pid").strip():
        pytest.skip("no PID namespaces here")
    victim = subprocess.Popen(["sleep", "60"])
    try:
        script = f"kill -9 {victim.pid} 2>/dev/null || echo nobody; kill -TERM 1; sleep 0.3; echo alive"
        assert still.output("sh", "-c", script) == "nobody\nalive\n"
        assert victim.poll() is None
    finally:
        victim.kill()
        victim.wait()


def test_writes_reach_the_machine(still: Machine) -> None:
    """And no other; the real tunable stays as it is."""
    real = Path("/proc/sys/vm/swappiness").read_text()
    before = still.read("proc/sys/vm/swappiness")
    try:
        assert still.run("sh", "-c", "echo 33 > /proc/sys/vm/swappiness").returncode == 0
        assert still.read("proc/sys/vm/swappiness") == "33\n"
        assert Path("/proc/sys/vm/swappiness").read_text() == real
        refused = still.run("sh", "-c", "echo nonsense > /proc/sys/vm/swappiness")
        assert refused.returncode != 0
        assert "Invalid argument" in refused.stderr or "I/O error" in refused.stderr
    finally:
        (still.path / "proc/sys/vm/swappiness").write_text(before)


def test_temporary_machine(tmp_path: Path) -> None:
    """Without --mount it is booted for the command, and leaves nothing behind."""
    script = "grep MemTotal /proc/meminfo; ls -d $MMFS_MOUNT/sim; exit 3"
    result = mmfs("run", *BARE, "--", "sh", "-c", script, env={"TMPDIR": str(tmp_path)})
    assert result.returncode == 3
    assert 400_000 < int(result.stdout.split()[1]) < 512 << 10
    assert result.stdout.split()[-1].startswith(str(tmp_path))
    assert list(tmp_path.iterdir()) == []
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()


def test_temporary_machine_refused() -> None:
    """What boot does not like is the only thing said."""
    result = mmfs("run", "--ram", "1e9", "--", "true")
    assert result.returncode == 2
    assert result.stderr == "mmfs run: ram: '1e9' is not a size (write 8G, 512M, 1.5G)\n"
    result = mmfs("run", "--ram", "8 GB", "--", "true")
    assert (result.returncode, result.stderr) == (2, "mmfs run: ram: '8 GB' is not a size (write 8GB)\n")


def children(pid: int) -> list[int]:
    """Direct children of a process."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_are_passed_on(number: signal.Signals) -> None:
    """The command gets them, and its end is the end."""
    process = subprocess.Popen([*MMFS, "run", *BARE, "--", "sh", "-c", "echo up; exec sleep 60"], env=ENVIRONMENT,
                               stdout=subprocess.PIPE)  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    process.send_signal(number)
    assert process.wait(timeout=10) == 128 + number
    process.stdout.close()


def test_killed_run_takes_all_with_it(tmp_path: Path) -> None:
    """kill -9 of mmfs run ends the command and the daemon."""
    command = [*MMFS, "run", *BARE, "--", "sh", "-c", "echo up; exec sleep 60"]
    environment = {**ENVIRONMENT, "TMPDIR": str(tmp_path)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    ours = children(process.pid)
    assert len(ours) == 2
    process.kill()
    process.wait()
    process.stdout.close()
    assert wait_until(lambda: not any(map(alive, ours)))
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()


def test_interrupt_from_the_terminal(still: Machine) -> None:
    """^C is the command's business; a shell that handles it lives on."""
    command = [*MMFS, "run", "--mount", str(still.path), "--", "sh", "-c",
               "trap 'echo caught; exit 5' INT; echo up; while :; do sleep 0.1; done"]  # fmt: skip
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(command[0], command, ENVIRONMENT)
    output = b""
    while b"up" not in output:
        output += os.read(terminal, 1024)
    os.write(terminal, b"\x03")
    end = time.monotonic() + 10
    while b"caught" not in output and time.monotonic() < end:
        output += os.read(terminal, 1024)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5
    os.close(terminal)


def test_uses_shell_by_default(still: Machine) -> None:
    """No command is $SHELL."""
    result = call(*MMFS, "run", "--mount", str(still.path), input="echo shell $0; exit 4\n")
    assert result.returncode == 4
    assert result.stdout.startswith("shell ")


def as_nobody(folder: Path, script: str) -> Result:
    """A shell script as uid 65534, for whom /dev/fuse is open as on a desktop; `mmfs` in it is the command line."""
    need("setpriv", "unshare", "mknod")
    nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    if call(*nobody, "sh", "-c", f"{' '.join(MMFS)} --version", cwd="/").returncode:
        pytest.skip("nobody may not execute this Python or read this checkout")
    device = folder / "fuse"
    outer = f"""set -e
        mknod {device} c 10 229; chmod 666 {device}; mount --bind {device} /dev/fuse; cd /
        exec {" ".join(nobody)} sh -c '{script}'
        """.replace("mmfs ", " ".join(MMFS) + " ")
    return call("unshare", "-m", "--propagation", "private", "sh", "-c", outer)


only_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")


@only_root
def test_ordinary_user(tmp_path: Path) -> None:
    """No root needed: a user namespace will do, and in it the user is root."""
    script = f"""mmfs run {" ".join(BARE)} -- sh -c "
        id -u; grep MemTotal /proc/meminfo; cat /proc/self/comm; stat -c %U /proc/slabinfo; head -c 8 /proc/slabinfo;
        echo 12 > /proc/sys/vm/swappiness; cat /proc/sys/vm/swappiness"
        """
    result = as_nobody(tmp_path, script)
    assert result.stderr == ""
    lines = result.stdout.splitlines()
    assert lines[0] == "0"
    assert lines[1].startswith("MemTotal:")
    assert lines[2:] == ["cat", "root", "slabinfo12"]


@only_root
def test_ordinary_user_mounts(tmp_path: Path) -> None:
    """Who mounts a machine is its root; nobody else sees anything of it."""
    where = Path(tempfile.mkdtemp(prefix="mmfs-test-"))
    try:
        os.chown(where, 65534, 65534)
        script = f"""set -e
            mmfs mount {where} {" ".join(BARE)}
            echo 12 > {where}/proc/sys/vm/swappiness; cat {where}/proc/sys/vm/swappiness
            stat -c %u {where}/proc/meminfo; cat {where}/proc/self/comm; head -c 8 {where}/proc/slabinfo; echo
            mmfs run --mount {where} -- sh -c "id -u; cat /proc/sys/vm/swappiness; stat -c %u /proc/meminfo"
            mmfs umount {where}
            mmfs mount {where} -o allow_other || echo status $?
            """
        result = as_nobody(tmp_path, script)
        assert result.stdout.split() == ["12", "65534", "cat", "slabinfo", "0", "12", "0", "status", "2"]
        assert result.stderr == "mmfs mount: allow_other is root's (add user_allow_other to /etc/fuse.conf)\n"
    finally:
        where.rmdir()


MAGIC = """
    cd /sys/fs/cgroup
    stat -f -c %t /proc /proc/meminfo /proc/sys/vm /sys /sys/kernel/mm /sys/fs/cgroup . cgroup.procs init.scope
    exec 3< /sys/fs/cgroup/init.scope
    stat -f -c %t /dev/fd/3 $MMFS_MOUNT/sys/fs/cgroup
    """


def run_or_skip(machine: Machine, *command: str) -> list[str]:
    """What it prints, where this kernel hands statfs calls over."""
    if machine.output("stat", "-f", "-c", "%T", "/proc") != "proc\n":
        pytest.skip("this kernel hands no system calls over (seccomp user notification)")
    return machine.output(*command).split()


def test_statfs(still: Machine) -> None:
    """statfs(2) names the file systems that a real machine has there, fstatfs(2), too."""
    printed = run_or_skip(still, "sh", "-c", MAGIC)
    assert printed == ["9fa0"] * 3 + ["62656572"] * 2 + ["63677270"] * 4 + ["63677270"] * 2


def test_statfs_of_v1(machines: Machines) -> None:
    """With cgroup v1 there is a tmpfs, and a hierarchy in each of its directories."""
    machine = machines.mount(*BARE, "--cgroup", "v1")
    printed = run_or_skip(machine, "stat", "-f", "-c", "%t", "/sys/fs/cgroup", "/sys/fs/cgroup/memory")
    assert printed == ["1021994", "27e0eb"]


def test_statfs_of_others(still: Machine, tmp_path: Path) -> None:
    """What is not the machine's, errors, other threads and other namespaces answer as without."""
    plain = call("stat", "-f", "-c", "%t", str(tmp_path), "/proc/self").stdout.split()
    assert run_or_skip(still, "stat", "-f", "-c", "%t", str(tmp_path), "/proc/self") == plain
    code = """
import ctypes, threading
c = ctypes.CDLL(None, use_errno=True)
answer = ctypes.create_string_buffer(256)
def ask(*arguments):
    got = c.statfs(*arguments) if isinstance(arguments[0], (bytes, ctypes.c_void_p)) else c.fstatfs(*arguments)
    print(got and ctypes.get_errno(), answer.raw[:4][::-1].hex())
thread = threading.Thread(target=ask, args=(b"/sys/fs/cgroup", answer))
thread.start(), thread.join()
ask(b"/nonexistent", answer), ask(99, answer), ask(ctypes.c_void_p(5), answer), ask(b"/sys", ctypes.c_void_p(8))
"""
    cgroup2 = "63677270"
    assert still.output(sys.executable, "-c", code).splitlines() == [
        f"0 {cgroup2}", f"2 {cgroup2}", f"9 {cgroup2}", f"14 {cgroup2}", f"14 {cgroup2}"
    ]  # fmt: skip
    assert still.output("unshare", "-m", "stat", "-f", "-c", "%t", "/sys/fs/cgroup") == f"{cgroup2}\n"
    assert still.output("unshare", "-m", "chroot", "/", "stat", "-f", "-c", "%t", "/sys") == "62656572\n"
