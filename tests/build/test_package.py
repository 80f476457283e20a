"""The package as a user gets it: a wheel that needs no compiler, an editable install."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.installed, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what git knows, with the changes of the work tree."""
    target = tmp_path_factory.mktemp("clone") / "mmfs"
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listing.returncode:
        pytest.skip("not a git work tree")
    for name in filter(None, listing.stdout.split("\0")):
        if (ROOT / name).is_file() and not name.startswith("tests/golden/"):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_bytes((ROOT / name).read_bytes())
    return target


@pytest.fixture(scope="module")
def wheel(clone: Path) -> Path:
    """`pip wheel .`"""
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", "dist", "."],
        cwd=clone,
        check=True,
    )
    (path,) = (clone / "dist").glob("mmfs-*.whl")
    return path


def test_wheel_is_for_this_platform_and_carries_the_compiled_modules(wheel: Path) -> None:
    assert not wheel.name.endswith("-any.whl")
    names = zipfile.ZipFile(wheel).namelist()
    sources = {Path(name).stem for name in names if name.startswith("mmfs/fastpath/") and name.endswith(".py")}
    for folder in ("mmfs/fastpath", "mmfs/fastpath/pages_64k"):
        compiled = {Path(name).name.split(".")[0] for name in names if Path(name).match(f"{folder}/*.so")}
        assert sources - {"__init__"} == compiled, folder
    assert {name.split("/")[0] for name in names} == {
        "mmfs",
        next(name for name in names if "dist-info" in name).split("/")[0],
    }


def test_wheel_runs_in_a_new_environment_without_a_compiler(wheel: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv/bin/python"
    only = {"PATH": str(tmp_path / "empty"), "HOME": str(tmp_path), "CC": "/nonexistent"}
    subprocess.run([python, "-m", "pip", "install", "--quiet", str(wheel)], check=True, env=only)
    code = "import importlib.util as u, mmfs.fastpath as f; print(f.compiled, u.find_spec('Cython'))"
    done = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True, env=only, cwd=tmp_path)
    assert done.stdout == "True None\n"
    mmfs = tmp_path / "venv/bin/mmfs"
    for arch, largest in (("x86_64", "2048 kB"), ("arm64-64k", "524288 kB")):
        shown = subprocess.run(
            [mmfs, "show", "/proc/meminfo", "--ram", "1G", "--arch", arch],
            check=True,
            capture_output=True,
            text=True,
            env=only,
            cwd=tmp_path,
        )
        assert shown.stdout.startswith("MemTotal: ")
        assert f"Hugepagesize: {largest:>13}\n" in shown.stdout
