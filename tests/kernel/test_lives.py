"""Random lives: hundreds of calls of many tasks on a machine that runs out of memory, with every invariant checked."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from mmfs.kernel.namei import O_CREAT, O_RDWR
from mmfs.kernel.sched import CLONE_PTHREAD
from mmfs.kernel.signal import SIGCHLD, SIGCONT, SIGHUP, SIGKILL, SIGSTOP, SIGTERM, SIGUSR1, TaskKilled, TaskStopped
from mmfs.mm.mman import MAP_ANONYMOUS, MAP_PRIVATE, MAP_SHARED, VM_WRITE

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task
    from mmfs.mm.vma import VmAreaStruct

STEPS = 300


class Lives:
    """A crowd of tasks that do something at random."""

    def __init__(self, kernel: Kernel, seed: int) -> None:
        self.kernel = kernel
        self.random = random.Random(seed)
        self.tasks: list[Task] = []
        self.outcomes: Counter[str] = Counter()

    def step(self) -> None:
        able = [task for task in self.tasks if task.alive and task.state == "S"]
        name = self.random.choice(CALLS) if able else "spawn"
        try:
            if name == "spawn":
                self.spawn()
            else:
                getattr(self, name)(self.random.choice(able))
            self.outcomes[name] += 1
        except (OSError, TaskKilled, TaskStopped) as refused:
            self.outcomes[type(refused).__name__] += 1

    def pick(self, *values: Any) -> Any:
        return self.random.choice(values)

    def vma(self, task: Task) -> VmAreaStruct:
        assert task.mm is not None
        return self.random.choice(task.mm.mmap)

    def spawn(self) -> None:
        name, uid, adj = self.pick("hog", "bash", "cron"), self.pick(0, 1000), self.pick(0, 0, 500, -999)
        self.tasks.append(self.kernel.spawn(name, uid=uid, oom_score_adj=adj))

    def mmap(self, task: Task) -> None:
        task.mmap(self.pick("64K", "1M", "20M", "90M"), flags=self.pick(MAP_PRIVATE, MAP_SHARED) | MAP_ANONYMOUS)

    def touch(self, task: Task) -> None:
        vma = self.vma(task)
        task.touch(vma.vm_start, vma.vm_end - vma.vm_start, write=bool(vma.vm_flags & VM_WRITE))

    def stray(self, task: Task) -> None:
        task.touch(self.vma(task).vm_end, write=True)

    def munmap(self, task: Task) -> None:
        vma = self.vma(task)
        task.munmap(vma.vm_start, self.pick(4096, vma.vm_end - vma.vm_start))

    def mprotect(self, task: Task) -> None:
        task.mprotect(self.vma(task).vm_start, 4096, self.pick(0, 1, 3, 5))

    def mremap(self, task: Task) -> None:
        vma = self.vma(task)
        task.mremap(vma.vm_start, vma.vm_end - vma.vm_start, 2 * (vma.vm_end - vma.vm_start))

    def sbrk(self, task: Task) -> None:
        task.sbrk(self.pick("64K", "4M"))

    def fork(self, task: Task) -> None:
        self.tasks.append(task.fork())

    def vfork(self, task: Task) -> None:
        self.tasks.append(task.vfork())

    def thread(self, task: Task) -> None:
        self.tasks.append(task.clone(CLONE_PTHREAD, 0))

    def execve(self, task: Task) -> None:
        task.execve(self.pick("hog", "bash", "nginx", "sleep"))

    def exit(self, task: Task) -> None:
        self.pick(task.exit, task.exit_thread)(self.random.randrange(4))

    def wait(self, task: Task) -> None:
        task.wait()

    def kill(self, task: Task) -> None:
        target = self.pick(*self.tasks).pid if self.random.random() < 0.3 else task.pid
        task.kill(target, self.pick(SIGTERM, SIGKILL, SIGUSR1, 0, SIGCHLD, SIGSTOP, SIGCONT))

    def tgkill(self, task: Task) -> None:
        other = self.pick(*self.tasks)
        task.tgkill(other.tgid, other.pid, self.pick(SIGTERM, SIGCONT, SIGHUP))

    def stop(self, task: Task) -> None:
        self.kernel.kill(task.pid, SIGSTOP)
        self.kernel.kill(task.pid, SIGCONT)

    def write(self, task: Task) -> None:
        fd = task.open(f"/data/{self.random.randrange(5)}", O_RDWR | O_CREAT)
        task.write(fd, self.pick("4K", "1M", "10M"))

    def memfd(self, task: Task) -> None:
        fd = task.memfd_create("x")
        task.ftruncate(fd, "2M")
        task.touch(task.mmap("2M", flags=MAP_SHARED, file=fd), "2M", write=True)

    def time(self, task: Task) -> None:
        self.kernel.run_for(0.1)

    def end(self) -> None:
        """Kill everyone; init reaps."""
        for task in list(self.kernel.tasks.processes()):
            if task.pid in self.kernel.tasks and not task.is_kthread:
                self.kernel.kill(task.pid, SIGKILL)


CALLS = [name for name in vars(Lives) if not name.startswith("_") and name not in ("step", "pick", "vma", "end")]


@pytest.mark.parametrize("seed", range(4))
def test_random_lives(boot: Callable[..., Kernel], seed: int) -> None:
    kernel = boot(ram="128M" if seed % 2 else "256M", swap="64M", cpus=2, seed=seed, preset="bare")
    lives = Lives(kernel, seed)
    for number in range(STEPS):
        lives.step()
        if number % 15 == 0:
            kernel.check()
    lives.end()
    kernel.check()
    assert [task.pid for task in kernel.tasks.processes() if not task.is_kthread] == [1]
    assert len(lives.outcomes) > len(CALLS) - 3, "nearly every call was made with success"
