"""The same system calls with huge pages on a real 6.12 and on mmfs: pools, promises, faults and copies must agree."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from mmfs.kernel.signal import SIGBUS, SIGSEGV, TaskKilled
from tests.differential import realkernel
from tests.differential.realkernel import Counters
from tests.differential.test_address_space import snap

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel

pytestmark = [pytest.mark.differential, pytest.mark.timeout(600)]

WORDS = {
    "r": 1, "rw": 3, "private": 0x4_0022, "shared": 0x4_0021, "noreserve": 0x4_4022, "shared_noreserve": 0x4_4021,
    "populated": 0x4_8022, "fshared": 1, "fprivate": 2, "fnoreserve": 0x4001, "2M": 0x5404_0022, "1G": 0x7804_0022,
    "64K": 0x4004_0022, "DONTNEED": 4, "FREE": 8, "REMOVE": 9, "PAGEOUT": 21, "DONTFORK": 10,
    "HWPOISON": 100, "SOFT_OFFLINE": 101,
}  # fmt: skip
POOL, OVERCOMMIT = "/proc/sys/vm/nr_hugepages", "/proc/sys/vm/nr_overcommit_hugepages"
# Steps as guest.c lists them, each scenario with a pool of so many pages.
SCENARIOS: dict[str, tuple[int, str]] = {
    "private": (8, """mmap 0 8M rw private; snap a; touch 0 0 4M 4K w; snap b; munmap 0 0 2M; snap c;
        munmap 0 2M 6M; snap d"""),
    "read": (4, "mmap 0 8M rw private; snap a; touch 0 0 8M 1M r; snap b; touch 0 0 8M 1M w; snap c"),
    "shared": (8, """mmap 0 8M rw shared; snap a; touch 0 0 4M 4K w; snap b; munmap 0 0 2M; snap c;
        munmap 0 2M 6M; snap d"""),
    "readonly": (4, "mmap 0 4M r private; snap a; touch 0 0 4M 2M r; snap b; errno b touch 0 0 1 1 w; snap c"),
    "too_many": (2, "errno a mmap 0 8M rw private; snap a; errno b mmap 0 6M rw shared; snap b"),
    "sizes": (4, """errno a mmap 0 2M rw 2M; errno b mmap 1 1G rw 1G; errno c mmap 2 64K rw 64K; snap a;
        errno d mmap 3 1M rw private; snap b; errno e munmap 3 0 4K; errno f munmap 3 0 2M; snap c"""),
    "noreserve": (2, "mmap 0 8M rw noreserve; snap a; errno a touch 0 0 8M 2M w; snap b; munmap 0 0 8M; snap c"),
    "shared_noreserve": (2, """mmap 0 8M rw shared_noreserve; snap a; errno a touch 0 0 8M 2M w; snap b;
        munmap 0 0 8M; snap c"""),
    "stolen": (4, """mmap 0 4M rw private; mmap 1 8M rw noreserve; snap a; errno a touch 1 0 8M 2M w; snap b;
        touch 0 0 4M 2M w; snap c"""),
    "overcommit": (1, f"""write {OVERCOMMIT} 3; mmap 0 8M rw private; snap a; touch 0 0 6M 2M w; snap b;
        errno a mmap 1 2M rw private; munmap 0 0 2M; snap c; munmap 0 2M 6M; snap d"""),
    "overcommit_noreserve": (1, f"""write {OVERCOMMIT} 2; mmap 0 8M rw noreserve; snap a;
        errno a touch 0 0 8M 2M w; snap b; munmap 0 0 4M; snap c; munmap 0 4M 4M; snap d"""),
    "populated": (4, "snap a; mmap 0 8M rw populated; snap b"),
    "fork": (8, """mmap 0 4M rw private; touch 0 0 4M 4K w; snap a; fork; snap child_a; touch 0 0 2M 4K w;
        snap child_b; turn parent; snap b; touch 0 2M 2M 4K w; snap c; turn child; snap child_c; wait; snap d;
        touch 0 0 4M 4K w; snap e"""),
    "fork_read": (8, """mmap 0 8M rw private; touch 0 0 4M 2M w; snap a; fork; touch 0 0 4M 2M r; snap child_a;
        touch 0 4M 2M 4K r; snap child_b; wait; snap b"""),
    "fork_poor": (2, """mmap 0 4M rw private; touch 0 0 4M 2M w; snap a; fork; errno a touch 0 0 1 1 w;
        snap child_a; turn parent; touch 0 0 2M 2M w; snap b; turn child; errno b touch 0 0 1 1 r;
        errno c touch 0 2M 1 1 r; snap child_b; wait; snap c"""),
    "fork_rich": (3, """mmap 0 4M rw private; touch 0 0 4M 2M w; snap a; fork; snap child_a; turn parent;
        touch 0 0 4M 2M w; snap b; turn child; errno b touch 0 0 1 1 r; errno c touch 0 2M 1 1 r; snap child_b;
        wait; snap c; touch 0 0 4M 2M w; snap d"""),
    "fork_shared": (4, """mmap 0 8M rw shared; touch 0 0 2M 2M w; snap a; fork; snap child_a; touch 0 0 4M 2M w;
        snap child_b; turn parent; touch 0 2M 4M 2M r; snap b; turn child; snap child_c; wait; snap c"""),
    "dontfork": (4, """mmap 0 4M rw private; touch 0 0 4M 2M w; madvise 0 0 4M DONTFORK; snap a; fork;
        snap child_a; wait; snap b"""),
    "advice": (4, """mmap 0 8M rw private; touch 0 0 8M 2M w; snap a; madvise 0 0 4M DONTNEED; snap b;
        errno a madvise 0 4K 2M DONTNEED; errno b madvise 0 0 2M FREE; errno c madvise 0 0 2M PAGEOUT; snap c;
        touch 0 0 2M 2M w; snap d"""),
    "advice_shared": (4, """mmap 0 8M rw shared; touch 0 0 8M 2M w; snap a; madvise 0 0 4M DONTNEED; snap b;
        touch 0 0 2M 2M r; snap c; madvise 0 0 4M REMOVE; snap d; touch 0 0 8M 2M w; snap e"""),
    "protect": (4, """mmap 0 8M rw private; touch 0 0 4M 2M w; snap a; mprotect 0 0 2M r;
        errno a touch 0 0 1 1 w; snap b; mprotect 0 0 2M rw; touch 0 0 4M 2M w; snap c;
        errno b mprotect 0 4K 4K r; snap d"""),
    "shrink": (4, f"""mmap 0 4M rw private; touch 0 0 2M 2M w; snap a; write {POOL} 0; snap b;
        touch 0 2M 2M 2M w; snap c; write {POOL} 3; snap d; munmap 0 0 4M; snap e"""),
    "shrink_mapped": (4, f"""mmap 0 4M rw private; touch 0 0 4M 2M w; snap a; write {POOL} 0; snap b;
        munmap 0 0 2M; snap c; munmap 0 2M 2M; snap d"""),
    "shrink_locked": (4, f"""write {OVERCOMMIT} 1; mmap 0 4M rw private; touch 0 0 4M 2M w; write {POOL} 0;
        snap a; write {OVERCOMMIT} 0; snap b; errno a mmap 1 2M rw private; munmap 0 0 4M; snap c"""),
    "file": (8, """mount hugetlbfs /huge pagesize=2M; open 0 /huge/f; fmap 0 0 8M rw fshared; snap a;
        touch 0 0 4M 2M w; snap b; munmap 0 0 8M; snap c; close 0; snap d; unlink /huge/f; snap e"""),
    "file_truncate": (8, """mount hugetlbfs /huge2 pagesize=2M; open 0 /huge2/f; errno a truncate 0 1M;
        truncate 0 8M; snap a; fmap 0 0 8M rw fshared; touch 0 0 8M 2M w; snap b; truncate 0 4M; snap c;
        errno b touch 0 4M 1 1 r; truncate 0 8M; snap d; errno c touch 0 4M 1 1 r; snap e; close 0;
        unlink /huge2/f; snap f"""),
    "file_private": (8, """mount hugetlbfs /huge3 pagesize=2M; open 0 /huge3/f; fmap 0 0 4M rw fshared;
        touch 0 0 4M 2M w; snap a; fmap 1 0 4M rw fprivate; snap b; touch 1 0 4M 2M r; snap c;
        touch 1 0 2M 2M w; snap d; munmap 1 0 4M; snap e; munmap 0 0 4M; close 0; unlink /huge3/f; snap f"""),
    "file_size": (8, """mount hugetlbfs /huge4 size=6M,min_size=4M; snap a; open 0 /huge4/f;
        errno a fmap 0 0 8M rw fshared; snap b; fmap 0 0 6M rw fshared; snap c; touch 0 0 6M 2M w; snap d;
        munmap 0 0 6M; close 0; unlink /huge4/f; snap e"""),
    "file_size_noreserve": (8, """mount hugetlbfs /huge5 size=4M; open 0 /huge5/f; fmap 0 0 8M rw fnoreserve;
        snap a; errno a touch 0 0 8M 2M w; snap b; munmap 0 0 8M; close 0; unlink /huge5/f; snap c"""),
    "file_read": (8, """mount hugetlbfs /huge6 pagesize=2M; open 0 /huge6/f; fmap 0 0 4M rw fshared;
        touch 0 0 2M 2M w; snap a; errno a read 0 0 4M; snap b; errno b fwrite 0 0 4K; snap c; munmap 0 0 4M;
        close 0; unlink /huge6/f; snap d"""),
    "offline": (8, """mmap 0 4M rw private; touch 0 0 4M 2M w; snap a; errno a madvise 0 4K 4K SOFT_OFFLINE; snap b;
        errno b touch 0 0 1 1 r; snap c; munmap 0 0 4M; snap d"""),
    "offline_shared": (8, """mmap 0 4M rw shared; touch 0 0 4M 2M w; snap a; errno a madvise 0 4K 4K SOFT_OFFLINE;
        snap b; errno b touch 0 0 1 1 r; snap c; munmap 0 0 4M; snap d"""),
    "offline_poor": (2, """mmap 0 4M rw private; touch 0 0 4M 2M w; snap a; errno a madvise 0 4K 4K SOFT_OFFLINE;
        snap b; errno b touch 0 0 1 1 r; snap c"""),
    "poison": (8, """mmap 0 8M rw private; touch 0 0 4M 2M w; snap a; errno a madvise 0 4K 4K HWPOISON; snap b;
        errno b touch 0 0 1 1 r; errno c touch 0 2M 1 1 r; snap c; errno d madvise 0 4M 4K HWPOISON; snap d;
        munmap 0 0 8M; snap e; write /proc/sys/vm/nr_hugepages 0; snap f"""),
    "poison_shared": (8, """mmap 0 8M rw shared; touch 0 0 4M 2M w; snap a; errno a madvise 0 4K 4K HWPOISON; snap b;
        errno b touch 0 0 1 1 r; errno c touch 0 2M 1 1 r; snap c; errno d madvise 0 4K 4K HWPOISON; snap d;
        munmap 0 0 8M; snap e; write /proc/sys/vm/nr_hugepages 0; snap f"""),
    "poison_shared_read": (8, """mmap 0 8M rw shared; touch 0 0 4M 2M r; snap a; errno a madvise 0 4K 4K HWPOISON;
        snap b; errno b touch 0 0 1 1 w; snap c; munmap 0 0 8M; snap d"""),
    "poison_forked": (8, """mmap 0 4M rw private; touch 0 0 4M 2M w; fork; touch 0 0 2M 2M r; snap child_a; turn parent;
        errno a madvise 0 4K 4K HWPOISON; snap b; turn child; errno b touch 0 0 1 1 r; errno c touch 0 2M 1 1 r;
        snap child_b; wait; errno d touch 0 0 1 1 w; snap c"""),
    "poison_file": (8, """mount hugetlbfs /huge7 pagesize=2M; open 0 /huge7/f; fmap 0 0 4M rw fshared;
        touch 0 0 4M 2M w; snap a; errno a madvise 0 4K 4K HWPOISON; snap b; errno b touch 0 0 1 1 r;
        errno c read 0 0 4K; errno d read 0 4K 4K; errno e read 0 2M 4K; munmap 0 0 4M; snap c; truncate 0 0; snap d;
        close 0; unlink /huge7/f; snap e"""),
    "poison_file_private": (8, """mount hugetlbfs /huge8 pagesize=2M; open 0 /huge8/f; fmap 0 0 4M rw fshared;
        touch 0 0 4M 2M w; fmap 1 0 4M rw fprivate; touch 1 0 2M 2M w; touch 1 2M 2M 2M r; snap a;
        errno a madvise 1 0 4K HWPOISON; snap b; errno b madvise 1 2M 4K HWPOISON; snap c; errno c touch 0 0 1 1 r;
        errno d touch 0 2M 1 1 r; errno e touch 1 0 1 1 r; errno f touch 1 2M 1 1 r; snap d"""),
}  # fmt: skip


def steps(pool: int, text: str) -> list[str]:
    """Steps with numbers for words, after a pool has been made; the first snap warms the guest's own pages."""
    scale = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}

    def number(word: str, verb: str, at: int) -> str:
        plain = word[0].isdigit() or (verb == "touch" and word == "r")
        if (verb == "mmap" and at == 4) or (word in WORDS and not plain):
            return str(WORDS[word])
        return str(int(word[:-1]) * scale[word[-1]]) if word[-1] in scale and word[:-1].isdigit() else word

    lines = [f"write {OVERCOMMIT} 0", f"write {POOL} 0", f"write {POOL} {pool}", "snap warm"]
    for step in filter(None, (part.strip() for part in text.split(";"))):
        prefix = step.split()[:2] if step.startswith("errno") else []
        verb, *words = step.split()[len(prefix) :]
        words = words if verb in ("write", "mount") else [number(word, verb, at) for at, word in enumerate(words, 1)]
        lines.append(" ".join([*prefix, verb, *words]))
    return lines


