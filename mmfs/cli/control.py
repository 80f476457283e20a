"""ctl and translate: asking a machine to do or to tell something."""

from __future__ import annotations

import os
from typing import Any

import click

from mmfs.cli import fail
from mmfs.cli.machine_options import MachineOptions, machine_options
from mmfs.mount.errors import MountError


def transact(mountpoint: str, command: str) -> tuple[bool, bytes]:
    """Write a command to sim/control and read the answer from the same open file: (accepted, answer)."""
    from mmfs.mount.namespace import check_machine

    path = f"{check_machine(mountpoint)}/sim/control"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise MountError(f"{path}: {error.strerror}") from error
    try:
        accepted, reason = True, ""
        try:
            os.write(descriptor, command.encode() + b"\n")
        except OSError as error:
            accepted, reason = False, error.strerror or str(error)
        answer = bytearray()
        while chunk := os.pread(descriptor, 1 << 20, len(answer)):
            answer += chunk
    except OSError as error:
        raise MountError(f"{path}: {error.strerror}") from error
    finally:
        os.close(descriptor)
    return accepted, bytes(answer) or f"{reason}\n".encode() * bool(reason)


def ask(name: str, mountpoint: str, command: str) -> int:
    """Print the answer of a mounted machine: exit status 1 if it refuses."""
    try:
        accepted, answer = transact(mountpoint, command)
    except MountError as error:
        fail(name, str(error))
    text = answer.decode(errors="replace")
    if accepted:
        click.echo(text, nl=bool(text) and not text.endswith("\n"))
        return 0
    click.echo(f"{name}: {text.strip()}", err=True)
    return 1


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("mountpoint")
@click.argument("words", nargs=-1, required=True, type=click.UNPROCESSED, metavar="COMMAND")
def ctl(mountpoint: str, words: tuple[str, ...]) -> int:
    """Give a mounted machine a command and print its answer: mmfs ctl DIR "spawn hog".

    The commands are those of sim/control; "help" lists them.
    """
    return ask("mmfs ctl", mountpoint, " ".join(words))


@click.command()
@click.argument("pid", type=click.IntRange(min=1))
@click.argument("address", metavar="ADDRESS")
@click.option("--mount", "mountpoint", metavar="DIR", help="A machine that is mounted already.")
@machine_options
def translate(pid: int, address: str, mountpoint: str | None, **options: Any) -> int:
    """Walk the page tables of process PID for ADDRESS, each entry decoded from the PGD to the frame."""
    try:
        number = int(address, 0)
    except ValueError:
        fail("mmfs translate", f"{address!r} is not an address such as 0x7ffd1234000")
    if not 0 <= number < 1 << 64:
        fail("mmfs translate", f"{address} is not a 64-bit address")
    if mountpoint is not None:
        return ask("mmfs translate", mountpoint, f"translate {pid} {number:#x}")
    try:
        kernel = MachineOptions.take(options).boot()
    except MountError as error:
        fail("mmfs translate", str(error))
    try:
        click.echo(kernel.translate(pid, number).rstrip("\n"))
    except (OSError, ValueError) as error:
        click.echo(f"mmfs translate: {error}", err=True)
        return 1
    return 0
