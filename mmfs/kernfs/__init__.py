"""Virtual files in general: templates, path walk, seq_file reads and kstrtox writes; knows nothing of memory.

`node` says how a tree is declared and `rules` how Linux's file systems differ; `entry` and `vfs` walk it; `file` is
what an open file does; `kstrtox` and `sysctl` read what is written to it as the kernel does.
"""

from mmfs.kernfs.entry import ROOT, Caller, Entry, Stat
from mmfs.kernfs.file import DEFAULT_POLLMASK, OpenFile
from mmfs.kernfs.kstrtox import (
    fail,
    kstrtobool,
    kstrtoint,
    kstrtol,
    kstrtoll,
    kstrtou8,
    kstrtouint,
    kstrtoul,
    kstrtoull,
    match_string,
    memparse,
    sysfs_match_string,
    sysfs_streq,
)
from mmfs.kernfs.node import Attribute, Binary, Directory, Iattrs, Special, Symlink, Text
from mmfs.kernfs.rules import CGROUP2, DEBUGFS, PROC, PROC_PID, SYSCTL, SYSFS, TMPFS_RO, Rules
from mmfs.kernfs.vfs import Vfs

__all__ = [
    "CGROUP2",
    "DEBUGFS",
    "DEFAULT_POLLMASK",
    "PROC",
    "PROC_PID",
    "ROOT",
    "SYSCTL",
    "SYSFS",
    "TMPFS_RO",
    "Attribute",
    "Binary",
    "Caller",
    "Directory",
    "Entry",
    "Iattrs",
    "OpenFile",
    "Rules",
    "Special",
    "Stat",
    "Symlink",
    "Text",
    "Vfs",
    "fail",
    "kstrtobool",
    "kstrtoint",
    "kstrtol",
    "kstrtoll",
    "kstrtou8",
    "kstrtouint",
    "kstrtoul",
    "kstrtoull",
    "match_string",
    "memparse",
    "sysfs_match_string",
    "sysfs_streq",
]
