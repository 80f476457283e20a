"""/sys/kernel/mm/damon/admin/kdamonds/N/contexts/0/schemes: what is done with memory by how it is accessed.

Linux: mm/damon/sysfs-schemes.c.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from operator import attrgetter

from mmfs.fs.sys.damon import RW, SINCE_6_12, boolean, context, einval, number, numbered, result, ul_range, word
from mmfs.fs.sys.root import DIRECTORY
from mmfs.kernfs import Directory, fail
from mmfs.kernfs.kstrtox import kstrtoint, kstrtouint, kstrtoul, sysfs_match_string
from mmfs.mm.damon.quota import DamosQuotaGoalMetric
from mmfs.mm.damon.schemes import DamosAction, DamosFilterType, DamosWmarkMetric
from mmfs.mm.damon.sysfs_schemes import (
    DamonSysfsFilters,
    DamonSysfsScheme,
    DamonSysfsSchemeFilter,
    DamonSysfsSchemeRegion,
    DamonSysfsSchemeRegions,
    DamosSysfsQuotaGoal,
)
from mmfs.profile import Needs

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
    goals, "nr_goals", lambda quotas: quotas.goals, lambda quotas: DamosSysfsQuotaGoal(quotas.sysfs)
)
word(goal, "target_metric", "metric", DamosQuotaGoalMetric, DamosQuotaGoalMetric.NODE_MEM_USED_BP)
number(goal, "target_value")
number(goal, "current_value")
number(goal, "nid", parse=kstrtoint, needs=SINCE_6_12)


@goal.attribute("path", mode=RW, needs=SINCE_6_12)
def path(one: DamosSysfsQuotaGoal) -> str:
    """The path of a cgroup, as it was written."""
    one.sysfs.trylock()
    return f"{one.path}\n"


@path.store
def path_store(one: DamosSysfsQuotaGoal, buf: str) -> None:
    """Linux: path_store()."""
    one.sysfs.trylock()
    one.path = buf


watermarks = scheme.directory("watermarks", obj=lambda scheme: scheme.watermarks, mode=DIRECTORY)
word(watermarks, "metric", "metric", DamosWmarkMetric)
for _name in ("interval_us", "high", "mid", "low"):
    number(watermarks, _name)


def _memcg_path(one: DamonSysfsSchemeFilter) -> str:
    """The path of a cgroup, as it was written."""
    one.sysfs.trylock()
    return f"{one.memcg_path}\n"


def _memcg_path_store(one: DamonSysfsSchemeFilter, buf: str) -> None:
    """Linux: memcg_path_store()."""
    one.sysfs.trylock()
    one.memcg_path = buf


def _type(one: DamonSysfsSchemeFilter) -> str:
    """What it looks at."""
    return f"{one.type.name.lower()}\n"


def _type_store(one: DamonSysfsSchemeFilter, buf: str) -> None:
    """Linux: type_store()."""
    newer = SINCE_6_12(one)
    words = [kind.name.lower() for kind in DamosFilterType if newer or kind < DamosFilterType.ACTIVE]
    wanted = DamosFilterType(sysfs_match_string(words, buf))
    if one.of_core is not None and wanted.of_core != one.of_core:
        fail(errno.EINVAL)
    one.type = wanted


def _filters(name: str, get: Callable[[DamonSysfsScheme], DamonSysfsFilters], needs: Needs | None = None) -> None:
    """A directory of filters."""
    directory = scheme.directory(name, obj=get, needs=needs, mode=DIRECTORY)
    inside: Directory[DamonSysfsSchemeFilter] = numbered(
        directory, "nr_filters", lambda group: group.filters,
        lambda group: DamonSysfsSchemeFilter(group.sysfs, group.of_core),
    )  # fmt: skip
    inside.attributes("type", _type, _type_store, mode=RW)
    boolean(inside, "matching", "matching")
    boolean(inside, "allow", "allow", SINCE_6_12)
    inside.attributes("memcg_path", _memcg_path, _memcg_path_store, mode=RW)
    number(inside, "addr_start")
    number(inside, "addr_end")
    number(inside, "min", "min_size", needs=SINCE_6_12)
    number(inside, "max", "max_size", needs=SINCE_6_12)
    number(inside, "damon_target_idx", "target_idx", kstrtoint)


_filters("filters", lambda scheme: scheme.filters)
_filters("core_filters", lambda scheme: scheme.core_filters, SINCE_6_12)
_filters("ops_filters", lambda scheme: scheme.ops_filters, SINCE_6_12)

stats = scheme.directory("stats", mode=DIRECTORY)
for _name in ("nr_tried", "sz_tried", "nr_applied", "sz_applied", "qt_exceeds"):
    result(stats, _name, attrgetter(f"stats.{_name}"))
for _name in ("sz_ops_filter_passed", "nr_snapshots"):
    result(stats, _name, attrgetter(f"stats.{_name}"), SINCE_6_12)
number(stats, "max_nr_snapshots", needs=SINCE_6_12)

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
result(tried_region, "sz_filter_passed", attrgetter("sz_filter_passed"), SINCE_6_12)
