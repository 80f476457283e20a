"""The options that describe a machine, shared by every command that can boot one."""

from __future__ import annotations

import os
import sys
import time
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mmfs.arch import ARCHES, X86_64
from mmfs.mount.errors import MountError

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel

BOOT_SECONDS = 10
"""About the uptime of a machine that has just booted."""

F = TypeVar("F", bound=Callable[..., Any])


@dataclass
class MachineOptions:
    """What the user said about the machine; None is unsaid."""

    ram: str | None = None
    maxmem: str | None = None
    swap: str | None = None
    cpus: int | None = None
    nodes: str | None = None
    machine: str | None = None
    preset: str | None = None
    containers: int | None = None
    like_host: bool = False
    arch: str | None = None
    profile: str | None = None
    cmdline: str | None = None
    cgroup: str | None = None
    seed: int | None = None
    scenario: str | None = None

    @classmethod
    def take(cls, options: dict[str, Any]) -> MachineOptions:
        """Out of a command's keyword arguments; they are removed from there."""
        return cls(**{field.name: options.pop(field.name) for field in fields(cls) if field.name in options})

    def boot_now(self) -> Kernel:
        """Boot a machine whose clock runs with the host's: it was switched on as long ago as booting takes."""
        return self.boot(realtime=int(time.time()) - BOOT_SECONDS)

    def boot(self, **arguments: Any) -> Kernel:
        """Boot the machine, with what `mmfs.boot()` takes besides; raises MountError with a line for the user."""
        self.restart_for_pages()
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and field.name not in ("like_host", "nodes"):
                arguments[field.name] = value
        if self.nodes is not None:
            arguments["nodes"] = parse_nodes(self.nodes)
        if self.like_host:
            if self.preset not in (None, "host"):
                raise MountError(f"--like-host and --preset {self.preset} exclude each other")
            arguments["preset"] = "host"
        try:
            import mmfs

            return mmfs.boot(**arguments)
        except ValueError as error:
            raise MountError(str(error)) from error
        except ModuleNotFoundError as error:
            if error.name is None or error.name.startswith("mmfs"):
                raise
            raise MountError(f"the Python package {error.name} is missing", f"pip install {error.name}") from error
        except ImportError as error:  # not compiled for these pages
            if error.name != "mmfs.fastpath":
                raise
            raise MountError(str(error)) from error

    def restart_for_pages(self) -> None:
        """Start the command again if its process has other pages than the machine that is asked for.

        A process simulates kernels of one page size (MMFS_PAGE_SIZE). To be called before there are other processes.
        """
        arch = ARCHES.get(self._arch_name())
        if arch is None or arch.page_size == (os.environ.get("MMFS_PAGE_SIZE") or X86_64.page_size):
            return
        context = click.get_current_context(silent=True)
        if context is None or not context.find_root().obj:  # not started as a command: mmfs.boot() says what is wrong
            return
        sys.stdout.flush()
        sys.stderr.flush()
        os.execve(sys.executable, sys.orig_argv, {**os.environ, "MMFS_PAGE_SIZE": arch.page_size})

    def _arch_name(self) -> str:
        """The architecture, wherever it is named: as an option, in the scenario or in the machine's file."""
        plan = _table(self.scenario)
        file = self.machine or plan.get("machine")
        named = self.arch or plan.get("arch") or _table(file if isinstance(file, str) else None).get("arch")
        return named if isinstance(named, str) else X86_64.name


def _table(path: str | None) -> dict[str, Any]:
    """What a TOML file says of a machine; nothing if it cannot be read, of which booting tells."""
    try:
        table = tomllib.loads(Path(path).read_text(encoding="utf-8")) if path else {}
    except (OSError, ValueError):
        return {}
    machine = table.get("machine", table)
    return machine if isinstance(machine, dict) else {}


def parse_nodes(text: str) -> int | list[dict[str, Any]]:
    """A number of nodes, or each node's MEMORY[:CPUS[:slow]] with commas or plus signs between.

    3G,2G or 3G:4,512G:0 (a node without CPUs) or 2G:0-1+2G:2-3; a memory of 0 is a node of CPUs alone. 3G:4,512G:0:slow
    has memory behind a CXL link, and firmware that says so.
    """
    text = text.strip()
    if text.isdecimal() and text.isascii():
        return int(text)
    nodes = []
    for part in text.replace("+", ",").split(","):
        memory, colon, rest = part.strip().partition(":")
        node: dict[str, Any] = {"memory": memory.strip()}
        cpus, speed, kind = rest.partition(":")
        if speed:
            if kind != "slow":
                raise MountError(f"nodes: {kind!r} is no kind of memory", "write slow, or nothing for DRAM")
            node["slow"] = True
        if cpus or (colon and not speed):
            node["cpus"] = int(cpus) if cpus.isdecimal() and cpus.isascii() else cpus
        if not node["memory"]:
            raise MountError(f"nodes: {text!r} is neither a number of nodes nor their sizes", "write 2 or 3G,2G")
        nodes.append(node)
    return nodes


def machine_options(function: F) -> F:
    """Declare the machine's options on a command; `MachineOptions.take()` collects them."""
    declarations = (
        click.option("--ram", metavar="SIZE", help="Memory in all [8G]."),
        click.option("--maxmem", metavar="SIZE", help="Memory it can have when more is plugged in [no free slots]."),
        click.option("--swap", metavar="SIZE", help="A swap partition of this size [none]."),
        click.option("--cpus", type=click.IntRange(min=1), metavar="N", help="Logical CPUs [2 a node]."),
        click.option("--nodes", metavar="N|SPEC", help="NUMA nodes: a number, or MEMORY[:CPUS[:slow]] of each."),
        click.option("--machine", metavar="FILE", type=click.Path(), help="A TOML file that describes the machine."),
        click.option("--preset", metavar="server|bare|host", help="Who lives on it [server]."),
        click.option("--containers", type=click.IntRange(min=0), metavar="N", help="Containers that run on it [0]."),
        click.option("--like-host", is_flag=True, help="Shaped as this machine, with its processes."),
        click.option(
            "--arch", metavar="NAME", help="x86_64, i386-pae with HighMem, or arm64-64k with pages of 64 KB [x86_64]."
        ),
        click.option("--profile", metavar="VERSION", help="The kernel it runs [6.12], or 6.1, or 7.0."),
        click.option("--cmdline", metavar="TEXT", help='The kernel\'s command line, such as "hugepages=64".'),
        click.option("--cgroup", type=click.Choice(["v2", "v1"]), help="Which cgroups are mounted [v2]."),
        click.option("--seed", type=int, metavar="N", help="What decides everything random [0]."),
        click.option("--scenario", metavar="FILE", type=click.Path(), help="A TOML file: a machine and its programs."),
    )
    for declare in reversed(declarations):
        function = declare(function)
    return function
