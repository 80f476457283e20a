"""What the command line sets; the complaints are a real 6.12's."""

from __future__ import annotations

from typing import Any

import pytest

WORDS = (
    "sysctl.vm.swappiness=10 sysctl/vm/page-cluster=1 sysctl.vm.nosuch=3 sysctl.vm.overcommit_memory=7 "
    "sysctl.kernel.osrelease=5 sysctl.vm.swappiness sysctl.vm.overcommit_ratio= damon_reclaim.enabled=Y "
    "damon_reclaim.min_age=5000 damon_reclaim.nosuch=3 damon_reclaim.quota_ms=x"
)


@pytest.mark.machine(ram="256M", preset="bare", cmdline=WORDS)
def test_sysctls_and_module_parameters(kernel: Any) -> None:
    assert kernel.read("/proc/sys/vm/swappiness") == b"10\n"
    assert kernel.read("/proc/sys/vm/page-cluster") == b"1\n"
    assert kernel.read("/proc/sys/vm/overcommit_ratio") == b"50\n"
    damon = "/sys/module/damon_reclaim/parameters"
    seen = [kernel.read(f"{damon}/{name}") for name in ("min_age", "enabled", "quota_ms")]
    assert seen == [b"5000\n", b"Y\n", b"10\n"]
    assert int(kernel.read(f"{damon}/kdamond_pid")) in kernel.tasks
    lines = [line.partition(";")[2] for line in kernel.read("/dev/kmsg").decode().splitlines() if line.startswith("3,")]
    assert lines == [
        "Booting kernel: `x' invalid for parameter `damon_reclaim.quota_ms'",
        "Failed to set sysctl parameter 'vm.nosuch=3': parameter not found",
        "Failed to set sysctl parameter 'vm.overcommit_memory=7': invalid value",
        "Failed to set sysctl parameter 'kernel.osrelease=5': permission denied (read-only?)",
        "Setting sysctl args: `' invalid for parameter `sysctl.vm.swappiness'",
        "Setting sysctl args: `' invalid for parameter `sysctl.vm.overcommit_ratio'",
    ]
