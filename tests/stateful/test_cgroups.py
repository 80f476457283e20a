"""A tree of cgroups under random use: making, removing, moving, freezing, killing, controllers on and off.

Whatever is asked, in whatever order, the counts that the tree keeps are right after each step, every task that is
frozen is so for a reason, and no controller has lost or kept anybody. A kernel's errno is an answer like any other.
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

TOP = "/sys/fs/cgroup"
STEPS = int(os.environ.get("MMFS_STATEFUL_STEPS", "40"))
EXAMPLES = int(os.environ.get("MMFS_STATEFUL_EXAMPLES", "10" if fastpath.compiled else "3"))
SIGNALS = st.sampled_from([9, 15, 18, 19])
CONTROLLERS = st.lists(st.sampled_from(["+pids", "-pids", "+memory", "-memory", "+cpuset", "-cpuset"]), max_size=3)


class Cgroups(RuleBasedStateMachine):
    """One small machine, its cgroups and the processes in them."""

    @initialize()
    def boot(self) -> None:
        self.kernel = mmfs.boot(preset="bare", ram="128M", seed=1)
        self.tasks = [self.kernel.spawn("worker") for _ in range(3)]

    def group(self, data: st.DataObject) -> Any:
        return data.draw(st.sampled_from(list(self.kernel.cgroups.all())), label="cgroup")

    def path(self, data: st.DataObject) -> str:
        return f"{TOP}{self.group(data).path}".rstrip("/")

    def ask(self, function: Any, *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except (OSError, TaskKilled, TaskStopped):
            return None
        finally:
            self.tasks = [task for task in self.tasks if task.alive]

    @rule(data=st.data(), name=st.sampled_from("abc"))
    def mkdir(self, data: st.DataObject, name: str) -> None:
        self.ask(self.kernel.mkdir, f"{self.path(data)}/{name}")

    @rule(data=st.data())
    def rmdir(self, data: st.DataObject) -> None:
        self.ask(self.kernel.rmdir, self.path(data))

    @rule(data=st.data(), words=CONTROLLERS)
    def subtree_control(self, data: st.DataObject, words: list[str]) -> None:
        self.ask(self.kernel.write, f"{self.path(data)}/cgroup.subtree_control", " ".join(words))

    @rule(data=st.data(), file=st.sampled_from(["cgroup.procs", "cgroup.threads"]))
    def move(self, data: st.DataObject, file: str) -> None:
        if self.tasks:
            task = data.draw(st.sampled_from(self.tasks), label="task")
            self.ask(self.kernel.write, f"{self.path(data)}/{file}", str(task.pid))

    @rule(data=st.data(), value=st.sampled_from("01"))
    def freeze(self, data: st.DataObject, value: str) -> None:
        self.ask(self.kernel.write, f"{self.path(data)}/cgroup.freeze", value)

    @rule(data=st.data())
    def kill_all(self, data: st.DataObject) -> None:
        self.ask(self.kernel.write, f"{self.path(data)}/cgroup.kill", "1")

    @rule(data=st.data())
    def make_threaded(self, data: st.DataObject) -> None:
        self.ask(self.kernel.write, f"{self.path(data)}/cgroup.type", "threaded")

    @rule(data=st.data(), value=st.sampled_from(["0", "1", "2", "max"]))
    def limit(self, data: st.DataObject, value: str) -> None:
        name = data.draw(st.sampled_from(["pids.max", "cgroup.max.depth", "cgroup.max.descendants"]), label="file")
        self.ask(self.kernel.write, f"{self.path(data)}/{name}", value)

    @rule(data=st.data(), value=st.sampled_from("01"))
    def hide_pressure(self, data: st.DataObject, value: str) -> None:
        self.ask(self.kernel.write, f"{self.path(data)}/cgroup.pressure", value)

    @rule(data=st.data(), cpus=st.sampled_from(["0", "1", "0-1", "\n"]))
    def set_cpus(self, data: st.DataObject, cpus: str) -> None:
        self.ask(self.kernel.write, f"{self.path(data)}/cpuset.cpus", cpus)

    @rule(data=st.data(), kind=st.sampled_from(["fork", "pthread_create", "exit", "touch"]))
    def live(self, data: st.DataObject, kind: str) -> None:
        if not self.tasks:
            self.tasks = [self.kernel.spawn("worker")]
        task = data.draw(st.sampled_from(self.tasks), label="task")
        if kind == "exit":
            self.ask(task.exit, 0)
        elif kind == "touch":
            self.kernel.scheduler.charge(task, user_ns=5_000_000)
        elif len(self.tasks) < 8:
            child = self.ask(getattr(task, kind))
            self.tasks += [child] if child is not None else []

    @rule(data=st.data(), sig=SIGNALS)
    def signal(self, data: st.DataObject, sig: int) -> None:
        if self.tasks:
            self.ask(self.kernel.kill, data.draw(st.sampled_from(self.tasks), label="task").pid, sig)

    @rule(msec=st.sampled_from([1, 30, 2500]))
    def time_passes(self, msec: int) -> None:
        self.kernel.clock.run_for(msec * 10**6)

    @invariant()
    def holds(self) -> None:
        if hasattr(self, "kernel"):
            self.kernel.check()

    @invariant()
    def frozen_tasks_do_nothing(self) -> None:
        for task in self.tasks if hasattr(self, "kernel") else ():
            assert not (task.frozen and self.kernel.scheduler.is_running(task))


TestCgroups = pytest.mark.stateful(Cgroups.TestCase)
TestCgroups.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
    phases=(Phase.explicit, Phase.generate) if os.environ.get("CI") else tuple(Phase),
)
