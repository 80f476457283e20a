"""An idle Debian server: systemd with its services, a web server, and root logged in over ssh.

Each service is forked by its parent and runs its program (`kernel/programs.py`), in the order and at the times of a
boot; short-lived helpers of the boot show as numbers that were skipped. Nothing is set by hand that a program could
do: memory comes from mapping and touching, CPU time from what is charged for that and for the work that a service
does while it starts.

The process tree, users, cgroups, terminals and OOM adjustments are Debian 12's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mmfs.kernel.cgroup.cgroup1 import attach_task, mounted
from mmfs.kernel.cgroup.control import subtree_control
from mmfs.kernel.clock import NSEC_PER_MSEC
from mmfs.kernel.namei import O_CREAT, O_RDWR
from mmfs.kernel.presets.kthreads import start_root_file_system
from mmfs.kernel.sched import PF_SUPERPRIV, PR_SET_CHILD_SUBREAPER, RLIMIT_MEMLOCK, RLIMIT_NOFILE
from mmfs.kernel.spawn import spawn
from mmfs.mm.mman import is_exec_mapping

if TYPE_CHECKING:
    from mmfs.kernel.cgroup import Cgroup
    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task

UNIT_HIERARCHIES: Final = ("name=systemd", "memory", "pids")
"""Where units have directories with cgroup v1."""
KB: Final = 1 << 10
MB: Final = 1 << 20

TIMESYNC_UID: Final = 997
MESSAGEBUS_UID: Final = 100
WWW_DATA_UID: Final = 33

TTY1: Final = 4 << 8 | 1
TTY_S0: Final = 4 << 8 | 64
PTS_0: Final = 136 << 8
TTY_PATHS: Final = {TTY1: "/dev/tty1", TTY_S0: "/dev/ttyS0", PTS_0: "/dev/pts/0"}

SYSTEM_ENVIRON: Final = {
    "LANG": "en_US.UTF-8",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "INVOCATION_ID": "8b9f4bd0c5a34d1a9d4b6a3de1f0c2ab",
    "SYSTEMD_EXEC_PID": "1",
}
LOGIN_ENVIRON: Final = {
    "SHELL": "/bin/bash",
    "PWD": "/root",
    "LOGNAME": "root",
    "XDG_SESSION_TYPE": "tty",
    "HOME": "/root",
    "LANG": "en_US.UTF-8",
    "SSH_CONNECTION": "192.0.2.10 51022 192.0.2.20 22",
    "XDG_SESSION_CLASS": "user",
    "TERM": "xterm-256color",
    "USER": "root",
    "SHLVL": "1",
    "XDG_SESSION_ID": "1",
    "XDG_RUNTIME_DIR": "/run/user/0",
    "SSH_TTY": "/dev/pts/0",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
}
FORKED_SHARE: Final = 0.4
"""How much of each library's code a forked process goes on to use."""
NOFILE_HARD: Final = 524_288
SYSTEMD_MEMLOCK: Final = 8 * MB

BOOT_FILES: Final = (
    ("/usr/lib/x86_64-linux-gnu/libpython3.11.so.1.0", 7 * MB),
    ("/var/cache/apt/pkgcache.bin", 24 * MB),
    ("/var/lib/dpkg/status", 3 * MB),
    ("/usr/lib/modules/modules.dep.bin", 1 * MB),
    ("/etc/udev/hwdb.bin", 10 * MB),
    ("/usr/bin/apt-get", 52 * KB),
)
"""Files that services and timers of the boot have read: (path, bytes)."""


@dataclass(frozen=True)
class Service:
    """One service of the boot."""

    program: str
    slice: str
    at_ms: int
    """How long after the one before it starts."""
    cpu_ms: int = 5
    """What it computes while it starts, a third of it in the kernel."""
    skip: int = 1
    """Process numbers that helpers took since."""
    uid: int = 0
    gid: int = 0
    oom_score_adj: int = 0
    argv: tuple[str, ...] | None = None
    tty_nr: int = 0


