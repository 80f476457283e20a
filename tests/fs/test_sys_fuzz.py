"""Anything written to any file, anything read from anywhere: an errno at worst, and the model holds."""

from __future__ import annotations

import errno
import os
import stat
from functools import cache
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mmfs
from mmfs.fs.sim.control import COMMANDS
from mmfs.kernfs import Caller

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]

NUMBERS = st.one_of(
    st.integers(-5, 300),
    st.sampled_from([0, 1, -1, 4095, 4096, 65536, 2**31 - 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1, 2**64]),
    st.integers(-(2**70), 2**70),
)
WORDS = (
    "y", "n", "on", "off", "max", "online", "offline", "auto", "enabled", "change", "Node", "ratelimit\n", "always",
    "4K", "64M", "0x10", "010", "+1", "1e3", "\0", "\n", "\t 7 \t", "1 2 3 4 5 6", "pause", "step 1ms", "check", "help",
)  # fmt: skip
TEXTS = st.one_of(
    NUMBERS.map(lambda number: str(number).encode()),
    st.tuples(NUMBERS, st.sampled_from([b"\n", b" ", b"x", b"\0", b"\n\n", b" 1"])).map(
        lambda pair: str(pair[0]).encode() + pair[1]
    ),
    st.lists(NUMBERS, max_size=6).map(lambda numbers: "\t".join(map(str, numbers)).encode()),
    st.sampled_from([word.encode() for word in WORDS]),
    st.binary(max_size=64),
    st.integers(0, 9000).map(lambda length: b"9" * length),
    st.integers(0, 9000).map(lambda length: b"\xff" * length),
)
OFFSETS = st.sampled_from([0, 0, 0, 1, 3, 4095, 4096, 1 << 20, 1 << 40, 2**63 - 1])
SIZES = st.sampled_from([0, 1, 2, 7, 511, 4095, 4096, 4097, 1 << 17])
CALLERS = st.sampled_from([Caller(), Caller(), Caller(pid=1), Caller(uid=1000, gid=1000), Caller(pid=99999)])


def boot() -> Kernel:
    """A small machine with a process that has memory, a file in the cache, and swap."""
    kernel = mmfs.boot(ram="192M", cpus=2, swap="32M", nodes=2, preset="bare", seed=1, cmdline="hugepages=2")
    task = kernel.spawn("victim", uid=1000)
    task.touch(task.mmap("4M"), "4M", write=True)
    kernel.namei.create("/data/file", 1 << 20)
    descriptor = task.open("/data/file")
    task.read(descriptor, 1 << 20)
    return kernel


def files(kernel: Kernel, mask: int) -> list[str]:
    """Every regular file with one of these mode bits; of processes init, the victim and one kernel thread."""
    known = {str(pid) for pid in (1, 2, max(kernel.tasks))}
    found = []
    for path, entry in kernel.vfs.entries("/"):
        pid = path.removeprefix("/proc/").partition("/")[0]
        if pid.isdigit() and pid not in known:
            continue
        if entry.type == stat.S_IFREG and entry.mode & mask:
            found.append(path)
    return found


@cache
def template() -> Kernel:
    """A machine that is only read."""
    return boot()


@cache
def writable() -> list[str]:
    """Every file that can be written."""
    return files(template(), 0o222)


@cache
def readable() -> list[str]:
    """Every file that can be read."""
    return files(template(), 0o444)


def write(kernel: Kernel, path: str, data: bytes, offset: int, caller: Caller) -> None:
    """One write(2); how many bytes it says it took can be true."""
    try:
        file = kernel.vfs.open(path, os.O_RDWR if path.startswith("/sim") else os.O_WRONLY, caller)
    except OSError:
        return
    try:
        taken = file.write(data, offset)
        assert 0 <= taken <= len(data), f"{path}: {taken} of {len(data)} bytes taken"
    except OSError:
        pass
    finally:
        file.release()


def read(kernel: Kernel, path: str, offset: int, size: int, caller: Caller) -> bytes:
    """One read(2); never more than was asked for."""
    try:
        file = kernel.vfs.open(path, os.O_RDONLY, caller)
    except OSError:
        return b""
    try:
        data = file.read(size, offset)
    except OSError:
        return b""
    finally:
        file.release()
    assert isinstance(data, bytes)
    assert len(data) <= size, f"{path}: {len(data)} bytes for {size}"
    return data


def test_there_is_something_to_fuzz() -> None:
    assert len(writable()) > 150
    assert len(readable()) > 300
    assert {path.split("/")[1] for path in writable()} == {"proc", "sys", "dev", "sim"}


@settings(max_examples=25, deadline=None, suppress_health_check=SLOW)
@given(
    writes=st.lists(
        st.tuples(st.deferred(lambda: st.sampled_from(writable())), TEXTS, OFFSETS, CALLERS), min_size=20, max_size=60
    )
)  # fmt: skip
def test_writes(writes: list[tuple[str, bytes, int, Caller]]) -> None:
    """Random bytes and odd lengths to every writable file."""
    kernel = boot()
    for path, data, offset, caller in writes:
        write(kernel, path, data, offset, caller)
    kernel.check()
    kernel.run_for(0.1)
    kernel.check()


