"""The scripts: their syntax, what they say, and the document that one of them writes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import simplifications  # noqa: E402

SHELL = sorted(
    path
    for path in [*(ROOT / "scripts").iterdir(), ROOT / ".ci/run"]
    if path.is_file() and path.read_bytes()[:2] == b"#!"
)


@pytest.mark.parametrize("path", SHELL, ids=lambda path: path.name)
def test_script_is_executable_and_parses(path: Path) -> None:
    assert path.stat().st_mode & 0o111
    subprocess.run(["bash", "-n", path], check=True)


def test_setup_says_what_it_can_do() -> None:
    done = subprocess.run([ROOT / "scripts/setup", "--help"], capture_output=True, text=True, check=True)
    assert "--differential" in done.stdout
    assert "set -euo" not in done.stdout


def test_setup_refuses_what_it_does_not_know() -> None:
    done = subprocess.run([ROOT / "scripts/setup", "--nonsense"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("setup: unknown option --nonsense")


DOCSTRING = """One sentence.

Linux: mm/x.c, func().

Simplified: no zones,
and no nodes.
Simplified: one CPU.

After it.
"""


def test_simplified_paragraphs_are_found_whole() -> None:
    assert simplifications.simplified(DOCSTRING) == ["no zones, and no nodes.", "one CPU."]
    assert simplifications.linux_name(DOCSTRING) == "mm/x.c, func()"
    assert simplifications.simplified("Nothing is Simplified: here.") == []


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_documents_name_files_that_are_there(name: str) -> None:
    named = set(re.findall(r"[`(]((?:mmfs|docs|scripts|tests)/[\w./-]+)[`)]", (ROOT / name).read_text()))
    assert named
    assert sorted(path for path in named if not (ROOT / path).exists()) == []