SERVICES: Final = (
    Service("/usr/lib/systemd/systemd-journald", "system.slice/systemd-journald.service", 620, 60, 38,
            oom_score_adj=-250, argv=("/lib/systemd/systemd-journald",)),
    Service("/usr/lib/systemd/systemd-udevd", "system.slice/systemd-udevd.service", 90, 130, 22, oom_score_adj=-1000,
            argv=("/lib/systemd/systemd-udevd",)),
    Service("/usr/lib/systemd/systemd-timesyncd", "system.slice/systemd-timesyncd.service", 700, 25, 170,
            TIMESYNC_UID, TIMESYNC_UID, argv=("/lib/systemd/systemd-timesyncd",)),
    Service("cron", "system.slice/cron.service", 240, 4, 26),
    Service("dbus-daemon", "system.slice/dbus.service", 4, 20, 0, MESSAGEBUS_UID, 107, -900),
    Service("/usr/lib/systemd/systemd-logind", "system.slice/systemd-logind.service", 12, 35, 2,
            argv=("/lib/systemd/systemd-logind",)),
    Service("rsyslogd", "system.slice/rsyslog.service", 6, 15, 1),
    Service("agetty", "system.slice/system-getty.slice/getty@tty1.service", 160, 3, 9,
            argv=("/sbin/agetty", "-o", "-p -- \\\\u", "--noclear", "-", "linux"), tty_nr=TTY1),
    Service("agetty", "system.slice/system-serial\\x2dgetty.slice/serial-getty@ttyS0.service", 1, 3, 0,
            argv=("/sbin/agetty", "-o", "-p -- \\\\u", "--keep-baud", "115200,57600,38400,9600", "-", "vt220"),
            tty_nr=TTY_S0),
    Service("sshd", "system.slice/ssh.service", 40, 20, 6, oom_score_adj=-1000),
    Service("unattended-upgr", "system.slice/unattended-upgrades.service", 10, 140, 1),
    Service("nginx", "system.slice/nginx.service", 120, 15, 3),
)  # fmt: skip


