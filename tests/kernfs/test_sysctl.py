"""Writes to sysctls and to sysfs files against what a real 6.12 answered (tests/golden/write_semantics.tsv)."""

from __future__ import annotations

import csv
import errno
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mmfs.kernfs import (
    SYSCTL,
    SYSFS,
    Directory,
    Vfs,
    fail,
    kstrtobool,
    kstrtouint,
    kstrtoul,
    match_string,
)
from mmfs.kernfs.sysctl import (
    Parser,
    proc_dobool,
    proc_dointvec,
    proc_dointvec_jiffies,
    proc_dointvec_minmax,
    proc_dostring,
    proc_dou8vec_minmax,
    proc_douintvec,
    proc_douintvec_minmax,
    proc_doulongvec_minmax,
    sysctl,
)

GOLDEN = Path(__file__).parent.parent / "golden" / "write_semantics.tsv"


class Fields:
    """One value under any name."""

    def __init__(self, value: Any) -> None:
        self.value = value


def _clamp(fields: Fields, old: Any) -> None:
    fields.value = [max(number, 0) for number in fields.value]


PARSERS: dict[str, tuple[Parser, Callable[[Fields, Any], None] | None]] = {
    "vm/swappiness": (proc_dointvec_minmax(0, 200), None),
    "vm/overcommit_memory": (proc_dointvec_minmax(0, 2), None),
    "vm/overcommit_ratio": (proc_dointvec(), None),
    "vm/overcommit_kbytes": (proc_doulongvec_minmax(), None),
    "vm/min_free_kbytes": (proc_dointvec_minmax(0), None),
    "vm/watermark_scale_factor": (proc_dointvec_minmax(1, 3000), None),
    "vm/watermark_boost_factor": (proc_dointvec_minmax(0), None),
    "vm/dirty_ratio": (proc_dointvec_minmax(0, 100), None),
    "vm/dirty_background_ratio": (proc_dointvec_minmax(0, 100), None),
    "vm/dirty_bytes": (proc_doulongvec_minmax(8192), None),
    "vm/dirty_background_bytes": (proc_doulongvec_minmax(1), None),
    "vm/dirty_expire_centisecs": (proc_dointvec_minmax(0), None),
    "vm/dirty_writeback_centisecs": (proc_dointvec(), None),
    "vm/vfs_cache_pressure": (proc_dointvec_minmax(0), None),
    "vm/page-cluster": (proc_dointvec_minmax(0, 31), None),
    "vm/zone_reclaim_mode": (proc_dointvec_minmax(0), None),
    "vm/laptop_mode": (proc_dointvec_jiffies(), None),
    "vm/lowmem_reserve_ratio": (proc_dointvec_minmax(), _clamp),
    "vm/oom_kill_allocating_task": (proc_dointvec(), None),
    "vm/oom_dump_tasks": (proc_dointvec(), None),
    "vm/panic_on_oom": (proc_dointvec_minmax(0, 2), None),
    "vm/extfrag_threshold": (proc_dointvec_minmax(0, 1000), None),
    "vm/compaction_proactiveness": (proc_dointvec_minmax(0, 100), None),
    "vm/max_map_count": (proc_dointvec_minmax(0), None),
    "vm/admin_reserve_kbytes": (proc_doulongvec_minmax(), None),
    "vm/user_reserve_kbytes": (proc_doulongvec_minmax(), None),
    "vm/nr_overcommit_hugepages": (proc_doulongvec_minmax(), None),
    "vm/nr_hugepages": (proc_doulongvec_minmax(), None),
    "vm/hugetlb_shm_group": (proc_dointvec(), None),
    "vm/stat_interval": (proc_dointvec_jiffies(), None),
    "vm/numa_stat": (proc_dointvec_minmax(0, 1), None),
    "vm/min_unmapped_ratio": (proc_dointvec_minmax(0, 100), None),
    "vm/min_slab_ratio": (proc_dointvec_minmax(0, 100), None),
    "vm/unprivileged_userfaultfd": (proc_dointvec_minmax(0, 1), None),
    "vm/legacy_va_layout": (proc_dointvec_minmax(0), None),
    "vm/page_lock_unfairness": (proc_dointvec_minmax(0), None),
    "kernel/pid_max": (proc_dointvec_minmax(301, 4194304), None),
    "kernel/shmmni": (proc_dointvec_minmax(0, 32768), None),
    "kernel/shmmax": (proc_doulongvec_minmax(), None),
    "kernel/shmall": (proc_doulongvec_minmax(), None),
}


def unescape(text: str) -> str:
    """The bytes of a column: \\n, \\t, \\0 and `<1 x40>` for forty times a 1."""
    repeated = re.fullmatch(r"<(.) x(\d+)>", text)
    if repeated:
        return repeated[1] * int(repeated[2])
    return re.sub(r"\\(.)", lambda found: {"n": "\n", "t": "\t", "0": "\0", "\\": "\\"}[found[1]], text)


