"""/sys/kernel/mm/damon/admin/kdamonds/N/contexts/0/schemes: what is done with memory by how it is accessed.

Linux: mm/damon/sysfs-schemes.c.
"""

from __future__ import annotations

from operator import attrgetter

from mmfs.fs.sys.damon import RW, context, einval, number, numbered, result, ul_range, word
from mmfs.fs.sys.root import DIRECTORY
from mmfs.kernfs import Directory, kstrtobool
from mmfs.kernfs.kstrtox import kstrtoint, kstrtouint, kstrtoul
from mmfs.mm.damon.schemes import DamosAction, DamosFilterType, DamosQuotaGoalMetric, DamosWmarkMetric
from mmfs.mm.damon.sysfs_schemes import (
    DamonSysfsScheme,
    DamonSysfsSchemeFilter,
    DamonSysfsSchemeRegion,
    DamonSysfsSchemeRegions,
    DamosSysfsQuotaGoal,
)

schemes = context.directory("schemes", mode=DIRECTORY)
scheme: Directory[DamonSysfsScheme] = numbered(
    schemes, "nr_schemes", lambda context: context.schemes, lambda context: DamonSysfsScheme(context.sysfs)
)
word(scheme, "action", "action", DamosAction)
number(scheme, "apply_interval_us")
number(scheme, "target_nid", parse=kstrtoint)

access_pattern = scheme.directory("access_pattern", mode=DIRECTORY)
ul_range(access_pattern, "sz", lambda scheme: scheme.sz)
ul_range(access_pattern, "nr_accesses", lambda scheme: scheme.nr_accesses)
ul_range(access_pattern, "age", lambda scheme: scheme.age)

quotas = scheme.directory("quotas", obj=lambda scheme: scheme.quotas, mode=DIRECTORY)
number(quotas, "ms", parse=einval(kstrtoul))
number(quotas, "bytes", "sz", einval(kstrtoul))
number(quotas, "reset_interval_ms", parse=einval(kstrtoul))
result(quotas, "effective_bytes", lambda quotas: quotas.effective_sz)
weights = quotas.directory("weights", mode=DIRECTORY)
for _name in ("sz", "nr_accesses", "age"):
    number(weights, f"{_name}_permil", f"weight_{_name}", kstrtouint)
goals = quotas.directory("goals", mode=DIRECTORY)
goal: Directory[DamosSysfsQuotaGoal] = numbered(
    goals, "nr_goals", lambda quotas: quotas.goals, lambda quotas: DamosSysfsQuotaGoal()
)
word(goal, "target_metric", "metric", DamosQuotaGoalMetric)
number(goal, "target_value")
number(goal, "current_value")

watermarks = scheme.directory("watermarks", obj=lambda scheme: scheme.watermarks, mode=DIRECTORY)
word(watermarks, "metric", "metric", DamosWmarkMetric)
for _name in ("interval_us", "high", "mid", "low"):
    number(watermarks, _name)

filters = scheme.directory("filters", mode=DIRECTORY)
filter_dir: Directory[DamonSysfsSchemeFilter] = numbered(
    filters, "nr_filters", lambda scheme: scheme.filters, lambda scheme: DamonSysfsSchemeFilter(scheme.sysfs)
)
word(filter_dir, "type", "type", DamosFilterType)
number(filter_dir, "addr_start")
number(filter_dir, "addr_end")
number(filter_dir, "damon_target_idx", "target_idx", kstrtoint)


@filter_dir.attribute("matching", mode=RW)
def matching(one: DamonSysfsSchemeFilter) -> str:
    """Whether it is what matches that is left alone, or all else."""
    return "Y\n" if one.matching else "N\n"


@matching.store
def matching_store(one: DamonSysfsSchemeFilter, buf: str) -> None:
    """Linux: matching_store()."""
    one.matching = kstrtobool(buf)


@filter_dir.attribute("memcg_path", mode=RW)
def memcg_path(one: DamonSysfsSchemeFilter) -> str:
    """The path of a cgroup, as it was written."""
    one.sysfs.trylock()
    return f"{one.memcg_path}\n"


@memcg_path.store
def memcg_path_store(one: DamonSysfsSchemeFilter, buf: str) -> None:
    """Linux: memcg_path_store()."""
    one.sysfs.trylock()
    one.memcg_path = buf


stats = scheme.directory("stats", mode=DIRECTORY)
for _name in ("nr_tried", "sz_tried", "nr_applied", "sz_applied", "qt_exceeds"):
    result(stats, _name, attrgetter(f"stats.{_name}"))

tried_regions: Directory[DamonSysfsSchemeRegions] = scheme.directory(
    "tried_regions", obj=lambda scheme: scheme.tried_regions, mode=DIRECTORY
)
result(tried_regions, "total_bytes", lambda tried: tried.total_bytes)
tried_region: Directory[DamonSysfsSchemeRegion] = tried_regions.family(
    list=lambda tried: (str(one.number) for one in tried.regions),
    lookup=lambda tried, name: next((one for one in tried.regions if str(one.number) == name), None),
    mode=DIRECTORY,
)
for _name in ("start", "end", "nr_accesses", "age"):
    result(tried_region, _name, attrgetter(_name))
