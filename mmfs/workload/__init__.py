"""Simulated programs, and scenarios of them: what makes a machine busy.

    leak, hog, mlock, idle          memory.py          database        database.py
    cache-reader, file-writer, tmpfs   files.py        jvm             jvm.py
    forkserver, batch               processes.py

A program is a task that makes system calls in its own time (program.py); all it can be told are its parameters
(parameters.py). Everything random in it follows from the machine's seed and its pid.

    from mmfs.workload import spawn
    leak = spawn(kernel, "leak", {"anon": "100M/s"}, oom_score_adj=500)
    kernel.run_for(10)
"""

from mmfs.workload import database, files, jvm, memory, processes
from mmfs.workload.program import WORKLOADS, Program, Programs, programs_of, spawn, stop
from mmfs.workload.scenario import Scenario

__all__ = [
    "WORKLOADS",
    "Program",
    "Programs",
    "Scenario",
    "database",
    "files",
    "jvm",
    "memory",
    "processes",
    "programs_of",
    "spawn",
    "stop",
]
