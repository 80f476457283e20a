"""doctor says what is missing and what to do about it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mmfs.mount import doctor


def test_lines(mmfs: Callable[..., Any]) -> None:
    """A line for each thing, a remedy under each problem, and the status that follows from them."""
    result = mmfs("doctor")
    lines = result.out.splitlines()
    findings = [line for line in lines if not line.startswith(" ")]
    assert all(line.startswith(("OK       ", "PROBLEM  ")) for line in findings)
    text = result.out
    for name in ("FUSE device", "libfuse", "fusermount3", "user namespaces", "mount namespaces", "numpy", "fast path"):
        assert f"  {name}: " in text
    assert result.status == int(any(line.startswith("PROBLEM") for line in findings))


def test_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The device's troubles are told apart."""
    monkeypatch.setattr(doctor, "DEVICE", str(tmp_path / "fuse"))
    missing = doctor.device()
    assert not missing.ok
    assert "modprobe" in missing.remedy
    (tmp_path / "fuse").touch()
    plain = doctor.device()
    assert not plain.ok
    assert "mknod" in plain.remedy


def test_everything_missing(mmfs: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Problems end with status 1."""
    monkeypatch.setattr(doctor, "DEVICE", "/nonexistent/fuse")
    monkeypatch.setattr(doctor, "find_libfuse", lambda major=3: None)
    monkeypatch.setattr(doctor.shutil, "which", lambda name, path=None: None)
    monkeypatch.setattr(doctor.util, "find_spec", lambda name: None)
    result = mmfs("doctor")
    assert result.status == 1
    assert result.out.count("PROBLEM") >= 4
    for remedy in ("modprobe fuse", "apt install fuse3", "pip install numpy"):
        assert remedy in result.out


def test_probes_leave_no_trace() -> None:
    """The namespaces that are tried out end with the attempt."""
    names = [Path("/proc/self/ns", name) for name in ("mnt", "user", "pid", "pid_for_children")]
    before = [name.readlink() for name in names]
    list(doctor.diagnose())
    assert [name.readlink() for name in names] == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
