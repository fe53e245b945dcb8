"""A line for a person as pieces of text with a meaning each, which a terminal shows as colours.

Made by `plan.render` and `status.render`, painted by the verbs. May import the standard library alone.
"""

from __future__ import annotations

import enum
from typing import NamedTuple


class Style(enum.Enum):
    """What a piece of text is; the value is its ANSI colour (ECMA-48, Select Graphic Rendition)."""

    PLAIN = ""
    HEAD = "1"
    GOOD = "32"
    BAD = "31"
    CARE = "33"
    FAINT = "2"
    GOOD_HEAD = "1;32"
    BAD_HEAD = "1;31"


class Span(NamedTuple):
    """A piece of a line."""

    text: str
    style: Style = Style.PLAIN


Line = tuple[Span, ...]


def paint(line: Line, colours: bool) -> str:
    """The line as it is printed, on a terminal with `colours`."""
    return "".join(
        f"\x1b[{span.style.value}m{span.text}\x1b[0m" if colours and span.style.value and span.text else span.text
        for span in line
    )


def plain(text: str, style: Style = Style.PLAIN) -> Line:
    """A line of one piece."""
    return (Span(text, style),)


def printable(text: str) -> str:
    """A text for a terminal: where anybody may name a directory, its name may hold what moves a cursor."""
    return "".join(character if character.isprintable() else "?" for character in text)
