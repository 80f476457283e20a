"""How a mount begins and ends: readiness, signals, kill -9, mounts beside and over each other, mount(8)."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.mounted.machines import ENVIRONMENT, MMFS, Machine, Machines, alive, call, mmfs, need, wait_until

pytestmark = pytest.mark.mounted

BARE = ("--ram", "512M", "--preset", "bare", "--seed", "1")


def refused(result: subprocess.CompletedProcess[str], *words: str) -> None:
    """One line on standard error, exit status 2."""
    assert result.returncode == 2, result
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1, result.stderr
    for word in words:
        assert word in result.stderr


def test_ready_when_mount_returns(machines: Machines) -> None:
    """The files are there when the command ends. (How long that takes, scripts/bench measures.)"""
    for _ in range(3):
        machine = machines.mount("--ram", "8G", "--swap", "2G")
        assert machine.read("proc/meminfo").startswith("MemTotal:")


def test_verbose(machines: Machines) -> None:
    """-v says what mount(8) keeps to itself."""
    path = machines.directory()
    assert mmfs("mount", str(path), "-v", *BARE).stdout == f"mmfs: mounted on {path}\n"


def test_daemon_lets_go_of_the_terminal(machines: Machines) -> None:
    """A session of its own, child of init, the root for its directory, nothing open but its own."""
    reader, writer = os.pipe()
    path = machines.directory()
    assert call(*MMFS, "mount", str(path), *BARE, pass_fds=[writer]).returncode == 0
    os.close(writer)
    assert os.read(reader, 1) == b""  # nobody holds the other end
    os.close(reader)
    pid = Machine(path).daemon
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    session, tty = int(stat[3]), int(stat[4])
    assert session != os.getsid(0)
    assert tty == 0
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    assert {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in (0, 1, 2)} == {"/dev/null"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_unmount(machines: Machines, number: signal.Signals) -> None:
    """The daemon unmounts and is gone."""
    machine = machines.mount(*BARE)
    pid = machine.daemon
    os.kill(pid, number)
    assert wait_until(lambda: not machine.mounted)
    assert wait_until(lambda: not alive(pid))
    assert list(machine.path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_foreground(machines: Machines, number: signal.Signals) -> None:
    """-f stays, and a signal is a normal end."""
    machine = Machine(machines.directory())
    command = [*MMFS, "mount", "-f", str(machine.path), *BARE]
    process = subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.PIPE)
    assert wait_until(lambda: machine.mounted and (machine.path / "proc/meminfo").exists(), 20)
    assert process.poll() is None
    process.send_signal(number)
    _, errors = process.communicate(timeout=10)
    assert process.returncode == 0
    assert b"Traceback" not in errors
    assert not machine.mounted


def test_foreground_ends_with_umount(machines: Machines) -> None:
    """Unmounting from outside is a normal end too."""
    machine = Machine(machines.directory())
    command = [*MMFS, "mount", "-f", str(machine.path), *BARE]
    process = subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.PIPE)
    assert wait_until(lambda: machine.mounted and (machine.path / "proc/meminfo").exists(), 20)
    assert mmfs("umount", str(machine.path)).returncode == 0
    assert process.wait(timeout=10) == 0


def test_kill_9_is_cleaned_up(machines: Machines) -> None:
    """fusermount3 notices that the daemon has died."""
    need("fusermount3")
    machine = machines.mount(*BARE)
    os.kill(machine.daemon, signal.SIGKILL)
    assert wait_until(lambda: not machine.mounted, 20)
    machines.mount(*BARE, path=machine.path)


def stale(machines: Machines) -> Machine:
    """A mount whose daemon has died and which nobody has cleaned up."""
    machine = machines.mount(*BARE, "-o", "noauto_unmount")
    os.kill(machine.daemon, signal.SIGKILL)

    def broken() -> bool:
        try:
            os.stat(machine.path)
        except OSError as error:
            return error.strerror == "Transport endpoint is not connected"
        return False

    assert wait_until(broken)
    assert machine.mounted
    return machine


def test_stale_mount_is_mounted_over(machines: Machines) -> None:
    """The next mount clears the dead one away."""
    machine = stale(machines)
    assert "dead" in mmfs("list").stdout
    refused(mmfs("run", "--mount", str(machine.path), "--", "true"), "daemon has died")
    machines.mount(*BARE, path=machine.path)
    assert machine.read("proc/meminfo")
    assert mmfs("umount", str(machine.path)).returncode == 0
    assert not machine.mounted


def test_stale_mount_is_unmounted(machines: Machines) -> None:
    """So does umount."""
    machine = stale(machines)
    result = mmfs("umount", str(machine.path))
    assert (result.returncode, result.stderr) == (0, "")
    assert not machine.mounted


def test_hung_daemon_hangs_nobody(machines: Machines) -> None:
    """A daemon that is stopped does not stop the command line."""
    machine = machines.mount(*BARE)
    pid = machine.daemon
    os.kill(pid, signal.SIGSTOP)
    try:
        line = next(line for line in mmfs("list").stdout.splitlines() if line.startswith(str(machine.path)))
        assert line.split()[2:] == [str(pid), "hung"]
        refused(mmfs("run", "--mount", str(machine.path), "--", "true"), "does not answer")
        refused(mmfs("mount", str(machine.path), *BARE), "already mounted")
        assert mmfs("umount", str(machine.path)).returncode == 0
        assert not machine.mounted
    finally:
        os.kill(pid, signal.SIGCONT)
    assert wait_until(lambda: not alive(pid))


def test_second_mount_is_refused(machines: Machines) -> None:
    """One machine a directory; the first lives on."""
    machine = machines.mount(*BARE)
    refused(mmfs("mount", str(machine.path), *BARE), "already mounted", "mmfs umount")
    assert machine.read("proc/meminfo")


def test_mounts_at_the_same_moment(machines: Machines) -> None:
    """Of several that want the same directory one gets it."""
    path = machines.directory()
    command = [*MMFS, "mount", str(path), *BARE]
    rivals = [subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    answers = [(rival.communicate(timeout=60)[1], rival.returncode) for rival in rivals]
    assert sorted(status for _, status in answers) == [0, 2, 2, 2], answers
    for text, status in answers:
        assert status == 0 or "another mmfs mount" in text or "already mounted" in text
    assert mmfs("umount", str(path)).returncode == 0
    assert not Machine(path).mounted


def test_two_machines(machines: Machines) -> None:
    """They have nothing to do with each other."""
    small, large = machines.mount(*BARE), machines.mount("--ram", "4G", "--preset", "bare")
    assert small.meminfo()["MemTotal"] < 512 << 10 < 3 << 20 < large.meminfo()["MemTotal"]
    (large.path / "proc/sys/vm/swappiness").write_text("7")
    assert (large.read("proc/sys/vm/swappiness"), small.read("proc/sys/vm/swappiness")) == ("7\n", "60\n")
    listed = mmfs("list").stdout.splitlines()
    for machine, ram in ((small, "0."), (large, "3.")):
        line = next(line for line in listed if line.startswith(str(machine.path)))
        assert line.split()[2] == str(machine.daemon)
        assert line.split()[3].startswith(ram)


def test_umount_of_a_busy_machine(machines: Machines) -> None:
    """An open file keeps it; --lazy does not wait."""
    machine = machines.mount(*BARE)
    with (machine.path / "proc/meminfo").open() as file:
        file.read(10)
        refused(mmfs("umount", str(machine.path)), "busy", "--lazy")
        assert machine.mounted
        assert mmfs("umount", "--lazy", str(machine.path)).returncode == 0
        assert not machine.mounted


def test_umount_several(machines: Machines) -> None:
    """Those that can be unmounted are, the others are named."""
    one, two = machines.mount(*BARE), machines.mount(*BARE)
    result = mmfs("umount", str(one.path), "/nonexistent", str(two.path))
    assert result.returncode == 2
    assert result.stderr == "mmfs umount: /nonexistent: no such directory\n"
    assert not one.mounted
    assert not two.mounted


def test_mountpoint_with_odd_name(machines: Machines) -> None:
    """Blanks, commas and letters beyond ASCII."""
    path = machines.directory() / "a b,c=\u00e9 \\x"
    path.mkdir()
    machine = machines.mount(*BARE, path=path)
    assert str(path) in mmfs("list").stdout
    assert mmfs("umount", str(path)).returncode == 0
    assert not machine.mounted


def test_relative_mountpoint(machines: Machines) -> None:
    """The daemon has left the directory that the name belongs to."""
    path = machines.directory()
    assert call(*MMFS, "mount", path.name, *BARE, cwd=path.parent).returncode == 0
    assert Machine(path).meminfo()["MemTotal"]
    assert call(*MMFS, "umount", path.name, cwd=path.parent).returncode == 0


def test_log(machines: Machines, tmp_path: Path) -> None:
    """--log tells what happened and when."""
    log = tmp_path / "log"
    machine = machines.mount(*BARE, "--log", str(log))
    mmfs("umount", str(machine.path))
    assert wait_until(lambda: "unmounted from" in log.read_text())
    assert f"mounted on {machine.path}" in log.read_text()
    refused(mmfs("mount", str(machine.path), *BARE, "--log", "/nonexistent/log"), "/nonexistent/log")


def test_bad_fuse_option(machines: Machines) -> None:
    """What libfuse itself refuses comes through as one line."""
    refused(mmfs("mount", str(machines.directory()), *BARE, "-o", "max_read=many"))


def test_source_and_options(machines: Machines) -> None:
    """SOURCE MOUNTPOINT -o ..., as mount.fuse3 calls it."""
    path = machines.directory()
    options = r"rw,nosuid,nodev,swap=64M,nodes=512M\,256M,preset=bare,dev,suid"
    result = mmfs("768M", str(path), "-o", options)
    assert (result.returncode, result.stderr) == (0, "")
    machine = Machine(path)
    assert (path / "sys/devices/system/node/node1").is_dir()
    assert machine.meminfo()["SwapTotal"] == (64 << 10) - 4
    assert "768M" in mmfs("list").stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="mount(8) is root's")
def test_mount8(machines: Machines, tmp_path: Path) -> None:
    """mount -t fuse.mmfs, an fstab line, umount(8): mmfs is found in /usr/local/bin."""
    need("mount.fuse3", "unshare")
    program = tmp_path / "bin/mmfs"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nPYTHONPATH={ENVIRONMENT["PYTHONPATH"]} exec {" ".join(MMFS)} "$@"\n')
    program.chmod(0o755)
    path = machines.directory()
    fstab = tmp_path / "fstab"
    fstab.write_text(f"1G {path} fuse.mmfs noauto,swap=128M,preset=bare 0 0\n")
    script = f"""set -e
        mount --bind {program.parent} /usr/local/bin
        mount -t fuse.mmfs 512M {path} -o swap=64M,preset=bare
        grep MemTotal {path}/proc/meminfo
        umount {path}
        mount -T {fstab} {path}
        grep MemTotal {path}/proc/meminfo
        grep SwapTotal {path}/proc/meminfo
        mount -t fuse 'mmfs#1G' {path} -o swap=oops 2>&1 || echo refused
        umount {path}"""
    result = call("unshare", "-m", "--propagation", "private", "sh", "-c", script)
    assert result.returncode == 0, result
    lines = result.stdout.splitlines()
    assert 400_000 < int(lines[0].split()[1]) < 512 << 10 < int(lines[1].split()[1]) < 1 << 20
    assert int(lines[2].split()[1]) == (128 << 10) - 4
    assert lines[-1] == "refused"


def test_time(machines: Machines) -> None:
    """It runs at the rate, or only when told."""
    manual = machines.mount(*BARE, "--clock", "manual")
    fast = machines.mount(*BARE, "--rate", "50")
    before, fast_before = manual.read("proc/uptime"), float(fast.read("proc/uptime").split()[0])
    begin = time.monotonic()
    time.sleep(1)
    passed = float(fast.read("proc/uptime").split()[0]) - fast_before
    elapsed = time.monotonic() - begin
    assert manual.read("proc/uptime") == before
    assert 0.5 < passed / (50 * elapsed) < 1.05  # a busy machine may fall behind, never run ahead
    (manual.path / "sim/clock").write_text("step 5s")
    assert float(manual.read("proc/uptime").split()[0]) == pytest.approx(float(before.split()[0]) + 5, abs=0.02)


def test_daemon_does_not_leak(machines: Machines) -> None:
    """Thousands of opens leave no descriptors behind."""
    machine = machines.mount(*BARE, "--clock", "manual")
    pid = machine.daemon
    before = len(os.listdir(f"/proc/{pid}/fd"))
    for _ in range(2000):
        machine.read("proc/uptime")
    assert len(os.listdir(f"/proc/{pid}/fd")) == before