def rows(prefix: str) -> Iterator[dict[str, str]]:
    with GOLDEN.open(newline="") as lines:
        for row in csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE):
            if row["file"].startswith(prefix) and row["open_errno"] == "0":
                yield row


def answer(vfs: Vfs, path: str, buf: str) -> tuple[int, str]:
    """What write(2) returned, and its errno."""
    try:
        return vfs.write(path, buf), "0"
    except OSError as error:
        return -1, errno.errorcode[error.errno or 0]


SYSCTL_ROWS = [row for row in rows("/proc/sys/") if row["file"].removeprefix("/proc/sys/") in PARSERS]


def test_there_are_rows() -> None:
    assert len(SYSCTL_ROWS) > 130


@pytest.mark.parametrize("row", SYSCTL_ROWS, ids=lambda row: f"{row['file'][10:]}={row['input']}")
def test_golden_sysctl(row: dict[str, str]) -> None:
    parser, after = PARSERS[row["file"].removeprefix("/proc/sys/")]
    scale = getattr(parser, "hz", 1)
    before = [int(number) * scale for number in unescape(row["before"]).split()]
    vm: Directory[Fields] = Directory(rules=SYSCTL)
    vm.add(sysctl("row", parser, field="value", after=after))
    vfs = Vfs(vm, Fields(before if len(before) > 1 else before[0]))
    assert vfs.read("/row").decode() == unescape(row["before"])
    assert answer(vfs, "/row", unescape(row["input"])) == (int(row["write_ret"]), row["errno"])
    assert vfs.read("/row").decode() == unescape(row["after"])


class Sysfs:
    def __init__(self, text: str) -> None:
        self.text = text


def _number(parse: Callable[[str], int], low: int = 0, high: int | None = None) -> Callable[[Sysfs, str], None]:
    def store(state: Sysfs, buf: str) -> None:
        value = parse(buf)
        if value < low or (high is not None and value > high):
            fail(errno.EINVAL)
        state.text = f"{value}\n"

    return store


def _word(state: Sysfs, buf: str) -> None:
    words = state.text.replace("[", "").replace("]", "").split()
    chosen = match_string(words, buf)
    state.text = " ".join(f"[{word}]" if index == chosen else word for index, word in enumerate(words)) + "\n"


def _truth(state: Sysfs, buf: str) -> None:
    state.text = "true\n" if kstrtobool(buf) else "false\n"


THP = "transparent_hugepage/"
STORES: dict[str, Callable[[Sysfs, str], None]] = {
    THP + "enabled": _word,
    THP + "defrag": _word,
    THP + "shmem_enabled": _word,
    THP + "khugepaged/pages_to_scan": _number(lambda buf: kstrtouint(buf, 10), 1),
    THP + "khugepaged/max_ptes_none": _number(lambda buf: kstrtoul(buf, 10), 0, 511),
    THP + "khugepaged/max_ptes_swap": _number(lambda buf: kstrtoul(buf, 10), 0, 511),
    THP + "khugepaged/scan_sleep_millisecs": _number(lambda buf: _einval(kstrtouint, buf)),
    "ksm/max_page_sharing": _number(lambda buf: kstrtoul(buf, 10), 2),
    "hugepages/hugepages-2048kB/nr_hugepages": _number(lambda buf: kstrtoul(buf, 10)),
    "hugepages/hugepages-2048kB/nr_overcommit_hugepages": _number(lambda buf: kstrtoul(buf, 10)),
    "swap/vma_ra_enabled": _truth,
    "numa/demotion_enabled": _truth,
}


def _einval(parse: Callable[[str, int], int], buf: str) -> int:
    """khugepaged turns every error of kstrtouint() into EINVAL."""
    try:
        return parse(buf, 10)
    except OSError:
        fail(errno.EINVAL)


SYSFS_ROWS = [row for row in rows("/sys/kernel/mm/") if row["file"].removeprefix("/sys/kernel/mm/") in STORES]
_ERANGE_IS_EINVAL = {THP + "khugepaged/pages_to_scan"}


@pytest.mark.parametrize("row", SYSFS_ROWS, ids=lambda row: f"{row['file'][15:]}={row['input']}")
def test_golden_sysfs(row: dict[str, str]) -> None:
    name = row["file"].removeprefix("/sys/kernel/mm/")
    mm: Directory[Sysfs] = Directory(rules=SYSFS)
    mm.attributes("row", lambda state: state.text, STORES[name])
    vfs = Vfs(mm, Sysfs(unescape(row["before"])))
    returned, name_of_error = answer(vfs, "/row", unescape(row["input"]))
    if name in _ERANGE_IS_EINVAL and name_of_error == "ERANGE":
        name_of_error = "EINVAL"
    assert (returned, name_of_error) == (int(row["write_ret"]), row["errno"])
    assert vfs.read("/row").decode() == unescape(row["after"])


