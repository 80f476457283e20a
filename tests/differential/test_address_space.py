"""The same system calls on a real 6.12 and on mmfs: what a process is told of itself must change by the same amounts.

A process's own figures must agree exactly. The machine's are compared with a tolerance: a real kernel folds its per-CPU
counters late, and other tasks run on it.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from tests.differential import realkernel
from tests.differential.realkernel import Counters

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel

pytestmark = [pytest.mark.differential, pytest.mark.timeout(600)]

WORDS = {
    "r": 1, "rw": 3, "private": 0x22, "shared": 0x21, "populated": 0x8022,
    "DONTNEED": 4, "POPULATE_READ": 22, "POPULATE_WRITE": 23,
}  # fmt: skip
# Steps as guest.c lists them, with words for its numbers. What changes between two snaps is compared.
SCENARIOS = {
    "write": "mmap 0 64M rw private; snap a; touch 0 0 64M 4K w; snap b; munmap 0 0 32M; snap c",
    "sparse": "mmap 0 256M rw private; snap a; touch 0 0 256M 2M w; snap b; touch 0 4K 64M 2M r; snap c",
    "zero_page": "mmap 0 8M rw private; snap a; touch 0 0 8M 4K r; snap b; touch 0 0 4M 4K w; snap c",
    "hole": "mmap 0 16M rw private; touch 0 0 16M 4K w; snap a; munmap 0 4M 8M; snap b; touch 0 0 4M 4K w; snap c",
    "protect": """mmap 0 8M rw private; touch 0 0 8M 4K w; snap a; mprotect 0 2M 2M r; snap b;
        touch 0 0 8M 4K r; mprotect 0 2M 2M rw; snap c; touch 0 0 8M 4K w; snap d""",
    "dontneed": """mmap 0 16M rw private; touch 0 0 16M 4K w; snap a; madvise 0 4M 8M DONTNEED; snap b;
        touch 0 0 16M 4K w; snap c""",
    "populate": """snap a; mmap 0 8M rw populated; snap b; mmap 1 8M rw private; madvise 1 0 8M POPULATE_READ; snap c;
        madvise 1 0 4M POPULATE_WRITE; snap d""",
    "lock": "mmap 0 4M rw private; snap a; mlock 0 0 2M; snap b; touch 0 0 4M 4K w; snap c",
    "shared": "mmap 0 8M rw shared; snap a; touch 0 0 8M 4K w; snap b; touch 0 0 8M 4K r; snap c",
    "shared_read": "mmap 0 8M rw shared; snap a; touch 0 0 8M 4K r; snap b; touch 0 0 8M 4K w; snap c",
    "fork": """mmap 0 8M rw private; touch 0 0 8M 4K w; snap a;
        fork; snap child_a; touch 0 0 4M 4K w; snap child_b; wait; snap b""",
    "fork_read": """mmap 0 8M rw private; touch 0 0 8M 4K w; snap a;
        fork; snap child_a; touch 0 0 8M 4K r; snap child_b; wait; snap b; touch 0 0 8M 4K w; snap c""",
    "fork_shared": """mmap 0 8M rw shared; touch 0 0 4M 4K w; snap a;
        fork; snap child_a; touch 0 0 8M 4K w; snap child_b; wait; snap b; touch 0 0 8M 4K r; snap c""",
}


def steps(text: str) -> list[str]:
    """Steps with numbers for words; the first snap warms the guest's own pages."""
    scale = {"K": 1 << 10, "M": 1 << 20}

    def number(word: str) -> str:
        if word in WORDS and word != "r":
            return str(WORDS[word])
        return str(int(word[:-1]) * scale[word[-1]]) if word[-1] in scale and word[:-1].isdigit() else word

    lines = ["snap warm"]
    for step in filter(None, (part.strip() for part in text.split(";"))):
        verb, *words = step.split()
        if verb == "mprotect":
            words[-1] = str(WORDS[words[-1]])
        lines.append(" ".join([verb, *map(number, words)]))
    return lines


STEPS = {name: steps(text) for name, text in SCENARIOS.items()}

