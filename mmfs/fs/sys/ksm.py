"""/sys/kernel/mm/ksm: whether and how fast equal pages are merged, and what has come of it.

Linux: mm/ksm.c, ksm_attrs[]; Documentation/admin-guide/mm/ksm.rst.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

from mmfs.fs.sys.root import DIRECTORY, mm
from mmfs.fs.sys.transparent_hugepage import choice
from mmfs.kernfs import Directory, fail, kstrtouint
from mmfs.kernfs.kstrtox import kstrtobool, kstrtoint, kstrtoul, sysfs_streq
from mmfs.mm.ksm import KSM_RUN_UNMERGE, Ksm
from mmfs.profile import Needs, config, since

ADVISOR_MODES = ("none", "scan-time")

ksm: Directory[Ksm] = Directory(mode=DIRECTORY)
mm.mount("ksm", ksm, obj=lambda kernel: kernel.ksm)


def _uint(buf: str) -> int:
    """A number; whatever is wrong with it is EINVAL."""
    try:
        return kstrtouint(buf, 10)
    except OSError:
        fail(errno.EINVAL)


def _ulong(buf: str) -> int:
    try:
        return kstrtoul(buf, 10)
    except OSError:
        fail(errno.EINVAL)


def _switch(
    name: str, show: Callable[[Ksm], int], store: Callable[[Ksm, str], None], needs: Needs | None = None
) -> None:
    ksm.attributes(name, show, store, needs=needs)


def _run(thread: Ksm, buf: str) -> None:
    """Linux: run_store()."""
    value = _uint(buf)
    if value > KSM_RUN_UNMERGE:
        fail(errno.EINVAL)
    thread.set_run(value)


def _merge_across_nodes(thread: Ksm, buf: str) -> None:
    """Linux: merge_across_nodes_store()."""
    value = kstrtoul(buf, 10)
    if value > 1:
        fail(errno.EINVAL)
    if value != thread.loops.merge_across_nodes:
        thread.may_change_trees()
        thread.loops.merge_across_nodes = bool(value)


def _max_page_sharing(thread: Ksm, buf: str) -> None:
    """Linux: max_page_sharing_store()."""
    value = kstrtoint(buf, 10)
    if value < 2:
        fail(errno.EINVAL)
    if value != thread.tree.max_page_sharing:
        thread.may_change_trees()
        thread.tree.max_page_sharing = value


def _use_zero_pages(thread: Ksm, buf: str) -> None:
    """Linux: use_zero_pages_store()."""
    thread.loops.use_zero_pages = kstrtobool(buf)


def _smart_scan(thread: Ksm, buf: str) -> None:
    """Linux: smart_scan_store()."""
    thread.loops.smart_scan = kstrtobool(buf)


def _prune_millisecs(thread: Ksm, buf: str) -> None:
    """Linux: stable_node_chains_prune_millisecs_store()."""
    thread.tree.prune_ms = _uint(buf)


_switch("run", lambda thread: thread.run, _run)
_switch("pages_to_scan", lambda thread: thread.pages_to_scan, lambda thread, buf: thread.set_pages_to_scan(_uint(buf)))
_switch("sleep_millisecs", lambda thread: thread.sleep_millisecs, lambda thread, buf: thread.set_sleep(_uint(buf)))
_switch("merge_across_nodes", lambda thread: int(thread.loops.merge_across_nodes), _merge_across_nodes, config("NUMA"))
_switch("max_page_sharing", lambda thread: int(thread.tree.max_page_sharing), _max_page_sharing)
_switch("use_zero_pages", lambda thread: int(thread.loops.use_zero_pages), _use_zero_pages)
_switch("smart_scan", lambda thread: int(thread.loops.smart_scan), _smart_scan, since(6, 12))
_switch("stable_node_chains_prune_millisecs", lambda thread: int(thread.tree.prune_ms), _prune_millisecs)


def _advisor(name: str) -> None:
    """A limit of the advisor. Linux: advisor_max_cpu_store() and its kin."""

    def show(thread: Ksm) -> int:
        return int(getattr(thread, name))

    def store(thread: Ksm, buf: str) -> None:
        value = _ulong(buf)
        if name == "advisor_target_scan_time" and value < 1:
            fail(errno.EINVAL)
        setattr(thread, name, value)

    ksm.attributes(name, show, store, needs=since(6, 12))


for _name in (
    "advisor_max_cpu", "advisor_min_pages_to_scan", "advisor_max_pages_to_scan", "advisor_target_scan_time",
):  # fmt: skip
    _advisor(_name)


@ksm.attribute("advisor_mode", needs=since(6, 12))
def advisor_mode(thread: Ksm) -> str:
    """Who decides how many pages are scanned."""
    return choice(ADVISOR_MODES, thread.advisor_mode)


@advisor_mode.store
def advisor_mode_store(thread: Ksm, buf: str) -> None:
    """Linux: advisor_mode_store()."""
    for mode in ADVISOR_MODES:
        if sysfs_streq(mode, buf):
            thread.set_advisor_mode(mode)
            return
    fail(errno.EINVAL)


def _count(name: str, show: Callable[[Ksm], int], needs: Needs | None = None) -> None:
    ksm.attributes(name, show, None, needs=needs)


_count("full_scans", lambda thread: thread.full_scans)
_count("pages_scanned", lambda thread: int(thread.loops.pages_scanned), since(6, 12))
_count("pages_skipped", lambda thread: int(thread.loops.pages_skipped), since(6, 12))
_count("pages_volatile", lambda thread: thread.pages_volatile)
_count("general_profit", lambda thread: thread.general_profit, since(6, 12))
_count("ksm_zero_pages", lambda thread: int(thread.tree.zero_pages), since(6, 12))
_count("stable_node_chains", lambda thread: int(thread.tree.chains))
_count("stable_node_dups", lambda thread: int(thread.tree.dups))
_count("pages_shared", lambda thread: int(thread.tree.pages_shared))
_count("pages_sharing", lambda thread: int(thread.tree.pages_sharing))
_count("pages_unshared", lambda thread: int(thread.tree.pages_unshared))
