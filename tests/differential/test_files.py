"""The same file system calls on a real 6.12 with ext4 and on mmfs: what is cached, dirty, read and written must agree.

What a mapping has in memory must agree exactly, and so must the major faults that have to read. The machine's counters
are compared with a tolerance that says where the rest comes from. A process's own count of major faults is not
compared: it has those too that wait for a page that is being read, so it tells how fast the disk is.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from tests.differential import realkernel
from tests.differential.realkernel import Counters
from tests.differential.test_address_space import SMAPS, snap

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel

pytestmark = [pytest.mark.differential, pytest.mark.timeout(600)]

DISK = dict.fromkeys("abcdefgh", 16 << 20)
WORDS = {
    "r": 1, "rw": 3, "shared": 1, "private": 2, "NORMAL": 0, "RANDOM": 1, "SEQUENTIAL": 2, "WILLNEED": 3, "DONTNEED": 4,
}  # fmt: skip
DROP = "write /proc/sys/vm/drop_caches 3"
# Steps as guest.c lists them. Every scenario has a file of its own: nothing of it is cached at its beginning.
SCENARIOS = {
    "read": f"open 0 /data/a; snap a; read 0 0 4M; snap b; read 0 0 4M; snap c; {DROP}; snap d; read 0 8M 64K; snap e",
    "random": "open 0 /data/b; fadvise 0 0 0 RANDOM; snap a; read 0 1M 64K; snap b; read 0 9M 4K; snap c",
    "advice": """open 0 /data/c; snap a; fadvise 0 0 2M WILLNEED; read 0 0 2M; snap b; fadvise 0 0 1M DONTNEED; snap c;
        fadvise 0 0 0 SEQUENTIAL; read 0 4M 2M; snap d""",
    "write": """open 0 /data/new; snap a; fwrite 0 0 4M; snap b; fsync 0; snap c; fwrite 0 0 1M; sync; snap d;
        truncate 0 1M; snap e""",
    "overwrite": f"open 0 /data/d; snap a; fwrite 0 0 2M; snap b; sync; snap c; {DROP}; snap d",
    "map_read": "open 0 /data/e; snap a; fmap 0 0 8M r shared; touch 0 0 2M 4K r; snap b; touch 0 6M 64K 4K r; snap c",
    "map_write": "open 0 /data/f; snap a; fmap 0 0 4M rw shared; touch 0 0 1M 4K w; snap b; sync; snap c",
    "map_private": """open 0 /data/g; snap a; fmap 0 0 4M rw private; touch 0 0 1M 4K w; snap b;
        touch 0 1M 1M 4K r; snap c""",
}  # fmt: skip


def steps(text: str) -> list[str]:
    """Steps with numbers for words; the first snap warms the guest's own pages."""
    scale = {"K": 1 << 10, "M": 1 << 20}

    def number(verb: str, word: str) -> str:
        if word in WORDS and not (verb == "touch" and word == "r"):
            return str(WORDS[word])
        return str(int(word[:-1]) * scale[word[-1]]) if word[-1] in scale and word[:-1].isdigit() else word

    lines = ["snap warm", DROP]
    for step in filter(None, (part.strip() for part in text.split(";"))):
        verb, *words = step.split()
        lines.append(" ".join([verb, *(number(verb, word) for word in words)]))
    return lines


STEPS = {name: steps(text) for name, text in SCENARIOS.items()}

MAPPED = {f"smaps0.{field}": 0 for field in SMAPS} | {"mincore0": 0}
# ext4 reads and writes a journal, inodes and bitmaps besides: some dozen blocks, cached as Buffers, which lie elsewhere
# on a disk made by mkfs.ext4 than on mmfs's. A CPU folds its share of a counter late: some dozen pages on this machine.
MACHINE = {
    "meminfo.Cached": 128,
    "meminfo.Dirty": 128,
    "vmstat.pgpgin": 192,
    "vmstat.pgmajfault": 0,
    "vmstat.pgpgout": 192,
    "vmstat.nr_dirtied": 48,
    "vmstat.nr_written": 48,
    "vmstat.nr_file_pages": 64,
    "meminfo.Mapped": 128,
    "meminfo.Active(file)": 128,
    "meminfo.Inactive(file)": 128,
}
COMPARED = MAPPED | MACHINE


@pytest.fixture(scope="module")
def real() -> dict[str, Counters]:
    """All scenarios, on a real kernel, in one boot."""
    text = "".join(f"scenario {name}\n" + "\n".join(steps) + "\n" for name, steps in STEPS.items())
    return realkernel.run(text, disk=DISK)


def cached_pages(task: Any, addr: int) -> int:
    """What mincore(2) counts in the mapping at an address."""
    vma = task.mm.vma_lookup(addr)
    slots = vma.vm_file.mapping.slots()[vma.vm_pgoff : vma.vm_pgoff + vma.pages]
    return sum(0 < int(slot) < 1 << 62 for slot in slots)  # else nothing, or the shadow of a page


def simulate(kernel: Kernel, steps: list[str]) -> Counters:
    """Make the steps' system calls by a simulated task."""
    for name, size in DISK.items():
        kernel.create_file(f"/data/{name}", size)
    task: Any = kernel.spawn("scenario")
    areas: dict[int, int] = {}
    files: dict[int, int] = {}
    seen: Counters = {}
    for step in steps:
        verb, *words = step.split()
        numbers = [int(word) for word in words if word.isdigit()]
        if verb == "snap":
            cached = {f"mincore{n}": cached_pages(task, addr) for n, addr in areas.items()}
            seen[words[0]] = snap(kernel, task, areas) | cached
        elif verb == "open":
            files[numbers[0]] = task.open(words[1], 0o102)
        elif verb in ("read", "fwrite"):
            f, start, length = numbers
            for at in range(start, start + length, 128 << 10):
                (task.read if verb == "read" else task.write)(files[f], min(128 << 10, start + length - at), at)
        elif verb == "fmap":
            n, f, length, prot, flags = numbers
            areas[n] = task.mmap(length, prot, flags, files[f])
        elif verb == "touch":
            task.touch(areas[numbers[0]] + numbers[1], numbers[2], write=words[4] == "w", stride=numbers[3])
        elif verb == "write":
            kernel.write(words[0], words[1])
        elif verb == "sync":
            task.sync()
        else:
            call = {"fsync": task.fsync, "fadvise": task.fadvise, "truncate": task.ftruncate}[verb]
            call(files[numbers[0]], *numbers[1:])
    return seen


@pytest.mark.parametrize("name", SCENARIOS)
def test_files_are_cached_as_on_a_real_kernel(name: str, real: dict[str, Counters], boot: Any) -> None:
    theirs = real[name]
    ours = simulate(boot(ram="512M", cpus=1, seed=1, preset="bare"), STEPS[name])
    labels = [step.split()[1] for step in STEPS[name] if step.startswith("snap")][1:]
    wrong = []
    for before, after in pairwise(labels):
        for counter, tolerance in COMPARED.items():
            if counter not in theirs[after] and counter not in ours[after]:
                continue  # nothing is mapped
            expected = theirs[after][counter] - theirs[before].get(counter, 0)
            got = ours[after][counter] - ours[before].get(counter, 0)
            if abs(expected - got) > tolerance:
                wrong.append(f"{before:>8} -> {after:<8} {counter:<24} {expected:>10} {got:>10}")
    assert not wrong, "\n".join(["", f"{'':20} {'':24} {'Linux':>10} {'mmfs':>10}", *wrong])
