"""Every write that a real kernel was asked, replayed: errno, bytes taken, what is read afterwards.

Rows of tests/golden/write_semantics*.tsv, in their order, as the program in the guest made them: read the file, open
it, write once, read it again, write back what was there first.
"""

from __future__ import annotations

import csv
import errno
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest

import mmfs
from mmfs.kernfs import Caller
from tests.golden.captures import CMDLINE, GOLDEN

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel

TABLES = ("write_semantics.tsv", "write_semantics_sys.tsv")
TABLE_6_1, TABLE_7_0 = "write_semantics_6.1.tsv", "write_semantics_7.0.tsv"
PROFILES = {TABLE_6_1: "6.1", TABLE_7_0: "7.0.0"}

# What no room serves yet. This list must shrink; what is served must leave it.
NOT_SERVED = (
    "/sys/module/damon_reclaim/parameters/addr_unit",
    "/sys/module/page_alloc/parameters/shuffle",
    "/proc/sys/kernel/perf_event_paranoid",
    "/sys/devices/system/cpu/cpu0/uevent",
    "/sys/devices/system/cpu/cpu1/online",
    "/sys/devices/system/cpu/smt/",
)

ZRAM = "/sys/block/zram0/"

# Files whose first content is the machine's own, and those that change by themselves.
OWN = {
    "/proc/buddyinfo", "/proc/meminfo", "/proc/self/comm", "/proc/self/smaps", "/proc/self/stat", "/proc/vmstat",
    "/proc/zoneinfo", "/proc/sys/fs/dentry-state", "/proc/sys/fs/epoll/max_user_watches", "/proc/sys/fs/file-max",
    "/proc/sys/fs/file-nr", "/proc/sys/fs/inode-nr", "/proc/sys/kernel/hostname", "/proc/sys/kernel/osrelease",
    "/proc/sys/kernel/printk", "/proc/sys/kernel/random/uuid", "/proc/sys/kernel/threads-max",
    "/proc/sys/kernel/version", "/proc/sys/vm/min_free_kbytes", "/proc/sys/vm/user_reserve_kbytes",
    "/sys/devices/system/node/node0/meminfo", "/sys/fs/cgroup/cgroup.max.depth", "/sys/fs/cgroup/cgroup.procs",
}  # fmt: skip

# Calls that go by a mount's adapter, not by a file: tests/mounted has them.
NOT_HERE = ("<unlink(2)>", "<rename(2)", "<truncate(2)>", "<chmod(2)")

EXCUSED = {
    # root may write these 0444 files because it may checkpoint and restore; we go by the mode
    ("/proc/sys/kernel/shm_next_id", "1"),
    ("/proc/sys/kernel/msg_next_id", "1"),
}

# What follows from Debian's patches, which 7.0.0 has not, or from how much there was to reclaim; and a negative number
# of jiffies, which 7.0.0 shows as another one.
EXCUSED_7_0 = {
    ("/proc/sys/fs/protected_symlinks", "2"),
    ("/sys/devices/system/node/node0/reclaim", "1M"),
    ("/sys/fs/cgroup/memory.reclaim", "4096 swappiness=max"),
    ("/proc/sys/vm/laptop_mode", "-1"),
    ("/proc/sys/vm/stat_interval", "-1"),
    ("/proc/sys/kernel/printk_ratelimit", "-1"),
}  # fmt: skip

NAMES = {errno.EOPNOTSUPP: "EOPNOTSUPP"}


@dataclass(frozen=True)
class Row:
    """One write."""

    file: str
    input: str
    open_errno: str
    write_ret: str
    errno: str
    before: str
    after: str
    restore: str

    def __str__(self) -> str:
        return f"{self.file} <- {self.input!r}"


@cache
def rows(table: str, cgroup2: bool = False) -> list[Row]:
    """The rows of a table, without or only those of the cgroup tree, which had to be made first."""
    with (GOLDEN / table).open(newline="") as stream:
        lines = csv.reader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)
        next(lines)
        return [Row(*line[2:]) for line in lines if ("cgroup2" in line[1]) == cgroup2]