# The process's own. After a fork the guest's own pages are copied on write too; its program lies on a RAM disk (shmem).
EXACT = {"status.VmSize": 0, "status.VmData": 0, "status.VmLck": 0, "stat.majflt": 0}
ALONE = {
    "stat.minflt": 0,
    "status.VmRSS": 0,
    "status.RssAnon": 0,
    "status.RssShmem": 0,
    "status.VmPTE": 8,  # randomisation places a mapping: it may share its first table, or need one more of two levels
}
SMAPS = (
    "Size", "Rss", "Pss", "Pss_Dirty", "Shared_Clean", "Shared_Dirty", "Private_Clean", "Private_Dirty", "Referenced",
    "Anonymous", "Locked",
)  # fmt: skip
# The machine's. A CPU folds its share of a counter when it exceeds stat_threshold, at most 125 pages; others run too.
MACHINE = {
    "meminfo.AnonPages": 4 * 125,
    "meminfo.PageTables": 4 * 125,
    "meminfo.Shmem": 4 * 125,
    "meminfo.Committed_AS": 0,
    "vmstat.pgfault": 125,
}
COMPARED = EXACT | ALONE | {f"smaps{n}.{field}": 0 for n in (0, 1) for field in SMAPS} | MACHINE


@pytest.fixture(scope="module")
def real() -> dict[str, Counters]:
    """All scenarios, on a real kernel, in one boot."""
    return realkernel.run("".join(f"scenario {name}\n" + "\n".join(steps) + "\n" for name, steps in STEPS.items()))


def figures(text: str, prefix: str) -> dict[str, int]:
    """`Name: 12 kB` and `name 12` lines."""
    found = {}
    for line in text.splitlines():
        words = line.replace(":", " ").split()
        if len(words) > 1 and words[1].lstrip("-").isdigit():
            found[prefix + words[0]] = int(words[1])
    return found


def snap(kernel: Kernel, task: Any, areas: dict[int, int]) -> dict[str, int]:
    """What the guest's snap prints, read from mmfs's files."""

    def read(path: str) -> str:
        return kernel.read(path).decode()

    fields = read(f"/proc/{task.pid}/stat").rpartition(")")[2].split()
    now = {"stat.minflt": int(fields[7]), "stat.majflt": int(fields[9])}
    now |= figures(read(f"/proc/{task.pid}/status"), "status.")
    now |= figures(read("/proc/meminfo"), "meminfo.") | figures(read("/proc/vmstat"), "vmstat.")
    inside: list[int] = []
    for line in read(f"/proc/{task.pid}/smaps").splitlines():
        first = line.split()[0]
        if "-" in first and not first.endswith(":"):
            start, end = (int(part, 16) for part in first.split("-"))
            inside = [n for n, addr in areas.items() if start <= addr < end]
        for n in inside:
            now |= figures(line, f"smaps{n}.")
    return now


def simulate(kernel: Kernel, steps: list[str]) -> Counters:
    """Make the steps' system calls by a simulated task."""
    parent = task = kernel.spawn("scenario")
    areas: dict[int, int] = {}
    seen: Counters = {}
    for step in steps:
        verb, *words = step.split()
        if verb == "snap":
            seen[words[0]] = snap(kernel, task, areas)
            continue
        numbers = [int(word) for word in words if word.isdigit()]
        if verb == "fork":
            task = parent.fork()
        elif verb == "wait":
            task.exit(0)
            parent.wait()
            task = parent
        elif verb == "mmap":
            areas[numbers[0]] = task.mmap(numbers[1], prot=numbers[2], flags=numbers[3])
        else:
            addr = areas[numbers[0]] + numbers[1]
            if verb == "touch":
                task.touch(addr, numbers[2], write=words[4] == "w", stride=numbers[3])
            else:
                getattr(task, verb)(addr, *numbers[2:])
    return seen


@pytest.mark.parametrize("name", SCENARIOS)
def test_counters_move_as_on_a_real_kernel(name: str, real: dict[str, Counters], boot: Any) -> None:
    theirs = real[name]
    ours = simulate(boot(ram="512M", cpus=1, seed=1, preset="bare"), STEPS[name])
    labels = [step.split()[1] for step in STEPS[name] if step.startswith("snap")][1:]
    wrong = []
    for side in (False, True):
        for before, after in pairwise(label for label in labels if label.startswith("child") == side):
            for counter, tolerance in COMPARED.items():
                if counter not in theirs[after] or ("fork" in name and counter in ALONE | MACHINE):
                    continue
                expected = theirs[after][counter] - theirs[before].get(counter, 0)
                got = ours[after].get(counter, 0) - ours[before].get(counter, 0)
                if abs(expected - got) > tolerance:
                    wrong.append(f"{before:>8} -> {after:<8} {counter:<24} {expected:>10} {got:>10}")
    assert not wrong, "\n".join(["", f"{'':20} {'':24} {'Linux':>10} {'mmfs':>10}", *wrong])
