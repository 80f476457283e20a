"""show and export: a machine's files with no mount and no FUSE."""

from __future__ import annotations

import sys
from typing import Any

import click

from mmfs.cli import fail
from mmfs.cli.machine_options import MachineOptions, machine_options
from mmfs.mount.errors import MountError


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@machine_options
def show(paths: tuple[str, ...], **options: Any) -> int:
    """Print files of a freshly booted machine: mmfs show /proc/buddyinfo --ram 64G --nodes 2.

    A directory prints what it lists.
    """
    import stat

    try:
        kernel = MachineOptions.take(options).boot()
    except MountError as error:
        fail("mmfs show", str(error))
    status = 0
    for path in paths:
        try:
            place = "/" + path.strip("/")
            if stat.S_ISDIR(kernel.stat(place).st_mode):
                data = "".join(f"{name}\n" for name in kernel.listdir(place)).encode()
            else:
                data = kernel.read(place)
        except OSError as error:
            click.echo(f"mmfs show: {path}: {error.strerror or error}", err=True)
            status = 1
            continue
        sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
    return status


@click.command()
@click.argument("directory")
@machine_options
@click.option("-v", "--verbose", is_flag=True, help="Name what is left out, and count the rest.")
def export(directory: str, verbose: bool, **options: Any) -> int:
    """Write a freshly booted machine's tree to DIRECTORY as plain files with their modes."""
    from mmfs.mount.export import check_target, export_tree

    try:
        check_target(directory)
        kernel = MachineOptions.take(options).boot()
        result = export_tree(kernel.vfs, directory, kernel.caller)
    except MountError as error:
        fail("mmfs export", str(error))
    if verbose:
        for path, reason in result.skipped:
            click.echo(f"mmfs export: {path}: left out: {reason}", err=True)
        click.echo(f"{result.files} files, {result.directories} directories, {result.symlinks} symbolic links")
    elif result.skipped:
        click.echo(f"mmfs export: {len(result.skipped)} files left out (-v names them)", err=True)
    return 0
