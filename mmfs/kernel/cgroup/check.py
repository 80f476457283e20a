"""The invariants of the cgroup tree: the counts that are kept are what a recount gives."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmfs.kernel.cgroup.cgroup import Cgroup
    from mmfs.kernel.cgroup.root import CgroupRoot
    from mmfs.mm.cgroup_defs import CgroupSubsysState


def _same(what: str, left: object, right: object) -> None:
    if left != right:
        raise AssertionError(f"{what}: {left} is not {right}")


def check_cgroups(root: CgroupRoot) -> None:
    """Every invariant of the cgroups of a hierarchy. Raises AssertionError."""
    for cgroup in root.all():
        check_cgroup(cgroup)
        for css in cgroup.subsys.values():
            check_css(css)
    members = Counter(id(root.task_cgroup(task)) for task in root.kernel.tasks.values())
    lingering = root.root.nr_dying_descendants
    _same(f"cgroups of hierarchy {root.index}", root.nr_cgrps, 1 + root.root.nr_descendants + lingering)
    for cgroup in root.all():
        _same(f"{cgroup}: tasks", len(cgroup.tasks), members[id(cgroup)])


def check_cgroup(cgroup: Cgroup) -> None:
    """The numbers that one cgroup keeps of itself and of its children."""
    children = list(cgroup.children.values())
    _same(f"{cgroup}: living threads", cgroup.nr_tasks, sum(task.alive for task in cgroup.tasks.values()))
    _same(f"{cgroup}: descendants", cgroup.nr_descendants, sum(1 + child.nr_descendants for child in children))
    dying = cgroup.nr_dying_descendants - sum(child.nr_dying_descendants for child in children)
    _same(f"{cgroup}: dying children", dying >= 0, True)
    kinds = [child.threaded for child in children if child.populated]
    counted = (cgroup.nr_populated_threaded_children, cgroup.nr_populated_domain_children)
    _same(f"{cgroup}: populated children", counted, (kinds.count(True), kinds.count(False)))
    _same(f"{cgroup}: threaded children", cgroup.nr_threaded_children, sum(child.threaded for child in children))
    check_freezer(cgroup)
    _same(f"{cgroup}: controllers", set(cgroup.subsys), set(cgroup.ss_mask()))
    _same(f"{cgroup}: enabled below", cgroup.subtree_control <= cgroup.control(), True)
    above = {} if cgroup.parent is None else cgroup.parent.e_css
    _same(f"{cgroup}: effective csses", cgroup.e_css, {**above, **cgroup.subsys})
    if cgroup.parent is not None:
        least = 1 + len(cgroup.subsys) + len(children) + len(cgroup.tasks)
        lingers = cgroup.nr_dying_descendants or any(cgroup.nr_dying_subsys.values())
        _same(f"{cgroup}: references", cgroup.self.refcnt >= least if lingers else cgroup.self.refcnt == least, True)


def check_freezer(cgroup: Cgroup) -> None:
    """Who is to be frozen, and who is."""
    above = 0 if cgroup.parent is None else cgroup.parent.e_freeze
    _same(f"{cgroup}: to be frozen", (cgroup.e_freeze, cgroup.freezing), (above + cgroup.freeze, cgroup.e_freeze > 0))
    _same(f"{cgroup}: frozen tasks", cgroup.nr_frozen_tasks, sum(task.frozen for task in cgroup.tasks.values()))
    frozen = sum(one.frozen for one in cgroup.descendants())
    _same(f"{cgroup}: frozen descendants", cgroup.nr_frozen_descendants, frozen)


def check_css(css: CgroupSubsysState) -> None:
    """Where a css stands, and how many it counts below."""
    cgroup, ss = css.cgroup, css.ss
    assert ss is not None
    parent = None if cgroup.parent is None else cgroup.parent.subsys[ss.name]
    _same(f"{css}: parent", css.parent, parent)
    below = sum(1 for one in cgroup.descendants() if ss.name in one.subsys)
    _same(f"{css}: descendants", css.nr_descendants, below)
    ss.check(css)
