"""Write docs/profiles.md: in which files and rows the simulated kernels differ.

    scripts/profiles            write the document
    scripts/profiles --check    exit with 1 if it is not up to date

A machine of each kernel is booted, and its files are listed and read: what the tables of mmfs/fs say with `needs=`.
"""

from __future__ import annotations

import re
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import mmfs  # noqa: E402

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernfs.entry import Entry

DOCUMENT = ROOT / "docs" / "profiles.md"
PROFILES: Final = ("6.1", "6.12", "7.0")
HEAD: Final = """# The kernels that can be simulated

<!-- Written by scripts/profiles from the tables of mmfs/fs; do not edit. -->

| `--profile` | Kernel | How it is known |
|---|---|---|
| `6.12` | Debian 13's 6.12, the default | compared with a running kernel, byte by byte and counter by counter |
| `6.1` | Debian 12's 6.1 | compared with a running kernel |
| `6.12-cma` | 6.12 with contiguous memory areas (`cma=`) | as 6.12; the areas after its source |
| `7.0` | Debian's 7.0 | as 7.0.0, but for the image of Debian's own build, which is taken to be as large as 6.12's |
| `7.0.0` | Linux 7.0, few drivers | compared with a running kernel |

`7.0.0` is Linux 7.0 as it was released, built with the options that Debian's kernel has for memory, cgroups and
processes and without most drivers, for no package of a 7.0 was to be had. Its files, names, modes, rows, defaults, the
answers to a thousand writes, its slab caches and the memory it boots with are compared with what that kernel printed
(`tests/golden/captures/512M-7.0`, `tests/golden/write_semantics_7.0.tsv`). A row that nothing simulated drives is 0:
there is no balloon, and zswap keeps no huge pages. What it does with memory is what 6.12 does where
[simplifications.md](simplifications.md) says so. A version in `since()` is the first that is known to have what it
stands at.

`--arch i386-pae` has a 6.1 (Debian 12's 686-pae, compared with a running kernel) and a 6.12 of its own; see README.md.
`--arch arm64-64k` has a 6.12 of its own, with few drivers, compared with a running kernel
(`tests/golden/captures/2G-arm64-64k`, `tests/golden/boot/arm64-64k`). What arm64 has not: `DirectMap*`, soft-dirty
bits (`sd`, pagemap's bit 55), accessed bits of upper page tables (`lru_gen/enabled` is 0x0003), huge pages that are
swapped in one piece, pages of 1 GB. What of it is not simulated: other sizes of pages, devices and firmware of a real
board, EFI, ACPI and CMA; below 2.5 GB pages are grouped by mobility, which Linux gives up where there are fewer than
five pageblocks; no memory is plugged in. Of several nodes only what boot makes of them was compared.

What follows is what differs, file by file and row by row: x where a kernel has it. Beside that, with 7.0:

- `memory.reclaim` takes `swappiness=max`, and what it takes is counted apart (`pgscan_proactive` and its kin);
- `memory.high` and `memory.max` do not reclaim when the file was opened with `O_NONBLOCK`;
- `reclaim` of a node takes what `memory.reclaim` takes;
- the weights of weighted interleave follow the bandwidths that firmware tells, until somebody sets one;
- areas of swap that ask for no priority all have -1 and take turns;
- with the MGLRU `workingset_activate_*` counts faults alone;
- `lowmem_reserve` follows memory that is given back when the kernel has booted, or is plugged in;
- `hugetlb.SIZE.max` of a new cgroup shows a number, `nr_overcommit_hugepages` takes pages of 1 GB, too;
- `/proc/cgroups` leaves out `cpuset` and `memory`, which are built without their files of v1;
- `sched_rt_runtime_us` cannot go below what fair tasks are kept, `hung_task_panic` takes any number;
- `damon_reclaim` reclaims, DAMON tunes its intervals and its filters can let through;
- `vm.laptop_mode` is ignored, and `memory.move_charge_at_immigrate` of cgroup v1 takes 0 only;
- an OOM report tells `Balloon`, `free_highatomic`, `zspages` and how much memory is protected, and its CPU line how the
  kernel is preempted; call traces are empty, as it is not known where in the image a function lies;
- zswap says of its pool which compressor it has, and CPUs keep no partial slabs.
"""
SKIPPED: Final = re.compile(
    r"/sim(/|$)|/proc/(?!1(/|$))\d+|/proc/1/(fd|fdinfo|map_files|task)/|/sys/fs/cgroup/(?!g)|/sys/module/(?!zswap)"
    r"|/sys/kernel/slab/(?!dentry(/|$))|/sys/(devices/virtual|kernel/debug)/bdi/(?!254:0(/|$))"
)
"""Of what there are many alike, and what is of mmfs alone."""
ROWS: Final = (
    "/proc/meminfo", "/proc/vmstat", "/proc/zoneinfo", "/proc/1/status", "/proc/1/smaps_rollup", "/proc/1/ksm_stat",
    "/proc/1/sched", "/sys/devices/system/node/node0/meminfo",
    "/sys/fs/cgroup/g/cpu.stat", "/sys/fs/cgroup/g/memory.stat", "/sys/fs/cgroup/g/memory.numa_stat",
    "/sys/fs/cgroup/g/memory.events", "/sys/fs/cgroup/g/memory.swap.events",
)  # fmt: skip


