"""A small tree over plain objects: enough of proc, sysctl, sysfs and cgroup2 to try kernfs and the FUSE adapter."""

from __future__ import annotations

import errno
import os
import select
from dataclasses import dataclass, field
from typing import Any

from mmfs.kernfs import (
    CGROUP2,
    PROC,
    PROC_PID,
    SYSCTL,
    SYSFS,
    Caller,
    Directory,
    Iattrs,
    OpenFile,
    fail,
    kstrtoul,
    memparse,
)
from mmfs.kernfs.sysctl import proc_dointvec_minmax, sysctl


@dataclass
class Process:
    pid: int
    uid: int = 0
    comm: str = "toy"
    links: list[str] = field(default_factory=lambda: ["/dev/null", "/tmp/x"])


@dataclass
class Group:
    gid: int
    max: int = 2**63 - 4096
    events: int = 0
    iattrs: dict[str, Iattrs] = field(default_factory=dict)
    children: dict[str, Group] = field(default_factory=dict)


@dataclass
class Box:
    """The object at the root of the toy tree."""

    swappiness: int = 60
    ratios: list[int] = field(default_factory=lambda: [256, 256, 32, 0, 0])
    text: str = "".join(f"Line{number:03}: {number * 1000:8} kB\n" for number in range(60))
    renders: int = 0
    nr_hugepages: int = 0
    writes: list[tuple[str, int]] = field(default_factory=list)
    processes: dict[int, Process] = field(default_factory=lambda: {1: Process(1), 7: Process(7, uid=1000)})
    group: Group = field(default_factory=lambda: Group(1))
    next_group: int = 2
    zram: bool = False


root: Directory[Box] = Directory(mode=0o755)
proc = root.directory("proc", rules=PROC)
sys_ = root.directory("sys", rules=SYSFS)


@proc.attribute("meminfo")
def meminfo(box: Box) -> str:
    box.renders += 1
    return box.text


@proc.attribute("count")
def count(box: Box) -> int:
    box.renders += 1
    return box.renders


@proc.attribute("slabinfo", mode=0o400)
def slabinfo(box: Box) -> bytes:
    return b"secret\n"


@proc.attribute("zram", needs=lambda box: box.zram)
def zram(box: Box) -> str:
    return "here\n"


@proc.attribute("broken")
def broken(box: Box) -> str:
    raise ZeroDivisionError("a defect of the model")


@proc.attribute("wrong")
def wrong(box: Box) -> Any:
    return ["no content"]


@proc.attribute("gone")
def gone(box: Box) -> str:
    fail(errno.ESRCH)


trigger = proc.attributes("sysrq-trigger")


@trigger.store
def trigger_store(box: Box, buf: str, *, offset: int) -> None:
    box.writes.append((buf, offset))


trigger.wants_offset = True


@proc.attribute("control", transaction=True, wants_file=True)
def control(box: Box, *, file: OpenFile) -> str:
    return "no command\n" if file.private is None else f"did {file.private}\n"


@control.store
def control_store(box: Box, buf: str, *, file: OpenFile) -> None:
    if not buf.strip():
        fail(errno.EINVAL)
    file.private = buf.strip()


@proc.attribute("whoami", wants_caller=True, mode=0o444)
def whoami(box: Box, *, caller: Caller) -> str:
    return f"{caller.uid}\n"


@proc.binary("kpagecount", mode=0o400)
def kpagecount(box: Box, offset: int, size: int) -> bytes:
    return bytes(number % 251 for number in range(offset, min(offset + size, 100_000)))


proc.symlink("mounts", "self/mounts")


@proc.attribute("huge")
def huge(box: Box) -> bytes:
    return b"0123456789abcde\n" * 20_000


def _self(box: Box, *, caller: Caller) -> str:
    if caller.pid not in box.processes:
        fail(errno.ENOENT)
    return str(caller.pid)


proc.symlink("self", _self, wants_caller=True)
vm = proc.directory("sys", rules=SYSCTL).directory("vm")
vm.add(sysctl("swappiness", proc_dointvec_minmax(0, 200)))
vm.add(sysctl("ratios", proc_dointvec_minmax(0)))


