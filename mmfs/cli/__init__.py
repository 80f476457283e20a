"""The command line: `mmfs COMMAND ...`, and the form that mount(8) calls, `mmfs SOURCE MOUNTPOINT -o ...`.

A command's module is imported when the command runs, numpy and FUSE inside it only when they are needed:
`mmfs --help` is at once. Whatever is wrong with what the user asked for is one line on standard error and exit
status 2.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

import click

from mmfs import __version__
from mmfs.mount.errors import MountError

COMMANDS: Final = {
    "mount": ("mmfs.cli.mount:mount", "Mount a simulated machine on a directory."),
    "umount": ("mmfs.cli.mount:umount", "Unmount machines."),
    "list": ("mmfs.cli.mount:list_mounts", "List the mounted machines."),
    "run": ("mmfs.cli.run:run", "Run a command whose /proc and /sys are the machine's."),
    "show": ("mmfs.cli.files:show", "Print files of a machine, without FUSE."),
    "export": ("mmfs.cli.files:export", "Write a machine's files to a directory, without FUSE."),
    "ctl": ("mmfs.cli.control:ctl", "Give a mounted machine a command."),
    "translate": ("mmfs.cli.control:translate", "Walk the page tables of a process aloud."),
    "doctor": ("mmfs.cli.doctor:doctor", "Say what mounting needs and this machine lacks."),
}
HELPERS: Final = ("mount.fuse.mmfs", "mount.mmfs")
USAGE: Final = 2


class Commands(click.Group):
    """The commands, imported when they are called; anything else with two arguments is mount(8)'s form."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name == "mount8":
            target = "mmfs.cli.mount:mount8"
        elif cmd_name in COMMANDS:
            target = COMMANDS[cmd_name][0]
        else:
            return None
        module, _, name = target.partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        called_as = Path(sys.argv[0]).name
        words = [word for word in args if not word.startswith("-")]
        mount_form = args and not args[0].startswith("-") and args[0] not in COMMANDS and len(words) > 1
        if called_as in HELPERS or mount_form:
            args = ["mount8", *args]
        return super().parse_args(ctx, args)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="mmfs")
def cli() -> None:
    """A Linux memory subsystem that you can mount.

    Sizes are written 8G, 512M, 1.5G or 8GB; units are powers of 1024. mount(8) works as well:
    mount -t fuse.mmfs 8G /mnt -o swap=2G
    """


def fail(command: str, message: str, status: int = USAGE) -> NoReturn:
    """One line and out."""
    click.echo(f"{command}: {' '.join(message.split())}", err=True)
    sys.exit(status)


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit."""
    name = "mmfs"
    try:
        words = list(args) if args is not None else None
        # The object tells commands whether they are the process's own, which they may start again.
        status: Any = cli.main(args=words, prog_name="mmfs", standalone_mode=False, obj=args is None)
        sys.stdout.flush()
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        if isinstance(error, click.exceptions.NoArgsIsHelpError):
            click.echo(error.format_message(), err=True)
            sys.exit(USAGE)
        fail(context.command_path if context else name, error.format_message())
    except click.Abort:
        sys.exit(130)
    except MountError as error:
        fail(name, str(error))
    except BrokenPipeError:  # the reader of our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(status if isinstance(status, int) else 0)
