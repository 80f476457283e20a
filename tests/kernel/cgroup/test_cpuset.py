"""cpuset.*: what is asked for, what there is, and what tasks get; partitions. As a real 6.12 answered with two CPUs."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

import mmfs
from mmfs.kernel.signal import TaskKilled

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task

TOP = "/sys/fs/cgroup"
PAGE = 4096


@pytest.fixture
def kernel() -> Kernel:
    kernel = mmfs.boot(ram="256M", cpus=2, preset="bare", seed=1)
    arrange(kernel)
    return kernel


def arrange(kernel: Kernel) -> None:
    kernel.write(f"{TOP}/cgroup.subtree_control", "+cpuset")
    for path in ("a", "c", "a/b"):
        kernel.mkdir(f"{TOP}/{path}")
    kernel.write(f"{TOP}/a/cgroup.subtree_control", "+cpuset")


def read(kernel: Kernel, path: str) -> str:
    return kernel.read(f"{TOP}/{path}").decode().rstrip("\n")


def write(kernel: Kernel, path: str, text: str) -> str:
    try:
        kernel.write(f"{TOP}/{path}", text)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    finally:
        kernel.check()
    return read(kernel, path)


def allowed(kernel: Kernel, task: Task) -> tuple[str, str]:
    rows = dict(line.split(":\t") for line in kernel.read(f"/proc/{task.pid}/status").decode().splitlines())
    return rows["Cpus_allowed_list"], rows["Mems_allowed_list"]


def test_what_is_there_at_first(kernel: Kernel) -> None:
    for path in ("a", "a/b"):
        names = ("cpus", "cpus.effective", "cpus.exclusive", "cpus.exclusive.effective", "mems", "mems.effective")
        assert [read(kernel, f"{path}/cpuset.{name}") for name in names] == ["", "0-1", "", "", "", "0"]
        assert read(kernel, f"{path}/cpuset.cpus.partition") == "member"
    assert {name for name in kernel.listdir(TOP) if name.startswith("cpuset")} == {
        "cpuset.cpus.effective",
        "cpuset.cpus.isolated",
        "cpuset.mems.effective",
    }


@pytest.mark.parametrize(
    ("text", "answer"),
    [("0", "0"), ("0,1", "0-1"), ("0 1", "0-1"), ("\n", ""), ("5", "ERANGE"), ("0-9", "ERANGE"), ("1-0", "EINVAL"),
     ("x", "EINVAL"), ("all", "0-1"), ("N", "1")],
)  # fmt: skip
def test_writing_cpus(kernel: Kernel, text: str, answer: str) -> None:
    assert write(kernel, "a/cpuset.cpus", text) == answer


@pytest.mark.parametrize(("text", "answer"), [("0", "0"), ("1", "EINVAL"), ("4096", "ERANGE"), ("0-99", "EINVAL")])
def test_writing_mems(kernel: Kernel, text: str, answer: str) -> None:
    assert write(kernel, "a/cpuset.mems", text) == answer


def test_what_is_asked_for_is_cut_to_what_is_above(kernel: Kernel) -> None:
    write(kernel, "a/b/cpuset.cpus", "1")
    assert read(kernel, "a/b/cpuset.cpus.effective") == "1"
    write(kernel, "a/cpuset.cpus", "0")
    assert (read(kernel, "a/b/cpuset.cpus"), read(kernel, "a/b/cpuset.cpus.effective")) == ("1", "0")


def test_tasks_follow(kernel: Kernel) -> None:
    task = kernel.spawn("worker", cgroup="/c")
    for cpus in "01":
        write(kernel, "c/cpuset.cpus", cpus)
        assert allowed(kernel, task) == (cpus, "0") and task.processor == int(cpus)
    assert task.fork().cpus_allowed == frozenset({1})
    with pytest.raises(OSError):
        task.sched_setaffinity([0])
    assert write(kernel, "c/cpuset.cpus", "\n") == "ENOSPC", "tasks are there"
    assert kernel.read(f"/proc/{task.pid}/cpuset") == b"/c\n"
    kernel.write(f"{TOP}/cgroup.procs", str(task.pid))
    assert allowed(kernel, task) == ("0-1", "0") and kernel.read(f"/proc/{task.pid}/cpuset") == b"/\n"
    kernel.check()


def test_what_a_task_has_asked_for_itself_counts_again_when_it_may(kernel: Kernel) -> None:
    task = kernel.spawn("worker", cgroup="/c")
    task.sched_setaffinity([1])
    write(kernel, "c/cpuset.cpus", "0")
    assert allowed(kernel, task)[0] == "0"
    write(kernel, "c/cpuset.cpus", "0-1")
    assert allowed(kernel, task)[0] == "1"


def test_a_partition_has_its_cpus_for_itself(kernel: Kernel) -> None:
    write(kernel, "a/cpuset.cpus", "0")
    assert write(kernel, "a/cpuset.cpus.partition", "root") == "root"
    assert read(kernel, "cpuset.cpus.effective") == "1" == read(kernel, "c/cpuset.cpus.effective")
    write(kernel, "a/cpuset.cpus.partition", "member")
    assert write(kernel, "a/cpuset.cpus.partition", "isolated") == "isolated"
    assert (read(kernel, "cpuset.cpus.effective"), read(kernel, "cpuset.cpus.isolated")) == ("1", "0")
    write(kernel, "a/cpuset.cpus", "1")
    assert read(kernel, "a/cpuset.cpus.partition") == "isolated invalid (Parent unable to distribute cpu downstream)"
    assert write(kernel, "a/cpuset.cpus.partition", "member") == "member"
    assert write(kernel, "a/cpuset.cpus.partition", "foo") == "EINVAL"
    write(kernel, "a/b/cpuset.cpus", "1")
    assert write(kernel, "a/b/cpuset.cpus.partition", "root") == (
        "root invalid (Invalid cpu list in cpuset.cpus.exclusive)"
    )
    assert read(kernel, "cpuset.cpus.effective") == "0-1"


def test_exclusive_cpus(kernel: Kernel) -> None:
    write(kernel, "a/cpuset.cpus", "0-1")
    assert write(kernel, "a/cpuset.cpus.exclusive", "0-1") == "0-1"
    assert read(kernel, "a/cpuset.cpus.exclusive.effective") == "0-1"
    assert write(kernel, "c/cpuset.cpus.exclusive", "0") == "EINVAL"
    assert write(kernel, "c/cpuset.cpus", "0") == "0", "though all of it could be taken away"
    write(kernel, "c/cpuset.cpus", "\n")
    assert write(kernel, "a/cpuset.cpus.partition", "root") == (
        "root invalid (Parent unable to distribute cpu downstream)"
    )
    assert read(kernel, "cpuset.cpus.effective") == "0-1"


def test_a_removed_partition_gives_its_cpus_back(kernel: Kernel) -> None:
    write(kernel, "c/cpuset.cpus", "1")
    write(kernel, "c/cpuset.cpus.partition", "root")
    assert read(kernel, "cpuset.cpus.effective") == "0"
    kernel.rmdir(f"{TOP}/c")
    assert read(kernel, "cpuset.cpus.effective") == "0-1"
    kernel.check()


def test_memory_comes_from_the_nodes_that_are_allowed() -> None:
    kernel = mmfs.boot(ram="512M", nodes=2, cpus=2, preset="bare", seed=1)
    arrange(kernel)
    assert write(kernel, "c/cpuset.mems", "1") == "1"
    task = kernel.spawn("worker", cgroup="/c")
    assert allowed(kernel, task)[1] == "1"
    task.sched_setaffinity([0])
    addr = task.mmap(2000 * PAGE)
    task.touch(addr, 2000 * PAGE, write=True)
    after = kernel.read(f"/proc/{task.pid}/numa_maps").decode()
    line = next(text for text in after.splitlines() if text.startswith(f"{addr:x}"))
    assert "N1=2000" in line and "N0=" not in line, line
    write(kernel, "c/cpuset.mems", "0")
    addr = task.mmap(100 * PAGE)
    task.touch(addr, 100 * PAGE, write=True)
    kernel.check()


def test_a_cpuset_without_memory() -> None:
    """Who fills its nodes meets the OOM killer, as a real 6.12 said: the constraint, the cpuset, and only its node."""
    kernel = mmfs.boot(ram="512M", nodes=2, cpus=2, preset="bare", seed=1)
    arrange(kernel)
    write(kernel, "c/cpuset.mems", "1")
    elsewhere = kernel.spawn("elsewhere")
    task = kernel.spawn("hog", cgroup="/c")
    with pytest.raises(TaskKilled):
        task.touch(task.mmap(300 << 20), 300 << 20, write=True)
    said = [record.text for record in kernel.printk.since(0)]
    (line,) = [text for text in said if text.startswith("oom-kill:")]
    assert line.startswith("oom-kill:constraint=CONSTRAINT_CPUSET,nodemask=(null),cpuset=c,mems_allowed=1,global_oom,")
    report = said[next(at for at, text in enumerate(said) if "invoked oom-killer" in text) :]
    assert any(text.startswith("Node 1 ") for text in report)
    assert not any(text.startswith("Node 0 ") for text in report) and elsewhere.alive
    kernel.check()