def _drop(box: Box, old: object) -> None:
    box.writes.append(("drop", 0))


vm.add(
    sysctl(
        "drop_caches",
        proc_dointvec_minmax(1, 4),
        get=lambda box: 1,
        set=lambda box, value: None,
        after=_drop,
        mode=0o200,
    )
)


def _process(box: Box, name: str) -> Process | None:
    return box.processes.get(int(name)) if name.isdecimal() and name[0] != "0" else None


pid: Directory[Process] = proc.family(
    list=lambda box: [str(number) for number in box.processes],
    lookup=_process,
    rules=PROC_PID,
    owner=lambda process: (process.uid, process.uid),
)


@pid.attribute("stat")
def pid_stat(process: Process) -> str:
    return f"{process.pid} ({process.comm}) S\n"


@pid.attribute("comm")
def comm(process: Process) -> str:
    return process.comm + "\n"


@comm.store
def comm_store(process: Process, buf: str) -> None:
    process.comm = buf.partition("\n")[0][:15]


@pid.attribute("environ", mode=0o400)
def environ(process: Process) -> bytes:
    return b"HOME=/\0"


clear_refs = pid.attributes("clear_refs")


@clear_refs.store
def clear_refs_store(process: Process, buf: str) -> None:
    kstrtoul(buf, 10)


fd = pid.directory("fd", mode=0o500)


@fd.symlinks(
    list=lambda process: [str(number) for number in range(len(process.links))],
    lookup=lambda process, name: (
        process.links[int(name)] if name.isdecimal() and int(name) < len(process.links) else None
    ),
    mode=0o700,
)
def fd_link(link: str) -> str:
    return link


huge_pages = sys_.directory("kernel").directory("mm").directory("hugepages")


@huge_pages.attribute("nr_hugepages")
def nr_hugepages(box: Box) -> int:
    return box.nr_hugepages


@nr_hugepages.store
def nr_hugepages_store(box: Box, buf: str) -> None:
    box.nr_hugepages = kstrtoul(buf, 10)


@huge_pages.attribute("free_hugepages")
def free_hugepages(box: Box) -> int:
    return box.nr_hugepages


demote = huge_pages.attributes("demote")


@demote.store
def demote_store(box: Box, buf: str) -> None:
    kstrtoul(buf, 10)


cgroup: Directory[Group] = sys_.directory("fs").directory(
    "cgroup",
    obj=lambda box: box.group,
    rules=CGROUP2,
    ino=lambda group: group.gid,
    iattrs=lambda group: group.iattrs,
    mode=0o755,
)
cgroup.family(
    list=lambda group: list(group.children), lookup=lambda group, name: group.children.get(name), template=cgroup
)


@cgroup.attribute("memory.max")
def memory_max(group: Group) -> int:
    return group.max


@memory_max.store
def memory_max_store(group: Group, buf: str) -> None:
    value, rest = memparse(buf.strip())
    if rest:
        fail(errno.EINVAL)
    group.max = value


def _poll(group: Group, file: OpenFile) -> int:
    changed = file.private != group.events
    return (select.POLLERR | select.POLLPRI if changed else 0) | select.POLLIN


@cgroup.attribute("cgroup.events", poll=_poll, wants_file=True)
def events(group: Group, *, file: OpenFile) -> str:
    file.private = group.events
    return f"events {group.events}\n"


reclaim = cgroup.attributes("memory.reclaim")


@reclaim.store
def reclaim_store(group: Group, buf: str) -> None:
    fail(errno.EAGAIN)


@cgroup.on_mkdir
def cgroup_mkdir(group: Group, name: str, mode: int, caller: Caller) -> None:
    group.children[name] = Group(group.gid * 100 + len(group.children) + 1)


@cgroup.on_rmdir
def cgroup_rmdir(group: Group, name: str, caller: Caller) -> None:
    if group.children[name].children:
        fail(errno.EBUSY)
    del group.children[name]


root.directory("dev").special("null", 0o666, os.makedev(1, 3))
