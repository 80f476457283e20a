"""Processes of arm64: addresses, page sizes, auxiliary vector, the rows of status, as a running 6.12 showed them."""

from __future__ import annotations

import re

import pytest

from mmfs.kernel.kernel import Kernel
from tests.golden.captures import CAPTURES
from tests.golden.compare import Mask, assert_layout, each, exact, only

BOOT = CAPTURES / "2G-arm64-64k" / "00-boot" / "proc"


def width(text: str) -> str:
    """As many # as there were letters."""
    return "#" * len(text)


NUMBER = only(r"\b\d+(\.\d+)?\b", lambda _: "#")
STATUS = each(
    only(r"^(Vm\w+|Rss\w+|HugetlbPages):.*$", lambda text: f"{text[:text.index(':')]}:{'#' * len(text)}"),
    only(r"^(Name|Umask|State|SigQ|FDSize|\w+_switches|Tgid|Pid|PPid|NS\w+):\t.*$", lambda text: text.split(":")[0]),
    only(r"^Sig(Ign|Cgt):\t[0-9a-f]{16}$", lambda text: text[:8] + "#" * 16),
)
LAYOUTS: dict[str, Mask] = {
    "status": STATUS,
    "limits": only(r"^Max (processes|pending signals).*$", width),
    "coredump_filter": exact,
    "personality": exact,
    "oom_score_adj": exact,
    "cgroup": exact,
    "statm": NUMBER,
    "io": NUMBER,
    "schedstat": NUMBER,
}


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("pid", ["1", "2"])
def test_layout(captured_machine: Kernel, pid: str, name: str) -> None:
    golden = BOOT / pid / name
    if not golden.exists():
        pytest.skip("a kernel thread has none")
    assert_layout(captured_machine.read(f"/proc/{pid}/{name}"), golden.read_bytes(), LAYOUTS[name], str(golden))


def test_maps(captured_machine: Kernel) -> None:
    """The program's segments at the same addresses, the others as long; where they lie is random."""

    def rows(text: str) -> list[tuple[int, ...] | tuple[str, ...]]:
        found: list[tuple[int, ...] | tuple[str, ...]] = []
        for line in text.splitlines():
            span, prot, offset, _, _, *name = line.split(None, 5)
            start, end = (int(word, 16) for word in span.split("-"))
            fixed = start if "busybox" in line else -1
            found.append((fixed, end - start, prot, offset, name[0].rpartition("/")[2] if name else ""))  # type: ignore[arg-type]
        return found

    assert rows(captured_machine.read("/proc/1/maps").decode()) == rows((BOOT / "1/maps").read_text())


def test_addresses(captured_machine: Kernel) -> None:
    """48 bits: the stack hangs from the top, lowered by at most 16384 pages, and mappings lie below."""
    spans = [line.split()[0].split("-") for line in captured_machine.read("/proc/1/maps").decode().splitlines()]
    stack_end = int(spans[-1][1], 16)
    assert (1 << 48) - (0x3FFF << 16) <= stack_end <= 1 << 48
    assert all(int(address, 16) % 65536 == 0 for span in spans for address in span)


def test_smaps(captured_machine: Kernel) -> None:
    """The rows of each mapping, and the page sizes in them."""

    def rows(text: str) -> list[str]:
        return re.findall(r"^(\w+):|^(?:Kernel|MMU)PageSize: +(\d+ kB)", text, re.MULTILINE)

    ours, real = captured_machine.read("/proc/1/smaps").decode(), (BOOT / "1/smaps").read_text()
    assert rows(ours) == rows(real)
    sizes = re.compile(r"^(?:KernelPageSize|MMUPageSize): +.*$|^VmFlags: .*$", re.MULTILINE)
    assert sizes.findall(ours) == sizes.findall(real)


def test_auxv(captured_machine: Kernel) -> None:
    """The same entries in the same order with the same values, but for random addresses."""
    words = [int(word, 16) for word in (BOOT / "1/auxv.od").read_text().split()]
    real = list(zip(words[::2], words[1::2], strict=True))
    data = captured_machine.read("/proc/1/auxv")
    numbers = [int.from_bytes(data[at : at + 8], "little") for at in range(0, len(data), 8)]
    ours = list(zip(numbers[::2], numbers[1::2], strict=True))
    assert [key for key, _ in ours] == [key for key, _ in real]
    differ = {key for (key, value), (_, other) in zip(ours, real, strict=True) if value != other}
    assert differ <= {15, 25, 31, 33}, "platform, random, file name, vDSO"
