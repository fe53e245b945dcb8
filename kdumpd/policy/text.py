"""The bytes of a policy as text, and what in them is not text: encodings, control characters, tabs.

Called by `document`. May import `problem` alone.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from kdumpd.policy.problem import Problem

LARGEST_FILE = 256 * 1024

# The line breaks of YAML 1.1, section 5.4, and its printable characters, section 5.1.
_LINE_BREAK = re.compile("\r\n|[\r\n\x85\u2028\u2029]")
_NOT_TEXT = re.compile("[^\x09\x0a\x0d\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_TAB_INDENT = re.compile(r" *\t\s*[^\s#]")


class Text(NamedTuple):
    """`text` is None where reading it makes no sense; `tabs` are the lines that a tab indents."""

    text: str | None
    problems: tuple[Problem, ...]
    tabs: frozenset[int] = frozenset()


def decode(data: bytes) -> Text:
    """The text of a file with every problem in it; never raises, whatever the bytes."""
    if len(data) > LARGEST_FILE:
        wrong = f"the file is larger than {LARGEST_FILE // 1024} KiB"
        return Text(None, (Problem(1, 1, (), wrong, "a policy takes a few lines: remove the rest"),))
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return Text(None, (Problem(1, 1, (), "the file is UTF-16", "save it as UTF-8"),))
    text, problems = _decoded(data.removeprefix(b"\xef\xbb\xbf"))
    unreadable = _NOT_TEXT.search(text)
    if unreadable:
        line, column = _position(text, unreadable.start())
        wrong = f"the character U+{ord(unreadable[0]):04X} is not text"
        problems.append(Problem(line, column, (), wrong, "a policy is a text file: remove the character"))
        return Text(None, tuple(problems))
    tabs = {
        number: line.index("\t") + 1
        for number, line in enumerate(_LINE_BREAK.split(text), start=1)
        if _TAB_INDENT.match(line)
    }
    problems += [
        Problem(line, column, (), "a tab in the indentation", "indent with spaces") for line, column in tabs.items()
    ]
    return Text(text, tuple(problems), frozenset(tabs))


def _decoded(data: bytes) -> tuple[str, list[Problem]]:
    """The text, and a problem for each line that is not UTF-8 (such a byte reads as U+FFFD)."""
    try:
        return data.decode(), []
    except UnicodeDecodeError:
        problems = []
        for number, line in enumerate(re.split(b"\r\n|\r|\n", data), start=1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                column = len(line[: error.start].decode()) + 1
                wrong = f"the byte 0x{line[error.start]:02x} is not UTF-8"
                problems.append(Problem(number, column, (), wrong, "save the file as UTF-8"))
        return data.decode(errors="replace"), problems


def _position(text: str, offset: int) -> tuple[int, int]:
    """Line and column, from 1, of an offset into the text."""
    breaks = [match.end() for match in _LINE_BREAK.finditer(text, 0, offset)]
    return len(breaks) + 1, offset - (breaks[-1] if breaks else 0) + 1
