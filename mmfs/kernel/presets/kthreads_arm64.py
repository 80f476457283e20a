"""The kernel's own threads on arm64, as kthreads.py has them for x86: those of a kernel of few drivers.

Linux: as kthreads.py; asked of machines of two and four CPUs.
"""

from __future__ import annotations

from mmfs.kernel.presets.kthreads import HIGHPRI_NICE, BootThreads


class BootThreadsArm64(BootThreads):
    """Starts threads in boot's order."""

    initramfs_helpers = 21
    absent = frozenset(
        (
            "idle_inject", "blkcg_punt_bio", "irq/9-acpi", "tpm_dev_wq", "edac-poller", "devfreq_wq",
            "quota_events_unbound",
        )
    )  # fmt: skip

    def network(self) -> None:
        """The rest, among short-lived helpers."""
        self.skip(3)
        self.rescuer("kthrotld")
        self.skip(2)
        self.rescuer("mld")
        if self.nr_cpus > 1:
            self.worker(0, 1, highpri=True)
        else:
            self.worker(0, 2)
        self.rescuer("ipv6_addrconf")
        self.unbound(1 if self.pods == 1 else self.pods + 1, 0, nice=HIGHPRI_NICE)
