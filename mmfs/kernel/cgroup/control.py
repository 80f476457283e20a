"""Which controllers are enabled where, and which cgroups are threaded.

Linux: kernel/cgroup/cgroup.c, from cgroup_can_be_thread_root() and cgroup_apply_control().
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from mmfs.mm.cgroup_defs import Migration

if TYPE_CHECKING:
    from mmfs.kernel.cgroup.cgroup import Cgroup
    from mmfs.mm.cgroup_defs import CgroupSubsys


# ---- domains and threads ------------------------------------------------------------------------------------------


def is_mixable(cgroup: Cgroup) -> bool:
    """Whether it may have processes and children with domain controllers at once: the root may."""
    return cgroup.parent is None


def can_be_thread_root(cgroup: Cgroup) -> bool:
    """Linux: cgroup_can_be_thread_root()."""
    if is_mixable(cgroup):
        return True
    return not (cgroup.threaded or cgroup.nr_populated_domain_children or cgroup.subtree_control - cgroup.root.threaded)


def is_thread_root(cgroup: Cgroup) -> bool:
    """Whether the threads of a process here may be spread over cgroups below. Linux: cgroup_is_thread_root()."""
    if cgroup.threaded:
        return False
    return bool(cgroup.nr_threaded_children or (cgroup.nr_tasks and cgroup.subtree_control & cgroup.root.threaded))


def is_valid_domain(cgroup: Cgroup) -> bool:
    """Whether it can hold processes: nothing threaded is above. Linux: cgroup_is_valid_domain()."""
    if cgroup.threaded:
        return False
    return not any(one.threaded or (not is_mixable(one) and is_thread_root(one)) for one in cgroup.ancestors())


def cgroup_type(cgroup: Cgroup) -> str:
    """What cgroup.type shows. Linux: cgroup_type_show()."""
    if cgroup.threaded:
        return "threaded"
    if not is_valid_domain(cgroup):
        return "domain invalid"
    return "domain threaded" if is_thread_root(cgroup) else "domain"


def enable_threaded(cgroup: Cgroup) -> None:
    """Join the domain of the parent; EOPNOTSUPP. Linux: cgroup_enable_threaded()."""
    parent = cgroup.parent
    if cgroup.threaded or parent is None:
        return
    domain = parent.dom_cgrp
    if cgroup.populated or cgroup.subtree_control - cgroup.root.threaded:
        raise OSError(errno.EOPNOTSUPP, f"{cgroup.path} has processes or domain controllers")
    if not is_valid_domain(domain) or not can_be_thread_root(domain):
        raise OSError(errno.EOPNOTSUPP, f"{domain.path} cannot have threaded cgroups below")
    for one in (cgroup, *cgroup.descendants()):
        if one is cgroup or one.threaded:
            one.dom_cgrp = domain
    apply_control(cgroup)
    parent.nr_threaded_children += 1


def migrate_vet_dst(cgroup: Cgroup) -> None:
    """Whether tasks may come here: EOPNOTSUPP, EBUSY. Linux: cgroup_migrate_vet_dst()."""
    if not is_valid_domain(cgroup.dom_cgrp):
        raise OSError(errno.EOPNOTSUPP, f"{cgroup.path} is no valid domain")
    if not (can_be_thread_root(cgroup) or cgroup.threaded) and cgroup.subtree_control:
        raise OSError(errno.EBUSY, f"{cgroup.path} has controllers enabled for its children")


# ---- cgroup.subtree_control -----------------------------------------------------------------------------------------


def subtree_control(cgroup: Cgroup, enable: set[str], disable: set[str]) -> None:
    """Enable and disable controllers for the children.

    ENOENT: the parent does not offer one; EBUSY: a child has enabled one that goes, or processes are here;
    EOPNOTSUPP: a domain controller in a threaded subtree. Linux: cgroup_subtree_control_write().
    """
    for name in cgroup.root.known:
        if name in enable and name not in cgroup.subtree_control and name not in cgroup.control():
            raise OSError(errno.ENOENT, f"{name} is not enabled above")
        if name in disable and any(name in child.subtree_control for child in cgroup.children.values()):
            raise OSError(errno.EBUSY, f"a child of {cgroup.path} has {name} enabled")
    enable, disable = enable - cgroup.subtree_control, disable & cgroup.subtree_control
    if not enable and not disable:
        return
    _vet_enable(cgroup, enable)
    before = cgroup.subtree_control
    cgroup.subtree_control = before - disable | enable
    try:
        apply_control(cgroup)
    except OSError:
        cgroup.subtree_control = before
        apply_control(cgroup)
        raise


def _vet_enable(cgroup: Cgroup, enable: set[str]) -> None:
    """Linux: cgroup_vet_subtree_control_enable()."""
    if not enable:
        return
    if not is_valid_domain(cgroup.dom_cgrp):
        raise OSError(errno.EOPNOTSUPP, f"{cgroup.path} is no valid domain")
    if is_mixable(cgroup):
        return
    if enable - cgroup.root.threaded:
        if is_thread_root(cgroup) or cgroup.threaded:
            raise OSError(errno.EOPNOTSUPP, "a domain controller cannot work among threads")
    elif can_be_thread_root(cgroup) or cgroup.threaded:
        return
    if cgroup.nr_tasks:
        raise OSError(errno.EBUSY, f"processes are in {cgroup.path}")


def apply_control(top: Cgroup) -> None:
    """Make the csses below agree with the masks: new ones, then tasks change over, then old ones go.

    Linux: cgroup_apply_control(), cgroup_update_dfl_csses(), cgroup_finalize_control().
    """
    groups = [top, *top.descendants()]
    controllers = top.root.controllers
    for group in groups:
        group.subtree_control &= group.control()
    for ss in controllers.values():
        for group in groups:
            if ss.name in group.ss_mask() and ss.name not in group.subsys:
                group.css_create(ss)
        _change_over(ss, groups)
    for group in reversed(groups):
        if group.parent is not None:
            for name in set(group.subsys) - group.ss_mask():
                group.kill_css(name)


def _change_over(ss: CgroupSubsys, groups: list[Cgroup]) -> None:
    """Tasks get the css that counts now. Linux: cgroup_update_dfl_csses()."""
    tset: list[Migration] = []
    now: dict[Cgroup, Any] = {}
    for group in groups:
        parent = group.parent
        if parent is None:
            continue
        above = now.get(parent, parent.e_css[ss.name])
        new = now[group] = group.subsys[ss.name] if ss.name in group.ss_mask() else above
        old = group.e_css[ss.name]
        if old is not new:
            tset.extend(Migration(task, old, new) for task in group.tasks.values())
    if tset:
        ss.can_attach(tset)
    for group, css in now.items():
        group.e_css[ss.name] = css
    if tset:
        ss.attach(tset)
