"""The compiled inner loops of the simulated kernel, and the arrays they run over.

The modules beside this file are ordinary Python with Cython's annotations and a `.pxd` header each. A wheel, and
`scripts/build-fastpath` in a checkout, have them compiled; Python then prefers the extension module to the source.
With MMFS_PURE=1 in the environment the sources run instead, even beside compiled modules: thousands of times slower,
but a debugger and a coverage tool can follow, and every index is checked. (The sources `import cython`, which the
`test` extra brings.)

They are compiled for one page size. Those of 4 KB lie beside this file, those of 64 KB, which MMFS_PAGE_SIZE=64K takes,
in `pages_64k`: a wheel has both, in a checkout `scripts/build-fastpath --pages 64K` compiles them.
"""

import os
import sys
from collections.abc import Sequence
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES, FileFinder, ModuleSpec, SourceFileLoader
from pathlib import Path
from types import ModuleType

from mmfs.mm_types import PAGE_SHIFT, PAGE_SHIFTS


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


def _is_compiled(folder: Path) -> bool:
    """Whether there is machine code in a folder."""
    paths = folder.iterdir() if folder.exists() else ()
    return any(path.name.endswith(tuple(EXTENSION_SUFFIXES)) for path in paths if path.name[0] != ".")


def _flavour(here: Path) -> Path:
    """Where the modules for this process's pages are; ImportError if only those for others are compiled."""
    name = next(name for name, shift in PAGE_SHIFTS.items() if shift == PAGE_SHIFT)
    folder = here if name == "4K" else here / f"pages_{name.lower()}"
    if _is_compiled(folder):
        return folder
    if _is_compiled(here):
        raise ImportError(
            f"the fast path is not compiled for pages of {name}B: scripts/build-fastpath --pages {name} does that "
            "(or MMFS_PURE=1 runs it uncompiled)",
            name=__name__,
        )
    return here


pure: bool = os.environ.get("MMFS_PURE", "") not in ("", "0")
if not pure:
    __path__ = [str(_flavour(Path(__file__).parent))]
compiled: bool = not pure and _is_compiled(Path(__path__[0]))

if pure and not any(isinstance(finder, PureFinder) for finder in sys.meta_path):
    sys.meta_path.insert(0, PureFinder())
