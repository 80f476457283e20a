"""What can go wrong around a mount, each with one line that says what to do about it."""

from __future__ import annotations


class MountError(Exception):
    """A mount, an unmount or a namespace is refused; the text is one line for the user."""

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(problem if not remedy else f"{problem} ({remedy})")
        self.problem = problem
        self.remedy = remedy
