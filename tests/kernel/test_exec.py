"""Becoming another program: the layout of its memory, what survives, what its files do to the page cache."""

from __future__ import annotations

import errno
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mmfs.kernel import binfmt_elf, elf_images, sched
from mmfs.kernel.namei import O_CLOEXEC, O_RDONLY
from mmfs.kernel.programs import PROGRAMS, find_program
from mmfs.kernel.signal import SIG_IGN, SIGHUP, SIGTERM, SIGUSR1, note_signal
from mmfs.mm.mman import VM_EXEC, VM_READ, VM_WRITE
from mmfs.mm_types import MM_ANONPAGES, MM_FILEPAGES, NodeStatItem

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task

CAPTURES = Path(__file__).parent.parent / "golden" / "captures"
Line = tuple[int, str, int, str]


def layout(task: Task) -> list[Line]:
    """Pages, rights, page offset and name of each mapping."""
    assert task.mm is not None
    return [
        (
            vma.pages,
            "".join(c if vma.vm_flags & bit else "-" for c, bit in (("r", VM_READ), ("w", VM_WRITE), ("x", VM_EXEC))),
            vma.vm_pgoff if vma.vm_file else 0,
            vma.vm_file.path if vma.vm_file else vma.name,
        )
        for vma in task.mm.mmap
    ]


def auxv(task: Task) -> dict[int, int]:
    return dict(struct.iter_unpack("<QQ", task.auxv))


def test_static_program_like_busybox(kernel: Kernel) -> None:
    """Against /proc/1/maps of a real machine, whose init is busybox."""
    text = next(CAPTURES.glob("512M/*/proc/1/maps")).read_text()
    expected = []
    for line in text.splitlines():
        span, rights, offset, _, inode, *name = line.split()
        start, end = (int(x, 16) for x in span.split("-"))
        named = "/usr" + name[0] if name and inode != "0" else name[0] if name else ""
        expected.append((end - start >> 12, rights[:3], int(offset, 16) >> 12 if inode != "0" else 0, named))
    assert layout(kernel.tasks[1]) == expected


def test_dynamic_program(kernel: Kernel) -> None:
    task = kernel.spawn("sleep")
    lines = layout(task)
    names = [line[3] for line in lines]
    libc, loader = "/usr/lib/x86_64-linux-gnu/libc.so.6", "/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"
    assert [line[1] for line in lines if line[3] == "/usr/bin/sleep"] == ["r--", "r-x", "r--", "r--", "rw-"]
    assert [line[1] for line in lines if line[3] == libc] == ["r--", "r-x", "r--", "r--", "rw-"]
    assert [line[1] for line in lines if line[3] == loader] == ["r--", "r-x", "r--", "r--", "rw-"]
    assert names.index("[heap]") < names.index(libc) < names.index(loader) < names.index("[stack]")
    assert names.index(libc) < names.index("[vdso]") < names.index("[stack]")
    assert names[names.index("[vvar]") + 1] == "[vdso]"
    assert task.mm is not None
    assert 0x5555_5555_4000 <= task.mm.start_code < 0x7000_0000_0000
    assert task.mm.start_code < task.mm.end_code < task.mm.start_data < task.mm.end_data <= task.mm.start_brk


def test_auxv_tells_the_truth(kernel: Kernel) -> None:
    task = kernel.spawn("sleep", uid=1000, gid=100)
    mm, vector = task.mm, auxv(task)
    assert mm is not None
    assert list(vector) == [33, 51, 16, 6, 17, 3, 4, 5, 7, 8, 9, 11, 12, 13, 14, 23, 25, 26, 31, 15, 27, 28, 0]
    assert [vector[k] for k in (binfmt_elf.AT_UID, binfmt_elf.AT_EUID, binfmt_elf.AT_GID)] == [1000, 1000, 100]
    vdso = mm.vma_lookup(vector[binfmt_elf.AT_SYSINFO_EHDR])
    assert vdso is not None and vdso.name == "[vdso]" and vdso.vm_start == vector[binfmt_elf.AT_SYSINFO_EHDR]
    loader = mm.vma_lookup(vector[binfmt_elf.AT_BASE])
    assert loader is not None and loader.vm_file is not None and "ld-linux" in loader.vm_file.path
    entry = mm.vma_lookup(vector[binfmt_elf.AT_ENTRY])
    assert entry is not None and entry.vm_file is not None and entry.vm_file.path == "/usr/bin/sleep"
    assert entry.vm_flags & VM_EXEC
    assert mm.arg_start < vector[binfmt_elf.AT_EXECFN] < mm.mmap[-1].vm_end
    assert vector[binfmt_elf.AT_RANDOM] < mm.arg_start