def test_there_are_sysfs_rows() -> None:
    assert len(SYSFS_ROWS) > 60


# ------------------------------------------------------------------------------------------- beyond the captures


def store(parser: Parser, value: Any, buf: str, offset: int = 0) -> tuple[int, Any]:
    """Bytes taken and the value after."""
    fields = Fields(value)
    row: Any = sysctl("value", parser)
    return row.storer(fields, buf, offset=offset), fields.value


def refused(parser: Parser, value: Any, buf: str) -> Any:
    """The value after a write that is EINVAL."""
    fields = Fields(value)
    row: Any = sysctl("value", parser)
    with pytest.raises(OSError) as caught:
        row.storer(fields, buf, offset=0)
    assert caught.value.errno == errno.EINVAL
    return fields.value


def test_vector_keeps_what_was_read_before_the_error() -> None:
    assert refused(proc_dointvec(), [1, 2, 3], "7 8 x") == [7, 8, 3]
    assert refused(proc_dointvec(), [1, 2, 3], "x 8 9") == [1, 2, 3]


def test_writes_elsewhere_are_swallowed() -> None:
    assert store(proc_dointvec(), 5, "17", offset=3) == (2, 5)


def test_long_writes() -> None:
    assert store(proc_dointvec(), 5, " " * 4090 + "17") == (4092, 17)
    assert store(proc_dointvec(), 5, "17" + " " * 6000) == (6002, 17)
    assert refused(proc_dointvec(), 5, " " * 4095 + "17") == 5
    assert store(proc_dointvec(), 5, " " * 4094 + "17") == (4096, 1)


def test_one_and_twenty_digits() -> None:
    assert refused(proc_doulongvec_minmax(), 5, "0" * 20 + "1") == 5
    assert store(proc_doulongvec_minmax(), 5, "0" * 19 + "1") == (20, 1)


def test_int_bounds() -> None:
    assert store(proc_dointvec(), 5, "-2147483648") == (11, -(2**31))
    assert refused(proc_dointvec(), 5, "-2147483649") == 5
    assert refused(proc_doulongvec_minmax(), 5, "-0") == 5
    assert refused(proc_dointvec(), 5, "-") == 5
    assert store(proc_dointvec(), 5, "-\0"[:0]) == (0, 5)


def test_unsigned_int_takes_all() -> None:
    assert store(proc_douintvec(), 5, "60 70") == (5, 60)
    assert store(proc_douintvec(), 5, "4294967295\n") == (11, 2**32 - 1)
    assert refused(proc_douintvec(), 5, "4294967296") == 5
    assert refused(proc_douintvec(), 5, "-0") == 5
    assert refused(proc_douintvec_minmax(3, 9), 5, "10") == 5
    assert refused(proc_dou8vec_minmax(), 5, "256") == 5


def test_jiffies() -> None:
    assert store(proc_dointvec_jiffies(), 0, "5") == (1, 1250)
    assert refused(proc_dointvec_jiffies(), 0, str(2**31 // 250 + 1)) == 0
    assert proc_dointvec_jiffies().show(-250) == "-1\n"


def test_bool() -> None:
    assert store(proc_dobool(), 0, "7") == (1, 1)
    assert store(proc_dobool(), 1, "0") == (1, 0)


def test_string() -> None:
    assert store(proc_dostring(8), "old", "new\nrest") == (8, "new")
    assert store(proc_dostring(8), "old", "123456789") == (9, "1234567")
    assert store(proc_dostring(8), "old", "er", offset=3) == (2, "older")
    assert store(proc_dostring(8), "old", "er", offset=4) == (2, "old")
    assert proc_dostring(8).show("core") == "core\n"


def test_one_read() -> None:
    vm: Directory[Fields] = Directory(rules=SYSCTL)
    vm.add(sysctl("value", proc_dointvec()))
    vm.add(sysctl("text", proc_dostring(64), field="value"))
    vfs = Vfs(vm, Fields(1234))
    number, text = vfs.open("/value"), vfs.open("/text")
    assert [number.read(2, 0), number.read(2, 2)] == [b"12", b""]
    assert [text.read(2, 0), text.read(9, 2)] == [b"12", b"34\n"]


def test_after_restores() -> None:
    def after(fields: Fields, old: int) -> None:
        if fields.value == 7:
            fields.value = old
            fail(errno.EINVAL)

    fields = Fields(8)
    row: Any = sysctl("value", proc_dointvec_minmax(0), after=after)
    with pytest.raises(OSError):
        row.storer(fields, "7", offset=0)
    assert fields.value == 8
