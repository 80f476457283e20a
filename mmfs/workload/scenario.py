"""Scenarios: a machine, its tunables and what happens on it, in a TOML file.

    [machine]                       # what mmfs.boot() takes
    ram = "2G"
    swap = "1G"

    [sysctl]
    "vm.swappiness" = 10            # written before anything starts

    [[cgroup]]
    path = "/web"

    [[program]]
    name = "leak"
    start = "10s"                   # after boot; at once if it is not there
    stop = "5min"                   # SIGTERM then, if it still runs
    cgroup = "/web"                 # and uid, oom_score_adj, nice, cwd, as spawn takes them
    anon = "20M/s"                  # the program's own parameters

    [[write]]                       # a write to a file of the machine
    at = "1min"
    path = "/proc/sys/vm/drop_caches"
    value = "3"

What is wrong in a file is a ValueError with one line.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mmfs.kernel.cgroup.cgroup1 import find, makedirs
from mmfs.kernel.clock import parse_duration
from mmfs.workload.parameters import parse_parameters
from mmfs.workload.program import WORKLOADS, Ended, programs_of, spawn, stop

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel

MACHINE: Final = {
    "ram", "swap", "cpus", "nodes", "disks", "machine", "preset", "arch", "profile", "cmdline", "cgroup",
    "seed", "realtime",
}  # fmt: skip
NUMBERS: Final = {"cpus", "seed", "realtime"}
SPAWN: Final = {"uid": int, "gid": int, "oom_score_adj": int, "nice": int, "cgroup": str, "cwd": str}
TABLES: Final = ("machine", "sysctl", "cgroup", "program", "write")


class Entry:
    """One [[program]]: what, when, with what."""

    def __init__(self, table: dict[str, Any], where: str) -> None:
        self.name = _take(table, "name", str, where)
        where = f"{where} ({self.name})"
        if self.name not in WORKLOADS:
            raise ValueError(f"{where}: no such program (known: {', '.join(WORKLOADS)})")
        self.start_ns = _when(table.pop("start", "0"), f"{where}: start")
        self.stop_ns = _when(table.pop("stop"), f"{where}: stop") if "stop" in table else None
        if self.stop_ns is not None and self.stop_ns <= self.start_ns:
            raise ValueError(f"{where}: stop: it starts no earlier")
        self.count = _take(table, "count", int, where, 1)
        self.options = {key: _take(table, key, kind, where) for key, kind in SPAWN.items() if key in table}
        self.texts = {key: str(value) for key, value in table.items()}
        try:
            parse_parameters(WORKLOADS[self.name], self.texts)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None


class Scenario:
    """A scenario as it was read. `machine` is what to boot, `play()` starts the rest."""

    def __init__(self, tables: Mapping[str, Any]) -> None:
        unknown = [key for key in tables if key not in TABLES]
        if unknown:
            raise ValueError(f"no table [{unknown[0]}] (known: {', '.join(TABLES)})")
        self.machine: dict[str, Any] = dict(_table(tables, "machine"))
        for key in self.machine:
            if key not in MACHINE:
                raise ValueError(f"machine: no key {key!r} (known: {', '.join(sorted(MACHINE))})")
        for key in NUMBERS & self.machine.keys():
            _take(dict(self.machine), key, int, "machine")
        self.sysctl = {str(key): str(value) for key, value in _table(tables, "sysctl").items()}
        self.cgroups = [_cgroup(table, f"cgroup {n}") for n, table in _rows(tables, "cgroup")]
        self.programs = [Entry(dict(table), f"program {n}") for n, table in _rows(tables, "program")]
        self.writes = [_write(dict(table), f"write {n}") for n, table in _rows(tables, "write")]

    @classmethod
    def load(cls, source: str | Path | Mapping[str, Any]) -> Scenario:
        """From a file, or from what such a file says."""
        if isinstance(source, Mapping):
            return cls(source)
        try:
            with Path(source).open("rb") as file:
                tables = tomllib.load(file)
        except OSError as error:
            raise ValueError(f"{source}: {error.strerror}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{source}: {error}") from None
        try:
            return cls(tables)
        except ValueError as error:
            raise ValueError(f"{source}: {error}") from None

    def play(self, kernel: Kernel) -> None:
        """Write the tunables now, and have the clock do the rest in its time; ValueError if something is refused."""
        for name, value in self.sysctl.items():
            _write_now(kernel, f"/proc/sys/{name.replace('.', '/')}", value, f"sysctl {name}")
        for path in self.cgroups:
            makedirs(kernel, path)
        now = kernel.clock.now_ns
        for entry in self.programs:
            cgroup = entry.options.get("cgroup", "/")
            if not find(kernel, str(cgroup)):
                raise ValueError(f"program {entry.name}: no cgroup {cgroup} (a [[cgroup]] makes one)")
            for _ in range(entry.count):
                kernel.clock.add_timer(now + entry.start_ns, self._launch, kernel, entry)
        for at_ns, path, value in self.writes:
            kernel.clock.add_timer(now + at_ns, _write_later, kernel, path, value)
        kernel.clock.run_for(0)

    def _launch(self, kernel: Kernel, entry: Entry) -> None:
        """Start a program, unless the machine has no room for it."""
        try:
            program = spawn(kernel, entry.name, entry.texts, **entry.options)
        except OSError as error:
            programs_of(kernel).ended.append(Ended(0, entry.name, f"could not start: {error.strerror}"))
            return
        if entry.stop_ns is not None:
            after = entry.stop_ns - entry.start_ns
            kernel.clock.add_timer(kernel.clock.now_ns + after, stop, program)


# ---- reading ----------------------------------------------------------------------------------------------------


def _table(tables: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    table = tables.get(name, {})
    if not isinstance(table, Mapping):
        raise ValueError(f"{name}: write [{name}] and its keys below")
    return table


def _rows(tables: Mapping[str, Any], name: str) -> list[tuple[int, Mapping[str, Any]]]:
    rows = tables.get(name, [])
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
        raise ValueError(f"{name}: write [[{name}]], once for each")
    return list(enumerate(rows, 1))


def _take(table: dict[str, Any], key: str, kind: type, where: str, default: Any = None) -> Any:
    value = table.pop(key, default)
    if value is None:
        raise ValueError(f"{where}: {key} is missing")
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"{where}: {key}: {value!r} is not a {'number' if kind is int else 'text'}")
    return value


def _when(value: Any, where: str) -> int:
    try:
        return parse_duration(str(value))
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _cgroup(table: Mapping[str, Any], where: str) -> str:
    rest = dict(table)
    path: str = _take(rest, "path", str, where)
    _no_more(rest, where)
    return path


def _write(table: dict[str, Any], where: str) -> tuple[int, str, str]:
    at_ns = _when(table.pop("at", "0"), f"{where}: at")
    path: str = _take(table, "path", str, where)
    if path == "/sim/clock":
        raise ValueError(f"{where}: a scenario does not move the clock")
    value = str(table.pop("value", ""))
    _no_more(table, where)
    return at_ns, path, value


def _no_more(table: Mapping[str, Any], where: str) -> None:
    if table:
        raise ValueError(f"{where}: no key {next(iter(table))!r}")


def _write_now(kernel: Kernel, path: str, value: str, where: str) -> None:
    try:
        kernel.write(path, value)
    except OSError as error:
        raise ValueError(f"{where}: {value!r}: {error.strerror}") from None


def _write_later(kernel: Kernel, path: str, value: str) -> None:
    try:
        kernel.write(path, value)
    except OSError as error:
        programs_of(kernel).ended.append(Ended(0, f"write {path} {value!r}", f"refused: {error.strerror}"))