@pytest.mark.machine(cpus=2)
def test_auxv_of_init_is_the_real_ones_but_for_addresses(kernel: Kernel) -> None:
    real = next(CAPTURES.glob("512M/*/proc/1/auxv")).read_bytes()
    expected = dict(struct.iter_unpack("<QQ", real))
    moved = (binfmt_elf.AT_SYSINFO_EHDR, binfmt_elf.AT_RANDOM, binfmt_elf.AT_EXECFN, binfmt_elf.AT_PLATFORM)
    ours = auxv(kernel.tasks[1])
    assert list(ours) == list(expected)
    assert {k: v for k, v in ours.items() if k not in moved} == {k: v for k, v in expected.items() if k not in moved}


def test_arguments_and_environment(kernel: Kernel) -> None:
    task = kernel.spawn("prog", argv=["prog", "-x", b"\xff"], environ={"A": "1", "B": "two"})
    assert task.cmdline == b"prog\0-x\0\xff\0"
    assert task.environ == b"A=1\0B=two\0"
    mm = task.mm
    assert mm is not None
    assert mm.arg_end - mm.arg_start == len(task.cmdline) and mm.env_end - mm.env_start == len(task.environ)
    assert mm.start_stack < mm.arg_start and mm.mmap[-1].vm_end - mm.env_end == 8 + len("/usr/bin/prog") + 1
    task.touch(mm.arg_start, mm.env_end - mm.arg_start)


def test_big_arguments_take_stack_pages(kernel: Kernel) -> None:
    task = kernel.spawn("prog", argv=["x" * 100_000] * 10)
    assert task.mm is not None and task.mm.stack_vm * 4096 >= 1_000_000 + (128 << 10)
    with pytest.raises(OSError) as error:
        kernel.spawn("prog", argv=["x" * (128 << 10)])
    assert error.value.errno == errno.E2BIG
    with pytest.raises(OSError) as error:
        kernel.spawn("prog", argv=["x" * 100_000] * 30)
    assert error.value.errno == errno.E2BIG


def test_failed_spawn_leaves_nobody(kernel: Kernel) -> None:
    before = len(kernel.tasks), kernel.slab["mm_struct"].nr_objects_inuse
    with pytest.raises(OSError):
        kernel.spawn("prog", argv=["x" * (128 << 10)])
    with pytest.raises(OSError):
        kernel.spawn("prog", cgroup="/nowhere")
    with pytest.raises(OSError):
        kernel.spawn("")
    assert (len(kernel.tasks), kernel.slab["mm_struct"].nr_objects_inuse) == before


def test_what_survives(kernel: Kernel) -> None:
    task = kernel.spawn("first", uid=1000, oom_score_adj=5, nice=3)
    pid, start = task.pid, task.start_time_ns
    task.setrlimit(sched.RLIMIT_NOFILE, 100)
    kernel.namei.create("/data/a", 4096)
    kept, closed = task.open("/data/a", O_RDONLY), task.open("/data/a", O_RDONLY | O_CLOEXEC)
    task.sigaction(SIGTERM, note_signal)
    task.sigaction(SIGHUP, SIG_IGN)
    task.sigprocmask(1 << (SIGUSR1 - 1))
    task.set_name("renamed")
    task.touch(task.mmap("1M"), "1M", write=True)
    task.execve("second")
    assert (task.pid, task.start_time_ns, task.uid, task.oom_score_adj, task.nice) == (pid, start, 1000, 5, 3)
    assert task.rlimit(sched.RLIMIT_NOFILE) == 100
    assert kept in task.fdtable and closed not in task.fdtable
    assert task.sighand.actions == {SIGHUP: SIG_IGN}
    assert task.blocked == 1 << (SIGUSR1 - 1)
    assert task.comm == "second" and task.exe == "/usr/bin/second"
    assert task.mm is not None and task.mm.get_mm_counter(MM_ANONPAGES) < 100


