"""One thing wrong in a policy: where it is, what is wrong, and what would be right.

Made by `document` and `check`, printed by `load`. May import the standard library alone.
"""

from __future__ import annotations

import json
import re
from typing import NamedTuple

Path = tuple[str | int, ...]

_SIMPLE_KEY = re.compile(r"[A-Za-z0-9_-]{1,60}")
_SHOWN = 60


class Problem(NamedTuple):
    """A problem at a line and column, both from 1; problems sort by position."""

    line: int
    column: int
    path: Path
    wrong: str
    right: str

    def render(self, name: str) -> str:
        """The one line that a person reads: `NAME:LINE:COLUMN: path.to.key: what is wrong; what would be right`."""
        return f"{name}:{self.line}:{self.column}: {dotted(self.path)}: {self.wrong}; {self.right}"


def dotted(path: Path) -> str:
    """A path as people write it, `memmap[1].kind`; the document itself is `policy`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if _SIMPLE_KEY.fullmatch(part) else quoted(part))
    return text or "policy"


def quoted(text: str) -> str:
    """Text in double quotes, in ASCII on one line, cut when it is long."""
    if len(text) > _SHOWN:
        text = text[: _SHOWN - 3] + "..."
    return json.dumps(text)


def shown(word: str) -> str:
    """A word as it was written where that is short and plain, else in quotes."""
    return word if re.fullmatch(r"[!-~]{1,40}", word) else quoted(word)


def described(value: object) -> str:
    """A value of a policy in words: `the text "x"`, `the number 5`, `a list`."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return f"the truth value {'true' if value else 'false'}"
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, str):
        return f"the text {quoted(value)}"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    return "a mapping"