def boot(profile: str) -> Kernel:
    """A small machine with a cgroup, an unused zram disk and zswap switched on."""
    kernel = mmfs.boot(ram="1G", swap="256M", cpus=2, seed=1, profile=profile, cmdline="zram.num_devices=1")
    kernel.write("/sys/fs/cgroup/cgroup.subtree_control", "+cpuset +memory +hugetlb +pids")
    kernel.vfs.mkdir("/sys/fs/cgroup/g")
    kernel.write("/sys/module/zswap/parameters/enabled", "y")
    return kernel


def files(entry: Entry, path: str = "") -> Iterator[str]:
    """Every file, numbers taken out of the path."""
    for name, child in entry.readdir():
        here = f"{path}/{name}"
        if SKIPPED.match(here):
            continue
        if child.type == stat.S_IFDIR:
            yield from files(child, here)
        else:
            here = here.replace("/slab/dentry/", "/slab/CACHE/").replace("/bdi/254:0/", "/bdi/N:N/")
            yield re.sub(r"(/cpu|/node|/zram|/memory|hugepages-)\d+", r"\1N", here)


def rows(kernel: Kernel, path: str) -> Iterator[str]:
    """What stands before the numbers of each line."""
    for line in kernel.read(path).decode().splitlines():
        label = re.sub(r"^Node \d+,? ", "", line.strip())
        label = re.split(r":?\s+(?=[\d(-]|N\d|yes|no)|:\t|\s+:", label, maxsplit=1)[0].strip().rstrip(":")
        if label and not re.match(r"[0-9a-f]{8,}|init \(|-{5}|current_node|numa_faults", label):
            yield label


Has = tuple[bool, ...]


def groups(found: list[list[str]]) -> dict[Has, list[str]]:
    """Names that only some kernels have, by which those are, in the order of the newest kernel that has them."""
    names = dict.fromkeys(name for some in reversed(found) for name in some)
    out: dict[Has, list[str]] = {}
    for name in names:
        has = tuple(name in some for some in found)
        if not all(has):
            out.setdefault(has, []).append(name)
    return dict(sorted(out.items()))


def table(what: str, found: dict[str, list[list[str]]]) -> list[str]:
    """A line for each place and each set of kernels."""
    lines = [f"| | {what} | {' | '.join(PROFILES)} |", "|---|---|" + "---|" * len(PROFILES)]
    for place, names in found.items():
        for has, some in groups(names).items():
            marks = " | ".join("x" if there else "" for there in has)
            lines.append(f"| `{place}` | {', '.join(f'`{one}`' for one in some)} | {marks} |")
    return lines


def by_directory(listed: list[list[str]]) -> dict[str, list[list[str]]]:
    """The names in each directory of any kernel, by kernel."""
    places = sorted({path.rpartition("/")[0] for paths in listed for path in paths})
    found: dict[str, list[list[str]]] = {place: [[] for _ in listed] for place in places}
    for number, paths in enumerate(listed):
        for path in dict.fromkeys(paths):
            place, _, name = path.rpartition("/")
            found[place][number].append(name)
    return found


def document() -> str:
    """The whole document."""
    kernels = [boot(profile) for profile in PROFILES]
    listed = by_directory([sorted(files(kernel.vfs.walk("/"))) for kernel in kernels])
    told = {path: [list(dict.fromkeys(rows(kernel, path))) for kernel in kernels] for path in ROWS}
    text = [HEAD.strip(), "", "## Files", "", *table("Files", listed), "", "## Rows", "", *table("Rows", told)]
    return "\n".join(text) + "\n"


def main() -> None:
    """Write the document, or compare it."""
    text = document()
    if "--check" not in sys.argv[1:]:
        DOCUMENT.write_text(text)
    elif not DOCUMENT.exists() or DOCUMENT.read_text() != text:
        sys.exit(f"{DOCUMENT.relative_to(ROOT)} is not up to date: run scripts/profiles")


if __name__ == "__main__":
    main()
