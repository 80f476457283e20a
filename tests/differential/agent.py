"""A real Linux that stays up and does one thing at a time, 6.12 if no other is named: the guest's init is `agent.c`."""

from __future__ import annotations

import os
import select
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Final

from tests.differential import realkernel

ANSWER_SECONDS: Final = 120
MEMORY_MB: Final = 512
SWAP_BYTES: Final = 256 << 20
FILES: Final = {"f": 64 << 20, "g": 64 << 20}
"""On the guest's disk, which is mounted on /data."""
SLOW_MB: Final = 192
"""Of the memory, what is on a slow node, if there is one."""
SPEEDS: Final = ((10, 10_240), (40, 2_048))
"""Latency (ns) and bandwidth (MB/s) of DRAM and of the slow node."""
ESCAPES: Final = {"t": "\t", "n": "\n", "\\": "\\"}


class Dead(Exception):
    """The process that was to do something is not alive any more."""


def slow_node() -> list[str]:
    """The arguments for a node of DRAM with both CPUs and one of slow memory, and for firmware that says so."""
    words = ["-machine", "hmat=on", "-numa", "node,nodeid=0,memdev=m0,cpus=0-1"]
    words += ["-numa", "node,nodeid=1,memdev=m1,initiator=0"]
    for node, (size, (latency, bandwidth)) in enumerate(zip((MEMORY_MB - SLOW_MB, SLOW_MB), SPEEDS, strict=True)):
        words += ["-object", f"memory-backend-ram,id=m{node},size={size}M"]
        pair = f"hmat-lb,initiator=0,target={node},hierarchy=memory"
        words += ["-numa", f"{pair},data-type=access-latency,latency={latency}"]
        words += ["-numa", f"{pair},data-type=access-bandwidth,bandwidth={bandwidth}M"]
    return [*words, "-numa", "dist,src=0,dst=1,val=40"]


def escaped(text: str) -> str:
    """A field of a request."""
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n")


def unescaped(text: str) -> str:
    """The text of an answer."""
    parts = iter(text)
    return "".join(ESCAPES[next(parts)] if part == "\\" else part for part in parts)


class Agent:
    """The guest: two CPUs, one or two nodes, a disk and a swap device; `slow`: a second one that is slow memory."""

    def __init__(
        self, nr_nodes: int = 1, slow: bool = False, memory_mb: int = MEMORY_MB, series: str = realkernel.SERIES,
        cmdline: str = "",
    ) -> None:  # fmt: skip
        self._work = tempfile.TemporaryDirectory()
        work = Path(self._work.name)
        realkernel.make_disk(work / "disk", FILES)
        realkernel.make_swap(work / "swap", SWAP_BYTES)
        files = {"init": (0o100755, realkernel.guest("agent.c", series))}
        command = realkernel.qemu(work, files, f"{memory_mb}M", 2, [work / "disk", work / "swap"], series)
        for node in range(nr_nodes if nr_nodes > 1 else 0):
            command += ["-object", f"memory-backend-ram,id=m{node},size={memory_mb // nr_nodes}M"]
            command += ["-numa", f"node,memdev=m{node},cpus={node}"]
        command += slow_node() if slow else []
        command[command.index("-append") + 1] += f" {cmdline}" if cmdline else ""
        self._qemu = subprocess.Popen(
            [*command, "-serial", "stdio"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0,
            env=os.environ | {"TMPDIR": self._work.name},
        )  # fmt: skip
        self._buffer = b""
        self._lost = False
        assert self._line() == "ready", f"the guest did not begin:\n{self.console()[-4000:]}"

    def console(self) -> str:
        """What the guest's kernel printed."""
        return Path(self._work.name, "console").read_text(errors="replace")

    def close(self) -> None:
        """Switch it off."""
        self._qemu.kill()
        self._qemu.communicate()
        self._work.cleanup()

    def _line(self) -> str:
        assert self._qemu.stdout is not None
        until = time.monotonic() + ANSWER_SECONDS
        while b"\n" not in self._buffer:
            ready = select.select([self._qemu.stdout], [], [], max(until - time.monotonic(), 0))[0]
            got = os.read(self._qemu.stdout.fileno(), 1 << 16) if ready else b""
            if not got:
                self._lost = True
                raise TimeoutError(f"the guest does not answer:\n{self.console()[-4000:]}")
            self._buffer += got
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode(errors="surrogateescape")

    def call(self, *fields: object, uid: int = 0) -> str:
        """Have something done; its answer, or the OSError that it met with."""
        assert self._qemu.stdin is not None
        if self._lost:
            raise TimeoutError("the guest did not answer an earlier request")
        request = "\t".join([str(uid), *(escaped(str(field)) for field in fields)])
        self._qemu.stdin.write(request.encode(errors="surrogateescape") + b"\n")
        verdict, _, rest = self._line().partition(" ")
        if verdict == "dead":
            raise Dead
        if verdict == "error":
            raise OSError(int(rest), os.strerror(int(rest)))
        return unescaped(rest)
