"""Processors a machine can have: what they would say of themselves, as far as /proc and /sys show it."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class CacheLevel:
    """One cache of a processor, as /sys/devices/system/cpu/cpuN/cache/indexM describes it."""

    level: int
    type: str  # Data, Instruction or Unified
    size_kb: int
    ways: int
    line_size: int = 64
    shared: str = "core"  # core or package: which threads share it

    @property
    def number_of_sets(self) -> int:
        """How many sets of ``ways`` lines it has."""
        return self.size_kb * 1024 // (self.ways * self.line_size)


@dataclass(frozen=True)
class CpuModel:
    """A kind of processor; the fields are those of /proc/cpuinfo."""

    name: str  # how a user selects it
    vendor_id: str
    family: int
    model: int
    model_name: str
    stepping: int
    microcode: int | None
    khz: int  # on arm64 of the timer that it calibrates by
    cache_size_kb: int
    cpuid_level: int
    flags: tuple[str, ...]
    bugs: tuple[str, ...]
    tlb_size: str | None
    phys_bits: int
    caches: tuple[CacheLevel, ...]
    midr: int = 0
    """What a processor of arm64 says it is. Linux: MIDR_EL1."""

    @property
    def la57(self) -> bool:
        """Five-level paging."""
        return "la57" in self.flags

    @property
    def gbpages(self) -> bool:
        """1 GB pages in the page tables."""
        return "pdpe1gb" in self.flags

    @property
    def hypervisor(self) -> bool:
        """Runs under a hypervisor that says so."""
        return "hypervisor" in self.flags

    @property
    def virt_bits(self) -> int:
        """Width of a virtual address."""
        return 57 if self.la57 else 48

    def with_flags(self, **wanted: bool) -> CpuModel:
        """The same processor with or without some flags, such as la57=False."""
        flags = [flag for flag in self.flags if wanted.get(flag, True)]
        flags += [flag for flag, want in wanted.items() if want and flag not in flags]
        return replace(self, flags=tuple(flags))


_MAX_FLAGS = (
    "fpu de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush acpi mmx fxsr sse sse2 ss ht syscall "
    "nx mmxext pdpe1gb rdtscp lm 3dnowext 3dnow rep_good nopl xtopology cpuid extd_apicid pni pclmulqdq monitor ssse3 "
    "fma cx16 sse4_1 sse4_2 movbe popcnt aes xsave avx f16c rdrand hypervisor lahf_lm cmp_legacy svm cr8_legacy abm "
    "sse4a 3dnowprefetch vmmcall fsgsbase bmi1 avx2 smep bmi2 erms mpx adx smap clflushopt clwb xsaveopt xgetbv1 arat "
    "npt vgif umip pku ospke vaes la57"
)
_EPYC_GENOA_FLAGS = (
    "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse sse2 ht syscall nx "
    "mmxext fxsr_opt pdpe1gb rdtscp lm rep_good nopl cpuid extd_apicid tsc_known_freq pni pclmulqdq ssse3 fma cx16 "
    "pcid sse4_1 sse4_2 x2apic movbe popcnt aes xsave avx f16c rdrand hypervisor lahf_lm cmp_legacy cr8_legacy abm "
    "sse4a misalignsse 3dnowprefetch osvw topoext perfctr_core ssbd ibrs ibpb stibp vmmcall fsgsbase bmi1 avx2 smep "
    "bmi2 erms invpcid avx512f avx512dq rdseed adx smap avx512ifma clflushopt clwb avx512cd sha_ni avx512bw avx512vl "
    "xsaveopt xsavec xgetbv1 xsaves avx512_bf16 clzero xsaveerptr wbnoinvd arat avx512vbmi umip pku ospke "
    "avx512_vbmi2 gfni vaes vpclmulqdq avx512_vnni avx512_bitalg avx512_vpopcntdq la57 rdpid fsrm"
)


def _caches(
    l1_kb: int, l1_ways: int, l2_kb: int, l2_ways: int, l3_kb: int, l3_ways: int, l3: str
) -> tuple[CacheLevel, ...]:
    return (
        CacheLevel(1, "Data", l1_kb, l1_ways),
        CacheLevel(1, "Instruction", l1_kb, l1_ways),
        CacheLevel(2, "Unified", l2_kb, l2_ways),
        CacheLevel(3, "Unified", l3_kb, l3_ways, shared=l3),
    )


CPU_MODELS = {
    # QEMU's "-cpu max" under emulation: the processor of the captures.
    "max": CpuModel(
        name="max",
        vendor_id="AuthenticAMD",
        family=15,
        model=107,
        model_name="QEMU TCG CPU version 2.5+",
        stepping=1,
        microcode=0x1000065,
        khz=2445443,
        cache_size_kb=512,
        cpuid_level=13,
        flags=tuple(_MAX_FLAGS.split()),
        bugs=(
            "fxsave_leak", "sysret_ss_attrs", "null_seg", "swapgs_fence", "amd_e400", "spectre_v1", "spectre_v2",
            "spectre_v2_user",
        ),
        tlb_size="1024 4K pages",
        phys_bits=40,
        caches=_caches(64, 2, 512, 16, 16384, 16, "core"),
    ),
    # A server of 2023 as a KVM guest sees it.
    "epyc-genoa": CpuModel(
        name="epyc-genoa",
        vendor_id="AuthenticAMD",
        family=25,
        model=17,
        model_name="AMD EPYC-Genoa Processor",
        stepping=0,
        microcode=0x1000065,
        khz=2400000,
        cache_size_kb=1024,
        cpuid_level=13,
        flags=tuple(_EPYC_GENOA_FLAGS.split()),
        bugs=("sysret_ss_attrs", "null_seg", "spectre_v1", "spectre_v2", "spec_store_bypass", "srso"),
        tlb_size="1024 4K pages",
        phys_bits=52,
        caches=_caches(32, 8, 1024, 8, 32768, 16, "package"),
    ),
}
_ARM64_FEATURES = (
    "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm jscvt fcma lrcpc dcpop sha3 sm3 "
    "sm4 asimddp sha512 sve asimdfhm dit ilrcpc flagm ssbs sb paca pacg dcpodp sve2 sveaes svepmull svebitperm svesha3 "
    "svesm4 flagm2 frint svei8mm svef32mm svef64mm svebf16 i8mm bf16 dgh rng bti"
)
CPU_MODELS_ARM64 = {
    # QEMU's "-cpu max" of the board "virt" under emulation.
    "max": CpuModel(
        name="max",
        vendor_id="",
        family=8,
        model=0x51,
        model_name="",
        stepping=0,
        microcode=None,
        khz=62_500,
        cache_size_kb=0,
        cpuid_level=0,
        flags=tuple(_ARM64_FEATURES.split()),
        bugs=(),
        tlb_size=None,
        phys_bits=52,
        caches=(
            CacheLevel(1, "Data", 64, 4),
            CacheLevel(1, "Instruction", 64, 4),
            CacheLevel(2, "Unified", 1024, 8, shared="package"),
        ),
        midr=0x000F0510,
    ),
}
