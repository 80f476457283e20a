"""Hatchling build hook: a wheel carries mmfs/fastpath compiled for all page sizes, an editable install for one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

sys.path.insert(0, str(Path(__file__).resolve().parent))

import build_fastpath


class FastpathBuildHook(BuildHookInterface[Any]):
    """Compiles the fast path and gives the wheel its platform tag."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Before files are collected; `version` is "standard" or "editable"."""
        checked, sizes = build_fastpath.checked_from_environment(), list(build_fastpath.PAGE_SHIFTS)
        build_data["pure_python"] = not build_fastpath.sources()
        build_data["infer_tag"] = bool(build_fastpath.sources())
        for pages in sizes[:1] if version == "editable" else sizes:
            flavour = build_fastpath.Flavour(checked, pages)
            libraries = build_fastpath.build(flavour)
            if version == "editable":
                build_fastpath.install_in_place(flavour, libraries)
                continue
            for library, target in zip(libraries, flavour.installed, strict=True):
                build_data["force_include"][str(library)] = str(target.relative_to(build_fastpath.ROOT))
