"""Runs a test's program in the capture kernel: /arguments.json goes in, /out/result.json comes out.

In the image this is `kdumpd.inside_run`. What the program raises ends it with a traceback on the console.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

ARGUMENTS = Path("/arguments.json")
RESULT = Path("/out/result.json")


def run(program: Callable[[dict[str, object]], object]) -> int:
    """The program's result lies on the disk."""
    RESULT.write_text(json.dumps(program(json.loads(ARGUMENTS.read_text()))))
    return 0
