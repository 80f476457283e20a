"""A machine with a busy life behind it, and a digest of every file it has: run by test_determinism.py, twice.

`python lives.py` prints a JSON object of path and digest. What it does is fixed; what may differ between two runs is
what must not matter: the seed of Python's hashes, the order in which objects lie in memory, the time of day.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

import mmfs
from mmfs.kernel.signal import TaskKilled
from mmfs.kernfs import Binary
from mmfs.mm.mman import MADV_COLD, MADV_DONTNEED, MADV_FREE, MAP_ANONYMOUS, MAP_SHARED, PROT_READ, PROT_WRITE

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task
    from mmfs.kernfs import Entry

PAGE = 4096
WINDOW = 1 << 20
"""Of a file that is as long as an address space: this much from its start, and what is about mapped addresses."""

TUNABLES = (
    ("min_free_kbytes", "9000"),
    ("watermark_scale_factor", "120"),
    ("lowmem_reserve_ratio", "128 64 16 0 0"),
    ("overcommit_memory", "1"),
    ("percpu_pagelist_high_fraction", "10"),
    ("swappiness", "10"),
)


def boot(seed: int) -> Kernel:
    """A small machine of two unequal nodes, one without CPUs, with swap and the usual inhabitants."""
    nodes = [{"memory": "160M", "cpus": 2}, {"memory": "96M", "cpus": 0}]
    return mmfs.boot(nodes=nodes, swap="64M", seed=seed, preset="server", cmdline="hugepages=4")


def live(kernel: Kernel) -> None:
    """Every kind of system call, a few dozen in all, writes to files, and time."""
    for name in ("a", "b"):
        kernel.namei.create(f"/data/{name}", 900 * PAGE)
    group = "/sys/fs/cgroup/user.slice/x"
    kernel.mkdir(group)
    parent = kernel.spawn("parent", uid=1000)
    ranges = [mapped(parent, pages) for pages in (64, 700, 3000)]
    work(parent, ranges[2])
    shared = parent.mmap("2M", PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS)
    parent.touch(shared, "1M", write=True)
    children = [parent.fork() for _ in range(4)]
    kernel.run_for(0.25)
    for number, child in enumerate(children):
        child.touch(ranges[1], (number + 1) * 100 * PAGE, write=True)
        child.touch(shared + (1 << 20), "512K", write=True)
        file = child.mmap("1M", PROT_READ, MAP_SHARED, file="/data/a", offset=number * PAGE)
        child.touch(file, "512K")
    kernel.write(f"{group}/cgroup.procs", f"{children[0].pid}\n")
    kernel.write(f"/proc/{children[1].pid}/oom_score_adj", "500")
    for name, value in TUNABLES:
        kernel.write(f"/proc/sys/vm/{name}", value)
    kernel.run_for(1.5)
    children[0].munmap(ranges[0], 16 * PAGE)
    children[0].mprotect(ranges[1], 50 * PAGE, PROT_READ)
    children[1].mremap(ranges[1], 700 * PAGE, 1400 * PAGE, 1)
    children[2].mlock(ranges[1], 40 * PAGE)
    children[2].brk(children[2].brk() + 200 * PAGE)
    children[2].execve("editor", argv=("editor", "-x", "b"))
    children[2].pthread_create("helper")
    children[3].exit(3)
    kernel.kill(children[1].pid, 15)
    kernel.run_for(2.0)
    hog = kernel.spawn("hog", uid=33, oom_score_adj=900)
    with suppress(TaskKilled):
        hog.touch(hog.mmap("400M"), "400M", write=True)
    kernel.run_for(1.0)
    with suppress(OSError):
        parent.wait()
    kernel.write("/proc/sys/vm/drop_caches", "3")
    kernel.write("/proc/sys/vm/compact_memory", "1")
    kernel.run_for(3.0)


def mapped(task: Task, pages: int) -> int:
    """A mapping whose first half is written and whose second is read."""
    addr = task.mmap(pages * PAGE)
    task.touch(addr, pages // 2 * PAGE, write=True)
    task.touch(addr + pages // 2 * PAGE, (pages - pages // 2) * PAGE)
    return addr


def work(task: Task, addr: int) -> None:
    """Pages in no order, some of them given back in three ways."""
    order = np.random.default_rng(5).permutation(3000).astype(np.uint64)
    task.touch(order * PAGE + addr, write=True)
    for number, advice in enumerate((MADV_DONTNEED, MADV_FREE, MADV_COLD)):
        task.madvise(addr + number * 600 * PAGE, 300 * PAGE, advice)


def contents(kernel: Kernel) -> Iterator[tuple[str, bytes]]:
    """Every name of the tree with its mode, owner and content, or the error that reading it gives."""
    for path, entry in kernel.vfs.entries():
        status = entry.stat()
        said = f"{status.mode:o} {status.uid} {status.gid} {status.size} {status.ino} {status.nlink}\n".encode()
        try:
            if stat.S_ISLNK(status.mode):
                said += entry.readlink().encode()
            elif stat.S_ISREG(status.mode) and status.mode & 0o444:
                said += content(kernel, path, entry)
        except OSError as error:
            said += errno.errorcode[error.errno or 0].encode()
        yield path, said


def content(kernel: Kernel, path: str, entry: Entry) -> bytes:
    """All of a file, but of one that is as long as an address space the parts that matter."""
    if not isinstance(entry.node, Binary):
        return kernel.read(path)
    file = entry.open(os.O_RDONLY | os.O_NONBLOCK)
    said = file.read(WINDOW, 0)
    if path.endswith("/pagemap"):
        task = kernel.tasks.get(int(path.split("/")[-2]))
        mm = task.mm if task is not None else None
        for vma in mm.mmap if mm is not None else ():
            said += file.read(min(vma.pages * 8, WINDOW), vma.vm_start // PAGE * 8)
    file.release()
    return said


def digests(seed: int) -> dict[str, str]:
    """The digest of every file after a life."""
    kernel = boot(seed)
    live(kernel)
    found = {path: hashlib.sha256(said).hexdigest() for path, said in contents(kernel)}
    kernel.check()
    return found


if __name__ == "__main__":
    json.dump(digests(int(sys.argv[1])), sys.stdout)
