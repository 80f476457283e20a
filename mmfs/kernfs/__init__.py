"""Virtual files in general: templates, path walk, seq_file reads and kstrtox writes; knows nothing of memory.

`node` says how a tree is declared, `vfs` how it is walked, `file` what an open file does, `kstrtox` and `sysctl`
how the kernel reads what is written to it.
"""

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
from mmfs.kernfs.node import (
    CGROUP2,
    PROC,
    PROC_PID,
    SYSCTL,
    SYSFS,
    Attribute,
    Binary,
    Directory,
    Rules,
    Special,
    Symlink,
    Text,
)
from mmfs.kernfs.vfs import ROOT, Caller, Entry, Stat, Vfs

__all__ = [
    "CGROUP2",
    "DEFAULT_POLLMASK",
    "PROC",
    "PROC_PID",
    "ROOT",
    "SYSCTL",
    "SYSFS",
    "Attribute",
    "Binary",
    "Caller",
    "Directory",
    "Entry",
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
