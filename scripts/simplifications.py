"""Gather what the simulation leaves out, as its docstrings say it, into docs/simplifications.md.

    scripts/simplifications            write the document
    scripts/simplifications --check    exit with 1 if it is not up to date (CI)

A docstring says so in lines that begin with `Simplified:`; the text runs to the next blank line or the docstring's end.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs" / "simplifications.md"
HEAD = """# What is simplified

<!-- Written by scripts/simplifications from the docstrings; do not edit. -->

Where mmfs does less than Linux 6.12 does, the function that does less says so. These are all such places.
A counter that nothing drives yet is a real zero: the event has not happened.
"""


def docstrings(node: ast.Module, name: str) -> Iterator[tuple[str, str]]:
    """(qualified name, docstring) of a module and of all that it defines, in order."""
    pending: list[tuple[str, ast.AST]] = [(name, node)]
    while pending:
        qualified, current = pending.pop(0)
        if isinstance(current, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(current)
            if text:
                yield qualified, text
        below = []
        for child in ast.iter_child_nodes(current):
            named = isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            if named or isinstance(child, ast.If | ast.Try | ast.With):
                below.append((f"{qualified}.{child.name}" if named else qualified, child))  # type: ignore[attr-defined]
        pending[:0] = below


def simplified(text: str) -> list[str]:
    """The `Simplified:` paragraphs of a docstring."""
    found = re.findall(r"^\s*Simplified: *(.*?)(?=^\s*Simplified:|^\s*$|\Z)", text, re.MULTILINE | re.DOTALL)
    return [" ".join(paragraph.split()) for paragraph in found]


def linux_name(text: str) -> str:
    """What the docstring's `Linux:` line names, or nothing."""
    found = re.search(r"^\s*Linux: *([^\n]*)", text, re.MULTILINE)
    return found[1].strip().rstrip(".;,") if found else ""


def document() -> str:
    """The whole document."""
    lines = [HEAD]
    for path in sorted((ROOT / "mmfs").rglob("*.py")):
        relative = path.relative_to(ROOT)
        module = ".".join(relative.with_suffix("").parts).removesuffix(".__init__")
        rows = []
        for name, text in docstrings(ast.parse(path.read_text()), module):
            for paragraph in simplified(text):
                short = name.removeprefix(module).lstrip(".")
                of = " ".join(
                    part for part in (f"`{short}`" if short else "", f"({linux_name(text)})") if part not in ("", "()")
                )
                rows.append(f"- {of}: {paragraph}" if of else f"- {paragraph}")
        if rows:
            lines += [f"## [{relative}](../{relative})\n", *rows, ""]
    return "\n".join(lines).rstrip() + "\n"


def main() -> None:
    """Write the document, or compare it."""
    text = document()
    if "--check" in sys.argv[1:]:
        if not DOCUMENT.exists() or DOCUMENT.read_text() != text:
            sys.exit(f"{DOCUMENT.relative_to(ROOT)} is not what the docstrings say: run scripts/simplifications")
        return
    DOCUMENT.parent.mkdir(exist_ok=True)
    DOCUMENT.write_text(text)


if __name__ == "__main__":
    main()
