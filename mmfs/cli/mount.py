"""mount, umount, list, and mount(8)'s way to call a file system."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click

from mmfs.cli import fail
from mmfs.cli.machine_options import MachineOptions, machine_options
from mmfs.mount.errors import MountError

CLOCKS: Final = ("run", "manual")
FUSE_FLAGS: Final = {
    "allow_other", "allow_root", "default_permissions", "auto_unmount", "noauto_unmount",
    "ro", "nosuid", "nodev", "noexec", "noatime", "dirsync", "sync",
}  # fmt: skip
FUSE_VALUES: Final = {"fsname", "subtype", "max_read", "attr_timeout", "entry_timeout", "negative_timeout", "context"}
IGNORED: Final = {
    "rw", "dev", "suid", "exec", "async", "atime", "relatime", "norelatime", "strictatime", "nodiratime", "diratime",
    "defaults", "auto", "noauto", "user", "nouser", "users", "owner", "group", "nofail", "_netdev", "nonempty",
}  # fmt: skip
"""Options of mount(8) and fstab that change nothing here."""
MACHINE: Final = {
    "ram", "swap", "cpus", "nodes", "machine", "preset", "containers", "arch", "profile", "cmdline", "cgroup",
    "seed", "scenario",
}  # fmt: skip


def split_options(text: str) -> Iterator[tuple[str, str | None]]:
    r"""key=value pairs between commas; a comma of a value is written \, or the value is quoted."""
    for part in re.findall(r'(?:[^,\\"]|\\.|"[^"]*")+', text):
        part = re.sub(r'\\(.)|"', lambda match: match[1] or "", part)
        key, equals, value = part.partition("=")
        yield key.strip(), value if equals else None


class Request:
    """A mount as options and -o together describe it."""

    def __init__(self, machine: MachineOptions, options: dict[str, Any]) -> None:
        self.machine = machine
        self.options = options
        self.fuse: dict[str, str | bool] = {}

    def apply(self, texts: tuple[str, ...]) -> None:
        """Take what stands behind -o."""
        for text in texts:
            for key, value in split_options(text):
                self._apply(key.replace("-", "_"), value)

    def _apply(self, key: str, value: str | None) -> None:
        if key in MACHINE | {"clock", "rate", "log"} and not value:
            raise MountError(f"mount option {key} needs a value")
        if key in MACHINE:
            number = key in ("cpus", "seed", "containers")
            setattr(self.machine, key, parse_number(key, str(value)) if number else value)
        elif key == "like_host":
            self.machine.like_host = True
        elif key in ("clock", "log"):
            self.options[key] = value
        elif key == "rate":
            self.options["rate"] = parse_rate(str(value))
        elif key in ("foreground", "debug", "verbose"):
            self.options[key] = True
        elif key == "noauto_unmount":
            self.fuse["auto_unmount"] = False
        elif key in IGNORED or key.startswith(("x_", "X_", "comment")):
            return
        elif key in FUSE_FLAGS and value is None:
            self.fuse[key] = True
        elif key in FUSE_VALUES and value:
            self.fuse[key] = value
        else:
            option = key if value is None else f"{key}={value}"
            raise MountError(f"unknown mount option {option}", "see mmfs mount --help")

    def mount(self, source: str, mountpoint: str) -> None:
        """Do it."""
        from mmfs.mount.daemon import Settings, mount_machine

        clock = self.options.get("clock") or "run"
        if clock not in CLOCKS:
            raise MountError(f"clock {clock!r} is neither run nor manual")
        self.machine.restart_for_pages()
        settings = Settings(
            mountpoint=mountpoint,
            source=source,
            fuse_options=self.fuse,
            foreground=bool(self.options.get("foreground")),
            logfile=self.options.get("log"),
            clock=clock,
            rate=self.options.get("rate") or 1.0,
            debug=bool(self.options.get("debug")),
        )
        mount_machine(self.machine.boot_now if clock == "run" else self.machine.boot, settings)
        if self.options.get("verbose") and not settings.foreground:
            click.echo(f"mmfs: mounted on {settings.mountpoint}")


def parse_number(key: str, text: str) -> int:
    """A whole number of -o."""
    try:
        return int(text)
    except ValueError:
        raise MountError(f"mount option {key}={text}: not a number") from None


def parse_rate(text: str) -> float:
    """How much faster than real time: 10, 0.5, 10x."""
    try:
        rate = float(text.removesuffix("x"))
    except ValueError:
        rate = -1.0
    if not 0 < rate <= 1e6:
        raise MountError(f"rate {text!r} is not a factor above zero")
    return rate


def rate_option(_context: click.Context, _parameter: click.Parameter, value: str | None) -> float | None:
    """--rate, checked as -o rate= is."""
    return None if value is None else parse_rate(value)


@click.command()
@click.argument("mountpoint")
@machine_options
@click.option("--clock", type=click.Choice(CLOCKS), help="Whether time passes by itself or only when told [run].")
@click.option("--rate", metavar="X", callback=rate_option, help="Simulated seconds per real second [1].")
@click.option("-f", "--foreground", is_flag=True, help="Stay in the foreground.")
@click.option("--log", metavar="FILE", help="Where the daemon writes what it has to say.")
@click.option("--debug", is_flag=True, help="Log more.")
@click.option("-v", "--verbose", is_flag=True, help="Say that it worked.")
@click.option("-o", "texts", multiple=True, metavar="KEY=VALUE,...", help="The same as mount options, or FUSE's.")
def mount(mountpoint: str, texts: tuple[str, ...], **options: Any) -> None:
    """Mount a simulated machine on a directory.

    The machine runs in a daemon until the directory is unmounted (mmfs umount, umount, fusermount3 -u) or the
    daemon gets SIGTERM, SIGINT or SIGHUP. Silent on success.
    """
    request = Request(MachineOptions.take(options), options)
    request.apply(texts)
    try:
        request.mount("mmfs", mountpoint)
    except MountError as error:
        fail("mmfs mount", str(error))


@click.command(hidden=True)
@click.argument("source")
@click.argument("mountpoint")
@click.option("-o", "texts", multiple=True)
@click.option("-t", "fstype")
@click.option("-N", "namespace")
@click.option("-n", "no_mtab", is_flag=True)
@click.option("-s", "sloppy", is_flag=True)
@click.option("-f", "foreground", is_flag=True)
@click.option("-r", "read_only", is_flag=True)
@click.option("-w", "read_write", is_flag=True)
@click.option("-v", "verbose", is_flag=True)
def mount8(source: str, mountpoint: str, texts: tuple[str, ...], **options: Any) -> None:
    """SOURCE MOUNTPOINT -o OPTIONS: SOURCE is a size of memory, a machine's TOML file, or any word."""
    request = Request(MachineOptions(), {"foreground": options["foreground"], "verbose": options["verbose"]})
    if source.endswith(".toml"):
        request.machine.machine = source
    elif source[:1].isdigit():
        request.machine.ram = source
    elif source not in ("mmfs", "none", "machine"):
        fail("mmfs", f"{source!r} is neither a command, a size of memory nor a machine's .toml file")
    try:
        request.apply((*texts, *(["ro"] if options["read_only"] else [])))
        request.mount(source, mountpoint)
    except MountError as error:
        fail("mmfs", str(error))


