"""The process behind a mount: it holds the machine, answers FUSE and lets simulated time pass.

`mount_machine()` checks everything that can be checked before a machine is booted, boots it, forks twice and returns
in the first process when FUSE's init has run, so `mmfs mount` behaves as any mount(8): the mount is usable when the
command ends, and what goes wrong until then is one line on its standard error. One thread answers FUSE
(`mmfs.mount.fuse`), another is the `Ticker`; both take the same lock, the model itself has none.

libfuse prints its own errors to standard error and says no more than a number to its caller. Until init has run,
standard error is therefore a memory file, from which the cause is read when mounting fails.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from mmfs.mount import libc
from mmfs.mount.doctor import check_fuse
from mmfs.mount.errors import MountError
from mmfs.mount.mounts import MEMFD_PREFIX, check_mountpoint, clear_stale, lock_mountpoint, mount_at

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel

log = logging.getLogger("mmfs")

SLICE_SECONDS: Final = 0.001
"""How long the ticker may keep the lock; a read(2) that comes meanwhile waits for it."""
TICK_SECONDS: Final = 0.010
MAX_DEBT_SECONDS: Final = 0.25
"""A machine that cannot keep up with `rate` falls behind rather than catching up for ever."""
SWITCH_INTERVAL: Final = 0.0005
SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass
class Settings:
    """How a machine is mounted."""

    mountpoint: str
    source: str = "mmfs"
    fuse_options: dict[str, str | bool] = field(default_factory=dict)
    foreground: bool = False
    logfile: str | None = None
    clock: str = "run"
    rate: float = 1.0
    debug: bool = False
    lock: int = -1
    """What `lock_mountpoint()` gave."""


class Ticker:
    """Advances the machine's clock by `rate` x the real time that has passed, a short slice at a time."""

    def __init__(self, kernel: Kernel, lock: threading.Lock | threading.RLock) -> None:
        self.kernel = kernel
        self.lock = lock
        self.max_events = 16
        self.after: Callable[[], None] = lambda: None
        """Called after each slice, with the lock held."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mmfs-ticker", daemon=True)

    def start(self) -> None:
        """Begin; signals stay the main thread's."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        self._thread.start()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def stop(self) -> None:
        """End within a slice."""
        self._stop.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        clock = self.kernel.clock
        last = time.monotonic_ns()
        while not self._stop.wait(TICK_SECONDS):
            now = time.monotonic_ns()
            elapsed = min(now - last, int(MAX_DEBT_SECONDS * 1e9))
            last = now
            with self.lock:
                target = 0 if clock.paused else clock.now_ns + int(elapsed * clock.rate)
            try:
                self.advance(target)
            except Exception as error:
                if self.kernel.panicked:
                    log.error("kernel panic: %s", error)
                else:
                    log.exception("the clock stopped at %d ns", clock.now_ns)
                with self.lock:
                    clock.paused = True

    def advance(self, target_ns: int) -> None:
        """Let time pass up to `target_ns`, giving the lock up after every slice; a pause in between ends it."""
        clock = self.kernel.clock
        done = clock.now_ns >= target_ns
        while not done and not self._stop.is_set():
            with self.lock:
                begin = time.perf_counter()
                done = clock.paused or clock.run_until(target_ns, max_events=self.max_events)
                self.after()
                spent = time.perf_counter() - begin
            if spent > SLICE_SECONDS:
                self.max_events = max(1, self.max_events // 2)
            elif spent < SLICE_SECONDS / 4:
                self.max_events = min(4096, self.max_events * 2)
            if not done:
                time.sleep(0.00005)  # a waiting FUSE thread takes the lock now


class StderrCapture:
    """Keeps what C libraries write to descriptor 2, until `release()`."""

    def __init__(self) -> None:
        sys.stderr.flush()
        self._saved = os.dup(2)
        self._file = os.memfd_create("mmfs-stderr", os.MFD_CLOEXEC)
        os.dup2(self._file, 2)

    def release(self) -> None:
        """Descriptor 2 is again what it was."""
        if self._saved >= 0:
            os.dup2(self._saved, 2)
            os.close(self._saved)
            self._saved = -1

    def text(self) -> str:
        """All that was written."""
        return os.pread(self._file, 65536, 0).decode(errors="replace").strip()


def explain(text: str, mountpoint: str) -> MountError:
    """A line for the user from what libfuse or fusermount3 printed."""
    line = next((line for line in reversed(text.splitlines()) if line.strip()), "mounting failed")
    for prefix in ("fuse: ", "fusermount3: ", "fusermount: "):
        line = line.removeprefix(prefix)
    if "unknown option" in line:
        return MountError(line.replace("`", "'"))
    if "user_allow_other" in line:
        return MountError("allow_other is root's", "add user_allow_other to /etc/fuse.conf")
    if "exec fusermount" in line or ("No such file" in line and "fusermount" in line):
        return MountError("fusermount3 is missing", "apt install fuse3")
    if "/dev/fuse" in line and "ermission" in line:
        return MountError("no permission on /dev/fuse", "chmod 666 /dev/fuse as root, or run as root")
    return MountError(f"{mountpoint}: {line}")


def mount_options(settings: Settings) -> dict[str, str | bool]:
    """What is handed to libfuse: the user's options over the defaults."""
    import shutil

    source = settings.source.replace("\\", "\\\\").replace(",", "\\,")
    options: dict[str, str | bool] = {"default_permissions": True, "fsname": source, "subtype": "mmfs"}
    if shutil.which("fusermount3"):
        options["auto_unmount"] = True
    if os.geteuid() == 0:
        options["allow_other"] = True
    options.update(settings.fuse_options)
    return {key: value for key, value in options.items() if value is not False}


def start_logging(settings: Settings) -> None:
    """To the log file; else to standard error in the foreground; else to syslog if there is one."""
    handler: logging.Handler
    if settings.logfile:
        handler = logging.FileHandler(settings.logfile)
    elif settings.foreground:
        handler = logging.StreamHandler()
    elif os.path.exists("/dev/log"):
        from logging.handlers import SysLogHandler

        handler = SysLogHandler("/dev/log", SysLogHandler.LOG_DAEMON)
    else:
        handler = logging.NullHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s mmfs[%(process)d] %(levelname)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.DEBUG if settings.debug else logging.INFO)
    logging.getLogger("fuse").setLevel(logging.INFO)  # the binding tells each of its steps


