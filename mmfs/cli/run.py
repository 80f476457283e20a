"""run: a command in namespaces where /proc and /sys are the machine's."""

from __future__ import annotations

import os
from typing import Any

import click

from mmfs.cli import fail
from mmfs.cli.machine_options import MachineOptions, machine_options
from mmfs.cli.mount import CLOCKS, rate_option
from mmfs.mount.errors import MountError


@click.command(context_settings={"ignore_unknown_options": False, "allow_interspersed_args": False})
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="-- COMMAND...")
@click.option("--mount", "mountpoint", metavar="DIR", help="A machine that is mounted already.")
@machine_options
@click.option("--clock", type=click.Choice(CLOCKS), help="Whether time passes by itself or only when told [run].")
@click.option("--rate", metavar="X", callback=rate_option, help="Simulated seconds per real second [1].")
@click.option("--log", metavar="FILE", help="Where the temporary machine's daemon writes what it has to say.")
def run(command: tuple[str, ...], mountpoint: str | None, **options: Any) -> int:
    """Run COMMAND (a shell if there is none) with the machine's /proc and /sys.

    Without --mount a machine is booted for COMMAND alone. The exit status is COMMAND's; 127 or 126 if it cannot be
    executed.
    Signals sent to pids that ps shows reach nobody: COMMAND has a PID namespace of its own.
    """
    from mmfs.mount import namespace

    machine = MachineOptions.take(options)
    command = command or (os.environ.get("SHELL", "/bin/sh"),)
    try:
        if mountpoint is None:
            machine.restart_for_pages()
            settings = {
                "clock": options["clock"] or "run",
                "rate": options["rate"] or 1.0,
                "logfile": options["log"],
            }
            boot = machine.boot_now if settings["clock"] == "run" else machine.boot
            return namespace.run_temporary(boot, command, **settings)
        if machine != MachineOptions():
            raise MountError("--mount DIR is a machine that runs already, the options of a machine do not go with it")
        return namespace.run_on(namespace.check_machine(mountpoint), command)
    except MountError as error:
        fail("mmfs run", str(error))
