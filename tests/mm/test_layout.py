"""Where execve() puts things: the formulas, and that a seed gives the same addresses every time."""

from __future__ import annotations

import random
from typing import Any

import pytest

from mmfs.arch import X86_64
from mmfs.mm import mmap, mmap_layout
from mmfs.mm.mman import MAP_32BIT, MAP_ANONYMOUS, MAP_PRIVATE, PROT_READ, PROT_WRITE, page_align
from tests.mm.fakes import GB, MB, PAGE, UNLIMITED, FakeKernel, FakeTask, check_mm, layout, new_mm

DEFAULT_MAP_WINDOW = STACK_TOP = X86_64.map_window
ELF_ET_DYN_BASE = X86_64.elf_et_dyn_base
RW, PA = PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS
SEEDS = range(50)


def unshuffled(kernel: FakeKernel, rlim_stack: int = 8 * MB) -> Any:
    mm = new_mm(kernel)
    mm.randomize = False
    mmap.arch_pick_mmap_layout(mm, random.Random(1), rlim_stack)
    return mm


def test_known_addresses(fake_kernel: FakeKernel) -> None:
    """As `setarch -R` shows them on any x86-64 machine."""
    mm = unshuffled(fake_kernel)
    assert mm.mmap_base == 0x7FFFF7FFF000
    assert mmap_layout.elf_load_bias(mm) == 0x555555554000 == ELF_ET_DYN_BASE & ~0xFFF
    assert mmap_layout.randomize_stack_top(mm) == 0x7FFFFFFFF000
    mmap_layout.set_brk(mm, 0x55555555B0F8)
    assert mm.start_brk == mm.brk == 0x55555555C000


def test_gap_below_the_stack(fake_kernel: FakeKernel) -> None:
    """At least 128 MB, at most 5/6 of the window, and the stack's limit between."""
    assert unshuffled(fake_kernel, GB).mmap_base == DEFAULT_MAP_WINDOW - GB - MB
    most = DEFAULT_MAP_WINDOW // 6 * 5
    assert unshuffled(fake_kernel, UNLIMITED).mmap_base == page_align(DEFAULT_MAP_WINDOW - most)


def test_randomised(fake_kernel: FakeKernel) -> None:
    bases, stacks, brks, programs = set(), set(), set(), set()
    for seed in SEEDS:
        mm = new_mm(fake_kernel, seed=seed)
        top = mmap_layout.randomize_stack_top(mm)
        bias = mmap_layout.elf_load_bias(mm)
        mmap_layout.set_brk(mm, bias + 0x5000)
        bases.add(mm.mmap_base)
        stacks.add(top)
        programs.add(bias)
        brks.add(mm.start_brk - bias)
        lowest_stack = STACK_TOP - (0x3FFFFF << 12)
        assert lowest_stack <= top <= STACK_TOP
        assert mm.mmap_base >= DEFAULT_MAP_WINDOW - 8 * MB - MB - (0x3FFFFF << 12) - (1 << 40)
        assert mm.mmap_base + 8 * MB + MB <= top, "the stack has room to its limit"
        assert ELF_ET_DYN_BASE & ~0xFFF <= bias < ELF_ET_DYN_BASE + (1 << 40)
        assert 0x6000 <= mm.start_brk - bias < 0x6000 + GB
        assert not (mm.mmap_base | top | bias | mm.start_brk) & 0xFFF
    assert len(bases) == len(stacks) == len(programs) == len(brks) == len(SEEDS)


def test_same_seed_same_layout(fake_kernel: FakeKernel) -> None:
    def draw() -> list[int]:
        mm = new_mm(fake_kernel, seed=7)
        return [mm.mmap_base, mm.mmap_legacy_base, mmap_layout.randomize_stack_top(mm), mmap_layout.elf_load_bias(mm)]

    assert draw() == draw()


def test_alignment_of_the_program(fake_kernel: FakeKernel) -> None:
    mm = new_mm(fake_kernel)
    assert mmap_layout.elf_load_bias(mm, 2 * MB) % (2 * MB) == 0


