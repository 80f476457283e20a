"""Controllers in the tree: where they are enabled, whose css counts, how long a css lives, who is asked about moves."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

import mmfs
from mmfs.kernel.cgroup import Cgroup
from mmfs.kernel.cgroup.control import subtree_control
from mmfs.kernel.cgroup.migrate import attach_task
from mmfs.mm.cgroup_defs import CgroupSubsys, CgroupSubsysState, Migration

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task


class Log:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.log: list[str] = []

    def take(self) -> list[str]:
        taken, self.log[:] = list(self.log), []
        return taken


class Domain(Log, CgroupSubsys):
    name = "rdma"
    refuse = False

    def css_online(self, css: Any) -> None:
        self.log.append(f"online {css.cgroup.path}")

    def css_offline(self, css: Any) -> None:
        self.log.append(f"offline {css.cgroup.path}")

    def css_released(self, css: Any) -> None:
        self.log.append(f"released {css.cgroup.path}")

    def can_attach(self, tset: list[Migration]) -> None:
        self.log.append("can_attach")

    def cancel_attach(self, tset: list[Migration]) -> None:
        self.log.append("cancel_attach")

    def attach(self, tset: list[Migration]) -> None:
        self.log += [f"attach {m.old.cgroup.path} {m.new.cgroup.path}" for m in tset]

    def can_fork(self, task: Task, css: CgroupSubsysState) -> None:
        if self.refuse:
            raise BlockingIOError(errno.EAGAIN, "no more")

    def exit(self, task: Task) -> None:
        self.log.append("exit")

    def release(self, task: Task) -> None:
        self.log.append("release")


class Threaded(Log, CgroupSubsys):
    name = "misc"
    threaded = True
    refuse = False

    def can_attach(self, tset: list[Migration]) -> None:
        if self.refuse:
            raise OSError(errno.ENOSPC, "full")


@pytest.fixture
def domain() -> Domain:
    return Domain()


@pytest.fixture
def threaded() -> Threaded:
    return Threaded()


@pytest.fixture
def kernel(domain: Domain, threaded: Threaded) -> Kernel:
    kernel = mmfs.boot(ram="256M", preset="bare", seed=1)
    kernel.cgroups.register(threaded)
    kernel.cgroups.register(domain)
    domain.take()
    return kernel


def errno_of(function: Callable[..., Any], *arguments: Any) -> str:
    with pytest.raises(OSError) as caught:
        function(*arguments)
    assert caught.value.errno
    return errno.errorcode[caught.value.errno]


def both(group: Cgroup) -> None:
    subtree_control(group, {"rdma", "misc"}, set())


def test_enabled_from_the_top_down(kernel: Kernel, domain: Domain) -> None:
    top = kernel.cgroups.root
    inner = kernel.cgroups.makedirs("/a/b")
    outer = inner.parent
    assert outer is not None
    assert errno_of(subtree_control, outer, {"rdma"}, set()) == "ENOENT"
    assert inner.e_css["rdma"] is outer.e_css["rdma"] is top.subsys["rdma"]
    both(top)
    assert inner.e_css["rdma"] is outer.subsys["rdma"]
    both(outer)
    assert domain.take() == ["online /a", "online /a/b"]
    assert inner.subsys["rdma"].parent is outer.subsys["rdma"]
    assert top.subsys["rdma"].nr_descendants == 2
    assert errno_of(subtree_control, top, set(), {"rdma"}) == "EBUSY"
    kernel.check()
    subtree_control(outer, set(), {"rdma"})
    assert domain.take() == ["offline /a/b", "released /a/b"]
    assert inner.e_css["rdma"] is outer.subsys["rdma"] and "misc" in inner.subsys
    kernel.check()


def test_no_internal_processes(kernel: Kernel) -> None:
    top = kernel.cgroups.root
    group = kernel.cgroups.makedirs("/a")
    both(top)
    task = kernel.spawn("worker", cgroup="/a")
    assert errno_of(both, group) == "EBUSY"
    attach_task(task, top)
    both(group)
    assert errno_of(kernel.write, "/sys/fs/cgroup/a/cgroup.procs", str(task.pid)) == "EBUSY"
    kernel.check()


def test_tasks_change_over_with_their_controller(kernel: Kernel, domain: Domain) -> None:
    kernel.cgroups.makedirs("/a")
    kernel.spawn("worker", cgroup="/a")
    both(kernel.cgroups.root)
    assert domain.take() == ["online /a", "can_attach", "attach / /a"]
    subtree_control(kernel.cgroups.root, set(), {"rdma"})
    assert domain.take() == ["can_attach", "attach /a /", "offline /a", "released /a"]
    kernel.check()


def test_a_move_is_all_or_nothing(kernel: Kernel, domain: Domain, threaded: Threaded) -> None:
    both(kernel.cgroups.root)
    here, there = kernel.cgroups.makedirs("/here"), kernel.cgroups.makedirs("/there")
    task = kernel.spawn("worker", cgroup="/here")
    task.pthread_create()
    domain.take()
    threaded.refuse = True
    assert errno_of(attach_task, task, there) == "ENOSPC"
    assert domain.take() == ["can_attach", "cancel_attach"]
    assert len(here.tasks) == 2 and not there.tasks
    threaded.refuse = False
    attach_task(task, there)
    assert domain.take() == ["can_attach", "attach /here /there", "attach /here /there"]
    assert not here.populated and there.populated
    kernel.check()


def test_a_held_css_keeps_its_cgroup_dying(kernel: Kernel, domain: Domain) -> None:
    top = kernel.cgroups.root
    both(top)
    group = kernel.cgroups.makedirs("/a")
    css = group.subsys["rdma"]
    css.css_get()
    domain.take()
    kernel.cgroups.rmdir(group)
    assert domain.take() == ["offline /a"] and css.dying and not css.online
    assert (top.nr_descendants, top.nr_dying_descendants) == (0, 1)
    assert top.nr_dying_subsys == {"rdma": 1, "misc": 0}
    kernel.cgroups.makedirs("/a")
    kernel.check()
    domain.take()
    css.css_put()
    assert domain.take() == ["released /a"]
    assert (top.nr_descendants, top.nr_dying_descendants, top.nr_dying_subsys["rdma"]) == (1, 0, 0)
    kernel.check()
    with pytest.raises(AssertionError):
        css.css_put()


def test_zombies_linger_where_they_died(kernel: Kernel, domain: Domain) -> None:
    top = kernel.cgroups.root
    both(top)
    group = kernel.cgroups.makedirs("/a")
    parent = kernel.spawn("parent")
    child = parent.fork()
    attach_task(child, group)
    domain.take()
    child.exit(0)
    assert domain.take() == ["exit"] and not group.populated and child.pid in group.tasks
    assert kernel.read(f"/proc/{child.pid}/cgroup") == b"0::/a\n"
    kernel.cgroups.rmdir(group)
    assert kernel.read(f"/proc/{child.pid}/cgroup") == b"0::/a (deleted)\n"
    assert domain.take() == ["offline /a"] and top.nr_dying_descendants == 1
    parent.wait()
    assert domain.take() == ["release", "released /a"] and top.nr_dying_descendants == 0
    kernel.check()


def test_a_fork_can_be_refused(kernel: Kernel, domain: Domain) -> None:
    task = kernel.spawn("worker")
    domain.refuse = True
    assert errno_of(task.fork) == "EAGAIN"
    domain.refuse = False
    kernel.check()
    assert task.fork().cgrp is task.cgrp


def test_threaded_subtrees(kernel: Kernel) -> None:
    """As "domain", "domain threaded", "threaded" and "domain invalid" follow from each other."""
    top = "/sys/fs/cgroup"

    def kind(path: str) -> str:
        return kernel.read(f"{top}/{path}/cgroup.type").decode().strip()

    both(kernel.cgroups.root)
    kernel.cgroups.makedirs("/d/t/u")
    task = kernel.spawn("worker", cgroup="/d")
    thread = task.pthread_create()
    kernel.write(f"{top}/d/t/cgroup.type", "threaded")
    assert (kind("d"), kind("d/t"), kind("d/t/u")) == ("domain threaded", "threaded", "domain invalid")
    assert errno_of(kernel.write, f"{top}/d/t/u/cgroup.procs", str(task.pid)) == "ENOTSUP"
    kernel.write(f"{top}/d/t/cgroup.threads", str(thread.pid))
    assert kernel.read(f"{top}/d/t/cgroup.threads") == b"%d\n" % thread.pid
    assert errno_of(kernel.write, f"{top}/d/cgroup.subtree_control", "+rdma") == "ENOTSUP"
    kernel.write(f"{top}/d/cgroup.subtree_control", "+misc")
    assert set(kernel.cgroups.makedirs("/d/t").subsys) == {"misc"}
    kernel.check()
    other = kernel.cgroups.makedirs("/other")
    assert errno_of(kernel.write, f"{top}/other/cgroup.threads", str(thread.pid)) == "ENOTSUP"
    attach_task(task, other)
    assert not kernel.cgroups.makedirs("/d").populated
    kernel.check()