def test_comm_is_cut(kernel: Kernel) -> None:
    assert kernel.spawn("/opt/app/a-very-long-program-name").comm == "a-very-long-pro"


def test_programs_share_the_page_cache(kernel: Kernel) -> None:
    first = kernel.spawn("bash")
    cached = kernel.vmstat.global_node_page_state(NodeStatItem.NR_FILE_PAGES)
    second = kernel.spawn("bash")
    assert kernel.vmstat.global_node_page_state(NodeStatItem.NR_FILE_PAGES) == cached
    assert first.mm is not None and second.mm is not None
    assert first.mm.get_mm_counter(MM_FILEPAGES) == pytest.approx(second.mm.get_mm_counter(MM_FILEPAGES), rel=0.1)
    assert first.maj_flt > 0 and second.maj_flt == 0
    mapped = kernel.vmstat.global_node_page_state(NodeStatItem.NR_FILE_MAPPED)
    second.exit(0)
    assert kernel.vmstat.global_node_page_state(NodeStatItem.NR_FILE_MAPPED) <= mapped
    assert kernel.vmstat.global_node_page_state(NodeStatItem.NR_FILE_PAGES) == cached


def test_addresses_differ_between_processes_unless_told(kernel: Kernel) -> None:
    first, second = (kernel.spawn("sleep") for _ in range(2))
    assert first.mm is not None and second.mm is not None
    assert first.mm.mmap[0].vm_start != second.mm.mmap[0].vm_start
    assert first.flags & sched.PF_RANDOMIZE
    kernel.sysctl.randomize_va_space = 0
    third, fourth = (kernel.spawn("sleep") for _ in range(2))
    assert third.mm is not None and fourth.mm is not None
    assert [v.vm_start for v in third.mm.mmap] == [v.vm_start for v in fourth.mm.mmap]
    assert third.mm.mmap[0].vm_start == 0x5555_5555_4000


def test_rlimit_as_refuses_a_program(kernel: Kernel) -> None:
    task = kernel.spawn("prog")
    task.setrlimit(sched.RLIMIT_AS, "1M")
    with pytest.raises(OSError) as error:
        task.execve("bash")
    assert error.value.errno == errno.ENOMEM
    assert task.comm == "prog" and task.alive


@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_every_program_starts(kernel: Kernel, name: str) -> None:
    task = kernel.spawn(name)
    assert task.mm is not None and task.mm.rss > 100
    assert task.comm == name[:15]
    assert len(task.threads) == 1 + len(PROGRAMS[name].threads)


@pytest.mark.parametrize("name", [line.split()[0] for line in elf_images.ELF_IMAGES.splitlines() if line[:1].strip()])
def test_every_image_is_sound(name: str) -> None:
    image = elf_images.elf_image(name)
    assert image.path.startswith("/usr/") and image.size > 0
    for segment in image.segments:
        assert segment.offset + segment.filesz <= image.size
        assert segment.filesz <= segment.memsz
        assert (segment.vaddr - segment.offset) % 4096 == 0
    for before, after in zip(image.segments, image.segments[1:], strict=False):
        assert before.vaddr + before.memsz <= after.vaddr
    assert all(elf_images.has_image(needed) for needed in image.needed)


def test_unknown_names_are_small_static_programs() -> None:
    program = find_program("whatever")
    assert program.image == "static" and program.path == "/usr/bin/whatever"
    assert find_program("/opt/x").path == "/opt/x"
    assert find_program("/usr/lib/systemd/systemd-logind").image == "systemd-logind"


def test_set_title_changes_what_ps_shows(kernel: Kernel) -> None:
    task = kernel.spawn("nginx")
    task.set_title("nginx: worker process")
    assert task.cmdline == b"nginx: worker process\0" and task.comm == "nginx"
