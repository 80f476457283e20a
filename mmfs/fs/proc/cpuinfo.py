"""/proc/cpuinfo: each processor as CPUID describes it.

Linux: arch/x86/kernel/cpu/proc.c, show_cpuinfo().
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mmfs.fs.proc import cpuinfo_arm64
from mmfs.fs.proc.root import proc
from mmfs.kernel.clock import HZ
from mmfs.profile import Profile, config, since

if TYPE_CHECKING:
    from mmfs.kernel.kernel import Kernel
    from mmfs.machine import Machine


@proc.attribute("cpuinfo")
def cpuinfo(kernel: Kernel) -> str:
    """A paragraph a processor."""
    if ARM64(kernel):
        return cpuinfo_arm64.cpuinfo(kernel)
    return "".join(processor(kernel.machine, cpu.cpu, kernel.profile) for cpu in kernel.cpus)


AMD_NEEDS: Final = {"xtopology": since(6, 12)}
"""The flags of AMD's processors that not all kernels tell of."""
ARM64: Final = config("ARM64")
LONG_64: Final = config("64BIT")
NEEDS: Final = {
    "nopl": LONG_64, "ospke": config("X86_INTEL_MEMORY_PROTECTION_KEYS"), "la57": config("X86_5LEVEL"),
    "null_seg": LONG_64, "spectre_v2_user": since(7, 0),
}  # fmt: skip
"""Flags and bugs that not all kernels tell of."""
OLD_BUGS: Final = "fdiv_bug\t: no\nf00f_bug\t: no\ncoma_bug\t: no\n"
"""What kernels of 32 bits say of processors long gone."""


def processor(machine: Machine, cpu: int, profile: Profile) -> str:
    """One paragraph, the empty line behind it included."""
    model = machine.cpu
    flags = model.flags
    if model.vendor_id == "AuthenticAMD":
        flags = tuple(flag for flag in flags if flag not in AMD_NEEDS or AMD_NEEDS[flag](profile))
    flags, bugs = (
        tuple(word for word in words if word not in NEEDS or NEEDS[word](profile)) for words in (flags, model.bugs)
    )
    topology = machine.topology
    microcode = "" if model.microcode is None else f"microcode\t: 0x{model.microcode:x}\n"
    tlb = f"TLB size\t: {model.tlb_size}\n" if model.tlb_size and LONG_64(profile) else ""
    return (
        f"processor\t: {cpu}\nvendor_id\t: {model.vendor_id}\ncpu family\t: {model.family}\n"
        f"model\t\t: {model.model}\nmodel name\t: {model.model_name}\nstepping\t: {model.stepping}\n"
        f"{microcode}"
        f"cpu MHz\t\t: {model.khz // 1000}.{model.khz % 1000:03d}\ncache size\t: {model.cache_size_kb} KB\n"
        f"physical id\t: {machine.socket_of(cpu)}\nsiblings\t: {topology.cores * topology.threads}\n"
        f"core id\t\t: {machine.core_of(cpu)}\ncpu cores\t: {topology.cores}\n"
        f"apicid\t\t: {apicid(machine, cpu)}\ninitial apicid\t: {apicid(machine, cpu)}\n"
        f"{'' if LONG_64(profile) else OLD_BUGS}"
        f"fpu\t\t: yes\nfpu_exception\t: yes\ncpuid level\t: {model.cpuid_level}\nwp\t\t: yes\n"
        f"flags\t\t:{spaced(flags)}\nbugs\t\t:{spaced(bugs)}\n"
        f"bogomips\t: {bogomips(model.khz)}\n{tlb}"
        f"clflush size\t: 64\ncache_alignment\t: 64\n"
        f"address sizes\t: {machine.phys_bits} bits physical, {model.virt_bits} bits virtual\n"
        f"power management:\n\n"
    )


def apicid(machine: Machine, cpu: int) -> int:
    """Package, core and thread in fields of whole bits. Linux: arch/x86/kernel/cpu/topology.c."""
    topology = machine.topology
    thread_bits = (topology.threads - 1).bit_length()
    core_bits = (topology.cores - 1).bit_length()
    package = machine.socket_of(cpu) << core_bits + thread_bits
    return package | machine.core_of(cpu) << thread_bits | cpu % topology.threads


def spaced(words: tuple[str, ...]) -> str:
    """Each word with a blank before it."""
    return "".join([f" {word}" for word in words])


def bogomips(khz: int) -> str:
    """Twice the clock rate, from the delay loop's count a jiffy. Linux: init/calibrate.c, calibrate_delay()."""
    loops_per_jiffy = khz * 1000 // HZ
    return f"{loops_per_jiffy // (500_000 // HZ)}.{loops_per_jiffy // (5_000 // HZ) % 100:02d}"