def unescape(text: str) -> bytes:
    """What was written: \\n \\t \\0 \\\\ \\xNN, and <1 x40> for forty ones."""
    repeated = re.fullmatch(r"<(.) x(\d+)>", text)
    if repeated:
        return repeated[1].encode() * int(repeated[2])
    codes = {"n": b"\n", "t": b"\t", "0": b"\0", "\\": b"\\"}
    parts = re.split(r"\\(x[0-9a-f]{2}|.)", text)
    words = [part.encode() if i % 2 == 0 else codes.get(part, b"") for i, part in enumerate(parts)]
    for i in range(1, len(parts), 2):
        if len(parts[i]) == 3:
            words[i] = bytes([int(parts[i][1:], 16)])
    return b"".join(words)


def escape(data: bytes) -> str:
    """As the guest's program prints bytes; cut after 300."""
    codes = {10: "\\n", 9: "\\t", 92: "\\\\", 0: "\\0"}
    text = "".join(codes.get(c, chr(c) if 32 <= c < 127 else f"\\x{c:02x}") for c in data[:300])
    return text + "..." * (len(data) > 300)


class Guest:
    """The program in the guest, on a machine of ours."""

    def __init__(self, cpus: int = 2, cmdline: str = CMDLINE, table: str = "") -> None:
        self.kernel: Kernel = mmfs.boot(
            ram="512M", cpus=cpus, swap="256M", preset="bare", seed=1, cmdline=cmdline,
            profile=PROFILES.get(table, "6.12"),
        )  # fmt: skip
        if table == TABLE_7_0:
            self.kernel.uts.nodename = "golden"
        self.task = self.kernel.spawn("golden")
        self.caller = Caller(pid=self.task.pid)

    def path(self, file: str) -> str:
        return file.replace("/proc/self", f"/proc/{self.task.pid}")

    def served(self, file: str) -> bool:
        try:
            self.kernel.vfs.resolve(self.path(file), self.caller)
        except FileNotFoundError:
            return False
        return True

    def read(self, file: str) -> str:
        try:
            return escape(self.kernel.vfs.read(self.path(file), self.caller))
        except OSError as error:
            return f"<read {errno.errorcode[error.errno]}>"

    def write(self, file: str, data: bytes) -> tuple[str, str, str]:
        """errno of open(2), return and errno of write(2)."""
        try:
            opened = self.kernel.vfs.open(self.path(file), os.O_WRONLY, self.caller)
        except OSError as error:
            return errno.errorcode[error.errno], "-1", "-"
        try:
            return "0", str(opened.write(data, 0)), "0"
        except OSError as error:
            return "0", "-1", NAMES.get(error.errno, errno.errorcode[error.errno])
        finally:
            opened.release()

    def call(self, row: Row) -> tuple[str, str]:
        """A row that is another system call: its return and errno."""
        vfs, path = self.kernel.vfs, self.path(row.file)
        name, _, argument = row.input.strip("<>").partition(" ")
        calls: dict[str, Any] = {
            "mkdir(2)": lambda: vfs.mkdir(path, 0o755, self.caller),
            "rmdir(2)": lambda: vfs.rmdir(path, self.caller),
            "create(2)": lambda: vfs.open(path, os.O_CREAT | os.O_WRONLY | os.O_EXCL, self.caller),
            "open(2)": lambda: vfs.open(path, int(argument), self.caller),
        }
        try:
            calls[name]()
        except OSError as error:
            return "-1", errno.errorcode[error.errno]
        return "0", "0"

    def replay(self, row: Row) -> Iterator[str]:
        """Do as the row says; what differs."""
        if row.input.endswith("(2)>") or "(2) " in row.input:
            if self.call(row) != (row.write_ret, row.errno):
                yield f"{self.call(row)}, {(row.write_ret, row.errno)} wanted"
            return
        before = self.read(row.file)
        if row.file not in OWN and before != row.before:
            yield f"before: {before}, {row.before} wanted"
        result = self.write(row.file, unescape(row.input))
        if result != (row.open_errno, row.write_ret, row.errno):
            yield f"{result}, {(row.open_errno, row.write_ret, row.errno)} wanted"
        after = self.read(row.file)
        if row.file == "/proc/sys/kernel/random/uuid":
            assert after != before
        elif row.file in OWN and row.after == row.before:
            if after != before and not row.restore.endswith("differs"):
                yield f"after: {after}, {before} wanted"
        elif after != row.after and not (row.file in OWN and row.write_ret == "-1"):
            yield f"after: {after}, {row.after} wanted"
        if after != before and row.restore != "-":
            self.restore(row, before)

    def restore(self, row: Row, before: str) -> None:
        """Write back what was read first, a chosen word without its brackets."""
        chosen = re.search(r"\[(.*)\]", before)
        self.write(row.file, unescape(chosen[1] if chosen else before))


