"""A whole kernel: it boots as a real one does, is the same each time, and its files agree with each other."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import mmfs
from mmfs.kernel.clock import NSEC_PER_SEC
from mmfs.kernel.kernel import Kernel, KernelPanicError
from mmfs.kernel.main import memory_block_bytes
from mmfs.mm_types import VmEventItem

CAPTURES = Path(__file__).parents[1] / "golden" / "captures"
Boot = Callable[..., Kernel]


def meminfo(kernel: Kernel) -> dict[str, int]:
    lines = kernel.read("/proc/meminfo").decode().splitlines()
    return {line.split(":")[0]: int(line.split()[1]) for line in lines}


def golden_meminfo(capture: str) -> dict[str, int]:
    lines = (CAPTURES / capture / "proc/meminfo").read_text().splitlines()
    return {line.split(":")[0]: int(line.split()[1]) for line in lines}


@pytest.mark.parametrize(
    ("capture", "options"),
    [
        ("512M/00-boot", {"ram": "512M", "swap": "256M", "cpus": 2}),
        ("1G-hugepages/00-boot-hugepages", {"ram": "1G", "cpus": 2, "cmdline": "hugepages=64"}),
        ("5G-numa2/00-boot", {"nodes": ["3G", "2G"], "cpus": 2}),
    ],
)
def test_a_bare_machine_boots_as_the_captured_one(boot: Boot, capture: str, options: dict[str, object]) -> None:
    ours, theirs = meminfo(boot(preset="bare", **options)), golden_meminfo(capture)
    assert ours["MemTotal"] == pytest.approx(theirs["MemTotal"], rel=0.0005)
    assert ours["HugePages_Total"] == theirs["HugePages_Total"]
    assert ours["Percpu"] == theirs["Percpu"]
    # Slack in half-filled slabs differs from boot to boot by about as much.
    assert ours["Slab"] == pytest.approx(theirs["Slab"], rel=0.06)
    # Kernel workers come and go.
    assert ours["KernelStack"] == pytest.approx(theirs["KernelStack"], rel=0.2)


def test_the_same_seed_gives_the_same_bytes(boot: Boot) -> None:
    files = ("meminfo", "vmstat", "stat", "zoneinfo", "buddyinfo", "slabinfo", "loadavg")
    one, two = (boot(ram="1G", seed=7, preset="bare") for _ in range(2))
    for kernel in (one, two):
        kernel.run_for(3)
    for name in files:
        assert one.read(f"/proc/{name}") == two.read(f"/proc/{name}"), name


def test_time_moves_only_when_told(boot: Boot) -> None:
    kernel = boot(ram="512M", preset="bare")
    before = kernel.read("/proc/uptime")
    assert kernel.read("/proc/uptime") == before
    kernel.run_for(2.5)
    up, after = (float(text.split()[0]) for text in (before, kernel.read("/proc/uptime")))
    assert after - up == pytest.approx(2.5, abs=0.01)
    with pytest.raises(ValueError, match="backwards"):
        kernel.run_for(-1)


def test_an_idle_machine_stays_idle_but_is_alive(boot: Boot) -> None:
    kernel = boot(ram="512M", cpus=2, preset="bare")
    idle, switches = kernel.scheduler.idle_ns(), kernel.scheduler.nr_context_switches
    interrupts = kernel.interrupts.total()
    kernel.run_for(100)
    assert kernel.scheduler.idle_ns() - idle > 0.999 * 2 * 100 * NSEC_PER_SEC
    assert 100 < kernel.scheduler.nr_context_switches - switches < 20_000
    assert 100 < kernel.interrupts.total() - interrupts < 20_000
    assert kernel.loadavg.get_avenrun() == ("0.00", "0.00", "0.00")


def test_the_log_begins_with_the_banner_and_its_times_never_pass_the_clock(boot: Boot) -> None:
    kernel = boot(ram="512M", swap="256M", preset="bare")
    text = kernel.printk.dmesg()
    assert text.startswith(f"[    0.000000] Linux version {kernel.profile.release}")
    assert re.search(r"Memory: \d+K/\d+K available", text)
    assert "Adding 262140k swap on /dev/vdb" in text
    assert all(record.ts_ns <= kernel.clock.now_ns for record in kernel.printk.ring)


def test_swap_is_on(boot: Boot) -> None:
    kernel = boot(ram="512M", swap="256M", preset="bare")
    assert meminfo(kernel)["SwapTotal"] == meminfo(kernel)["SwapFree"] == 262140
    assert [area.prio for area in boot(ram="512M", swap=["64M", "64M"], preset="bare").swap_info] == [-2, -3]


def test_a_hog_uses_cpu_time_and_load(boot: Boot) -> None:
    kernel = boot(ram="512M", cpus=2, preset="bare")
    user, system = (sum(cpu.times()[column] for cpu in kernel.cpus) for column in (0, 2))
    task = kernel.spawn("hog")
    task.touch(task.mmap("64M"), "64M", write=True)
    kernel.scheduler.charge(task, user_ns=60 * NSEC_PER_SEC)
    kernel.run_for(30)
    assert kernel.scheduler.nr_running == 1
    kernel.run_for(40)
    assert sum(cpu.user for cpu in kernel.cpus) - user >= 60 * NSEC_PER_SEC
    assert sum(cpu.system for cpu in kernel.cpus) - system >= 64 * 256 * 400
    assert 0.4 < float(kernel.loadavg.get_avenrun()[0]) < 0.8
    assert kernel.vmstat.event[VmEventItem.PGFAULT] >= 64 * 256


def test_forks_fill_the_slab_and_exits_empty_it(boot: Boot) -> None:
    kernel = boot(ram="512M", cpus=2, preset="bare")
    inuse = {name: kernel.slab[name].nr_objects_inuse for name in ("task_struct", "mm_struct", "vm_area_struct")}
    tasks = [kernel.spawn("hog") for _ in range(50)]
    for name, before in inuse.items():
        assert kernel.slab[name].nr_objects_inuse >= before + 50, name
    for task in tasks:
        kernel.kill(task.pid, 9)
    kernel.run_for(1)
    assert {name: kernel.slab[name].nr_objects_inuse for name in inuse} == inuse


def test_kill_and_translate(boot: Boot) -> None:
    kernel = boot(ram="512M", preset="bare")
    task = kernel.spawn("hog")
    address = task.mmap("1M")
    task.touch(address, "1M", write=True)
    assert kernel.translate(task.pid, address)
    with pytest.raises(OSError):
        kernel.kill(99999, 9)


def test_panic(boot: Boot) -> None:
    kernel = boot(ram="512M", preset="bare")
    with pytest.raises(KernelPanicError, match="for a test"):
        kernel.panic("for a test")
    lines = {record.text: record.level for record in kernel.printk.ring}
    assert lines["Kernel panic - not syncing: for a test"] == 0
    assert kernel.printk.ring[-1].text == "---[ end Kernel panic - not syncing: for a test ]---"


@pytest.mark.parametrize(
    ("ram", "megabytes"),
    [("512M", 128), ("60G", 128), ("63G", 2048), ("128G", 1024), ("1T", 1024)],
)
def test_large_machines_have_large_memory_blocks(boot: Boot, ram: str, megabytes: int) -> None:
    assert memory_block_bytes(boot(ram=ram, preset="bare")) == megabytes << 20


@pytest.mark.parametrize(
    "options",
    [
        {"ram": "8 apples"},
        {"ram": "-1"},
        {"ram": "1e9"},
        {"ram": "1M"},
        {"cpus": 0},
        {"nodes": []},
        {"swap": "3K"},
        {"preset": "palace"},
        {"profile": "2.4"},
        {"machine": "/no/such/file.toml"},
    ],
)
def test_what_cannot_boot_says_why_in_one_line(options: dict[str, object]) -> None:
    with pytest.raises(ValueError) as caught:
        mmfs.boot(**options)  # type: ignore[arg-type]
    text = str(caught.value)
    assert text
    assert "\n" not in text


def test_sizes_as_users_write_them(boot: Boot) -> None:
    assert boot(ram="8GB", preset="bare").machine.ram == boot(ram=8 << 30, preset="bare").machine.ram


def test_machines_that_nobody_holds_give_their_address_space_back() -> None:
    many = (
        "import gc, resource, mmfs; gc.disable(); "
        "resource.setrlimit(resource.RLIMIT_AS, (3 << 40, 3 << 40)); "
        "[mmfs.boot(ram='128M', preset='bare') and None for _ in range(8)]"
    )
    done = subprocess.run([sys.executable, "-c", many], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_boot_costs_little(boot: Boot) -> None:
    """12 TB with eight nodes allocates a page of ours only for what boot touches."""
    kernel = boot(ram="12T", nodes=8, cpus=64, preset="bare")
    assert meminfo(kernel)["MemTotal"] == pytest.approx(12 << 30, rel=0.02)
    touched = int((kernel.frames.blocks["state"] == 2).sum())
    assert touched < 2000
