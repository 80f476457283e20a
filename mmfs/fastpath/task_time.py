# cython: language_level=3
"""What the access loops have used of the time of the task that runs, for whoever accounts it.

Linux: struct task_struct, min_flt, maj_flt; include/linux/task_io_accounting.h.
"""

import cython

if not cython.compiled:
    from mmfs.fastpath.defs import *  # noqa: F403


class TaskTime:
    """Time and faults of a task since ``begin()``.

    ``minflt``, ``majflt``, ``cow``, ``nr_read`` pages read, ``cpu_ns`` of time by the ``cost_*`` (``user_ns`` of it in
    user mode), and ``wait_ns`` spent in ``nr_waits`` waits for a device (``memstall_ns`` of that for pages that were in
    use when they were reclaimed). So the task's own time runs ahead of the clock: a page is asked for when the waits
    before are over. A loop stops with FAULT_SLICE when both together come to ``budget_ns``, or ``cpu_ns`` alone to
    ``cpu_budget_ns``. ``tried``: the next fault has waited for the disk before.
    """

    def __init__(self):
        self.budget_ns = self.cpu_budget_ns = 1 << 62
        self.cost_access = self.cost_fault = self.cost_cow = self.cost_major = self.cost_huge = 0
        self.begin(0)
        self.tried = False

    def begin(self, now_ns):
        """A task runs from ``now_ns`` on, with nothing used up yet."""
        self.now_ns = now_ns
        self.minflt = self.majflt = self.cow = self.nr_read = 0
        self.cpu_ns = self.user_ns = self.wait_ns = self.nr_waits = self.memstall_ns = 0

    def begin_unused(self, now_ns: cython.long):
        """Whether the task has used up nothing since ``begin()``, which then need not be called."""
        if self.cpu_ns or self.wait_ns or self.minflt or self.majflt or self.nr_read:
            return False
        self.now_ns = now_ns
        return True

    def begin_slice(self, now_ns: cython.long, budget_ns: cython.long, cpu_budget_ns: cython.long):
        """The task goes on at its own time ``now_ns``, for so long."""
        self.now_ns = now_ns - self.cpu_ns - self.wait_ns
        self.budget_ns = budget_ns
        self.cpu_budget_ns = cpu_budget_ns

    def now(self):
        """The task's time."""
        return self.now_ns + self.cpu_ns + self.wait_ns

    def left_ns(self):
        """How long the task may run before the loop stops with FAULT_SLICE."""
        return min(self.cpu_budget_ns, self.budget_ns - self.wait_ns) - self.cpu_ns

    def use(self, ns):
        """The task has run so long in user mode."""
        self.cpu_ns += ns
        self.user_ns += ns

    def use_large(self, nr):
        """What a fault has cost that was served with a folio of ``nr`` pages, beyond any fault's."""
        self.cpu_ns += (self.cost_huge - self.cost_fault) * nr // HPAGE_PMD_NR

    def count_fault(self):
        """A fault has been served. Linux: mm_account_fault()."""
        if self.tried:
            self.cpu_ns += self.cost_major
            self.majflt += 1
            self.tried = False
        else:
            self.cpu_ns += self.cost_fault
            self.minflt += 1

    def wait_on_read(self, swap_state):
        """Sleep until what the swap-in of a fault has asked for is there. Linux: folio_wait_bit_common()."""
        wait: cython.long = swap_state.done_ns - self.now()
        self.nr_read += swap_state.nr_read
        self.cpu_ns += swap_state.zswap.contents.take_ns()
        if wait > 0:
            self.wait_ns += wait
            self.nr_waits += 1
            if swap_state.thrashing:
                self.memstall_ns += wait
