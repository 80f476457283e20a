"""Which kernel is simulated: its version, its configuration and the sizes of its image.

Where kernels differ, a row or a file says ``needs=config("ZSWAP")`` or ``needs=since(6, 12)``, and the model asks
``profile.config("ZSWAP")`` and ``profile.since(6, 12)``; version strings are never compared. A version in ``since()``
is the first that is known to have it: (6, 12) where only kernels of PROFILES were asked, which lie far apart. A kernel
more is an entry more in PROFILES. One of 32 bits (``64BIT`` False, ``HIGHMEM`` True) is the same version with other
options and another architecture (arch.py).

Simplified: a 6.1 decides as 6.12 does where no file shows it at rest: which pages the MGLRU evicts once it is switched
on, what compaction and the buddy allocator's fallbacks take, how swap slots are dealt out, who runs next.
Simplified: 7.0 is compared with a kernel of few drivers (docs/profiles.md); kernel threads are those of
6.12, the image too but for that of 7.0.0, and so are the algorithms: the MGLRU without 6.14's protection of what is
accessed through file descriptors, pages that cannot be compressed rejected by zswap, swap slots instead of swap
tables, CPUs' slabs instead of sheaves, the buddy allocator's fallbacks without vm.defrag_mode. The dmem controller
has no files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any, TypeVar

from mmfs.arch import ARM64_64K, I386_PAE, X86_64, Arch

T = TypeVar("T")
MB = 1 << 20
ConfigValue = bool | int | str


@dataclass(frozen=True)
class KernelImage:
    """Where the sections of the loaded kernel lie, in bytes from its first; ends are exclusive."""

    text_end: int
    rodata_end: int
    data_start: int
    data_end: int
    init_start: int
    init_end: int
    smp_locks_end: int
    bss_start: int
    decrypted_unused: int  # the unused tail of the bss that is kept for decrypted data
    end: int  # end of bss and of what the boot code reserves
    brk: int  # bytes behind it that early boot code took
    rwdata_kb: int
    percpu_static: int
    freed_smp_locks_kb: int = 40
    section_align: int = 2 * MB
    text_start: int = 0
    bss_stop: int = 0
    """Where code begins, and where zeroed data ends, if not at both ends."""

    @property
    def rodata_start(self) -> int:
        """Read-only data begins at the next page behind the code, of 2 MB where there are 64 bits."""
        return -(-self.text_end // self.section_align) * self.section_align

    @property
    def text_pages_end(self) -> int:
        """The end of the last page with code."""
        return -(-self.text_end // 4096) * 4096

    def code_kb(self) -> int:
        """Kernel code as the boot log counts it."""
        return (self.text_end - self.text_start) // 1024

    def rodata_kb(self) -> int:
        """Read-only data as the boot log counts it."""
        return (self.rodata_end - self.rodata_start) // 1024

    def init_kb(self) -> int:
        """What is given back after init as the boot log counts it."""
        return (self.init_end - self.init_start) // 1024

    def bss_kb(self) -> int:
        """Zeroed data as the boot log counts it."""
        return ((self.bss_stop or self.end) - self.bss_start) // 1024


@dataclass(frozen=True, eq=False)
class Profile:
    """One kernel build; a value that is compared by identity, so that views can be cached by it."""

    name: str
    version: tuple[int, int, int]
    release: str  # uname -r
    build: str  # uname -v
    compiler: str
    builder: str
    options: Mapping[str, ConfigValue]
    image: KernelImage
    initrd_size: int
    pglist_data_size: int
    struct_page_size: int = 64
    mem_section_size: int = 32
    mem_section_usage_size: int = 56
    percpu_reserved: int = 8192
    percpu_dynamic: int = 28672
    arch: Arch = X86_64

    def config(self, option: str) -> ConfigValue:
        """A CONFIG_ option without its prefix; False if it is not set."""
        return self.options.get(option, False)

    def config_int(self, option: str) -> int:
        """A numeric CONFIG_ option."""
        value = self.options[option]
        if isinstance(value, str):
            raise TypeError(f"CONFIG_{option} is not a number")
        return int(value)

    def since(self, major: int, minor: int = 0) -> bool:
        """Whether this kernel is that version or newer."""
        return self.version[:2] >= (major, minor)

    @property
    def version_banner(self) -> str:
        """The line of /proc/version and the first of the boot log, without newline."""
        return f"Linux version {self.release} ({self.builder}) ({self.compiler}) {self.build}"


class Needs:
    """Which kernels have a row or a file: a test of the profile, for `needs=`.

    Asked with a profile, with what has one (a kernel), or with what belongs to a kernel (a task, a cgroup). `both` adds
    what the object itself must fulfil.
    """

    constant = True
    """The answer is the same as long as a kernel runs."""

    def __init__(self, test: Callable[[Profile], bool]) -> None:
        self.test = test

    def __call__(self, obj: Any) -> bool:
        return self.test(obj if isinstance(obj, Profile) else getattr(obj, "kernel", obj).profile)

    def __and__(self, other: Needs) -> Needs:
        """Kernels that pass both tests."""
        return Needs(partial(_is_both, self.test, other.test))

    def __invert__(self) -> Needs:
        """The others."""
        return Needs(partial(_is_not, self.test))


def _is_not(test: Callable[[Profile], bool], profile: Profile) -> bool:
    return not test(profile)


def _is_both(one: Callable[[Profile], bool], other: Callable[[Profile], bool], profile: Profile) -> bool:
    return one(profile) and other(profile)


def _is_since(major: int, minor: int, profile: Profile) -> bool:
    return profile.since(major, minor)


def _is_until(major: int, minor: int, profile: Profile) -> bool:
    return not profile.since(major, minor)


def _is_set(option: str, profile: Profile) -> bool:
    return bool(profile.config(option))


def since(major: int, minor: int) -> Needs:
    """Kernels of that version and newer ones."""
    return Needs(partial(_is_since, major, minor))


def until(major: int, minor: int) -> Needs:
    """Kernels older than that version."""
    return Needs(partial(_is_until, major, minor))


def config(option: str) -> Needs:
    """Kernels that were built with an option."""
    return Needs(partial(_is_set, option))


def both(built: Needs, fulfilled: Callable[[T], bool]) -> Callable[[T], bool]:
    """What only some kernels have, and there only some objects."""
    return lambda obj: built(obj) and fulfilled(obj)


_SET = (
    "64BIT SMP NUMA NUMA_BALANCING NUMA_BALANCING_DEFAULT_ENABLED MEMCG CGROUP_WRITEBACK CGROUP_HUGETLB CPUSETS PSI "
    "SWAP ZSWAP ZPOOL ZBUD ZSMALLOC ZRAM SLUB SLUB_DEBUG SLUB_CPU_PARTIAL SLAB_MERGE_DEFAULT SLAB_FREELIST_RANDOM "
    "SLAB_FREELIST_HARDENED SLAB_BUCKETS SHUFFLE_PAGE_ALLOCATOR SPARSEMEM_EXTREME SPARSEMEM_VMEMMAP MEMORY_HOTPLUG "
    "MEMORY_HOTREMOVE BALLOON_COMPACTION COMPACTION PAGE_REPORTING MIGRATION KSM MEMORY_FAILURE TRANSPARENT_HUGEPAGE "
    "TRANSPARENT_HUGEPAGE_ALWAYS THP_SWAP MEM_SOFT_DIRTY DEFERRED_STRUCT_PAGE_INIT ZONE_DMA ZONE_DMA32 ZONE_DEVICE "
    "VM_EVENT_COUNTERS SECRETMEM USERFAULTFD LRU_GEN LRU_GEN_ENABLED PER_VMA_LOCK UNACCEPTED_MEMORY "
    "DAMON DAMON_VADDR DAMON_PADDR DAMON_SYSFS DAMON_RECLAIM DAMON_LRU_SORT "
    "PROC_PAGE_MONITOR PROC_CHILDREN HUGETLB_PAGE HUGETLB_PAGE_OPTIMIZE_VMEMMAP HUGETLBFS PAGE_EXTENSION SWIOTLB "
    "INIT_ON_ALLOC_DEFAULT_ON KFENCE RANDOMIZE_BASE RANDOMIZE_MEMORY X86_5LEVEL X86_USER_SHADOW_STACK "
    "IA32_EMULATION MODIFY_LDT_SYSCALL SECCOMP TASKSTATS TASK_IO_ACCOUNTING SCHED_INFO SCHED_DEBUG FAIR_GROUP_SCHED "
    "HAVE_ARCH_TRANSPARENT_HUGEPAGE_PUD X86_DIRECT_GBPAGES DMA_COHERENT_POOL VMAP_STACK LIVEPATCH "
    "TMPFS_INODE64 X86_INTEL_MEMORY_PROTECTION_KEYS "
    "IOMMU_SUPPORT KVM MPTCP "
    "CHECKPOINT_RESTORE NO_HZ_FULL CPU_ISOLATION VIRT_CPU_ACCOUNTING_GEN PREEMPT_DYNAMIC STACKTRACE KALLSYMS IO_URING "
    "STRICT_DEVMEM CGROUP_PIDS CGROUP_FREEZER CGROUP_DEVICE CGROUP_CPUACCT CGROUP_PERF CGROUP_BPF CGROUP_MISC "
    "CGROUP_RDMA BLK_CGROUP CGROUP_NET_PRIO CGROUP_NET_CLASSID FUSE_FS UDMABUF DMABUF_HEAPS "
    "MEMORY_HOTPLUG_DEFAULT_ONLINE X86"
)
_6_12_OPTIONS: dict[str, ConfigValue] = {
    **dict.fromkeys(_SET.split(), True),
    "NODES_SHIFT": 10,
    "NR_CPUS": 8192,
    "HZ": 250,
    "LOG_BUF_SHIFT": 17,
    "PHYSICAL_START": 0x1000000,
    "PHYSICAL_ALIGN": 0x200000,
    "DEFAULT_MMAP_MIN_ADDR": 65536,
    "ARCH_MMAP_RND_BITS": 28,
    "KFENCE_SAMPLE_INTERVAL": 0,
    "CMDLINE": "",
}

_TRIXIE_IMAGE = KernelImage(
    text_end=0x1000000,
    rodata_end=0x1B8E000,
    data_start=0x1C00000,
    data_end=0x1E70D40,
    init_start=0x231C000,
    init_end=0x2731000,
    smp_locks_end=0x273B000,
    bss_start=0x273C000,
    decrypted_unused=2028 * 1024,
    end=0x2C00000,
    brk=0x11000,
    rwdata_kb=2499,
    percpu_static=233472,
)
_6_12 = Profile(
    name="6.12",
    version=(6, 12, 117),
    release="6.12.117+deb13-amd64",
    build="#1 SMP PREEMPT_DYNAMIC Debian 6.12.117-1 (2026-11-12)",
    compiler="x86_64-linux-gnu-gcc-14 (Debian 14.2.0-19) 14.2.0, GNU ld (GNU Binutils for Debian) 2.44",
    builder="debian-kernel@lists.debian.org",
    options=MappingProxyType(_6_12_OPTIONS),
    image=_TRIXIE_IMAGE,
    initrd_size=1832 * 1024,
    pglist_data_size=0x2A980,
)
# The same source as Debian 12 backports it, with another compiler: the kernel behind tests/golden/boot.
_6_12_DEB12 = replace(
    _6_12,
    name="6.12-deb12",
    release="6.12.117+deb12-amd64",
    build="#1 SMP PREEMPT_DYNAMIC Debian 6.12.117-1~deb12u1 (2026-11-14)",
    compiler="x86_64-linux-gnu-gcc-12 (Debian 12.2.0-14+deb12u1) 12.2.0, GNU ld (GNU Binutils for Debian) 2.40",
    image=replace(
        _TRIXIE_IMAGE,
        rodata_end=0x1B71000,
        data_end=0x1E70F80,
        init_start=0x2301000,
        init_end=0x272B000,
        smp_locks_end=0x2735000,
        bss_start=0x2736000,
    ),
    initrd_size=0x1C5E45,
)

# 6.12 built with contiguous memory areas, which Debian's amd64 leaves out and other distributions have.
_6_12_CMA = replace(
    _6_12,
    name="6.12-cma",
    options=MappingProxyType(
        _6_12_OPTIONS | dict.fromkeys(("CMA", "CMA_DEBUGFS", "CMA_SYSFS", "DMA_CMA", "DMA_NUMA_CMA"), True)
    ),
)

# Debian 12's own kernel. What is not set here it has, but not in the image: fuse is a module there.
_NOT_IN_6_1 = (
    "SLAB_BUCKETS UNACCEPTED_MEMORY LRU_GEN_ENABLED PER_VMA_LOCK X86_USER_SHADOW_STACK FUSE_FS UDMABUF DMABUF_HEAPS "
    "KFENCE MEMORY_HOTPLUG_DEFAULT_ONLINE DAMON DAMON_VADDR DAMON_PADDR DAMON_SYSFS DAMON_RECLAIM DAMON_LRU_SORT"
)
_6_1 = Profile(
    name="6.1",
    version=(6, 1, 192),
    release="6.1.0-56-amd64",
    build="#1 SMP PREEMPT_DYNAMIC Debian 6.1.192-2 (2026-11-16)",
    compiler="gcc-12 (Debian 12.2.0-14+deb12u1) 12.2.0, GNU ld (GNU Binutils for Debian) 2.40",
    builder="debian-kernel@lists.debian.org",
    options=MappingProxyType({key: value for key, value in _6_12_OPTIONS.items() if key not in _NOT_IN_6_1.split()}),
    image=KernelImage(
        text_end=0xE01D32,
        rodata_end=0x18EB000,
        data_start=0x1A00000,
        data_end=0x1C48980,
        init_start=0x2044000,
        init_end=0x2306000,
        smp_locks_end=0x230F000,
        bss_start=0x2310000,
        decrypted_unused=2036 * 1024,
        end=0x3400000,
        brk=0x11000,
        rwdata_kb=2338,
        percpu_static=217088,
        freed_smp_locks_kb=36,
    ),
    initrd_size=0x1C3148,
    pglist_data_size=0x2B000,
)

# Debian's 7.0, as it says of itself; what its image takes is taken to be what 6.12's takes.
_NOT_IN_7_0 = "ZPOOL ZBUD BALLOON_COMPACTION SLUB_CPU_PARTIAL"
_7_0 = replace(
    _6_12,
    name="7.0",
    version=(7, 0, 13),
    release="7.0.13+deb14-amd64",
    build="#1 SMP PREEMPT_DYNAMIC Debian 7.0.13-1 (2026-06-19)",
    compiler="x86_64-linux-gnu-gcc-15 (Debian 15.2.0-13) 15.2.0, GNU ld (GNU Binutils for Debian) 2.46",
    options=MappingProxyType(
        {key: value for key, value in _6_12_OPTIONS.items() if key not in _NOT_IN_7_0.split()}
        | {"BALLOON_MIGRATION": True, "CGROUP_DMEM": True}
    ),
)
# Linux 7.0 as it was released, built with Debian's options of memory management and few drivers: the kernel behind
# tests/golden/captures/*-7.0.
_7_0_0 = replace(
    _7_0,
    name="7.0.0",
    version=(7, 0, 0),
    release="7.0.0",
    build="#1 SMP PREEMPT_DYNAMIC Sat Nov 28 07:55:11 UTC 2026",
    compiler="gcc (Debian 12.2.0-14+deb12u1) 12.2.0, GNU ld (GNU Binutils for Debian) 2.40",
    builder="root@vm",
    image=KernelImage(
        text_end=0xD90D70,
        rodata_end=0x131C000,
        data_start=0x1400000,
        data_end=0x1634740,
        init_start=0x1A32000,
        init_end=0x1DC8000,
        smp_locks_end=0x1DD2000,
        bss_start=0x1DD3000,
        decrypted_unused=2036 * 1024,
        end=0x2200000,
        brk=0x11000,
        rwdata_kb=2257,
        percpu_static=212992,
    ),
    initrd_size=1798008,
    pglist_data_size=0x2AB00,
    options=MappingProxyType(
        {key: value for key, value in _7_0.options.items() if key not in ("IOMMU_SUPPORT", "KVM", "MPTCP")}
    ),
)

# Debian's 686-pae, 32 bits with high memory, which Debian 12 is the last to have: a 6.12 is that with a 6.12's files.
_NOT_IN_686_PAE = (
    "64BIT NUMA NUMA_BALANCING NUMA_BALANCING_DEFAULT_ENABLED SHUFFLE_PAGE_ALLOCATOR SPARSEMEM_EXTREME "
    "SPARSEMEM_VMEMMAP MEMORY_HOTPLUG MEMORY_HOTREMOVE MEMORY_HOTPLUG_DEFAULT_ONLINE THP_SWAP MEM_SOFT_DIRTY "
    "DEFERRED_STRUCT_PAGE_INIT ZONE_DMA32 ZONE_DEVICE HUGETLB_PAGE_OPTIMIZE_VMEMMAP RANDOMIZE_MEMORY X86_5LEVEL "
    "IA32_EMULATION NO_HZ_FULL VIRT_CPU_ACCOUNTING_GEN NODES_SHIFT PER_VMA_LOCK VMAP_STACK UNACCEPTED_MEMORY "
    "HAVE_ARCH_TRANSPARENT_HUGEPAGE_PUD X86_DIRECT_GBPAGES DMA_COHERENT_POOL LIVEPATCH "
    "TMPFS_INODE64 X86_INTEL_MEMORY_PROTECTION_KEYS X86_USER_SHADOW_STACK"
)
_686_PAE_IMAGE = KernelImage(
    text_end=0x933F00,
    rodata_end=0xC51000,
    data_start=0xC52000,
    data_end=0xD8E680,
    init_start=0xD97000,
    init_end=0xE7F000,
    smp_locks_end=0xE87000,
    bss_start=0xE94000,
    decrypted_unused=0,
    end=0xF0B000,
    brk=0x11000,
    rwdata_kb=1265,
    percpu_static=104276,
    freed_smp_locks_kb=32,
    section_align=4096,
)


def _686_pae(base: Profile, name: str, release: str, build: str) -> Profile:
    """A kernel as it is on i386-pae."""
    options = {key: value for key, value in base.options.items() if key not in _NOT_IN_686_PAE.split()}
    options |= {"HIGHMEM": True, "HIGHPTE": True, "X86_PAE": True}
    options |= {"NR_CPUS": 32, "PHYSICAL_ALIGN": 0x1000000, "ARCH_MMAP_RND_BITS": 8}
    return replace(
        base, name=name, release=release, build=build, options=MappingProxyType(options), image=_686_PAE_IMAGE,
        initrd_size=0x19706A, pglist_data_size=0, struct_page_size=40, percpu_reserved=0, percpu_dynamic=30892,
        arch=I386_PAE,
    )  # fmt: skip


# arm64 with pages of 64 KB: 6.12 built with what Debian has of memory management and few drivers, the kernel behind
# tests/golden/captures/2G-arm64-64k.
_NOT_IN_ARM64 = (
    "X86 THP_SWAP MEM_SOFT_DIRTY UNACCEPTED_MEMORY HUGETLB_PAGE_OPTIMIZE_VMEMMAP RANDOMIZE_MEMORY X86_5LEVEL "
    "X86_USER_SHADOW_STACK IA32_EMULATION MODIFY_LDT_SYSCALL HAVE_ARCH_TRANSPARENT_HUGEPAGE_PUD X86_DIRECT_GBPAGES "
    "LIVEPATCH X86_INTEL_MEMORY_PROTECTION_KEYS KVM MPTCP CGROUP_BPF FUSE_FS DMABUF_HEAPS PHYSICAL_START "
    "PHYSICAL_ALIGN"
)
_ARM64_64K = replace(
    _6_12,
    name="6.12-arm64-64k",
    release="6.12.117",
    build="#1 SMP PREEMPT_DYNAMIC Thu Nov 26 2026",
    compiler="aarch64-linux-gnu-gcc (Debian 12.2.0-14) 12.2.0, GNU ld (GNU Binutils for Debian) 2.40",
    builder="root@vm",
    options=MappingProxyType(
        {key: value for key, value in _6_12_OPTIONS.items() if key not in _NOT_IN_ARM64.split()}
        | {"ARM64": True, "NODES_SHIFT": 4, "NR_CPUS": 512}
    ),
    image=KernelImage(
        text_end=0x8E0000,
        rodata_end=0xBC0000,
        data_start=0x1050000,
        data_end=0x11D8008,
        init_start=0xC30000,
        init_end=0x1050000,
        smp_locks_end=0x1050000,
        bss_start=0x11D8008,
        decrypted_unused=0,
        end=0x1340000,
        brk=0,
        rwdata_kb=1568,
        percpu_static=571032,
        section_align=64 << 10,
        text_start=0x10000,
        bss_stop=0x12D4CD8,
    ),
    initrd_size=1040000,
    pglist_data_size=0x3880,
    percpu_reserved=0,
    percpu_dynamic=84328,
    arch=ARM64_64K,
)
_BUILT_686 = "#1 SMP PREEMPT_DYNAMIC Debian 6.1.176-1 (2026-07-02)"
PROFILES: Mapping[str, Profile] = MappingProxyType(
    {"6.12": _6_12, "6.1": _6_1, "7.0": _7_0, "6.12-deb12": _6_12_DEB12, "6.12-cma": _6_12_CMA, "7.0.0": _7_0_0}
)
PROFILES_686_PAE: Mapping[str, Profile] = MappingProxyType(
    {
        "6.1": _686_pae(replace(_6_1, version=(6, 1, 176)), "6.1-686-pae", "6.1.0-50-686-pae", _BUILT_686),
        "6.12": _686_pae(_6_12_DEB12, "6.12-686-pae", "6.12.117+deb12-686-pae", _6_12_DEB12.build),
    }
)
PROFILES_ARM64_64K: Mapping[str, Profile] = MappingProxyType({"6.12": _ARM64_64K})
OF_ARCH: Mapping[str, Mapping[str, Profile]] = MappingProxyType(
    {X86_64.name: PROFILES, I386_PAE.name: PROFILES_686_PAE, ARM64_64K.name: PROFILES_ARM64_64K}
)
"""The kernels of each architecture, the one that a machine gets if none is asked for first."""


def load_profile(name: str | None = None, arch: str = X86_64.name) -> Profile:
    """The profile of a kernel by name, or the architecture's first."""
    profiles = OF_ARCH[arch]
    name = next(iter(profiles)) if name is None else name
    if name not in profiles:
        raise ValueError(f"profile: unknown kernel {name!r} (known: {', '.join(profiles)})")
    return profiles[name]
