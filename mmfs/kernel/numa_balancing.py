"""Automatic NUMA balancing: tasks and their memory come together on one node.

Whenever a task has run for its scan period, a part of its address space is marked (`task_numa_work`): the next access
to a page faults, tells which node uses it, and may move it there (fastpath/numa.py). When a whole scan is through, the
node with most of those faults becomes the task's preferred one (`task_numa_placement`), to which it moves if a CPU is
idle there. The more of its memory is local, the rarer it is scanned.

With memory tiering (kernel.numa_balancing 2) only slow nodes are marked, and what is accessed soon after is promoted.

Linux: kernel/sched/fair.c, task_tick_numa() and what is above it; kernel/sched/core.c, sysctl_numa_balancing().

Simplified: no NUMA groups; a task moves to an idle CPU of its preferred node, and does not change places with another;
a mapping counts as used by all threads of its process. The objects that Linux allocates for it are not in the slab.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mmfs.fastpath.numa import TaskNuma
from mmfs.fastpath.numa_scan import NumaScan
from mmfs.kernel.clock import NSEC_PER_MSEC, TICK_NSEC
from mmfs.mm.mman import VM_HUGETLB, VM_IO, VM_PFNMAP, VM_READ, VM_SHARED, VM_WRITE
from mmfs.mm_types import HPAGE_PMD_SIZE, PAGE_SHIFT, ZONE_MOVABLE, NodeStatItem, VmEventItem

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task
    from mmfs.mm.mm_struct import MmStruct
    from mmfs.mm.mmzone import PglistData
    from mmfs.mm.vma import VmAreaStruct

NUMA_BALANCING_NORMAL: Final = 1
NUMA_BALANCING_MEMORY_TIERING: Final = 2
MSEC_PER_JIFFY: Final = TICK_NSEC // NSEC_PER_MSEC
MAX_SCAN_WINDOW_MB: Final = 2560
NUMA_PERIOD_SLOTS: Final = 10
NUMA_PERIOD_THRESHOLD: Final = 7
SCAN_ENTRY_NS: Final = 10
"""What an entry costs the scan."""
MEM, CPU, MEM_BUF, CPU_BUF = range(4)
"""enum numa_faults_stats."""


class VmaNumabState:
    """What the scan knows of a mapping. Linux: struct vma_numab_state."""

    __slots__ = ("next_scan", "prev_scan_seq")

    def __init__(self, seq: int, next_scan: int) -> None:
        self.prev_scan_seq = seq - 1
        self.next_scan = next_scan


class MmNuma:
    """Where the scan of an address space stands: fields of struct mm_struct. Times in ms."""

    __slots__ = ("next_scan", "scan_offset", "scan_seq", "vmas")

    def __init__(self, next_scan: int) -> None:
        self.next_scan = next_scan
        self.scan_seq = 0
        self.scan_offset = 0
        self.vmas: dict[VmAreaStruct, VmaNumabState] = {}


class TaskScan:
    """When a task scans: fields of struct task_struct; ``fast`` has those that the loops know. Periods are in ms."""

    __slots__ = (
        "fast", "last_placement", "last_sum_exec", "node_stamp", "scan_period", "scan_period_max", "total_faults",
    )  # fmt: skip

    def __init__(self, pid: int, nr_nodes: int, scan_period: int) -> None:
        self.fast = TaskNuma(pid, nr_nodes)
        self.scan_period = scan_period
        self.scan_period_max = 0
        self.node_stamp = self.last_placement = self.last_sum_exec = self.total_faults = 0

    def forget(self) -> None:
        """The task executes another program. Linux: task_numa_free()."""
        self.fast.fault_counts[:] = 0
        self.total_faults = 0


class NumaBalancing:
    """The balancing of a machine. Its tunables are /sys/kernel/debug/sched/numa_balancing."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.numa = kernel.mmu.numa
        self.scan = NumaScan(kernel.pagetables, self.numa)
        self.nr_nodes = len(kernel.node_data)
        self.scan_delay_ms = 1000
        self.scan_period_min_ms = 1000
        self.scan_period_max_ms = 60000
        self.scan_size_mb = 256
        self.hot_threshold_ms = 1000
        self.enabled = False
        self.ran = False
        """Whether it ever was: then there may be marked entries."""

    # -- how it is tuned ------------------------------------------------------------------------------------------

    def set_mode(self, mode: int) -> None:
        """kernel.numa_balancing is written. Linux: sysctl_numa_balancing(), reset_memory_tiering()."""
        tiering = mode & NUMA_BALANCING_MEMORY_TIERING
        if tiering and not self.numa.mode & NUMA_BALANCING_MEMORY_TIERING:
            for nid, row in enumerate(self.numa.rates):
                row[4], row[3] = 0, self.kernel.vmstat.node_stat[nid, NodeStatItem.PGPROMOTE_CANDIDATE]
                row[2] = self.now_ms
        self.numa.mode = mode
        self.numa.migration.tiering = bool(tiering)
        self.enabled = mode != 0
        self.ran |= self.enabled
        self.tell()

    def tell(self) -> None:
        """The loops work with these tunables from now on."""
        self.numa.hot_threshold = self.hot_threshold_ms
        self.numa.scan_period_max = self.scan_period_max_ms
        self.numa.rate_limit = self.kernel.sysctl.numa_balancing_promote_rate_limit_MBps << 20 - PAGE_SHIFT

    def set_tiers(self) -> None:
        """Nodes are in these tiers now."""
        toptiers = self.numa.migration.toptiers
        for nid in range(self.nr_nodes):
            toptiers[nid] = self.kernel.memory_tiers.node_is_toptier(nid)

    def notifier(self, pgdat: PglistData, online: bool) -> None:
        """Memory came or went, and so may have tiers."""
        self.set_tiers()

    # -- who there is ---------------------------------------------------------------------------------------------

    @property
    def now_ms(self) -> int:
        """Linux: jiffies_to_msecs(jiffies)."""
        return self.kernel.clock.now_ns // TICK_NSEC * MSEC_PER_JIFFY

    def of_task(self, task: Task) -> TaskScan:
        """What is known of a task."""
        if task.numa is None:
            task.numa = TaskScan(task.pid, self.nr_nodes, self.scan_delay_ms)
        return task.numa

    def of_mm(self, mm: MmStruct) -> MmNuma:
        """What is known of an address space."""
        if mm.numa is None:
            mm.numa = MmNuma(self.now_ms + self.scan_delay_ms)
        return mm.numa

    def fork(self, task: Task, parent: Task) -> None:
        """A new thread shares its parent's preference, and does not scan when the parent does.

        Linux: init_numa_balancing().
        """
        if task.mm is not None and task.mm is not parent.mm:
            self.of_mm(task.mm)
        if task.mm is None or task.mm is not parent.mm:
            return
        mine, its = self.of_task(task), self.of_task(parent)
        mine.fast.preferred_nid = its.fast.preferred_nid
        mine.fast.scan_seq = self.of_mm(task.mm).scan_seq
        delay = min(self.task_scan_max(parent), its.scan_period * task.mm.mm_users * NSEC_PER_MSEC & 0xFFFF_FFFF)
        mine.node_stamp = delay + 2 * TICK_NSEC

    def run(self, task: Task) -> None:
        """The task accesses memory from now on."""
        self.numa.task = self.of_task(task).fast

    def check(self) -> None:
        """Counters agree, and entries are marked only where they may be. Raises AssertionError."""
        event = self.kernel.vmstat.event
        faults, local = int(event[VmEventItem.NUMA_HINT_FAULTS]), int(event[VmEventItem.NUMA_HINT_FAULTS_LOCAL])
        assert local <= faults, f"numa_hint_faults_local: {local} of {faults}"
        assert self.ran or not event[VmEventItem.NUMA_PTE_UPDATES], "numa_pte_updates without NUMA balancing"
        for task in self.kernel.tasks.values():
            if task.numa is not None:
                counts = task.numa.fast.fault_counts
                assert (counts >= 0).all(), f"{task!r}: faults {counts.tolist()}"
                half = counts.reshape(4, self.nr_nodes, 2)[MEM]
                assert half.sum() == task.numa.total_faults, f"{task!r}: {half.tolist()} add up to {half.sum()}"

    # -- the tick -------------------------------------------------------------------------------------------------

    def tick(self, task: Task) -> None:
        """The task has run for a while. Linux: task_tick_numa(), and what task_numa_fault() found due."""
        mine = task.numa
        if task.mm is None or task.is_kthread or not task.alive:
            return
        if mine is None:
            mine = self.of_task(task)
        if self.numa.wake:
            self._wake_kswapds()
        if mine.fast.due:
            mine.fast.due = False
            self.task_numa_placement(task, mine)
            self.numa_migrate_preferred(task, mine)
        runtime = self._runtime(task)
        period = mine.scan_period * NSEC_PER_MSEC
        if runtime > mine.node_stamp + period:
            if not mine.node_stamp:
                mine.scan_period = self.task_scan_min(task)
            mine.node_stamp += period
            if self.now_ms >= self.of_mm(task.mm).next_scan:
                self.task_numa_work(task, mine)

    def _runtime(self, task: Task) -> int:
        return sum(self.kernel.scheduler.cputime(task))

    def _wake_kswapds(self) -> None:
        """Nodes to which pages should be promoted are full. Linux: migrate_misplaced_folio_prepare()."""
        nodes, self.numa.wake = int(self.numa.wake), 0
        for kswapd in self.kernel.kswapds:
            if nodes >> kswapd.pgdat.node_id & 1:
                kswapd.wakeup(0, 0, ZONE_MOVABLE)

    # -- the scan -------------------------------------------------------------------------------------------------

    def _scan_windows(self, task: Task) -> int:
        """Linux: task_nr_scan_windows()."""
        assert task.mm is not None
        pages = self.scan_size_mb << 20 - PAGE_SHIFT
        return -(-(task.mm.rss or pages) // pages) if pages else 1

    def task_scan_min(self, task: Task) -> int:
        """The shortest scan period, in ms. Linux: task_scan_min(), task_scan_start() without a group."""
        windows = MAX_SCAN_WINDOW_MB // self.scan_size_mb if 0 < self.scan_size_mb < MAX_SCAN_WINDOW_MB else 1
        return max(1000 // windows, self.scan_period_min_ms // self._scan_windows(task))

    def task_scan_max(self, task: Task) -> int:
        """The longest, in ms. Linux: task_scan_max()."""
        return max(self.task_scan_min(task), self.scan_period_max_ms // self._scan_windows(task))

    def _scannable(self, task: Task, vma: VmAreaStruct) -> bool:
        """Whether a mapping's pages could move. Linux: vma_migratable(), vma_policy_mof(), and task_numa_work()."""
        if vma.vm_flags & (VM_IO | VM_PFNMAP | VM_HUGETLB) or not vma.is_accessible():
            return False
        if vma.vm_policy is not None or task.mempolicy is not None:
            return False
        return vma.vm_file is None or vma.vm_flags & (VM_READ | VM_WRITE) != VM_READ

    def _numab_state(self, vma: VmAreaStruct, of: MmNuma, now: int) -> VmaNumabState:
        state = of.vmas.get(vma)
        if state is None:
            state = of.vmas[vma] = VmaNumabState(of.scan_seq, now + self.scan_delay_ms)
        return state

    def task_numa_work(self, task: Task, mine: TaskScan) -> None:
        """Mark the next part of the address space. Linux: task_numa_work()."""
        mm, now = task.mm, self.now_ms
        assert mm is not None
        of = self.of_mm(mm)
        if not mine.scan_period:
            mine.scan_period_max, mine.scan_period = self.task_scan_max(task), self.task_scan_min(task)
        of.next_scan = now + mine.scan_period
        mine.node_stamp += 2 * TICK_NSEC
        pages = self.scan_size_mb << 20 - PAGE_SHIFT
        if not pages:
            return
        self.scan.scanned = 0
        self.numa.now_ms = now
        self._scan_vmas(task, of, pages, now)
        used_ns = int(self.scan.scanned) * SCAN_ENTRY_NS
        self.kernel.scheduler.charge(task, system_ns=used_ns)
        mine.node_stamp += 32 * used_ns

    def _scan_vmas(self, task: Task, of: MmNuma, pages: int, now: int) -> None:
        mm, left = task.mm, [pages, pages * 8]
        assert mm is not None
        vmas = [vma for vma in mm.mt if vma.vm_end > of.scan_offset]
        if not vmas:
            self._reset_scan(mm, of)
            vmas = list(mm.mt)
        start = of.scan_offset
        for vma in vmas:
            if not self._scannable(task, vma):
                continue
            state = self._numab_state(vma, of, now)
            if of.scan_seq and now < state.next_scan:
                continue
            if state.prev_scan_seq == of.scan_seq:
                of.scan_offset = vma.vm_end
                continue
            start = self._scan_vma(task, vma, max(start, vma.vm_start), left)
            if left[0] <= 0 or left[1] <= 0:
                of.scan_offset = start
                return
            state.prev_scan_seq = of.scan_seq
        self._reset_scan(mm, of)

    def _scan_vma(self, task: Task, vma: VmAreaStruct, start: int, left: list[int]) -> int:
        """Mark a mapping's entries from an address on, as far as the `left` pages go; where it stopped."""
        mm = vma.vm_mm
        single = not vma.vm_flags & VM_SHARED and mm.mm_users == 1
        target = self.kernel.cpu_to_node(task.processor) if single else -1
        while start < vma.vm_end:
            end = min(-(-(start + (left[0] << PAGE_SHIFT)) // HPAGE_PMD_SIZE) * HPAGE_PMD_SIZE, vma.vm_end)
            if self.scan.change_prot_numa(mm.row, vma.vm_flags, start, end, target):
                left[0] -= end - start >> PAGE_SHIFT
            left[1] -= end - start >> PAGE_SHIFT
            start = end
            if left[0] <= 0 or left[1] <= 0:
                break
        return start

    def _reset_scan(self, mm: MmStruct, of: MmNuma) -> None:
        """A scan is through. Linux: reset_ptenuma_scan()."""
        of.scan_seq += 1
        of.scan_offset = 0
        there = set(mm.mt)
        of.vmas = {vma: state for vma, state in of.vmas.items() if vma in there}

    # -- placement ------------------------------------------------------------------------------------------------

    def _avg_runtime(self, task: Task, mine: TaskScan) -> tuple[int, int]:
        """How long it ran since the last placement, and how long that is. Linux: numa_get_avg_runtime()."""
        now, runtime = self.kernel.clock.now_ns, self._runtime(task)
        ran, period = runtime - mine.last_sum_exec, now - mine.last_placement
        mine.last_sum_exec, mine.last_placement = runtime, now
        return ran, period

    def task_numa_placement(self, task: Task, mine: TaskScan) -> None:
        """After a scan: where most of the task's faults were. Linux: task_numa_placement()."""
        assert task.mm is not None
        fast, seq = mine.fast, self.of_mm(task.mm).scan_seq
        if fast.scan_seq == seq or not fast.has_faults:
            return
        fast.scan_seq = seq
        mine.scan_period_max = self.task_scan_max(task)
        total = int(fast.localities[0] + fast.localities[1])
        ran, period = self._avg_runtime(task, mine)
        weight = (ran << 16) // (period + 1)
        counts = fast.fault_counts.reshape(4, self.nr_nodes, 2)
        fault_types = counts[MEM_BUF].sum(axis=0).tolist()
        diff = counts[MEM_BUF] - counts[MEM] // 2
        counts[CPU] += weight * counts[CPU_BUF] // (total + 1) - counts[CPU] // 2
        counts[MEM] += diff
        mine.total_faults += int(diff.sum())
        counts[MEM_BUF] = counts[CPU_BUF] = 0
        faults = counts[MEM].sum(axis=1)
        if faults.max() > 0:
            fast.preferred_nid = self._nearest_with_cpus(int(faults.argmax()))
        self._update_scan_period(task, mine, *fault_types)

    def _nearest_with_cpus(self, nid: int) -> int:
        """Linux: mm/mempolicy.c, numa_nearest_node()."""
        nodes = self.kernel.node_data
        if nodes[nid].cpus:
            return nid
        return min((p.node_id for p in nodes if p.cpus), key=lambda other: (nodes[nid].distances[other], other))

    def _update_scan_period(self, task: Task, mine: TaskScan, shared: int, private: int) -> None:
        """Scan more rarely the more is local or shared. Linux: update_task_scan_period()."""
        remote, local, failed = mine.fast.localities.tolist()
        mine.fast.localities[:] = 0
        assert task.mm is not None
        if local + shared == 0 or failed:
            mine.scan_period = min(mine.scan_period_max, mine.scan_period << 1)
            self.of_mm(task.mm).next_scan = self.now_ms + mine.scan_period
            return
        slot = -(-mine.scan_period // NUMA_PERIOD_SLOTS)
        lr_ratio = local * NUMA_PERIOD_SLOTS // (local + remote)
        ps_ratio = private * NUMA_PERIOD_SLOTS // (private + shared)
        if ps_ratio >= NUMA_PERIOD_THRESHOLD:
            diff = max(ps_ratio - NUMA_PERIOD_THRESHOLD, 1) * slot
        elif lr_ratio >= NUMA_PERIOD_THRESHOLD:
            diff = max(lr_ratio - NUMA_PERIOD_THRESHOLD, 1) * slot
        else:
            diff = -(NUMA_PERIOD_THRESHOLD - max(lr_ratio, ps_ratio)) * slot
        least, most = self.task_scan_min(task), self.task_scan_max(task)
        mine.scan_period = min(max(mine.scan_period + diff, least), most)

    def numa_migrate_preferred(self, task: Task, mine: TaskScan) -> None:
        """Have the task run on its preferred node, if a CPU is idle there. Linux: numa_migrate_preferred()."""
        fast = mine.fast
        if fast.preferred_nid < 0:
            return
        fast.migrate_retry = self.now_ms + min(1000, mine.scan_period // 16)
        if self.kernel.cpu_to_node(task.processor) == fast.preferred_nid:
            return
        allowed = task.cpus_allowed
        for cpu in self.kernel.node_data[fast.preferred_nid].cpus:
            if (allowed is None or cpu in allowed) and self.kernel.cpus[cpu].is_idle:
                self.kernel.scheduler.move_task(task, self.kernel.cpus[cpu])
                return
