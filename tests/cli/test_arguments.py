"""Bad input is one line that says what is wrong and exit status 2, no traceback; good input reaches boot as meant."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mmfs.arch import X86_64
from mmfs.cli.machine_options import MachineOptions, parse_nodes
from mmfs.cli.mount import Request, parse_rate, split_options
from mmfs.machine import MIN_RAM
from mmfs.mount.errors import MountError


def one_line(result: Any, *words: str) -> None:
    """The shape of every refusal."""
    assert result.status == 2, result
    assert result.out == ""
    assert result.err.startswith("mmfs")
    assert result.err.count("\n") == 1, result.err
    assert result.err.endswith("\n"), result.err
    for word in words:
        assert word in result.err, result.err


@pytest.mark.parametrize("size", ["-1", "1e9", "0", "8 GB", "8 elephants", "", "G", "1.5", "0x10", "8G8G", "\u0668G"])
def test_bad_size(mmfs: Callable[..., Any], size: str) -> None:
    """A size that is none."""
    one_line(mmfs("show", "/proc/meminfo", "--ram", size), "ram")


def test_bad_size_elsewhere(mmfs: Callable[..., Any], tmp_path: Path) -> None:
    """Every command that boots a machine refuses it in the same way, and leaves nothing behind."""
    one_line(mmfs("export", str(tmp_path / "new"), "--ram", "1e9"), "ram")
    one_line(mmfs("translate", "1", "0x1000", "--swap", "1e9"), "swap")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", ["512M", "512m", "512MB", "512MiB", "0.5G", "524288K", str(512 << 20)])
def test_good_size(mmfs: Callable[..., Any], size: str) -> None:
    """All of these are half a gigabyte."""
    small = mmfs("show", "/proc/meminfo", "--ram", "512M", "--preset", "bare")
    assert small.status == 0
    assert mmfs("show", "/proc/meminfo", "--ram", size, "--preset", "bare") == small


@pytest.mark.parametrize("size", ["1", "4096", "1M", str(MIN_RAM - 4096), str(X86_64.max_ram + 4096), "1P"])
def test_impossible_ram(mmfs: Callable[..., Any], size: str) -> None:
    """Less than Linux boots with, more than is simulated."""
    one_line(mmfs("show", "/proc/meminfo", "--ram", size), "ram")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["mount"], ["MOUNTPOINT"]),
        (["mount", "/etc/passwd"], ["/etc/passwd", "not a directory"]),
        (["mount", "/nonexistent/dir"], ["/nonexistent/dir", "no such directory", "mkdir"]),
        (["mount", "/proc"], ["/proc", "busy"]),
        (["mount", "/tmp", "--cpus", "0"], ["--cpus"]),
        (["mount", "/tmp", "--cpus", "two"], ["--cpus"]),
        (["mount", "/tmp", "--rate", "0"], ["rate"]),
        (["mount", "/tmp", "--rate", "fast"], ["rate"]),
        (["mount", "/tmp", "--clock", "stopped"], ["--clock"]),
        (["mount", "/tmp", "--ram"], ["--ram"]),
        (["mount", "/tmp", "--rom", "8G"], ["--rom"]),
        (["mount", "/tmp", "-o", "swa=2G"], ["swa=2G"]),
        (["mount", "/tmp", "-o", "ram"], ["ram", "value"]),
        (["mount", "/tmp", "-o", "cpus=x"], ["cpus=x"]),
        (["umount"], ["MOUNTPOINT"]),
        (["umount", "/etc"], ["/etc", "not mounted"]),
        (["umount", "/nonexistent"], ["/nonexistent", "no such directory"]),
        (["umount", "/proc"], ["proc", "not a machine"]),
        (["run", "--mount", "/etc", "--", "true"], ["/etc", "no machine"]),
        (["run", "--mount", "/etc", "--ram", "8G", "--", "true"], ["--mount"]),
        (["ctl", "/etc", "help"], ["/etc", "no machine"]),
        (["ctl", "/etc"], ["COMMAND"]),
        (["translate", "1", "here"], ["here", "not an address"]),
        (["translate", "1", "-1"], ["-1"]),
        (["translate", "one", "0x1000"], ["PID"]),
        (["translate", "--mount", "/etc", "1", "0x1000"], ["/etc", "no machine"]),
        (["show"], ["PATH"]),
        (["show", "/proc/meminfo", "--nodes", "0"], ["nodes"]),
        (["show", "/proc/meminfo", "--nodes", "2G,"], ["nodes"]),
        (["show", "/proc/meminfo", "--nodes", "2G:x"], ["nodes"]),
        (["show", "/proc/meminfo", "--machine", "/nonexistent.toml"], ["/nonexistent.toml"]),
        (["show", "/proc/meminfo", "--preset", "castle"], ["castle"]),
        (["show", "/proc/meminfo", "--profile", "1.0"], ["1.0"]),
        (["show", "/proc/meminfo", "--arch", "i386"], ["'i386'", "x86_64, i386-pae"]),
        (["show", "/proc/meminfo", "--arch", "i386-pae", "--ram", "65G"], ["65G", "64G", "i386-pae"]),
        (["show", "/proc/meminfo", "--arch", "i386-pae", "--ram", "2G", "--maxmem", "4G"], ["maxmem", "i386-pae"]),
        (["show", "/proc/meminfo", "--arch", "i386-pae", "--ram", "2G", "--nodes", "2"], ["nodes"]),
        (["show", "/proc/meminfo", "--arch", "i386-pae", "--profile", "5.1"], ["5.1", "6.1, 6.12"]),
        (["show", "/proc/meminfo", "--like-host", "--preset", "bare"], ["--like-host"]),
        (["show", "/proc/meminfo", "--swap", "1"], ["swap"]),
        (["export", "/etc"], ["/etc", "not empty"]),
        (["export", "/etc/passwd"], ["/etc/passwd", "not a directory"]),
        (["export", "/nonexistent/dir"], ["/nonexistent"]),
        (["dance"], ["dance"]),
        (["dance", "/mnt"], ["dance"]),
        (["--frobnicate"], ["--frobnicate"]),
    ],
    ids=" ".join,
)
def test_refusals(mmfs: Callable[..., Any], arguments: list[str], words: list[str]) -> None:
    """Every mistake has a message of its own."""
    one_line(mmfs(*arguments), *words)


def test_device_missing(mmfs: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No /dev/fuse, a file in its place, a device nobody may open."""
    from mmfs.mount import doctor

    monkeypatch.setattr(doctor, "DEVICE", str(tmp_path / "fuse"))
    one_line(mmfs("mount", str(tmp_path)), "no ", "modprobe fuse")
    (tmp_path / "fuse").touch()
    one_line(mmfs("mount", str(tmp_path)), "not a device", "mknod")
    one_line(mmfs("run", "--", "true"), "not a device")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open every device")