STEPS = {name: steps(*scenario) for name, scenario in SCENARIOS.items()}


@pytest.fixture(scope="module")
def real() -> dict[str, Counters]:
    """All scenarios, on a real kernel: those that wear memory out in a boot of their own."""
    texts = {name: f"scenario {name}\n" + "\n".join(steps) + "\n" for name, steps in STEPS.items()}
    worn = {name for name in texts if name.startswith(("offline", "poison"))}
    sound = realkernel.run("".join(text for name, text in texts.items() if name not in worn))
    return sound | realkernel.run("".join(text for name, text in texts.items() if name in worn))


class Replay:
    """The steps' system calls, made by simulated tasks: a parent and, between `fork` and `wait`, a child."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.parent: Any = kernel.spawn("scenario")
        self.child: Any = None
        self.task = self.parent
        self.areas: dict[int, int] = {}
        self.files: dict[int, int] = {}
        self.seen: Counters = {}

    def play(self, steps: list[str]) -> Counters:
        """What each `snap` saw, and `errno`."""
        for step in steps:
            verb, *words = step.split()
            if verb == "errno":
                self.seen.setdefault(words[0], {})["errno"] = self.errno(words[1:])
            else:
                self.step(verb, words)
        return self.seen

    def errno(self, words: list[str]) -> int:
        """What a step fails with, or the signal that it gets, with a minus: the guest has handlers."""
        caught: list[int] = []
        for number in (SIGBUS, SIGSEGV):
            self.task.sigaction(number, lambda _, number: caught.append(number))
        try:
            self.step(words[0], words[1:])
        except TaskKilled as killed:
            return -killed.signal
        except OSError as error:
            return error.errno or 0
        return -caught[0] if caught else 0

    def step(self, verb: str, words: list[str]) -> None:
        """One system call, or what controls the scenario."""
        numbers = [int(word) for word in words if word.isdigit()]
        task, n = self.task, numbers[0] if numbers else 0
        if verb == "snap":
            self.seen.setdefault(words[0], {}).update(snap(self.kernel, task, self.areas))
        elif verb == "fork":
            self.task = self.child = self.parent.fork()
        elif verb == "turn":
            self.task = self.parent if words[0] == "parent" else self.child
        elif verb == "wait":
            self.child.exit(0)
            self.parent.wait()
            self.task = self.parent
        elif verb == "write":
            self.kernel.write(words[0], words[1])
        elif verb == "mount":
            task.mount(words[0], words[1], words[0], words[2])
        elif verb == "mmap":
            self.areas[n] = task.mmap(numbers[1], prot=numbers[2], flags=numbers[3])
        elif verb == "fmap":
            self.areas[n] = task.mmap(numbers[2], prot=numbers[3], flags=numbers[4], file=self.files[numbers[1]])
        elif verb == "open":
            self.files[n] = task.open(words[1], 0o102)
        elif verb == "unlink":
            task.unlink(words[0])
        elif verb == "close":
            task.close(self.files[n])
        elif verb == "truncate":
            task.ftruncate(self.files[n], numbers[1])
        elif verb in ("read", "fwrite"):
            getattr(task, verb[-5:] if verb == "fwrite" else verb)(self.files[n], numbers[2], numbers[1])
        elif verb == "touch":
            task.touch(self.areas[n] + numbers[1], numbers[2], write=words[4] == "w", stride=numbers[3])
        else:
            getattr(task, verb)(self.areas[n] + numbers[1], *numbers[2:])


# After a fork the guest's own pages are copied on write too and are promised to both.
FORKS = {name for name, (_, text) in SCENARIOS.items() if "fork;" in text}
POOLS = (
    "HardwareCorrupted", "HugePages_Total", "HugePages_Free", "HugePages_Rsvd", "HugePages_Surp", "Hugetlb",
    "Committed_AS",
)  # fmt: skip
SMAPS = ("Size", "Rss", "Pss", "Shared_Hugetlb", "Private_Hugetlb", "KernelPageSize", "MMUPageSize")
COMPARED = (
    "status.HugetlbPages",
    "stat.minflt",
    *(f"meminfo.{name}" for name in POOLS),
    *(f"smaps{n}.{name}" for n in (0, 1, 3) for name in SMAPS),
)


LATE_TEXT_FAULTS = 2
"""Of pages of the program's own text that the guest's disk had not brought yet when fault-around mapped the others."""


def differences(name: str, theirs: Counters, ours: Counters) -> list[str]:
    """Where what a step fails with, or what changes between two snaps, is not the same."""
    wrong = []
    for label, seen in theirs.items():
        if seen.get("errno") != ours[label].get("errno"):
            wrong.append(f"{label:>20} {'errno':<24} {seen.get('errno'):>10} {ours[label].get('errno'):>10}")
    labels = ["warm", *(step.split()[1] for step in STEPS[name] if step.startswith("snap"))]
    for side in (False, True):
        for before, after in pairwise(label for label in labels if label.startswith("child") == side):
            for counter in COMPARED:
                if counter in ("stat.minflt", "meminfo.Committed_AS") and (before == "warm" or name in FORKS):
                    continue
                expected = theirs[after].get(counter, 0) - theirs[before].get(counter, 0)
                got = ours[after].get(counter, 0) - ours[before].get(counter, 0)
                if expected != got and not (counter == "stat.minflt" and 0 < expected - got <= LATE_TEXT_FAULTS):
                    wrong.append(f"{before:>8} -> {after:<8} {counter:<24} {expected:>10} {got:>10}")
    return wrong


@pytest.mark.parametrize("name", SCENARIOS)
def test_huge_pages_are_used_as_by_a_real_kernel(name: str, real: dict[str, Counters], boot: Any) -> None:
    ours = Replay(boot(ram="512M", cpus=1, seed=1, preset="bare")).play(STEPS[name])
    wrong = differences(name, real[name], ours)
    assert not wrong, "\n".join(["", f"{'':20} {'':24} {'Linux':>10} {'mmfs':>10}", *wrong])
