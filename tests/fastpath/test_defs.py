"""The compiled loops and Python see the same constants."""

from pathlib import Path

from mmfs import mm_types
from mmfs.fastpath import defs
from mmfs.mm import mman


def test_header_is_what_mm_types_says() -> None:
    header = Path(defs.__file__).parent / "defs.pxd"
    assert header.read_text() == defs.render()


def test_vm_flags_are_the_kernels() -> None:
    for name in ("READ", "WRITE", "EXEC", "SHARED", "LOCKED", "RAND_READ"):
        assert getattr(mm_types, f"VMF_{name}") == getattr(mman, f"VM_{name}")