class Server:
    """The boot of a server."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.init = kernel.tasks[1]

    def start(self) -> None:
        """systemd, its services, a login."""
        start_root_file_system(self.kernel)
        self.start_init()
        for service in SERVICES:
            self.start_service(service)
        self.read_files()
        self.start_nginx_workers()
        self.login()

    def wait(self, milliseconds: int) -> None:
        """Time passes."""
        self.kernel.clock.run_for(milliseconds * NSEC_PER_MSEC)

    def compute(self, task: Task, milliseconds: int) -> None:
        """A program works for a while."""
        nsec = milliseconds * NSEC_PER_MSEC
        self.kernel.scheduler.charge(task, user_ns=nsec * 2 // 3, system_ns=nsec // 3)

    def start_init(self) -> None:
        """Become systemd."""
        init = self.init
        init.execve("/usr/lib/systemd/systemd", ("/sbin/init",), {"HOME": "/", "TERM": "linux"})
        init.set_session(1)
        init.signal.rlimits[RLIMIT_NOFILE] = (1024, NOFILE_HARD)
        init.signal.rlimits[RLIMIT_MEMLOCK] = (SYSTEMD_MEMLOCK, SYSTEMD_MEMLOCK)
        self.open_standard_files(init)
        self.make_unit("/init.scope")
        attach_task(init, "/init.scope")
        init.flags |= PF_SUPERPRIV
        self.compute(init, 450)

    def account(self, group: Cgroup) -> None:
        """Account for memory and tasks of the units in a slice, as systemd does unless it is told otherwise."""
        subtree_control(group, {"memory", "pids"} & group.control(), set())

    def make_unit(self, path: str) -> None:
        """The cgroup of a unit, in slices that account for what is in them.

        With cgroup v1, in the hierarchies of what is accounted for, and in systemd's own.
        """
        for root in mounted(self.kernel):
            if not root.on_dfl and root.title not in UNIT_HIERARCHIES:
                continue
            group = root.root
            for name in path.strip("/").split("/"):
                if root.on_dfl:
                    self.account(group)
                group = group.children.get(name) or root.mkdir(group, name)

    def start_service(self, service: Service) -> Task:
        """One service, forked by init."""
        self.wait(service.at_ms)
        self.kernel.tasks.pids.skip(service.skip)
        self.make_unit(service.slice)
        task = spawn(
            self.kernel, service.program, uid=service.uid, gid=service.gid, argv=service.argv,
            oom_score_adj=service.oom_score_adj, cgroup=f"/{service.slice}", environ=SYSTEM_ENVIRON,
        )  # fmt: skip
        if service.tty_nr:
            task.set_session(task.pid, service.tty_nr)
            self.open_standard_files(task, TTY_PATHS[service.tty_nr])
        if service.uid == 0:
            task.flags |= PF_SUPERPRIV
        self.compute(task, service.cpu_ms)
        return task

    def open_standard_files(self, task: Task, device: str = "/dev/null") -> None:
        """Standard input, output and errors: a terminal, or nothing. Children inherit them."""
        new = task.open(device, O_RDWR | O_CREAT, 0o666)
        for fd in range(3):
            task.dup2(new, fd)
        if new > 2:
            task.close(new)

    def read_files(self) -> None:
        """What the boot has read of the disk stays in the page cache."""
        for path, size in BOOT_FILES:
            if self.kernel.namei.lookup(path) is None:
                self.kernel.namei.create(path, size)
            fd = self.init.open(path)
            self.init.read(fd, size)
            self.init.close(fd)

    def run_code(self, task: Task) -> None:
        """A forked process runs its program on: it reads the code that its parent has mapped."""
        assert task.mm is not None
        for vma in list(task.mm.mmap):
            if vma.vm_file is not None and is_exec_mapping(vma.vm_flags):
                task.touch(vma.vm_start, int((vma.vm_end - vma.vm_start) * FORKED_SHARE))

    def find(self, comm: str) -> Task:
        """The process of that name."""
        return next(task for task in self.kernel.tasks.processes() if task.comm == comm)

    def start_nginx_workers(self) -> None:
        """One worker process a CPU, forked by the master, at most eight."""
        master = self.find("nginx")
        for _ in range(min(self.kernel.machine.nr_cpus, 8)):
            worker = master.fork()
            self.kernel.tasks.commit_creds(worker, worker.cred.become(WWW_DATA_UID, WWW_DATA_UID, (WWW_DATA_UID,)))
            worker.set_title("nginx: worker process")
            assert worker.mm is not None
            worker.wchan = "do_epoll_wait"
            self.run_code(worker)
            worker.touch(worker.mm.start_brk, 400 * KB, write=True)
            worker.touch(worker.mmap(1 * MB), 700 * KB, write=True)

    def login(self) -> None:
        """root comes in over ssh: a connection process, a user manager with its PAM process, a shell."""
        self.wait(2600)
        root_slice = "/user.slice/user-0.slice"
        self.kernel.tasks.pids.skip(17)
        connection = self.find("sshd").fork()
        connection.signal.oom_score_adj = 0
        connection.set_session(connection.pid)
        connection.set_title("sshd: root@pts/0")
        assert connection.mm is not None
        self.run_code(connection)
        connection.touch(connection.mm.start_brk, 200 * KB, write=True)
        self.compute(connection, 30)
        manager_group = f"{root_slice}/user@0.service/init.scope"
        self.make_unit(manager_group)
        manager = spawn(
            self.kernel, "/usr/lib/systemd/systemd", argv=("/lib/systemd/systemd", "--user"), oom_score_adj=100,
            cgroup=manager_group, environ={"HOME": "/root", "LANG": "en_US.UTF-8", "USER": "root"},
        )  # fmt: skip
        manager.prctl(PR_SET_CHILD_SUBREAPER, 1)
        pam = manager.fork()
        pam.set_title("(sd-pam)")
        pam.set_name("(sd-pam)")
        self.compute(manager, 60)
        self.make_unit(f"{root_slice}/session-1.scope")
        attach_task(connection, f"{root_slice}/session-1.scope")
        self.kernel.tasks.pids.skip(9)
        shell = spawn(
            self.kernel, "bash", parent=connection, argv=("-bash",), environ=LOGIN_ENVIRON, cwd="/root",
            cgroup=connection.cgroup,
        )  # fmt: skip
        shell.set_session(shell.pid, PTS_0)
        self.open_standard_files(shell, TTY_PATHS[PTS_0])
        self.compute(shell, 12)
        self.wait(1500)


def start(kernel: Kernel) -> None:
    """Boot the server."""
    Server(kernel).start()
