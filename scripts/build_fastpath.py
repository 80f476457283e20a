"""Compile mmfs/fastpath/*.py (Cython in pure Python mode) into extension modules.

Used by `scripts/build-fastpath` (in place, beside the sources) and by the wheel's build hook (`hatch_build.py`).
C files, objects and libraries live under build/fastpath/, one folder for each Python and each flavour, so that
switching costs a copy. What changed is decided by content (a stamp over sources, flags and versions), then by Cython
and setuptools per module.

The modules carry only `language_level` in their headers: all other directives come from here. MMFS_CHECKED=1 builds the
flavour that CI uses to find what C would not tell: an index out of bounds or an unset memoryview raises, an
overflow ends the process.

A flavour has one page size (MMFS_PAGE_SHIFT in fastpath/defs.pxd). Those of 64 KB are compiled from the same C files,
and installed in a folder of their own, when they are asked for: by `--pages 64K`, and for a wheel, which has both.
"""

from __future__ import annotations

import argparse
import fcntl
import filecmp
import hashlib
import os
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "mmfs.fastpath"
CFLAGS = ["-O2", "-g1", "-fno-strict-aliasing", "-fwrapv", "-Wno-unused-function", "-Wno-unreachable-code"]
FAST = {"boundscheck": False, "wraparound": False, "initializedcheck": False, "cdivision": True}
CHECKED = {
    "boundscheck": True,
    "wraparound": False,
    "initializedcheck": True,
    "cdivision": True,
}
# Cython's own overflowcheck needs the GIL, so gcc does it: the process ends with the line.
SANITIZE = [
    "-fno-wrapv",
    "-fsanitize=signed-integer-overflow,shift-exponent,integer-divide-by-zero",
    "-fno-sanitize-recover=all",
]


PAGE_SHIFTS = {"4K": 12, "64K": 16}
"""The page sizes, as mm_types.py has them."""


@dataclass(frozen=True)
class Flavour:
    """A way to compile the modules."""

    checked: bool = False
    pages: str = "4K"

    @property
    def translation(self) -> str:
        """The name of those with the same C files."""
        return "checked" if self.checked else "fast"

    @property
    def name(self) -> str:
        """What it is called to the user."""
        return self.translation if self.pages == "4K" else f"{self.translation}, pages of {self.pages}B"

    @property
    def subfolder(self) -> str:
        """Where its libraries are imported from, below the package."""
        return "" if self.pages == "4K" else f"pages_{self.pages.lower()}"

    @property
    def folder(self) -> Path:
        """Where this Python's objects and libraries of the flavour are."""
        return c_folder(self.checked) / self.subfolder

    @property
    def libraries(self) -> list[Path]:
        """The libraries that it is built as, one for each module of `sources()`."""
        return [self.folder / "lib" / "mmfs" / "fastpath" / (path.stem + suffix()) for path in sources()]

    @property
    def installed(self) -> list[Path]:
        """Where they are installed in this checkout."""
        return [ROOT / "mmfs" / "fastpath" / self.subfolder / library.name for library in self.libraries]


def checked_from_environment() -> bool:
    """Whether MMFS_CHECKED asks for the bounds-checked flavour."""
    return os.environ.get("MMFS_CHECKED", "") not in ("", "0")


def sources() -> list[Path]:
    """The modules to compile, in a fixed order."""
    return [path for path in sorted((ROOT / "mmfs" / "fastpath").glob("*.py")) if path.name != "__init__.py"]


def suffix() -> str:
    """The tail of an extension module's name, e.g. `.cpython-311-x86_64-linux-gnu.so`."""
    return str(sysconfig.get_config_var("EXT_SUFFIX"))


def c_folder(checked: bool) -> Path:
    """Where this Python's C files of a translation are."""
    base = ROOT if os.access(ROOT, os.W_OK) else Path(os.environ.get("TMPDIR", "/tmp")) / f"mmfs-build-{os.getuid()}"
    return base / "build" / "fastpath" / f"{sys.implementation.cache_tag}-{'checked' if checked else 'fast'}"


def toolchain(checked: bool) -> str:
    """What the compiled modules depend on besides their sources and their page size."""
    import cython

    environment = [os.environ.get(name) for name in ("CC", "CFLAGS", "LDSHARED", "LDFLAGS")]
    facts = (sys.version, cython.__version__, CFLAGS, SANITIZE, CHECKED if checked else FAST, environment)
    return hashlib.sha256(repr(facts).encode() + Path(__file__).read_bytes()).hexdigest()


def fingerprint() -> str:
    """A hash of the sources and their headers."""
    digest = hashlib.sha256()
    for path in [*sources(), *sorted((ROOT / "mmfs" / "fastpath").glob("*.pxd"))]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One build of a translation at a time; a second one waits and finds the work done."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def compile_modules(flavour: Flavour, jobs: int, quiet: bool, annotate: bool = False) -> None:
    """Translate what changed to C and compile it."""
    from Cython.Build import cythonize
    from Cython.Compiler import Options
    from setuptools import Distribution, Extension
    from setuptools.command.build_ext import build_ext

    Options.docstrings = True
    folder, checked = flavour.folder, flavour.checked
    sanitize = SANITIZE if checked else []
    extensions = [
        Extension(
            f"{PACKAGE}.{path.stem}",
            [str(path.relative_to(ROOT))],
            extra_compile_args=[*CFLAGS, *sanitize],
            extra_link_args=sanitize[1:],
        )
        for path in sources()
    ]
    processes = len(extensions) > 1 and os.access("/dev/shm", os.W_OK)  # which multiprocessing's locks live in
    before = Path.cwd()
    os.chdir(ROOT)  # Cython finds the package, and so the .pxd files, from here
    try:
        modules = cythonize(
            extensions,
            build_dir=str(c_folder(checked) / "c"),
            compiler_directives={**(CHECKED if checked else FAST), "show_performance_hints": not quiet},
            nthreads=min(jobs, len(extensions)) if processes else 0,
            quiet=quiet,
            annotate=annotate,
        )
        for module in modules:  # Cython would remember those of the flavour that this process built before
            module.define_macros = [("MMFS_PAGE_SHIFT", str(PAGE_SHIFTS[flavour.pages]))]
        command = build_ext(Distribution({"name": "mmfs", "ext_modules": modules}))
        command.build_lib, command.build_temp, command.parallel = str(folder / "lib"), str(folder / "o"), jobs
        command.ensure_finalized()
        command.run()
    finally:
        os.chdir(before)


