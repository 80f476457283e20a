"""DAMON on a real 6.12 and on mmfs: what its files take, refuse and hold, and what becomes of cold memory."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest

from tests.cgroup_v2.machine import MB, Linux, Machine, Simulated, errno_of
from tests.differential.agent import Agent

pytestmark = pytest.mark.timeout(900)

ADMIN = "/sys/kernel/mm/damon/admin/kdamonds/"
CONTEXT = ADMIN + "0/contexts/0/"
SCHEME = CONTEXT + "schemes/0/"
STATE = ADMIN + "0/state"
COUNTS = {
    ADMIN: "nr_kdamonds", ADMIN + "0/contexts/": "nr_contexts", CONTEXT + "targets/": "nr_targets",
    CONTEXT + "schemes/": "nr_schemes",
}  # fmt: skip
FILES = {"contexts", "pid", "state"}
# Writes in their order, and what each is answered with.
WRITES = (
    (STATE, "foo", "EINVAL"), (STATE, "off", "EINVAL"), (STATE, "update_schemes_stats", "EINVAL"),
    (CONTEXT + "operations", "xaddr", "EINVAL"), (CONTEXT + "targets/0/pid_target", "x", "EINVAL"),
    (CONTEXT + "targets/0/pid_target", "99999999999", "EINVAL"), (CONTEXT + "targets/0/pid_target", "99999", ""),
    (STATE, "on", "EINVAL"), (CONTEXT + "targets/0/pid_target", "1", ""), (SCHEME + "quotas/ms", "0x10", ""),
    (SCHEME + "quotas/ms", "-1", "EINVAL"), (SCHEME + "quotas/ms", "99999999999999999999", "EINVAL"),
    (SCHEME + "apply_interval_us", "99999999999999999999", "ERANGE"), (SCHEME + "target_nid", "-2", ""),
    (SCHEME + "quotas/weights/sz_permil", "4294967296", "ERANGE"), (SCHEME + "filters/nr_filters", "1", ""),
    (SCHEME + "filters/0/type", "memcg", ""), (SCHEME + "filters/0/memcg_path", "/nowhere", ""),
    (STATE, "on", "ENOMEM"), (SCHEME + "filters/0/matching", "2", "EINVAL"), (SCHEME + "filters/nr_filters", "0", ""),
    (CONTEXT + "targets/0/regions/nr_regions", "1", ""), (STATE, "on", "EINVAL"),
    (CONTEXT + "targets/0/regions/nr_regions", "0", ""), (STATE, "on", ""), (STATE, "on", "EBUSY"),
    (ADMIN + "nr_kdamonds", "0", "EBUSY"), ("/sys/module/damon_reclaim/parameters/enabled", "Y", "EBUSY"),
    (CONTEXT + "monitoring_attrs/intervals/sample_us", "5000000", ""), (STATE, "commit", ""), (STATE, "off", "EPERM"),
    (STATE, "on", "EINVAL"), (CONTEXT + "monitoring_attrs/intervals/sample_us", "5000", ""), (STATE, "on", ""),
    (STATE, "update_schemes_tried_regions", ""), (STATE, "clear_schemes_tried_regions", ""), (STATE, "off", ""),
    (STATE, "off", "EPERM"), ("/sys/module/damon_lru_sort/parameters/enabled", "maybe", "EINVAL"),
    ("/sys/module/damon_lru_sort/parameters/enabled", "Y", ""), (STATE, "on", "EBUSY"),
    ("/sys/module/damon_lru_sort/parameters/enabled", "N", ""), (ADMIN + "nr_kdamonds", "0", ""),
)  # fmt: skip


@pytest.fixture(scope="module")
def agent() -> Iterator[Agent]:
    agent = Agent()
    yield agent
    agent.close()


@pytest.fixture(params=["simulated", pytest.param("linux", marks=pytest.mark.differential)])
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    made = Simulated() if request.param == "simulated" else Linux(request.getfixturevalue("agent"))
    yield made
    if made.read(ADMIN + "nr_kdamonds") != "0\n":
        if made.read(STATE) == "on\n":
            made.write(STATE, "off")
        made.write(ADMIN + "nr_kdamonds", 0)
    made.close()


def set_up(machine: Machine) -> None:
    for path, name in COUNTS.items():
        machine.write(path + name, 1)


def tried(machine: Machine) -> list[tuple[int, int, int]]:
    """Start, end and nr_accesses of the regions of the scheme, in their order."""
    machine.write(STATE, "update_schemes_tried_regions")
    names = sorted((name for name in machine.listdir(SCHEME + "tried_regions") if name.isdigit()), key=int)
    return [
        (machine.number(f"{SCHEME}tried_regions/{name}/start"), machine.number(f"{SCHEME}tried_regions/{name}/end"),
         machine.number(f"{SCHEME}tried_regions/{name}/nr_accesses"))
        for name in names
    ]  # fmt: skip


def test_writes_are_taken_and_refused(machine: Machine) -> None:
    set_up(machine)
    assert machine.listdir(ADMIN + "0") == FILES
    found = [(path, text, errno_of(machine.write, path, text)) for path, text, _ in WRITES]
    assert found == list(WRITES)


def test_cold_memory_is_found_and_paged_out(machine: Machine) -> None:
    """An address space of which nothing is used: three ranges, regions no larger than a tenth, all of them cold."""
    process = machine.spawn()
    process.grow(64 * MB)
    set_up(machine)
    machine.write(CONTEXT + "targets/0/pid_target", process.pid)
    for name in ("sz", "nr_accesses", "age"):
        machine.write(f"{SCHEME}access_pattern/{name}/max", (1 << 64) - 1)
    machine.write(STATE, "on")
    machine.sleep(6)
    regions = tried(machine)
    total = sum(end - start for start, end, _ in regions)
    assert machine.number(SCHEME + "tried_regions/total_bytes") == total
    assert total >= 64 * MB
    assert sum(before[1] != after[0] for before, after in pairwise(regions)) == 2
    assert max(end - start for start, end, _ in regions) <= total // 10
    assert 10 <= len(regions) <= 40
    cold = sum(end - start for start, end, accesses in regions if accesses == 0)
    assert cold > 0.95 * total

    before = machine.rows("/proc/vmstat")["pswpout"]
    machine.write(SCHEME + "action", "pageout")
    machine.write(SCHEME + "access_pattern/nr_accesses/max", 0)
    machine.write(STATE, "commit")
    machine.sleep(4)
    assert (machine.rows("/proc/vmstat")["pswpout"] - before) * 4096 > 50 * MB
    machine.write(STATE, "update_schemes_stats")
    assert machine.number(SCHEME + "stats/nr_tried") > machine.number(SCHEME + "stats/nr_applied") > 0
    process.kill()
    assert machine.eventually(lambda: machine.read(STATE) == "off\n")
