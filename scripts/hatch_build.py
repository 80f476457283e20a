"""Hatchling build hook: the wheel carries mmfs/fastpath compiled, an editable install compiles it in place."""

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
        flavour = build_fastpath.Flavour(build_fastpath.checked_from_environment())
        libraries = build_fastpath.build(flavour)
        build_data["pure_python"] = not libraries
        build_data["infer_tag"] = bool(libraries)
        if version == "editable":
            build_fastpath.install_in_place(flavour, libraries)
        else:
            for library in libraries:
                build_data["force_include"][str(library)] = f"mmfs/fastpath/{library.name}"
