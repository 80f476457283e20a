"""Which promises of memory are refused: the captured kernel's answers, and the corners of the formula."""

from __future__ import annotations

import csv
from errno import ENOMEM, errorcode
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mmfs.mm import mmap
from mmfs.mm.mman import MAP_ANONYMOUS, MAP_NORESERVE, MAP_PRIVATE, MAP_SHARED, PROT_READ, PROT_WRITE
from mmfs.mm.util import OVERCOMMIT_ALWAYS, OVERCOMMIT_NEVER
from tests.mm.fakes import GB, KB, MB, FakeKernel, FakeTask, check_mm, new_mm

CAPTURE = Path(__file__).parent.parent / "golden" / "curves" / "drop-caches-overcommit-512M" / "overcommit.tsv"
RW = PROT_READ | PROT_WRITE
PA = MAP_PRIVATE | MAP_ANONYMOUS
KINDS = {
    "private_rw": (RW, PA),
    "private_ro": (PROT_READ, PA),
    "noreserve_rw": (RW, PA | MAP_NORESERVE),
    "shared_rw": (RW, MAP_SHARED | MAP_ANONYMOUS),
}
SWAP_KB = 262140


def rows() -> list[dict[str, str]]:
    with CAPTURE.open() as file:
        return list(csv.DictReader(file, delimiter="\t"))


def set_up(kernel: FakeKernel, label: str) -> None:
    """The tunables as the capture's script had set them."""
    overcommit = kernel.overcommit
    overcommit.sysctl_overcommit_memory = int(label[4])
    if "ratio100" in label:
        overcommit.set_overcommit_ratio(100)
    if "kbytes" in label:
        overcommit.set_overcommit_kbytes(300000)
    if "hugepages" in label:
        kernel.hugetlb_pages = 40 * 512
    kernel.ram_pages = 472940 // 4
    kernel.total_swap_pages = 0 if "noswap" in label else SWAP_KB // 4


@pytest.mark.parametrize("label", sorted({row["mode"] for row in rows()}))
def test_capture(label: str, fake_kernel: FakeKernel) -> None:
    """Every mmap() of the capture, granted or refused, with the same limit and the same sum during it."""
    set_up(fake_kernel, label)
    mm = new_mm(fake_kernel)
    for row in (row for row in rows() if row["mode"] == label):
        before = int(row["Committed_AS_before"])
        fake_kernel.overcommit.vm_committed_as = before // 4
        assert fake_kernel.overcommit.vm_commit_limit() * 4 == int(row["CommitLimit"])
        prot, flags = KINDS[row["kind"]]
        error = "0"
        addr = 0
        try:
            addr = mmap.do_mmap(mm, 0, int(row["kB"]) * KB, prot, flags)
        except OSError as refused:
            error = errorcode[refused.errno or 0]
        assert error == row["errno"], row
        assert fake_kernel.overcommit.vm_memory_committed() * 4 == int(row["Committed_AS_during"]), row
        if not error.startswith("E"):
            mmap.do_munmap(mm, addr, int(row["kB"]) * KB)
        assert fake_kernel.overcommit.vm_memory_committed() * 4 == before
    check_mm(mm)


def test_refusal_is_logged(fake_kernel: FakeKernel) -> None:
    mm = new_mm(fake_kernel, FakeTask(pid=284, comm="golden"))
    with pytest.raises(OSError) as refused:
        mmap.do_mmap(mm, 0, 2 * GB, RW, PA)
    assert refused.value.errno == ENOMEM
    assert fake_kernel.log == [
        (4, "__vm_enough_memory: pid: 284, comm: golden, bytes: 2147483648 not enough memory for the allocation")
    ]


def test_log_is_limited(fake_kernel: FakeKernel) -> None:
    mm = new_mm(fake_kernel)
    for _ in range(25):
        with pytest.raises(OSError):
            mmap.do_mmap(mm, 0, 2 * GB, RW, PA)
    assert len(fake_kernel.log) == 10
    fake_kernel.clock.now_ns = 6_000_000_000
    with pytest.raises(OSError):
        mmap.do_mmap(mm, 0, 2 * GB, RW, PA)
    assert fake_kernel.log[10] == (4, "__vm_enough_memory: 15 callbacks suppressed")
    assert len(fake_kernel.log) == 12