def test_static_pie_heap(fake_kernel: FakeKernel) -> None:
    """A program loaded into the mmap area gets its heap where programs usually are."""
    mm = new_mm(fake_kernel)
    mmap_layout.set_brk(mm, 0x7FFF00000000, static_pie=True)
    assert ELF_ET_DYN_BASE <= mm.start_brk < ELF_ET_DYN_BASE + GB + PAGE


def test_stack_align(fake_kernel: FakeKernel) -> None:
    for seed in SEEDS:
        sp = mmap_layout.arch_align_stack(new_mm(fake_kernel, seed=seed), 0x7FFFFFFFEFF8)
        assert 0x7FFFFFFFEFF8 - 8192 - 16 < sp <= 0x7FFFFFFFEFF8
        assert sp % 16 == 0


def test_legacy_layout_goes_up(fake_kernel: FakeKernel) -> None:
    fake_kernel.vm.legacy_va_layout = 1
    mm = unshuffled(fake_kernel)
    assert mm.mmap_base == mm.mmap_legacy_base == 0x2AAAAAAAB000
    first = mmap.do_mmap(mm, 0, PAGE, RW, PA)
    second = mmap.do_mmap(mm, 0, PAGE, PROT_READ, PA)
    assert (first, second) == (mm.mmap_base, mm.mmap_base + PAGE)


def test_map_32bit(fake_kernel: FakeKernel) -> None:
    mm = new_mm(fake_kernel)
    addr = mmap.do_mmap(mm, 0, 16 * PAGE, RW, PA | MAP_32BIT)
    assert 0x40000000 <= addr < 0x42000000


@pytest.mark.parametrize("la57", [False, True])
def test_five_levels_only_on_request(la57: bool, fake_kernel: FakeKernel) -> None:
    """Above the 47-bit window only with a hint there, and only on a CPU that has such addresses."""
    fake_kernel.machine.cpu.la57 = la57
    mm = new_mm(fake_kernel)
    assert mmap.do_mmap(mm, 0, PAGE, RW, PA) < DEFAULT_MAP_WINDOW
    hint = 1 << 50
    addr = mmap.do_mmap(mm, hint, PAGE, RW, PA)
    assert (addr == hint) is la57
    high = mmap.do_mmap(mm, 1 << 55, 64 * GB * 1024, PROT_READ, PA)
    if la57:
        assert high == 1 << 55
        above = mmap.do_mmap(mm, 1 << 55, PAGE, PROT_READ, PA)
        assert above > DEFAULT_MAP_WINDOW
    else:
        assert high < DEFAULT_MAP_WINDOW
    check_mm(mm)


def test_vdso_above_vvar(fake_kernel: FakeKernel) -> None:
    mm = new_mm(fake_kernel)
    text = mmap.map_vdso(mm)
    assert layout(mm) == [(text - 4 * PAGE, text), (text, text + 2 * PAGE)]
    assert [vma.name for vma in mm.mmap] == ["[vvar]", "[vdso]"]
    assert mm.mmap_base == text + 2 * PAGE
    check_mm(mm)


@pytest.mark.parametrize(
    ("limit", "pages"), [(8 * MB, 33), (64 << 10, 16), (0, 1), ((1 << 64) - 1, 33), (100_000, 24)]
)
def test_first_stack(limit: int, pages: int, fake_kernel: FakeKernel) -> None:
    """A page of arguments and 128 kB more, as far as RLIMIT_STACK goes."""
    task = FakeTask()
    task.rlimits[3] = (limit, limit)
    mm = new_mm(fake_kernel, task)
    mmap.setup_arg_pages(mm, STACK_TOP)
    assert layout(mm) == [(STACK_TOP - pages * PAGE, STACK_TOP)]
    assert mm.stack_vm == mm.total_vm == fake_kernel.overcommit.vm_committed_as == pages
    check_mm(mm)


def test_guard_gap_of_the_command_line() -> None:
    kernel = FakeKernel(cmdline="quiet stack_guard_gap=16 panic=1")
    assert mmap_layout.stack_guard_gap(kernel) == 16 * PAGE  # type: ignore[arg-type]
    assert mmap_layout.stack_guard_gap(FakeKernel()) == 256 * PAGE  # type: ignore[arg-type]