def test_every_file_takes_anything() -> None:
    """Each writable file once, with each kind of text, on one machine."""
    samples = [b"", b"\n", b"0", b"1\n", b"-1", b"2147483648", b"999999999999999999999999", b"max", b"1G", b"\0",
               b" 3 ", b"4 x", b"a" * 5000, bytes(range(256)), "\u00e9".encode()]  # fmt: skip
    kernel = boot()
    for path in writable():
        for data in samples:
            write(kernel, path, data, 0, Caller())
            write(kernel, path, data, 3, Caller(uid=1000, gid=1000))
        kernel.check()


@settings(max_examples=60, deadline=None, suppress_health_check=SLOW)
@given(
    reads=st.lists(
        st.tuples(st.deferred(lambda: st.sampled_from(readable())), OFFSETS, SIZES, CALLERS), min_size=10, max_size=60
    )
)
def test_reads(reads: list[tuple[str, int, int, Caller]]) -> None:
    """Odd offsets and sizes."""
    for path, offset, size, caller in reads:
        read(template(), path, offset, size, caller)


def test_every_file_at_odd_offsets() -> None:
    """Each readable file from each offset with each size; pieces are the whole. The model holds."""
    kernel = boot()
    for path in readable():
        whole = read(kernel, path, 0, 1 << 24, Caller())
        for offset in (0, 1, 13, 4095, 4097, len(whole), len(whole) + 1, 1 << 40, 2**63 - 1):
            for size in (0, 1, 7, 4096, 1 << 17):
                read(kernel, path, offset, size, Caller())
        assert pieces(kernel, path, 61) == whole or changes(path), path
    kernel.check()


def pieces(kernel: Kernel, path: str, size: int) -> bytes:
    """A file read in pieces through one open file."""
    try:
        file = kernel.vfs.open(path, os.O_RDONLY)
        data = b""
        while part := file.read(size, len(data)):
            data += part
            if len(data) > 1 << 20:
                break
    except OSError:
        return b""
    return data


def changes(path: str) -> bool:
    """Files that say something else at each look, or not in small pieces."""
    return path.endswith(("random/uuid", "kmsg", "pagemap", "kpagecount", "kpageflags", "kpagecgroup", "bitmap")) or (
        path.startswith("/proc/sys/") and "/vm/" in path
    )


def test_no_state_is_shared() -> None:
    """What was done to one machine does not show on another."""
    other: dict[str, Any] = {
        path: read(template(), path, 0, 1 << 16, Caller()) for path in writable() if "/sys/" in path
    }
    kernel = boot()
    for path in other:
        for data in (b"1", b"7", b"offline", b"on"):
            write(kernel, path, data, 0, Caller())
    assert {path: read(template(), path, 0, 1 << 16, Caller()) for path in other} == other


ARGUMENTS = st.one_of(
    NUMBERS.map(str),
    st.sampled_from(["1", "2", "152", "153", "154", "64M", "4096", "8K", "0x10000", "-1", "write", "stride=100", "rw",
                     "MADV_DONTNEED", "MADV_FREE", "MADV_PAGEOUT", "MADV_HUGEPAGE", "MADV_WILLNEED", "SIGKILL",
                     "SIGSTOP", "SIGCONT", "/data/file", "/data/new", "name", "uid=1000", "anon=1M", "cgroup=/",
                     "flags=MAP_SHARED", "flags=fixed,private", "file=/data/file", "addr=0x10000", "prot=none", "AS",
                     "STACK", "ANY"]),
    st.text(max_size=8),
)  # fmt: skip


@settings(max_examples=40, deadline=None, suppress_health_check=SLOW)
@given(data=st.data())
def test_commands(data: st.DataObject) -> None:
    """Any command with any arguments, many of them about addresses that earlier commands answered."""
    kernel = boot()
    control = kernel.vfs.open("/sim/control", os.O_RDWR)
    known = [str(max(kernel.tasks))]
    for _ in range(data.draw(st.integers(5, 25))):
        name = data.draw(st.sampled_from(sorted(COMMANDS)))
        words = data.draw(st.lists(st.one_of(st.sampled_from(known), ARGUMENTS), max_size=5))
        if data.draw(st.booleans()):
            words.insert(0, known[0])
        failure = 0
        try:
            control.write(" ".join([name, *words]).encode("utf-8", "surrogatepass"), 0)
        except OSError as error:
            failure = error.errno or 0
        assert failure != errno.EIO, control.read(1 << 16, 0)
        answer = control.read(1 << 16, 0).decode("utf-8", "replace").split()
        known += [word for word in answer[-1:] if word[:1].isdigit()]
    kernel.check()
