"""/proc/PID/sched, schedstat and autogroup: what the scheduler keeps of a task.

Linux: kernel/sched/debug.c, proc_sched_show_task(); kernel/sched/autogroup.c.

Simplified: no load tracking, so its averages are zero; time spent waiting for a CPU is not kept for each task; no task
is in an autogroup.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from mmfs.fs.proc.pid import attribute, pid_dir
from mmfs.kernel.sched import PRIO_TO_WEIGHT, SCHED_BATCH, SCHED_IDLE, SCHED_NORMAL, WEIGHT_IDLEPRIO
from mmfs.kernfs.kstrtox import fail, kstrtoint
from mmfs.profile import Needs, config, since, until

if TYPE_CHECKING:
    from mmfs.kernel.task import Task

NICE_0_LOAD: Final = 1 << 20
BASE_SLICE_NS: Final = 700_000
BALANCING: Final = config("NUMA_BALANCING")
SLICE: Final = since(6, 12)
FAIR_POLICIES: Final = (SCHED_NORMAL, SCHED_BATCH, SCHED_IDLE)
LOAD_AVERAGES: Final[dict[str, Needs | None]] = {
    **dict.fromkeys(
        ("load_sum", "runnable_sum", "util_sum", "load_avg", "runnable_avg", "util_avg", "last_update_time")
    ),
    "util_est": since(6, 12),
    "util_est.ewma": until(6, 12),
    "util_est.enqueued": until(6, 12),
}


def _runtime(task: Task) -> int:
    return task.utime_ns + task.stime_ns


@attribute("schedstat")
def schedstat(task: Task) -> str:
    """Time on a CPU, time waiting for one, runs. Linux: proc_pid_schedstat()."""
    return f"{_runtime(task)} 0 {task.nvcsw + task.nivcsw}\n"


def _ms(nsec: int) -> str:
    return f"{nsec // 1_000_000}.{nsec % 1_000_000:06d}"


def base_slice(nr_cpus: int) -> int:
    """How long a task runs at a time, in nanoseconds. Linux: kernel/sched/fair.c, get_update_sysctl_factor()."""
    return BASE_SLICE_NS * min(nr_cpus, 8).bit_length()


@attribute("sched")
def proc_sched(task: Task) -> str:
    """Linux: proc_sched_show_task()."""
    runtime = _runtime(task)
    weight = WEIGHT_IDLEPRIO if task.policy == SCHED_IDLE else PRIO_TO_WEIGHT[task.nice + 20]
    rows: list[tuple[str, object]] = [
        ("se.exec_start", _ms(task.kernel.clock.now_ns)),
        ("se.vruntime", _ms(runtime * 1024 // weight)),
        ("se.sum_exec_runtime", _ms(runtime)),
        ("se.nr_migrations", task.sched.nr_migrations if task.sched is not None else 0),
        ("nr_switches", task.nvcsw + task.nivcsw),
        ("nr_voluntary_switches", task.nvcsw),
        ("nr_involuntary_switches", task.nivcsw),
        ("se.load.weight", weight * (NICE_0_LOAD // 1024)),
        *((f"se.avg.{name}", 0) for name, needs in LOAD_AVERAGES.items() if needs is None or needs(task)),
        ("policy", task.policy),
        ("prio", task.prio + 100),
    ]
    if task.policy in FAIR_POLICIES and SLICE(task):
        rows.append(("se.slice", base_slice(task.kernel.machine.nr_cpus)))
    rows.append(("clock-delta", 0))
    faults = _numa(task, rows) if BALANCING(task) else ""
    head = f"{task.comm} ({task.pid}, #threads: {len(task.threads)})\n{'-' * 67}\n"
    return head + "".join([f"{name:<45}:{value!s:>21}\n" for name, value in rows]) + faults


def _numa(task: Task, rows: list[tuple[str, object]]) -> str:
    """Add the rows of NUMA balancing; what follows all rows. Linux: sched_show_numa()."""
    if task.mm is not None:
        rows.append(("mm->numa_scan_seq", task.mm.numa.scan_seq if task.mm.numa is not None else 0))
    numa = task.numa
    migrated, preferred = (numa.fast.pages_migrated, numa.fast.preferred_nid) if numa is not None else (0, -1)
    rows += [("numa_pages_migrated", migrated), ("numa_preferred_nid", preferred)]
    rows.append(("total_numa_faults", numa.total_faults if numa is not None else 0))
    node = task.kernel.cpu_to_node(task.processor)
    faults = f"current_node={node}, numa_group_id=0\n"
    for pgdat in task.kernel.node_data:
        at = 2 * pgdat.node_id
        shared, private = numa.fast.fault_counts[at : at + 2].tolist() if numa is not None else (0, 0)
        faults += f"numa_faults node={pgdat.node_id} task_private={private} task_shared={shared} "
        faults += "group_private=0 group_shared=0\n"
    return faults


@proc_sched.store
def proc_sched_set_task(task: Task, buf: str) -> None:
    """Any write clears the statistics that sched_schedstats switches on, and it is off."""


@attribute("autogroup", where=(pid_dir,))
def autogroup(task: Task) -> str:
    """Empty: no task is in an autogroup."""
    return ""


@autogroup.store
def autogroup_write(task: Task, buf: str) -> None:
    """The root group's share is not to be set. Linux: proc_sched_autogroup_set_nice(), sched_group_set_shares()."""
    kstrtoint(buf[:12].strip())
    fail(errno.EINVAL)
