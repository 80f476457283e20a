"""Reclaim on a small machine: what goes, what stays, what is counted, and that it always ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mmfs.fastpath.scan_control import ScanControl
from mmfs.kernel.signal import TaskKilled
from mmfs.mm.kswapd import pgdat_balanced
from mmfs.mm.shrinker import Shrinker, Shrinkers
from mmfs.mm.vmstat import VmStat
from mmfs.mm_types import GFP_KERNEL, MAX_NR_ZONES, NodeStatItem, VmEventItem, ZoneStatItem

if TYPE_CHECKING:
    from collections.abc import Callable

    from mmfs.kernel.kernel import Kernel
    from mmfs.kernel.task import Task
    from mmfs.mm.filemap import AddressSpace

MB = 1 << 20


def event(kernel: Kernel, item: VmEventItem) -> int:
    return int(kernel.vmstat.event[item])


def state(kernel: Kernel, item: NodeStatItem) -> int:
    return kernel.vmstat.global_node_page_state(item)


def classic(kernel: Kernel) -> Kernel:
    kernel.write("/sys/kernel/mm/lru_gen/enabled", "n")
    return kernel


def new_file(task: Task, size: int) -> int:
    """A descriptor of a file of its own, which lies on the disk."""
    path = f"/root/file{len(task.files.fdt) if task.files else 0}"
    task.kernel.create_file(path, size)
    return task.open(path)


def mapping(task: Task, fd: int) -> AddressSpace:
    assert task.files is not None
    return task.files.fdt[fd].mapping


@pytest.fixture
def small(boot: Callable[..., Kernel]) -> Kernel:
    """A machine with little memory and the classic lists."""
    kernel = classic(boot(ram="128M", preset="bare"))
    kernel.write("/proc/sys/vm/overcommit_memory", "1")
    return kernel


class TestFilePages:
    def test_reading_more_than_fits(self, small: Kernel) -> None:
        """Old pages of the file make room; free memory stays at the watermarks."""
        task = small.spawn("cat")
        file = new_file(task, 256 * MB)
        for start in range(0, 256 * MB, 16 * MB):
            task.read(file, 16 * MB, start)
            small.check()
        low = sum(zone.min_wmark_pages() for zone in small.zones if zone.managed())
        assert small.vmstat.global_zone_page_state(ZoneStatItem.NR_FREE_PAGES) > low // 2
        stolen = event(small, VmEventItem.PGSTEAL_KSWAPD) + event(small, VmEventItem.PGSTEAL_DIRECT)
        assert stolen > 32 * MB >> 12
        assert stolen == event(small, VmEventItem.PGSTEAL_FILE)
        assert event(small, VmEventItem.PAGEOUTRUN) > 0

    def test_shadows(self, small: Kernel) -> None:
        """A page that comes back is a refault, and active if it was away shortly."""
        task = small.spawn("cat")
        file = new_file(task, 160 * MB)
        task.read(file, 160 * MB, 0)
        assert state(small, NodeStatItem.WORKINGSET_REFAULT_FILE) == 0
        evicted = (160 * MB >> 12) - mapping(task, file).nrpages
        assert evicted > 0
        sectors = event(small, VmEventItem.PGPGIN)
        task.read(file, 8 * MB, 0)
        came = event(small, VmEventItem.PGPGIN) - sectors >> 3
        assert state(small, NodeStatItem.WORKINGSET_REFAULT_FILE) == came >= 8 * MB >> 12
        assert state(small, NodeStatItem.WORKINGSET_ACTIVATE_FILE) <= came

    def test_truncate_forgets(self, small: Kernel) -> None:
        task = small.spawn("cat")
        file = new_file(task, 160 * MB)
        task.read(file, 160 * MB, 0)
        mapping(task, file).host.truncate(0)
        small.check()
        mapping(task, file).host.truncate(160 * MB)
        task.read(file, 8 * MB, 0)
        assert state(small, NodeStatItem.WORKINGSET_REFAULT_FILE) == 0

    def test_hot_pages_survive_a_scan(self, small: Kernel) -> None:
        """What was read twice is active, and a file read once pushes out itself."""
        task = small.spawn("cat")
        hot, big = new_file(task, 16 * MB), new_file(task, 256 * MB)
        task.read(hot, 16 * MB, 0)
        for page in range(0, 16 * MB, 4096):
            small.lru.mark_accessed(int(small.mmu.folios.lookup(mapping(task, hot).id, page >> 12)))
            small.lru.mark_accessed(int(small.mmu.folios.lookup(mapping(task, hot).id, page >> 12)))
        small.lru.lru_add_drain_all()
        task.read(big, 256 * MB, 0)
        assert mapping(task, hot).nrpages == 16 * MB >> 12


class TestOom:
    def test_without_swap(self, small: Kernel) -> None:
        """Anonymous memory cannot go anywhere: the one who wants too much is killed, nothing loops."""
        task = small.spawn("hog")
        addr = task.mmap(512 * MB)
        with pytest.raises(TaskKilled):
            task.touch(addr, 512 * MB, write=True)
        small.check()
        assert event(small, VmEventItem.OOM_KILL) == 1
        assert event(small, VmEventItem.ALLOCSTALL_MOVABLE) > 0

    def test_many_kills(self, small: Kernel) -> None:
        for number in range(20):
            task = small.spawn("hog")
            addr = task.mmap(256 * MB)
            with pytest.raises(TaskKilled):
                task.touch(addr, 256 * MB, write=True)
            assert event(small, VmEventItem.OOM_KILL) == number + 1
        small.check()


class TestKswapd:
    def test_sleeps_when_balanced(self, small: Kernel) -> None:
        task = small.spawn("cat")
        file = new_file(task, 200 * MB)
        task.read(file, 200 * MB, 0)
        small.run_for(1)
        runs = event(small, VmEventItem.PAGEOUTRUN)
        small.run_for(5)
        assert event(small, VmEventItem.PAGEOUTRUN) == runs
        assert all(pgdat_balanced(small, pgdat, 0, MAX_NR_ZONES - 1) for pgdat in small.node_data)

    def test_uses_time(self, small: Kernel) -> None:
        task = small.spawn("cat")
        before = next(t for t in small.tasks.values() if t.comm == "kswapd0").stime_ns
        task.read(new_file(task, 200 * MB), 200 * MB, 0)
        assert next(t for t in small.tasks.values() if t.comm == "kswapd0").stime_ns > before

    def test_min_free_kbytes_is_live(self, small: Kernel) -> None:
        task = small.spawn("cat")
        task.read(new_file(task, 200 * MB), 200 * MB, 0)
        small.write("/proc/sys/vm/min_free_kbytes", "20000")
        task.read(new_file(task, 16 * MB), 16 * MB, 0)
        small.run_for(2)
        assert small.vmstat.global_zone_page_state(ZoneStatItem.NR_FREE_PAGES) > 20000 >> 2


class TestScanCount:
    """get_scan_count(): the balance that swappiness and cost make."""

    def counts(self, kernel: Kernel, swappiness: int, anon_cost: int = 0, file_cost: int = 0) -> list[int]:
        sc = ScanControl(GFP_KERNEL, 0, 2)
        sc.may_swap = True
        sc.anon_cost, sc.file_cost = anon_cost, file_cost
        kernel.vm.swappiness = swappiness
        kernel.reclaim.scan_count.get_scan_count(0, sc, swappiness, 0, 0)
        return sc.to_scan()

    @pytest.fixture
    def swapping(self, boot: Callable[..., Kernel]) -> Kernel:
        kernel = classic(boot(ram="128M", preset="bare", swap="64M"))
        hog = kernel.spawn("hog")
        hog.touch(hog.mmap(16 * MB), 16 * MB, write=True)
        hog.read(new_file(hog, 16 * MB), 16 * MB, 0)
        return kernel

    def test_no_swap_no_anon(self, small: Kernel) -> None:
        assert self.counts(small, 100)[:2] == [0, 0]

    def test_swappiness(self, swapping: Kernel) -> None:
        assert self.counts(swapping, 0)[:2] == [0, 0]
        assert self.counts(swapping, 200)[2:] == [0, 0]
        low, high = self.counts(swapping, 20)[0], self.counts(swapping, 150)[0]
        assert 0 < low < high

    def test_cost(self, swapping: Kernel) -> None:
        """Who costs more is scanned less."""
        assert self.counts(swapping, 100, anon_cost=1000)[0] < self.counts(swapping, 100, file_cost=1000)[0]

    def test_state_of_the_node(self, swapping: Kernel) -> None:
        """prepare_scan_control(): files alone while they are many and cold, anonymous memory alone without them."""
        sc = ScanControl(GFP_KERNEL, 0, 2)
        sc.may_swap = True
        reclaim, lruvec = swapping.reclaim, swapping.lru.lruvecs[0]
        for file, active in (("refaults_file", NodeStatItem.WORKINGSET_ACTIVATE_FILE),
                             ("refaults_anon", NodeStatItem.WORKINGSET_ACTIVATE_ANON)):
            lruvec[file] = swapping.vmstat.node_stat[0, active]
        reclaim.scan_count.prepare_scan_control(0, sc)
        assert sc.cache_trim_mode and not sc.file_is_tiny
        lruvec["refaults_file"] -= 1  # some have come back meanwhile
        reclaim.scan_count.prepare_scan_control(0, sc)
        assert sc.may_deactivate & 2 and not sc.cache_trim_mode
        lruvec["refaults_file"] += 1
        sc.force_deactivate = True
        reclaim.scan_count.prepare_scan_control(0, sc)
        assert sc.may_deactivate == 3

    def test_watermarks_of_the_node(self, small: Kernel) -> None:
        count = small.reclaim.scan_count
        zones = [zone for zone in small.node_data[0].node_zones if zone.managed()]
        assert count.kswapd_target(0, MAX_NR_ZONES - 1) == sum(max(zone.high_wmark_pages(), 32) for zone in zones)
        assert count.pgdat_balanced(0, 0, MAX_NR_ZONES - 1)
        for zone in zones:
            zone.watermark_boost = zone.managed_pages
        assert not count.pgdat_balanced(0, 0, MAX_NR_ZONES - 1)
        for zone in zones:
            zone.watermark_boost = 0


class TestShrinker:
    def test_share_and_deferred(self) -> None:
        vmstat = VmStat(1)
        asked: list[int] = []

        def scan(nid: int, nr: int) -> int:
            asked.append(nr)
            return nr

        shrinkers = Shrinkers(vmstat)
        shrinkers.register(Shrinker("test", lambda nid: 10_000, scan))
        shrinkers.shrink_slab(0, 12)  # 10000 >> 12 = 2, times 4 / 2 seeks: 4 objects, less than a batch
        assert asked == []
        shrinkers.shrink_slab(0, 6)
        assert sum(asked) == 256 and int(vmstat.event[VmEventItem.SLABS_SCANNED]) == 256


@pytest.mark.parametrize("mode", [0, 1])
def test_zone_reclaim_mode(boot: Callable[..., Kernel], mode: int) -> None:
    """With it the page cache of the near node makes room, without it the far node is used."""
    kernel = classic(boot(nodes=[{"memory": "128M", "cpus": 1}, {"memory": "128M", "cpus": 1}], preset="bare"))
    kernel.write("/proc/sys/vm/zone_reclaim_mode", str(mode))
    task = kernel.spawn("cat", cpus=[0])
    task.read(new_file(task, 64 * MB), 64 * MB, 0)
    far = kernel.vmstat.node_stat[1]
    before = int(far[NodeStatItem.NR_ANON_MAPPED])
    task.touch(task.mmap(64 * MB), 64 * MB, write=True)
    used = int(far[NodeStatItem.NR_ANON_MAPPED]) - before
    assert (event(kernel, VmEventItem.ZONE_RECLAIM_SUCCESS) > 0) == bool(mode)
    assert used < 1024 if mode else used > 2048
