"""cgroup v1's memory hierarchy under random use: limits set and lifted, processes moved with their charges, waiting.

After each step every page and slot is charged to one cgroup, sums hold up the tree, and whoever waits is counted.
"""

from __future__ import annotations

import os
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import mmfs
from mmfs import fastpath
from mmfs.kernel.signal import TaskKilled, TaskStopped

TOP = "/sys/fs/cgroup/memory"
MB = 1 << 20
STEPS = int(os.environ.get("MMFS_STATEFUL_STEPS", "40"))
EXAMPLES = int(os.environ.get("MMFS_STATEFUL_EXAMPLES", "10" if fastpath.compiled else "3"))
LIMITS = st.sampled_from(["-1", "2M", "4M", "8M", "0"])


class Cgroup1(RuleBasedStateMachine):
    """One small machine, directories of its memory hierarchy and the processes in them."""

    @initialize(swap=st.sampled_from([None, "16M"]))
    def boot(self, swap: str | None) -> None:
        self.kernel = mmfs.boot(preset="bare", ram="128M", swap=swap, seed=1, cgroup="v1")
        self.kernel.create_file("/data/f", "4M")
        self.tasks = [self.kernel.spawn("worker") for _ in range(3)]
        self.maps = {task.pid: task.mmap(6 * MB) for task in self.tasks}

    def path(self, data: st.DataObject) -> str:
        root = self.kernel.cgroup_roots[1]
        group = data.draw(st.sampled_from(list(root.all())), label="cgroup")
        return f"{TOP}{group.path}".rstrip("/")

    def ask(self, function: Any, *arguments: Any, **keywords: Any) -> Any:
        try:
            return function(*arguments, **keywords)
        except (OSError, TaskKilled, TaskStopped):
            return None
        finally:
            self.tasks = [task for task in self.tasks if task.alive]

    def task(self, data: st.DataObject) -> Any:
        if not self.tasks:
            task = self.kernel.spawn("worker")
            self.tasks.append(task)
            self.maps[task.pid] = task.mmap(6 * MB)
        return data.draw(st.sampled_from(self.tasks), label="task")

    @rule(data=st.data(), name=st.sampled_from("ab"))
    def mkdir(self, data: st.DataObject, name: str) -> None:
        self.ask(self.kernel.mkdir, f"{self.path(data)}/{name}")

    @rule(data=st.data())
    def rmdir(self, data: st.DataObject) -> None:
        self.ask(self.kernel.rmdir, self.path(data))

    @rule(data=st.data(), memsw=st.booleans(), limit=LIMITS)
    def limit(self, data: st.DataObject, memsw: bool, limit: str) -> None:
        name = "memory.memsw.limit_in_bytes" if memsw else "memory.limit_in_bytes"
        self.ask(self.kernel.write, f"{self.path(data)}/{name}", limit)

    @rule(data=st.data(), name=st.sampled_from(["oom_control", "force_empty", "failcnt", "max_usage_in_bytes"]),
          value=st.sampled_from("01"))  # fmt: skip
    def put(self, data: st.DataObject, name: str, value: str) -> None:
        self.ask(self.kernel.write, f"{self.path(data)}/memory.{name}", value)

    @rule(data=st.data(), value=st.sampled_from("0123"))
    def move_charge(self, data: st.DataObject, value: str) -> None:
        self.ask(self.kernel.write, f"{self.path(data)}/memory.move_charge_at_immigrate", value)

    @rule(data=st.data())
    def move(self, data: st.DataObject) -> None:
        task = self.task(data)
        self.ask(self.kernel.write, f"{self.path(data)}/cgroup.procs", str(task.pid))

    @rule(data=st.data(), megabytes=st.integers(1, 6))
    def touch(self, data: st.DataObject, megabytes: int) -> None:
        task = self.task(data)
        self.ask(task.touch, self.maps[task.pid], megabytes * MB, write=True)

    @rule(data=st.data())
    def read_file(self, data: st.DataObject) -> None:
        task = self.task(data)
        fd = self.ask(task.open, "/data/f")
        if fd is not None:
            self.ask(task.read, fd, 4 * MB)

    @rule(data=st.data())
    def fork_and_exit(self, data: st.DataObject) -> None:
        child = self.ask(self.task(data).fork)
        if child is not None and child.alive:
            self.ask(child.exit, 0)

    @rule(data=st.data())
    def kill(self, data: st.DataObject) -> None:
        self.ask(self.kernel.kill, self.task(data).pid, 9)

    @rule(seconds=st.sampled_from([0.001, 0.02, 1.0]))
    def wait(self, seconds: float) -> None:
        self.ask(self.kernel.run_for, seconds)

    @invariant()
    def everything_agrees(self) -> None:
        if hasattr(self, "kernel"):
            self.kernel.check()


TestCgroup1 = pytest.mark.stateful(Cgroup1.TestCase)
TestCgroup1.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
    phases=(Phase.explicit, Phase.generate) if os.environ.get("CI") else tuple(Phase),
)