@click.command()
@click.argument("mountpoints", nargs=-1, metavar="MOUNTPOINT...")
@click.option("-a", "--all", "every", is_flag=True, help="Every machine that is mounted.")
@click.option("-l", "--lazy", is_flag=True, help="Detach now, clean up when nobody uses it any more.")
def umount(mountpoints: tuple[str, ...], every: bool, lazy: bool) -> None:
    """Unmount machines, also those whose daemon has died."""
    from mmfs.mount.mounts import FSTYPE, mmfs_mounts, mount_at, probe, unmount

    if every:
        mountpoints = tuple(mount.mountpoint for mount in reversed(mmfs_mounts()))
    elif not mountpoints:
        raise click.UsageError("which MOUNTPOINT?", click.get_current_context())
    failed = False
    for path in mountpoints:
        try:
            found = mount_at(path)
            if found is None:
                raise MountError(f"{path}: not mounted" if os.path.lexists(path) else f"{path}: no such directory")
            if found.fstype != FSTYPE:
                raise MountError(f"{path}: {found.fstype}, not a machine of mmfs", f"umount {path}")
            unmount(path, lazy=lazy or probe(path) != "alive")
        except MountError as error:
            click.echo(f"mmfs umount: {error}", err=True)
            failed = True
    if failed:
        sys.exit(2)


@click.command("list")
def list_mounts() -> None:
    """List the mounted machines: directory, source, daemon's pid, memory (or that the daemon is dead or hung)."""
    from mmfs.mount.mounts import daemon_pids, mmfs_mounts, probe

    pids = daemon_pids()
    rows = [("MOUNTPOINT", "SOURCE", "PID", "RAM")]
    for found in mmfs_mounts():
        state = probe(found.mountpoint)
        ram = _total(found.mountpoint) if state == "alive" else state
        rows.append((found.mountpoint, found.source, str(pids.get(found.mountpoint, "-")), ram))
    if len(rows) == 1:
        return
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        click.echo("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def _total(mountpoint: str) -> str:
    try:
        with Path(mountpoint, "proc/meminfo").open(encoding="ascii") as file:
            return f"{int(file.readline().split()[1]) / (1 << 20):.1f}G"
    except (OSError, ValueError, IndexError):
        return "-"
