"""The log ring: formats, order, what is dropped, what a reader learns of it."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmfs.kernel.clock import NSEC_PER_SEC, Clock
from mmfs.kernel.printk import LOG_WARNING, SEEK_DATA, DevkmsgUser, Printk, escape_text, log_buf_len

GOLDEN = Path(__file__).parents[1] / "golden" / "captures"


@pytest.fixture
def log() -> Printk:
    return Printk(Clock())


def test_a_record_of_kmsg_and_of_dmesg(log: Printk) -> None:
    log.clock.run_for(12_345_678_901)
    log.emit("Memory: 460324K/523744K available", level=6)
    (record,) = log.ring
    assert record.kmsg() == b"6,0,12345678,-;Memory: 460324K/523744K available\n"
    assert log.dmesg() == "[   12.345678] Memory: 460324K/523744K available\n"


def test_dmesg_times_have_the_golden_form(log: Printk) -> None:
    golden = (GOLDEN / "512M" / "dmesg-boot-to-cgroup.txt").read_text().splitlines()[0]
    log.emit("Linux version")
    form = re.compile(r"\[ *\d+\.\d{6}\] ")
    ours, theirs = form.match(log.dmesg()), form.match(golden)
    assert ours is not None
    assert theirs is not None
    assert ours.group() == theirs.group()


def test_every_line_of_a_message_gets_the_time_in_dmesg_and_is_escaped_in_kmsg(log: Printk) -> None:
    log.emit("one\ntwo\n", level=4)
    assert log.dmesg() == "[    0.000000] one\n[    0.000000] two\n"
    assert log.ring[0].kmsg() == b"4,0,0,-;one\\x0atwo\n"


def test_escapes() -> None:
    assert escape_text("plain text") == "plain text"
    assert escape_text("a\\b\té\x7f") == "a\\x5cb\\x09\\xc3\\xa9\\x7f"


@pytest.mark.parametrize(
    ("cpus", "requested", "size"),
    [(1, 0, 128), (17, 0, 128), (18, 0, 256), (64, 0, 512), (448, 0, 2048), (2, 1 << 20, 1024), (2, 5000, 128)],
)
def test_the_ring_grows_with_the_cpus(cpus: int, requested: int, size: int) -> None:
    assert log_buf_len(cpus, requested) == size * 1024


def test_the_oldest_records_go_when_the_text_ring_is_full(log: Printk) -> None:
    line = "x" * 120  # 128 bytes with its header: 1024 of them fill 128 KB exactly
    for _ in range(1024):
        log.emit(line)
    assert (log.first_seq, len(log.ring)) == (0, 1024)
    log.emit(line)
    assert (log.first_seq, log.next_seq) == (1, 1025)


def test_the_oldest_records_go_when_the_descriptors_run_out(log: Printk) -> None:
    for _ in range(5000):
        log.emit("")
    assert len(log.ring) == log.nr_descriptors == 4096


def test_a_message_is_cut_at_1024_bytes(log: Printk) -> None:
    log.emit("y" * 5000)
    assert len(log.ring[0].text) == 1024


def test_a_reader_sees_every_record_once_then_waits(log: Printk) -> None:
    log.emit("a")
    user = DevkmsgUser(log)
    assert user.readable()
    assert user.read(8192) == b"6,0,0,-;a\n"
    assert not user.readable()
    assert user.read(8192) is None
    log.emit("b")
    assert user.read(8192) == b"6,1,0,-;b\n"


def test_a_reader_who_missed_records_gets_epipe_once(log: Printk) -> None:
    user = DevkmsgUser(log)
    for _ in range(1100):
        log.emit("x" * 120)
    with pytest.raises(OSError) as caught:
        user.read(8192)
    assert caught.value.errno == errno.EPIPE
    data = user.read(8192)
    assert data is not None
    assert data.startswith(b"6,76,")


def test_a_short_read_loses_the_record_with_einval(log: Printk) -> None:
    log.emit("a long message")
    user = DevkmsgUser(log)
    with pytest.raises(OSError) as caught:
        user.read(5)
    assert caught.value.errno == errno.EINVAL
    assert user.read(8192) is None


@pytest.mark.parametrize(
    ("written", "priority", "text"),
    [
        (b"hello\n", 8 + 4, "hello"),
        (b"<3>bad", 8 + 3, "bad"),
        (b"<30>daemon", 30, "daemon"),
        (b"<x>kept", 8 + 4, "<x>kept"),
        (b"<5", 8 + 4, "<5"),
    ],
)
def test_writes_from_user_space(log: Printk, written: bytes, priority: int, text: str) -> None:
    user = DevkmsgUser(log)
    assert user.write(written) == len(written)
    assert user.read(8192) == f"{priority},0,0,-;{text}\n".encode()


def test_writes_are_limited_to_ten_in_five_seconds(log: Printk) -> None:
    user = DevkmsgUser(log)
    for _ in range(13):
        user.write(b"noise")
    assert log.next_seq == 10
    log.clock.run_for(6 * NSEC_PER_SEC)
    user.write(b"again")
    user.release("chatty")
    suppressed = "printk: chatty: 3 output lines suppressed due to ratelimiting"
    assert [r.text for r in log.since(10)] == ["again", suppressed]
    assert log.ring[11].level == LOG_WARNING
    log.devkmsg_log = "off"
    user.write(b"nothing")
    log.devkmsg_log = "on"
    for _ in range(20):
        user.write(b"all")
    assert log.next_seq == 32


def test_too_long_a_write_is_einval(log: Printk) -> None:
    with pytest.raises(OSError) as caught:
        DevkmsgUser(log).write(b"z" * 1025)
    assert caught.value.errno == errno.EINVAL


def test_seek(log: Printk) -> None:
    for text in "abc":
        log.emit(text)
    user = DevkmsgUser(log)
    log.dmesg(clear=True)
    log.emit("d")
    user.seek(0, SEEK_DATA)
    assert user.seq == 3
    user.seek(0, os.SEEK_END)
    assert user.seq == 4
    user.seek(0, os.SEEK_SET)
    assert user.seq == 0
    for offset, whence, error in ((1, os.SEEK_SET, errno.ESPIPE), (0, os.SEEK_CUR, errno.EINVAL)):
        with pytest.raises(OSError) as caught:
            user.seek(offset, whence)
        assert caught.value.errno == error
    assert log.dmesg() == "[    0.000000] d\n"


@given(st.lists(st.integers(0, 2000), min_size=1, max_size=400))
def test_the_ring_never_holds_more_than_its_size(lengths: list[int]) -> None:
    log = Printk(Clock())
    for length in lengths:
        log.emit("t" * length)
        stored = sum(-(-(8 + len(r.text)) // 8) * 8 for r in log.ring if r.text)
        assert stored <= log.log_buf_len
        assert [r.seq for r in log.ring] == list(range(log.first_seq, log.next_seq))
