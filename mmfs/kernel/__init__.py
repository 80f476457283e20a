"""The kernel proper: boot, time, tasks, system calls, the log, block devices. Memory itself lives in `mmfs.mm`."""
