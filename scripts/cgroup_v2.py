"""Write docs/cgroup-v2.md: what Linux's manual of cgroup v2 says, statement by statement, with the test of each.

    scripts/cgroup-v2            write the document
    scripts/cgroup-v2 --check    exit with 1 if it is not up to date (CI)

A statement is the docstring of a test in tests/cgroup_v2; a module's docstring begins with the manual's heading, and
its paragraphs `Not modelled: ...` are the statements that hold on Linux and not here.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from typing import Final

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs" / "cgroup-v2.md"
TESTS = ROOT / "tests" / "cgroup_v2"
CHAPTERS: Final = (
    "mounting", "processes", "threads", "populated", "controllers", "delegation", "models", "conventions", "core_files",
    "memory", "memory_protection", "memory_limits", "memory_events", "memory_stat", "memory_swap", "memory_ownership",
    "pids", "cpuset", "hugetlb", "namespaces",
)  # fmt: skip
"""The modules in the manual's order."""
FIXTURES: Final = {"machine", "machine_with_nodes", "tree"}
"""Those that are a simulated machine or a real one."""
HEAD = """# cgroup v2, statement by statement

<!-- Written by scripts/cgroup-v2 from the tests' docstrings; do not edit. -->

What Linux's manual (Documentation/admin-guide/cgroup-v2.rst) says about processes, memory, pids, cpusets and huge
pages, in our own words, with the test that proves it. Those marked *both* are played on a real Linux 6.12 and on mmfs
by the same code (`scripts/test -m differential tests/cgroup_v2`); the others on mmfs alone. What the manual advises,
defines or tells of history, and the controllers that mmfs has not (io, rdma, misc, device), have no rows.
"""


def words(text: str) -> str:
    """A paragraph as one line."""
    return " ".join(text.split())


def not_modelled(text: str) -> list[str]:
    """The `Not modelled:` paragraphs of a module's docstring."""
    return [words(found) for found in re.findall(r"^Not modelled: (.*?)(?=^\s*$|\Z)", text, re.MULTILINE | re.DOTALL)]


def chapter(name: str) -> str:
    """The table of a module."""
    path = TESTS / f"test_{name}.py"
    module = ast.parse(path.read_text())
    text = ast.get_docstring(module) or ""
    lines = [f"## {text.splitlines()[0]}", ""]
    tests = [node for node in module.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]
    if tests:
        lines += ["| Statement | Test | |", "|---|---|---|"]
    for test in tests:
        statement = words(ast.get_docstring(test) or "")
        if not statement:
            sys.exit(f"{path.relative_to(ROOT)}: {test.name} does not say what it proves")
        both = "both" if FIXTURES & {argument.arg for argument in test.args.args} else ""
        link = f"[{test.name}](../{path.relative_to(ROOT)})"
        lines.append(f"| {statement.replace('|', chr(92) + '|')} | {link} | {both} |")
    missing = not_modelled(text)
    if missing:
        lines += ["", "Not modelled:", "", *(f"- {one}" for one in missing)]
    return "\n".join(lines)


def document() -> str:
    """The whole document."""
    found = {path.stem.removeprefix("test_") for path in TESTS.glob("test_*.py")}
    if found != set(CHAPTERS):
        sys.exit(f"tests/cgroup_v2 and CHAPTERS differ: {sorted(found ^ set(CHAPTERS))}")
    return "\n\n".join([HEAD.strip(), *(chapter(name) for name in CHAPTERS)]) + "\n"


def main() -> None:
    """Write the document, or compare it."""
    text = document()
    if "--check" in sys.argv[1:]:
        if not DOCUMENT.exists() or DOCUMENT.read_text() != text:
            sys.exit(f"{DOCUMENT.relative_to(ROOT)} is not what the tests say: run scripts/cgroup-v2")
        return
    DOCUMENT.write_text(text)


if __name__ == "__main__":
    main()