@pytest.fixture
def strict(fake_kernel: FakeKernel) -> FakeKernel:
    """1 GB of RAM, mode 2, 50 %: 131072 pages may be promised."""
    fake_kernel.overcommit.sysctl_overcommit_memory = OVERCOMMIT_NEVER
    return fake_kernel


def largest(mm: Any) -> int:
    """The most pages that one mmap() gets."""
    low, high = 0, GB >> 12
    while low < high:
        middle = (low + high + 1) // 2
        try:
            addr = mmap.do_mmap(mm, 0, middle << 12, RW, PA)
            mmap.do_munmap(mm, addr, middle << 12)
            low = middle
        except OSError:
            high = middle - 1
    return low


def test_root_gets_the_admin_reserve(strict: FakeKernel) -> None:
    """The sum must stay below the limit; 8 MB of it are root's alone."""
    assert largest(new_mm(strict)) == 131072 - 1
    assert largest(new_mm(strict, FakeTask(uid=1000))) == 131072 - 1 - 2048


def test_a_process_leaves_a_part_of_its_size(strict: FakeKernel) -> None:
    """A 32nd of what it has mapped, at most user_reserve_kbytes."""
    mm = new_mm(strict)
    mmap.do_mmap(mm, 0, 64 * MB, PROT_READ, PA)
    assert largest(mm) == 131072 - 1 - 512
    strict.overcommit.sysctl_user_reserve_kbytes = 1024
    assert largest(mm) == 131072 - 1 - 256


def test_always(fake_kernel: FakeKernel) -> None:
    fake_kernel.overcommit.sysctl_overcommit_memory = OVERCOMMIT_ALWAYS
    mm = new_mm(fake_kernel)
    mmap.do_mmap(mm, 0, 64 * GB, RW, PA)
    assert fake_kernel.overcommit.vm_memory_committed() == 64 * GB >> 12
    assert not fake_kernel.log


def test_ratio_and_kbytes_exclude_each_other(fake_kernel: FakeKernel) -> None:
    overcommit = fake_kernel.overcommit
    overcommit.set_overcommit_kbytes(1000)
    assert (overcommit.sysctl_overcommit_ratio, overcommit.vm_commit_limit()) == (0, 250)
    overcommit.set_overcommit_ratio(10)
    assert (overcommit.sysctl_overcommit_kbytes, overcommit.vm_commit_limit()) == (0, (GB >> 12) // 10)


@pytest.mark.parametrize(
    ("free_kb", "user", "admin"), [(456032, 14251, 8192), (100_000, 3125, 3125), (1 << 24, 131072, 8192)]
)
def test_reserves_at_boot(free_kb: int, user: int, admin: int, fake_kernel: FakeKernel) -> None:
    """The captured 512 MB machine had 14251 and 8192 kB."""
    fake_kernel.vmstat = SimpleNamespace(global_zone_page_state=lambda item: free_kb // 4)  # type: ignore[attr-defined]
    fake_kernel.overcommit.init_reserves()
    assert fake_kernel.overcommit.sysctl_user_reserve_kbytes == user
    assert fake_kernel.overcommit.sysctl_admin_reserve_kbytes == admin


def test_fork_promises_again(fake_kernel: FakeKernel) -> None:
    mm = new_mm(fake_kernel)
    mmap.do_mmap(mm, 0, 400 * MB, RW, PA)
    child = mmap.dup_mm(mm, FakeTask())
    assert fake_kernel.overcommit.vm_memory_committed() == 800 * MB >> 12
    mmap.mmput(child)
    assert fake_kernel.overcommit.vm_memory_committed() == 400 * MB >> 12


def test_fork_that_is_refused_leaves_nothing(strict: FakeKernel) -> None:
    mm = new_mm(strict)
    mmap.do_mmap(mm, 0, 100 * MB, RW, PA)
    mmap.do_mmap(mm, 0, 200 * MB, RW, MAP_PRIVATE | MAP_ANONYMOUS)
    vmas, committed = strict.nr_vmas, strict.overcommit.vm_committed_as
    with pytest.raises(OSError) as refused:
        mmap.dup_mm(mm, FakeTask())
    assert refused.value.errno == ENOMEM
    assert (strict.nr_vmas, strict.overcommit.vm_committed_as) == (vmas, committed)
