"""Every file of the mount: read whole, in pieces, at odd offsets; written to with nonsense; the daemon lives on."""

from __future__ import annotations

import errno
import os
import random
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.mounted.machines import Machine, Machines, mmfs

pytestmark = pytest.mark.mounted

UNBOUNDED = {"pagemap", "kpagecount", "kpageflags", "kpagecgroup", "bitmap", "kmsg", "mem", "clear_refs", "control"}
"""As large as an address space, waiting for more, or doing something."""


def files(machine: Machine) -> Iterator[Path]:
    """Regular files, of two processes only."""
    keep = {str(pid) for pid in (machine.pids()[0], machine.pids()[-1])}
    for folder, names, found in os.walk(machine.path):
        if folder == str(machine.path / "proc"):
            names[:] = [name for name in names if not name.isdigit() or name in keep]
        names.sort()
        for name in sorted(found):
            path = Path(folder) / name
            if stat.S_ISREG(path.lstat().st_mode) and name not in UNBOUNDED:
                yield path


def whole(path: Path) -> bytes | int:
    """The content, or the errno that reading it gives."""
    try:
        return path.read_bytes()
    except OSError as error:
        return error.errno or 0


BROKEN = (errno.ENOTCONN, errno.ECONNABORTED, errno.ENOSYS)
"""What a dead daemon or an unserved request answers."""


def written(path: Path, data: bytes, offset: int) -> int:
    """Bytes that a pwrite(2) took, or minus the errno of it or of the open(2) before."""
    try:
        descriptor = os.open(path, os.O_WRONLY)
    except OSError as error:
        return -(error.errno or 0)
    try:
        return os.pwrite(descriptor, data, offset)
    except OSError as error:
        return -(error.errno or 0)
    finally:
        os.close(descriptor)


def test_every_file(still: Machine) -> None:
    """Readable files give something or one of the kernel's errnos, and while time stands the same when read again."""
    count = 0
    for path in files(still):
        if not path.stat().st_mode & 0o444:
            continue
        first = whole(path)
        count += 1
        if isinstance(first, int):
            assert first in (errno.EINVAL, errno.EIO, errno.EACCES, errno.EPERM, errno.EAGAIN, errno.ENXIO), path
        elif path.name not in ("clock", "sched", "schedstat", "stat", "io", "uuid", "vmstat", "numastat"):
            assert whole(path) == first, path
    assert count > 300


def test_pieces(still: Machine) -> None:
    """Any size at any offset of an open file is a part of what it is as a whole."""
    chance = random.Random(1)
    for path in files(still):
        if not path.stat().st_mode & 0o444:
            continue
        descriptor = os.open(path, os.O_RDONLY)
        try:
            try:
                data = b""
                while piece := os.read(descriptor, 65536):
                    data += piece
            except OSError:
                continue
            if "proc/sys" in str(path):  # a number has nothing past offset 0, a text has
                assert os.pread(descriptor, 10, 1) in (b"", data[1:11]), path
                continue
            for _ in range(6):
                offset, size = chance.randrange(len(data) + 5000), chance.choice((1, 3, 511, 4095, 4097, 70001))
                assert os.pread(descriptor, size, offset) == data[offset : offset + size], (path, offset, size)
        finally:
            os.close(descriptor)


def test_seek(still: Machine) -> None:
    """lseek goes anywhere, back to the beginning too."""
    with (still.path / "proc/meminfo").open("rb", buffering=0) as file:
        text = file.readall()
        file.seek(5)
        assert file.read(3) == text[5:8]
        file.seek(0)
        assert file.readall() == text
        file.seek(1 << 40)
        assert file.read(10) == b""


@pytest.mark.slow
def test_nonsense(machines: Machines) -> None:
    """Random bytes to every file that can be written: an errno or success, and the machine is as sound as before."""
    machine = machines.mount("--ram", "512M", "--swap", "64M", "--seed", "1", "--clock", "manual")
    writable = [path for path in files(machine) if path.stat().st_mode & 0o222 and "sim" not in path.parts]
    assert len(writable) > 40
    samples = st.one_of(
        st.binary(max_size=200),
        st.sampled_from([b"", b"\n", b"0", b"1\n", b"-1", b"999999999999999999999999", b"max", b"1G", b"a" * 5000]),
    )

    @settings(max_examples=300, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(path=st.sampled_from(writable), data=samples, offset=st.sampled_from([0, 1, 4096]))
    def write(path: Path, data: bytes, offset: int) -> None:
        outcome = written(path, data, offset)
        assert outcome in range(len(data) + 1) or -outcome not in BROKEN, (path, outcome)

    write()
    assert machine.read("proc/meminfo").startswith("MemTotal:")
    assert machine.mounted
    if (machine.path / "sim/control").exists():
        check = mmfs("ctl", str(machine.path), "check")
        assert check.returncode == 0, check


def test_permissions(still: Machine) -> None:
    """Modes and owners are the machine's, and what is not there cannot be made."""
    proc = still.path / "proc"
    assert stat.S_IMODE((proc / "slabinfo").stat().st_mode) == 0o400
    assert stat.S_IMODE((proc / "meminfo").stat().st_mode) == 0o444
    assert (proc / "meminfo").stat().st_size == 0
    assert (still.path / "sys/devices/system/node/online").stat().st_size == 4096
    for attempt, wanted in (
        (lambda: (proc / "new").mkdir(), (errno.ENOENT, errno.EPERM, errno.EACCES)),
        (lambda: (proc / "new").write_text(""), (errno.ENOENT, errno.EACCES, errno.ENOSYS)),
        (lambda: (proc / "meminfo").unlink(), (errno.EPERM, errno.ENOSYS)),
        (lambda: (proc / "meminfo").rename(proc / "other"), (errno.EPERM, errno.ENOSYS)),
        (lambda: (proc / "1").read_text(), (errno.EISDIR,)),
    ):
        with pytest.raises(OSError) as caught:
            attempt()
        assert caught.value.errno in wanted, caught.value
