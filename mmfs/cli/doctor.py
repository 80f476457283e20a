"""doctor: what mounting needs."""

from __future__ import annotations

import click


@click.command()
def doctor() -> int:
    """Look for everything that mmfs mount and mmfs run need; exit status 1 if something is missing."""
    from mmfs.mount.doctor import diagnose

    healthy = True
    for finding in diagnose():
        click.echo(f"{'OK     ' if finding.ok else 'PROBLEM'}  {finding.name}: {finding.detail}")
        if not finding.ok:
            healthy = False
            if finding.remedy:
                click.echo(f"         remedy: {finding.remedy}")
    return 0 if healthy else 1
