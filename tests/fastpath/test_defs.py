"""The compiled loops and Python see the same constants."""

from pathlib import Path

from mmfs import fastpath, mm_types
from mmfs.fastpath import defs
from mmfs.mm import mman


def test_header_is_what_mm_types_says() -> None:
    header = Path(fastpath.__file__).parent / "defs.pxd"
    assert header.read_text() == defs.render()


def test_page_sizes_of_linux() -> None:
    """Tables fill a page; a PMD entry maps what one holds. Linux: arch/arm64/Kconfig, ARCH_FORCE_MAX_ORDER."""
    small, large = (defs.by_page_size()[shift] for shift in (12, 16))
    names = ("PAGE_SIZE", "PTRS_PER_TABLE", "HPAGE_PMD_SIZE", "MAX_PAGE_ORDER", "PAGEBLOCK_ORDER", "PUD_SHIFT")
    assert [small[name] for name in names] == [4096, 512, 2 << 20, 10, 9, 30]
    assert [large[name] for name in names] == [65536, 8192, 512 << 20, 13, 13, 42]
    assert mm_types.PAGE_SHIFT in (12, 16), "the constants of this process are one of both"
    assert defs.by_page_size()[mm_types.PAGE_SHIFT] == defs.CONSTANTS


def test_vm_flags_are_the_kernels() -> None:
    for name in ("READ", "WRITE", "EXEC", "SHARED", "LOCKED", "RAND_READ"):
        assert getattr(mm_types, f"VMF_{name}") == getattr(mman, f"VM_{name}")
