"""Mount any Vfs in a temporary directory, served by a thread of the test, so that a test sees both ends."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmfs.kernfs import Vfs
from mmfs.mount import fuse


@contextlib.contextmanager
def mounted(vfs: Vfs, directory: Path, **options: Any) -> Iterator[Path]:
    """The path of the mount; never touch a file of it by a call that keeps the GIL (mmap, an import)."""
    ready = threading.Event()
    problems: list[BaseException] = []
    defaults: dict[str, str | bool] = {"default_permissions": True, "fsname": "mmfs", "subtype": "mmfs"}
    if os.geteuid() == 0:
        defaults["allow_other"] = True

    def serve() -> None:
        try:
            host_proc, lock = options.pop("host_proc", None), threading.Lock()
            fuse.serve(
                vfs, str(directory), lock, defaults | options, on_ready=lambda _: ready.set(), host_proc=host_proc
            )
        except BaseException as error:
            problems.append(error)
        ready.set()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    assert ready.wait(10)
    if problems:
        raise problems[0]
    try:
        yield directory
    finally:
        unmount(directory)
        thread.join(10)
        assert not thread.is_alive()
    if problems:
        raise problems[0]


def unmount(directory: Path) -> None:
    """Take a mount away, busy or not."""
    command = ["umount", "-l"] if os.geteuid() == 0 else ["fusermount3", "-u", "-z"]
    subprocess.run([*command, str(directory)], capture_output=True, check=False)
