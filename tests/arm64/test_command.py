"""The command starts itself again for pages of 64 KB, wherever the architecture is named."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import mmfs

COMPILED = any((Path(mmfs.__file__).parent / "fastpath" / "pages_64k").glob("*.so"))
TABLES = {
    "option": [],
    "scenario": ['[machine]\nram = "2G"\narch = "arm64-64k"\n'],
    "machine": ['ram = "2G"\narch = "arm64-64k"\n'],
}


def show(*options: str) -> subprocess.CompletedProcess[str]:
    """`mmfs show /proc/meminfo` in a process with pages of 4 KB."""
    environment = {key: value for key, value in os.environ.items() if key not in ("MMFS_PAGE_SIZE", "MMFS_PURE")}
    command = [sys.executable, "-m", "mmfs", "show", "/proc/meminfo", "--preset", "bare", *options]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("where", TABLES)
def test_named(where: str, tmp_path: Path) -> None:
    file = tmp_path / "file.toml"
    file.write_text("".join(TABLES[where]))
    options = ["--arch", "arm64-64k", "--ram", "2G"] if where == "option" else [f"--{where}", str(file)]
    done = show(*options)
    if COMPILED:
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("MemTotal:        2071488 kB\n")
    else:
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert "scripts/build-fastpath --pages 64K" in done.stderr


def test_one_page_size_a_process() -> None:
    """In Python nothing starts again: a line says what to do."""
    code = "import mmfs\ntry: mmfs.boot(arch='arm64-64k')\nexcept ValueError as error: print(error)"
    environment = {key: value for key, value in os.environ.items() if key != "MMFS_PAGE_SIZE"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert done.stdout == "arch: arm64-64k has pages of 64KB: start Python with MMFS_PAGE_SIZE=64K for it\n"