def serve(kernel: Kernel, settings: Settings, ready: Callable[[], None]) -> None:
    """Mount `kernel` and answer until it is unmounted or a signal comes; `ready()` is called after FUSE's init."""
    from mmfs.mount import fuse
    from mmfs.mount.libfuse import load_binding
    from mmfs.mount.namespace import HostProc

    try:
        load_binding()
    except ImportError as error:
        raise MountError(f"no binding for FUSE: {error}", "pip install mfusepy") from error

    libc.prctl(libc.PR_SET_NAME, b"mmfs")
    os.memfd_create(MEMFD_PREFIX + settings.mountpoint, os.MFD_CLOEXEC)
    start_logging(settings)
    kernel.clock.rate, kernel.clock.paused = settings.rate, settings.clock == "manual"
    sys.setswitchinterval(SWITCH_INTERVAL)
    gc.freeze()  # the booted machine is not garbage: later collections need not walk it
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)  # libfuse installs its own handlers over the default only
    lock = threading.Lock()
    ticker = Ticker(kernel, lock)
    capture = StderrCapture()
    mounted = False

    def started(operations: fuse.Operations) -> None:
        nonlocal mounted
        mounted = True
        ticker.after = operations.settle
        capture.release()
        unlock(settings)
        ticker.start()
        log.info("mounted on %s", settings.mountpoint)
        ready()

    try:
        fuse.serve(kernel, settings.mountpoint, lock, mount_options(settings), on_ready=started, host_proc=HostProc())
    except RuntimeError as error:  # libfuse 3 reports a signal as an error of its loop
        if not mounted:
            raise explain(capture.text(), settings.mountpoint) from error
    finally:
        capture.release()
        if mounted:
            ticker.stop()
            log.info("unmounted from %s", settings.mountpoint)


def inherited_descriptors() -> list[int]:
    """What the process got from its parent besides the standard streams."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the listing's own
            os.fstat(int(name))
            found.append(int(name))
    return [descriptor for descriptor in found if descriptor > 2]


def prepare(settings: Settings) -> None:
    """Look at everything that can be looked at before a machine is booted; raises MountError."""
    path = settings.mountpoint
    if not path.startswith("/dev/fd/"):  # from mount.fuse3's drop_privileges: mounted already
        clear_stale(path)
        if mount_at(path) is None:  # else opening it may hang
            settings.lock = lock_mountpoint(path)
        settings.mountpoint = check_mountpoint(path)
    check_fuse()
    if settings.logfile:
        settings.logfile = os.path.abspath(settings.logfile)
        try:
            open(settings.logfile, "ab").close()
        except OSError as error:
            raise MountError(f"{settings.logfile}: {error.strerror}") from error


def unlock(settings: Settings) -> None:
    """Let others try the directory."""
    if settings.lock >= 0:
        os.close(settings.lock)
        settings.lock = -1


def mount_machine(boot: Callable[[], Kernel], settings: Settings) -> None:
    """Boot a machine and mount it; returns when it is mounted, or with `foreground` when it is unmounted again."""
    strangers = [] if settings.mountpoint.startswith("/dev/fd/") else inherited_descriptors()

    def daemon(ready: Callable[[], None]) -> None:
        for descriptor in strangers:  # a pipe of the caller's would never end
            os.close(descriptor)
        serve(kernel, settings, ready)

    try:
        prepare(settings)
        kernel = boot()
        if settings.foreground:
            serve(kernel, settings, ready=lambda: None)
        else:
            in_background(daemon, detach=True)
    finally:
        unlock(settings)


def in_background(run: Callable[[Callable[[], None]], None], detach: bool) -> int:
    """Call `run(ready)` in a forked process; its pid once it has called `ready()`, its MountError if it fails before.

    `detach` makes it a daemon: a session of its own, a child of init, nothing open of the terminal.
    """
    reader, writer = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _child(run, writer, detach)
    os.close(writer)
    with open(reader, "rb") as answers:
        answer = answers.read()
    if detach:
        os.waitpid(pid, 0)
    if answer == b"ready":
        return pid
    if not detach:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
    raise MountError(answer.decode() or "the daemon died before the mount was ready")


def _child(run: Callable[[Callable[[], None]], None], writer: int, detach: bool) -> None:
    """The forked side of `in_background()`; does not return."""
    status = 1

    def say(answer: bytes) -> None:
        nonlocal writer
        if writer >= 0:
            with contextlib.suppress(BrokenPipeError):
                os.write(writer, answer)
            os.close(writer)
            writer = -1

    def ready() -> None:
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        os.close(null)
        say(b"ready")

    try:
        if detach:
            os.setsid()
            if os.fork():
                os._exit(0)
            os.chdir("/")
        run(ready)
        status = 0
    except MountError as error:
        say(str(error).encode())
    except BaseException as error:
        log.exception("the daemon failed")
        say(f"{type(error).__name__}: {error}".encode())
    finally:
        logging.shutdown()
        os._exit(status)