def build(flavour: Flavour, jobs: int = 2, quiet: bool = True, annotate: bool = False) -> list[Path]:
    """Bring a flavour up to date and return its libraries, one for each module of `sources()`."""
    folder, libraries = flavour.folder, flavour.libraries
    if not libraries:
        return []
    with locked(c_folder(flavour.checked)):
        folder.mkdir(exist_ok=True)
        stamp, translated = folder / "stamp", c_folder(flavour.checked) / "translated"
        tools, wanted = toolchain(flavour.checked), fingerprint()
        built_with, built = [*(stamp.read_text().split() if stamp.exists() else []), "", ""][:2]
        if not translated.exists() or translated.read_text() != tools:  # Cython would not notice
            shutil.rmtree(translated.with_name("c"), ignore_errors=True)
            translated.write_text(tools)
        if built_with != tools:  # nor would setuptools
            for part in ("o", "lib"):
                shutil.rmtree(folder / part, ignore_errors=True)
        if annotate or built_with != tools or built != wanted or not all(map(Path.exists, libraries)):
            stamp.write_text(tools)
            compile_modules(flavour, jobs, quiet, annotate)
            stamp.write_text(f"{tools} {wanted}")
    return libraries


def install_in_place(flavour: Flavour, libraries: list[Path]) -> list[str]:
    """Put the libraries where they are imported from; a rename, so that a running process keeps those it has mapped."""
    names = []
    for library, target in zip(libraries, flavour.installed, strict=True):
        if target.exists() and filecmp.cmp(target, library):
            continue
        target.parent.mkdir(exist_ok=True)
        fresh = target.with_name(f".{target.name}.{os.getpid()}")
        shutil.copy2(library, fresh)
        fresh.replace(target)
        names.append(target.name.split(".")[0])
    remove_orphans()
    return names


def status(pages: str) -> str:
    """Which flavour is installed, and whether it was made from the sources that are here."""
    for checked in (False, True):
        flavour = Flavour(checked, pages)
        pairs = list(zip(flavour.libraries, flavour.installed, strict=True))
        stamp = flavour.folder / "stamp"
        if all(a.exists() and b.exists() and filecmp.cmp(a, b) for a, b in pairs) and stamp.exists():
            fresh = stamp.read_text().endswith(fingerprint())
            name = "checked" if checked else "compiled"
            return f"fast path {name}" + ("" if fresh else ", OLDER THAN ITS SOURCES: run scripts/build-fastpath")
    return "fast path not as scripts/build-fastpath would leave it: run it"


def remove_orphans() -> None:
    """Delete compiled modules of this Python whose source is gone."""
    known = {path.stem for path in sources()}
    for path in (ROOT / "mmfs" / "fastpath").rglob("*" + suffix()):
        if path.name.removesuffix(suffix()) not in known and not path.name.startswith("."):
            path.unlink()


def main() -> None:
    """`scripts/build-fastpath`: build in place."""
    parser = argparse.ArgumentParser(prog="build-fastpath", description="Compile mmfs/fastpath in place, what changed.")
    parser.add_argument("-j", "--jobs", type=int, default=os.cpu_count() or 1, help="parallel compilers (all CPUs)")
    parser.add_argument("-v", "--verbose", action="store_true", help="show the compiler's commands")
    parser.add_argument("--annotate", action="store_true", help="write Cython's HTML reports into build/fastpath/*/c")
    parser.add_argument(
        "--checked",
        action="store_true",
        default=checked_from_environment(),
        help="bounds, overflow and None checks on (also MMFS_CHECKED=1)",
    )
    parser.add_argument("--pages", choices=list(PAGE_SHIFTS), default="4K", help="for kernels with such pages (4K)")
    parser.add_argument("--status", action="store_true", help="only say what is compiled and whether it is fresh")
    parser.add_argument("--clean", action="store_true", help="delete compiled modules and build/fastpath instead")
    options = parser.parse_args()
    if options.status:
        print(status(options.pages))
        return
    if options.clean:
        shutil.rmtree(ROOT / "build" / "fastpath", ignore_errors=True)
        for path in (ROOT / "mmfs" / "fastpath").rglob("*.so"):
            path.unlink()
        return
    flavour = Flavour(options.checked, options.pages)
    try:
        libraries = build(flavour, options.jobs, not options.verbose, options.annotate)
    except ModuleNotFoundError as error:
        sys.exit(f"build-fastpath: {error}; scripts/setup installs it (or: pip install 'cython>=3.1' setuptools)")
    except Exception as error:
        if options.verbose or type(error).__name__ != "CompileError":
            raise
        sys.exit(f"build-fastpath: {error}: could not be compiled")  # Cython has printed where and why
    changed = install_in_place(flavour, libraries)
    print(f"mmfs/fastpath ({flavour.name}): " + (f"compiled {' '.join(changed)}" if changed else "up to date"))


if __name__ == "__main__":
    main()