def test_device_forbidden(mmfs: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that belongs to root alone."""
    from mmfs.mount import doctor

    monkeypatch.setattr(doctor, "DEVICE", "/dev/port")
    one_line(mmfs("mount", str(tmp_path)), "no permission", "chmod 666")


def test_library_missing(mmfs: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No libfuse."""
    from mmfs.mount import doctor

    monkeypatch.setattr(doctor, "device", lambda: doctor.Finding("FUSE device", True, ""))
    monkeypatch.setattr(doctor, "find_libfuse", lambda major=3: None)
    one_line(mmfs("mount", str(tmp_path)), "libfuse", "apt install fuse3")


def test_package_missing(mmfs: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A dependency that is not installed."""
    import mmfs as package

    def boot(**_options: Any) -> None:
        raise ModuleNotFoundError("No module named 'numpy'", name="numpy")

    monkeypatch.setattr(package, "boot", boot)
    one_line(mmfs("show", "/proc/meminfo"), "numpy", "pip install numpy")


def test_help_is_quick() -> None:
    """What costs time is not imported before it is needed."""
    code = "import sys; from mmfs.cli import main\ntry: main(['--help'])\nfinally: print(*sys.modules, file=sys.stderr)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "mount" in result.stdout
    modules = result.stderr.split()
    assert "click" in modules
    assert not {"numpy", "mfusepy", "psutil", "mmfs.kernel.kernel", "mmfs.machine"} & set(modules)


@pytest.mark.parametrize("command", ["mount", "umount", "list", "run", "show", "export", "ctl", "translate", "doctor"])
def test_every_command_has_help(mmfs: Callable[..., Any], command: str) -> None:
    """mmfs COMMAND --help."""
    result = mmfs(command, "--help")
    assert result.status == 0
    assert result.out.startswith(f"Usage: mmfs {command}")
    assert f"  {command} " in mmfs("--help").out


def test_nodes() -> None:
    """A number, or what each node has."""
    assert parse_nodes("2") == 2
    assert parse_nodes(" 3G , 2G ") == [{"memory": "3G"}, {"memory": "2G"}]
    assert parse_nodes("3G:4+512G:0") == [{"memory": "3G", "cpus": 4}, {"memory": "512G", "cpus": 0}]
    assert parse_nodes("2G:0-1,0:2-3") == [{"memory": "2G", "cpus": "0-1"}, {"memory": "0", "cpus": "2-3"}]
    with pytest.raises(MountError):
        parse_nodes("")


def test_rate() -> None:
    """Faster or slower than real time."""
    assert parse_rate("10") == parse_rate("10x") == 10
    assert parse_rate("0.25") == 0.25
    for text in ("0", "-1", "nan", "inf", "x", ""):
        with pytest.raises(MountError):
            parse_rate(text)


def test_split_options() -> None:
    """Commas separate, a backslash or quotes keep them."""
    assert list(split_options("rw,swap=2G,,nodev")) == [("rw", None), ("swap", "2G"), ("nodev", None)]
    assert list(split_options(r"nodes=3G\,2G,dev")) == [("nodes", "3G,2G"), ("dev", None)]
    assert list(split_options('cmdline="a=1,b c",suid')) == [("cmdline", "a=1,b c"), ("suid", None)]
    assert list(split_options("")) == []


def test_mount_options() -> None:
    """What mount(8), mount.fuse3 and fstab add is understood, and options are the same on both ways."""
    request = Request(MachineOptions(), {})
    request.apply(("rw,nosuid,nodev,noatime,swap=2G,nodes=2,like-host,seed=7,rate=10x,clock=manual,dev,suid,_netdev",))
    request.apply(("x-systemd.automount,nofail,allow_other,max_read=131072,cmdline=hugepages=64,log=/tmp/l",))
    machine = request.machine
    assert (machine.swap, machine.nodes, machine.seed, machine.like_host) == ("2G", "2", 7, True)
    assert machine.cmdline == "hugepages=64"
    assert request.options == {"rate": 10.0, "clock": "manual", "log": "/tmp/l"}
    assert request.fuse == {"nosuid": True, "nodev": True, "noatime": True, "allow_other": True, "max_read": "131072"}


def test_scenario(mmfs: Callable[..., Any], tmp_path: Path) -> None:
    """A scenario's machine is booted, options override it; a mistake in the file is one line."""
    file = tmp_path / "small.toml"
    file.write_text('[machine]\nram = "512M"\npreset = "bare"\n[[program]]\nname = "leak"\n')
    plain = mmfs("show", "/proc/meminfo", "--ram", "512M", "--preset", "bare")
    shown = mmfs("show", "/proc/meminfo", "--scenario", str(file))
    assert shown.status == 0 and shown.out.splitlines()[0] == plain.out.splitlines()[0]
    larger = mmfs("show", "/proc/meminfo", "--scenario", str(file), "--ram", "1G")
    assert larger.out.splitlines()[0] != plain.out.splitlines()[0]
    file.write_text('[[program]]\nname = "leek"\n')
    one_line(mmfs("show", "/proc/meminfo", "--scenario", str(file)), "program 1 (leek): no such program")
    one_line(mmfs("run", "--scenario", str(file), "--", "true"), "program 1 (leek)")
    one_line(mmfs("mount", str(tmp_path), "--scenario", str(tmp_path / "none.toml")), "No such file")
    one_line(mmfs("mount", str(tmp_path), "-o", f"scenario={file}"), "program 1 (leek)")