@pytest.mark.parametrize("table", [*TABLES, TABLE_6_1, TABLE_7_0])
def test_writes(table: str) -> None:
    """Every row of a file that we serve."""
    guest = Guest(table=table)
    wrong = []
    replayed = 0
    for row in rows(table):
        if row.file.startswith((*NOT_SERVED, ZRAM)) or row.input.startswith(NOT_HERE):
            continue
        if (row.file, row.input) in EXCUSED | (EXCUSED_7_0 if table == TABLE_7_0 else set()):
            continue
        if row.restore != "-" and not guest.served(row.file):
            wrong.append(f"{row}: not served")
            continue
        replayed += 1
        wrong += [f"{row}: {difference}" for difference in guest.replay(row)]
    assert not wrong, "\n".join(wrong)
    assert replayed > 200
    guest.kernel.check()


def test_zram_writes() -> None:
    """The files of a disk in memory, on a machine of one processor whose module is loaded."""
    guest = Guest(1, f"{CMDLINE} zram.num_devices=1")
    table = [row for row in rows(TABLES[0]) if row.file.startswith(ZRAM)]
    wrong = [f"{row}: {difference}" for row in table for difference in guest.replay(row)]
    assert not wrong, "\n".join(wrong)
    assert len(table) > 20
    guest.kernel.check()


# The guest had cpu and io enabled, and one directory more below t1; tests/fs/test_sys_cgroup.py has these.
NOT_ALIKE = ("cgroup/cgroup.subtree_control", "t1/cgroup.stat", "t1/cpu.")


@pytest.mark.parametrize("table", [TABLES[0], TABLE_6_1, TABLE_7_0])
def test_cgroup_writes(table: str) -> None:
    """The files of every cgroup and of memory and pids, in a group t1 and in the root."""
    guest = Guest(table=table)
    guest.kernel.write("/sys/fs/cgroup/cgroup.subtree_control", "+memory +pids")
    guest.kernel.mkdir("/sys/fs/cgroup/t1")
    wrong, replayed = [], 0
    for row in rows(table, cgroup2=True):
        directory = row.file.rpartition("/")[0]
        if directory not in ("/sys/fs/cgroup", "/sys/fs/cgroup/t1") or "(2)" in row.input:
            continue
        if any(part in row.file for part in NOT_ALIKE) or (
            table == TABLE_7_0 and (row.file, row.input) in EXCUSED_7_0
        ):
            continue
        replayed += 1
        wrong += [f"{row}: {difference}" for difference in guest.replay(row)]
    assert not wrong, "\n".join(wrong)
    assert replayed > 120


def test_what_is_not_served() -> None:
    """The list above names nothing that is there."""
    guest = Guest()
    files = {row.file for table in (*TABLES, TABLE_7_0) for row in rows(table) if row.file.startswith(NOT_SERVED)}
    assert [file for file in sorted(files) if guest.served(file)] == []
    assert all(any(file.startswith(prefix) for file in files) for prefix in NOT_SERVED)
