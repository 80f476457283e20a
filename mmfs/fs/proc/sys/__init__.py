"""/proc/sys: the tunables, a module a directory; importing this package declares them all.

Linux: kernel/sysctl.c, fs/proc/proc_sysctl.c.
"""

from mmfs.fs.proc.sys.fs import epoll, fanotify, fs, inotify
from mmfs.fs.proc.sys.kernel import kernel_dir, random_dir
from mmfs.fs.proc.sys.root import mount, sys
from mmfs.fs.proc.sys.vm import vm

mount(fs, "epoll", epoll)
mount(fs, "fanotify", fanotify)
mount(fs, "inotify", inotify)
mount(kernel_dir, "random", random_dir)
mount(sys, "fs", fs)
mount(sys, "kernel", kernel_dir)
mount(sys, "vm", vm)

__all__ = ["sys"]
