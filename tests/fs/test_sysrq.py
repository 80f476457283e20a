"""/proc/sysrq-trigger, and what is left of a machine that has panicked."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from mmfs.kernel.kernel import KernelPanicError
from mmfs.kernel.signal import SIG_IGN, SIGTERM
from tests.golden.oom import LOGS, with_levels

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel

TRIGGER = "/proc/sysrq-trigger"


def test_keys_log_what_a_real_kernel_logs(boot: Callable[..., Kernel]) -> None:
    """The same keys in the same order as sysrq-numa2.sh: every line with its level; the help has fewer keys."""
    golden = (LOGS / "sysrq-numa2.kmsg").read_text()
    golden = golden[: golden.index("No task eligible")] + "No task eligible"
    kernel = boot(ram="512M", swap=None, cpus=2, nodes=["256M", "256M"], seed=1, preset="bare", profile="6.12-deb12")
    kernel.sysctl.tainted = 1 << 9
    seq = kernel.printk.next_seq
    for keys in ("m\n", "x\n", "_h5m", "mh"):
        assert kernel.write(TRIGGER, keys) == len(keys)
    assert kernel.read("/proc/sys/kernel/printk").split()[0] == b"5"
    kernel.write("/proc/sys/kernel/sysrq", "0")
    kernel.write(TRIGGER, "4")
    hog = kernel.spawn("probe")
    hog.touch(hog.mmap("40M"), "40M", write=True)
    kernel.write(TRIGGER, "f")
    assert hog.pid not in kernel.tasks
    sleeper, deaf = kernel.spawn("sleep"), kernel.spawn("sleep")
    deaf.sigaction(SIGTERM, SIG_IGN)
    kernel.write(TRIGGER, "e")
    assert sleeper.pid not in kernel.tasks and deaf.alive
    kernel.write(TRIGGER, "i")
    assert [task.pid for task in kernel.tasks.processes() if not task.is_kthread] == [1]
    assert kernel.printk.console_loglevel == 10
    kernel.write(TRIGGER, "f")
    ours = "".join(record.kmsg().decode() for record in kernel.printk.since(seq))
    assert with_levels(ours) == with_levels(golden)


def test_trigger_is_for_writing(kernel: Kernel) -> None:
    assert kernel.stat(TRIGGER).st_mode & 0o777 == 0o200
    with pytest.raises(OSError) as refused:
        kernel.read(TRIGGER)
    assert refused.value.errno == errno.EIO


def test_help_names_the_keys(kernel: Kernel) -> None:
    kernel.write(TRIGGER, "?")
    said = kernel.printk.ring[-1].text
    assert said.startswith("sysrq: HELP : loglevel(0-9) terminate-all-tasks(e) ") and said.endswith(" ")


# ---- after a panic ----------------------------------------------------------------------------------------------


@pytest.fixture
def panicked(kernel: Kernel) -> Kernel:
    kernel.spawn("bystander")
    with pytest.raises(KernelPanicError):
        kernel.tasks[1].exit(0)
    return kernel


def test_every_write_says_so(panicked: Kernel) -> None:
    reason = "Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000000"
    for path, data in ((TRIGGER, "m"), ("/proc/sys/vm/swappiness", "10"), ("/sim/clock", "step 1s")):
        with pytest.raises(OSError) as refused:
            panicked.write(path, data)
        assert (refused.value.errno, refused.value.strerror) == (errno.EIO, reason)
    with pytest.raises(OSError, match="Kernel panic"):
        panicked.mkdir("/sys/fs/cgroup/x")
    file = panicked.vfs.open("/sim/control", 2)
    with pytest.raises(OSError) as refused:
        file.write(b"spawn x")
    assert refused.value.errno == errno.EIO
    assert file.read(1000).startswith(b"kernel panic: Attempted to kill init!")


def test_time_stops(panicked: Kernel) -> None:
    now = panicked.clock.now_ns
    assert panicked.clock.run_until(now + 10**9)
    panicked.clock.run_for(10**9)
    with pytest.raises(KernelPanicError):
        panicked.run_for(1)
    assert panicked.clock.now_ns == now and panicked.clock.next_event_ns() is None
    assert panicked.read("/sim/clock").startswith(b"state halted\n")


def test_nobody_runs(panicked: Kernel) -> None:
    task = next(task for task in panicked.tasks.processes() if task.comm == "bystander")
    with pytest.raises(KernelPanicError):
        task.mmap("1M")
    with pytest.raises(KernelPanicError):
        panicked.spawn("x")


def test_what_was_can_be_read(panicked: Kernel) -> None:
    assert b"MemTotal:" in panicked.read("/proc/meminfo")
    assert b"Kernel panic - not syncing" in b"".join(record.kmsg() for record in panicked.printk.ring)
    panicked.check()
