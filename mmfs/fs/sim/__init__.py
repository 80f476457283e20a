"""/sim: what a real machine does by system call, or by waiting. The only thing here that Linux does not have.

control   a command a write(2), the answer on the same open file: control.py, process.py, system.py here
clock     simulated time: pause, run, rate 10, step 5s
contents  how well pages compress, for zswap and zram
tlb       what each processor's translation buffer has done
"""

from mmfs.fs.sim import clock, contents, control, ipc, process, slab, system, tlb
from mmfs.fs.sim.root import sim

__all__ = ["clock", "contents", "control", "ipc", "process", "sim", "slab", "system", "tlb"]
