"""Lines on standard output, in colour only where a person looks at a terminal.

Called by the verbs. May import `plan.line`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import TextIO

from kdumpd.plan.line import Line, paint


def colours(stream: TextIO) -> bool:
    """Whether a stream gets colours: a terminal that can show them, and NO_COLOR (no-color.org) is not set."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "") not in ("", "dumb")


def show(lines: Iterable[Line]) -> None:
    """The lines are printed."""
    coloured = colours(sys.stdout)
    for line in lines:
        print(paint(line, coloured), flush=True)
