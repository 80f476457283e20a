"""The masks: what may differ and what may not."""

from __future__ import annotations

import pytest

from tests.golden.captures import MACHINES, at_boot, captures, manifests
from tests.golden.compare import addresses, assert_layout, assert_rows, columns, difference, exact, only, words


@pytest.mark.parametrize(
    ("mask", "ours", "golden"),
    [
        (columns, "MemTotal:        1472940 kB\n", "MemTotal:         472940 kB\n"),
        (columns, "Node 0, zone    DMA32      4      8 \n", "Node 0, zone    DMA32   1104      0 \n"),
        (words, "nr_free_pages 7\n", "nr_free_pages 110768\n"),
        (words, "1.07 0.00 3/62 9\n", "10.97 0.10 13/1 2048\n"),
        (words, "/dev/vda partition 0 -2\n", "/dev/vda partition 10 100\n"),
        (addresses, "00100000-1ffd9fff : System RAM\n", "00100000-3ffd9fff : System RAM\n"),
    ],
)
def test_digits_may_differ(mask: object, ours: str, golden: str) -> None:
    assert difference(ours, golden, mask) == ""  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("mask", "ours", "golden"),
    [
        (columns, "MemTotal:       472940 kB\n", "MemTotal:         472940 kB\n"),  # the column is narrower
        (columns, "DirectMap2k:       36712 kB\n", "DirectMap4k:       36712 kB\n"),  # digits of a name
        (columns, "MemTotal:         472940 kB", "MemTotal:         472940 kB\n"),  # the last newline
        (columns, "Node 0, zone      DMA      0\n", "Node 0, zone      DMA      0 \n"),  # a blank at the end
        (columns, "A:  1 kB\nB:  2 kB\n", "B:  1 kB\nA:  2 kB\n"),  # order
        (columns, "A:  1 kB\nB:  2 kB\n", "A:  1 kB\n"),  # a line too many
        (words, "nr_mapped  605\n", "nr_mapped    605\n"),  # blanks before a free number
        (words, "1.7 0.00\n", "1.07 0.00\n"),  # decimals
        (words, "nr_free_pages x\n", "nr_free_pages 1\n"),
        (addresses, "0100000-1ffd9fff : System RAM\n", "00100000-1ffd9fff : System RAM\n"),
        (exact, "1\n", "2\n"),
        (only(r"^cpu.*$", words), "cpu 1\nbtime 2\n", "cpu 2\nbtime 1\n"),
    ],
)
def test_all_else_may_not(mask: object, ours: str, golden: str) -> None:
    assert difference(ours, golden, mask) != ""  # type: ignore[arg-type]
    with pytest.raises(AssertionError, match="layout differs"):
        assert_layout(ours, golden, mask)  # type: ignore[arg-type]


def test_rows_of_a_table() -> None:
    golden = "head 1\na   1 x\nb  22 x\nc   3 x\n"

    def key(line: str) -> str:
        return line.split()[0]

    assert_rows("head 1\na 555 x\nc  30 x\nz 1\n", golden, columns, key, header=1, at_least=2)
    for ours in (
        "head 2\na   1 x\n",  # header
        "head 1\na  1 x\n",  # layout of a row
        "head 1\nc   3 x\na   1 x\n",  # order
        "head 1\na   1 x\na   1 x\n",  # twice
        "head 1\nz   1 x\n",  # nothing in common
    ):
        with pytest.raises(AssertionError):
            assert_rows(ours, golden, columns, key, header=1)


@pytest.mark.parametrize("machine", MACHINES)
def test_captures_are_there(machine: str) -> None:
    assert at_boot(machine, "/proc/meminfo").startswith(b"MemTotal:")
    fewer = machine in ("512M-6.1", "512M-7.0", "2G-686-pae")
    assert len(list(captures("/proc/vmstat", machine))) >= (3 if fewer else 4)


def test_every_manifest_reads() -> None:
    rows = {machine: table for machine, _, table in manifests()}
    assert set(rows) == set(MACHINES)
    for table in rows.values():
        assert table["/proc/pagetypeinfo"].mode == 0o400
        assert table["/proc/mounts"].type == "l"
        assert table["/proc/allocinfo"].error == "ENOENT"
