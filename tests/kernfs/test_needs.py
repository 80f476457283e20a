"""Files that only some trees have, and files of which there is one kind or another."""

from __future__ import annotations

import pytest

from mmfs.kernfs import Directory
from mmfs.kernfs.vfs import Vfs


class Is:
    """A `needs` whose answer stays as it is as long as the tree is."""

    constant = True

    def __init__(self, wanted: str) -> None:
        self.wanted = wanted

    def __call__(self, obj: list[str]) -> bool:
        return obj[0] == self.wanted


def tree(kind: str) -> tuple[Vfs, list[str]]:
    """A tree of a kind, and its object."""
    root: Directory[list[str]] = Directory(mode=0o755)
    root.attributes("both", lambda obj: "old\n", needs=Is("old"))
    root.attributes("both", lambda obj: "new\n", lambda obj, buf: obj.append(buf), needs=Is("new"))
    root.attributes("new", lambda obj: "1\n", needs=Is("new"))
    root.attributes("now", lambda obj: "1\n", needs=lambda obj: len(obj) > 1)
    root.directory("dir", needs=Is("new")).attributes("file", lambda obj: "1\n")
    obj = [kind]
    return Vfs(root, obj), obj


def test_each_tree_has_its_own() -> None:
    old, _ = tree("old")
    new, obj = tree("new")
    assert old.listdir("/") == ["both"] and new.listdir("/") == ["both", "new", "dir"]
    assert (old.read("/both"), new.read("/both")) == (b"old\n", b"new\n")
    assert (old.lstat("/both").mode & 0o777, new.lstat("/both").mode & 0o777) == (0o444, 0o644)
    with pytest.raises(FileNotFoundError):
        old.read("/new")
    new.write("/both", "x")
    assert obj == ["new", "x"] and "now" in new.listdir("/")


def test_what_is_constant_is_kept() -> None:
    """As a file without `needs`; one whose `needs` may change is looked for each time."""
    new, obj = tree("new")
    assert new.walk("/both").stable and new.walk("/dir/file").stable and not new.walk("/both").comes_and_goes
    assert new.walk("/both") is new.walk("/both")
    obj.append("")
    assert new.walk("/now").comes_and_goes and not new.walk("/now").stable
    obj.pop()
    with pytest.raises(FileNotFoundError):
        new.walk("/now")


def test_a_name_without_needs_stands_once() -> None:
    root: Directory[list[str]] = Directory()
    root.attributes("a", lambda obj: "")
    with pytest.raises(ValueError, match="a is here already"):
        root.attributes("a", lambda obj: "", needs=Is("new"))
