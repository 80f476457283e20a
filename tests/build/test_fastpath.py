"""Which of a fast path module's two forms is imported, and that the compiled ones are what their flavour says."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

MODULE = """# cython: language_level=3
import cython
import numpy as np

def get(i: cython.long) -> cython.long:
    a: cython.long[::1] = np.arange(4, dtype=np.int64)
    return a[i]
"""


def run(code: str, root: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python code with the package of a tree."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MMFS_")}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=root, env=clean | environment, capture_output=True, text=True, timeout=120)


WHERE = "from mmfs import fastpath; from mmfs.fastpath import frames; print(fastpath.compiled, frames.__file__)"


def test_pure_prefers_the_source_even_beside_a_compiled_module() -> None:
    done = run(WHERE, MMFS_PURE="1")
    compiled, path = done.stdout.split()
    assert (compiled, path) == ("False", str(ROOT / "mmfs/fastpath/frames.py")), done.stderr


def test_compiled_says_what_an_import_gets() -> None:
    done = run(WHERE)
    compiled, path = done.stdout.split()
    assert (compiled == "True") == path.endswith(tuple(EXTENSION_SUFFIXES)), done.stderr


def test_pure_finder_leaves_everything_else_alone() -> None:
    code = """
import mmfs.fastpath as f
print([name for name in ("json", "mmfs.fastpath.nothing") if f.PureFinder().find_spec(name, f.__path__)])
"""
    assert run(code, MMFS_PURE="1").stdout.strip() == "[]"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree with the build scripts and one small module."""
    root = tmp_path_factory.mktemp("tree")
    package = root / "mmfs" / "fastpath"
    package.mkdir(parents=True)
    (root / "mmfs" / "__init__.py").write_text("")
    (package / "__init__.py").write_text((ROOT / "mmfs/fastpath/__init__.py").read_text())
    (root / "mmfs" / "mm_types.py").write_text((ROOT / "mmfs/mm_types.py").read_text())
    (package / "numbers.py").write_text(MODULE)
    (root / "scripts").mkdir()
    (root / "scripts/build_fastpath.py").write_text((ROOT / "scripts/build_fastpath.py").read_text())
    return root


@pytest.mark.parametrize("pure", ["", "1"])
def test_a_page_size_that_there_is_not_is_said(pure: str) -> None:
    done = run(WHERE, MMFS_PAGE_SIZE="8K", MMFS_PURE=pure)
    assert done.stderr.splitlines()[-1] == "ImportError: MMFS_PAGE_SIZE=8K: pages have one of 4K, 64K"


def test_uncompiled_runs_with_pages_of_any_size() -> None:
    code = "from mmfs.fastpath import frames; print(frames.PAGE_SIZE, frames.Frames(1 << 14, 0, 0).entry.shape[0])"
    assert run(code, MMFS_PURE="1", MMFS_PAGE_SIZE="64K").stdout == f"65536 {1 << 14 + 13}\n"
    assert run(code, MMFS_PURE="1").stdout == f"4096 {1 << 14 + 9}\n"


def test_a_machine_whose_pages_have_another_size_is_refused() -> None:
    done = run("import mmfs; mmfs.boot(ram='256M', preset='bare')", MMFS_PURE="1", MMFS_PAGE_SIZE="64K")
    said = "ValueError: arch: x86_64 has pages of 4KB: start Python with MMFS_PAGE_SIZE=4K for it"
    assert done.stderr.splitlines()[-1] == said


def build(root: Path, *options: str) -> str:
    """Run build-fastpath and return what it says."""
    command = [sys.executable, "scripts/build_fastpath.py", *options]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MMFS_")}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=300)
    return (done.stdout + done.stderr).strip()


@pytest.mark.slow
def test_build_compiles_what_changed_in_each_flavour(tree: Path) -> None:
    assert build(tree) == "mmfs/fastpath (fast): compiled numbers"
    assert build(tree) == "mmfs/fastpath (fast): up to date"
    assert build(tree, "--status") == "fast path compiled"
    get = "from mmfs.fastpath import numbers; print(numbers.__file__[-3:], numbers.get({}))"
    assert run(get.format(3), tree).stdout == ".so 3\n"

    assert build(tree, "--checked") == "mmfs/fastpath (checked): compiled numbers"
    assert build(tree, "--status") == "fast path checked"
    assert "IndexError" in run(get.format(4), tree).stderr, "a checked build must notice an index out of bounds"
    assert build(tree) == "mmfs/fastpath (fast): compiled numbers", "the flavour that is not checked comes back"

    large = run(get.format(3), tree, MMFS_PAGE_SIZE="64K")
    assert "scripts/build-fastpath --pages 64K does that" in large.stderr, "the modules for 4 KB must not be taken"
    assert build(tree, "--pages", "64K") == "mmfs/fastpath (fast, pages of 64KB): compiled numbers"
    assert build(tree, "--pages", "64K", "--status") == "fast path compiled"
    where = "from mmfs.fastpath import numbers; print(numbers.__file__.split('/')[-2], numbers.get(3))"
    assert run(where, tree, MMFS_PAGE_SIZE="64K").stdout == "pages_64k 3\n"
    assert run(where, tree).stdout == "fastpath 3\n"

    module = tree / "mmfs/fastpath/numbers.py"
    module.write_text(MODULE.replace("return a[i]", "return a[i] + 1"))
    assert "OLDER THAN ITS SOURCES" in build(tree, "--status")
    build(tree)
    assert run(get.format(3), tree).stdout == ".so 4\n"

    module.write_text(MODULE.replace("return a[i]", "return a["))
    assert "numbers.py: could not be compiled" in build(tree)
    module.unlink()
    build(tree)
    assert not list((tree / "mmfs/fastpath").rglob("*.so")), "a module whose source is gone must not be left"
