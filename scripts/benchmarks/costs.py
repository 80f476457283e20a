"""What the kernel that this runs on takes for what simulated time is made of, next to the model's table.

`PYTHONPATH=scripts:. python -m benchmarks.costs [ROUNDS]`: the least of the rounds in ns (c/costs.c), what
`mmfs.kernel.cputime.Cost` says, and their ratio. On a machine that is itself virtual, faults cost several times as much
as on a real one, for the host has to map the page too.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Final

from benchmarks.measure import program
from mmfs.kernel.cputime import Cost

MODEL: Final = {
    "SYSCALL": Cost.SYSCALL,
    "FAULT_MINOR": Cost.FAULT_MINOR + Cost.ACCESS,
    "FAULT_COW": Cost.FAULT_COW + Cost.ACCESS,
    "UNMAP_PAGE": Cost.UNMAP_PAGE,
    "COPY_PTE": Cost.COPY_PTE,
    "READ_PAGE": Cost.READ_PAGE,
    "FORK": Cost.FORK,
    "SPAWN": Cost.FORK + Cost.EXEC + Cost.EXIT,
    "WAKEUP": Cost.WAKEUP,
}
"""What each line that the program prints is in the model: SPAWN a fork, an exec and an exit together."""


def measured(rounds: int) -> dict[str, int]:
    """ns by name."""
    done = subprocess.run([program("costs"), str(rounds)], check=True, stdout=subprocess.PIPE, text=True)
    return {name: int(ns) for ns, name in map(str.split, done.stdout.splitlines())}


def main() -> None:
    """Print the table."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    print(f"{'what':<12} {'here, ns':>9} {'model, ns':>9} {'ratio':>6}")
    for name, ns in measured(rounds).items():
        print(f"{name:<12} {ns:>9} {MODEL[name]:>9} {ns / MODEL[name]:>6.2f}")


if __name__ == "__main__":
    main()
