"""The compiled inner loops of the simulated kernel, and the arrays they run over.

The modules beside this file are ordinary Python with Cython's annotations and a `.pxd` header each. A wheel, and
`scripts/build-fastpath` in a checkout, have them compiled; Python then prefers the extension module to the source.
With MMFS_PURE=1 in the environment the sources run instead, even beside compiled modules: thousands of times slower,
but a debugger and a coverage tool can follow, and every index is checked. (The sources `import cython`, which the
`test` extra brings.)
"""

import os
import sys
from collections.abc import Sequence
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES, FileFinder, ModuleSpec, SourceFileLoader
from pathlib import Path
from types import ModuleType


class PureFinder:
    """Meta path finder that sees the sources of this package and not its compiled modules."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """The source's spec for a direct child of this package; None (ask the next finder) for all else."""
        if name.rpartition(".")[0] != __name__ or not path:
            return None
        for folder in path:
            spec = FileFinder(folder, (SourceFileLoader, SOURCE_SUFFIXES)).find_spec(name, target)
            if spec is not None:
                return spec
        return None


def _is_compiled() -> bool:
    """Whether an import of this package's modules gets machine code."""
    folder = Path(__file__).parent
    return any(path.name.endswith(tuple(EXTENSION_SUFFIXES)) for path in folder.iterdir() if path.name[0] != ".")


pure: bool = os.environ.get("MMFS_PURE", "") not in ("", "0")
compiled: bool = not pure and _is_compiled()

if pure and not any(isinstance(finder, PureFinder) for finder in sys.meta_path):
    sys.meta_path.insert(0, PureFinder())
