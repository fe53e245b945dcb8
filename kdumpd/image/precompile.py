"""Compiles sources to sourceless .pyc files; run as a script in a fresh interpreter, so that it is reproducible.

What marshal writes depends on what else the process holds: a process that does nothing else gives equal bytes for equal
sources. Reads a JSON list of [source, destination, shown name] on stdin. Imports nothing of kdumpd.
"""

from __future__ import annotations

import json
import py_compile
import sys


def main() -> int:
    """Every destination is written, with the hash of its source inside and never checked against it."""
    for source, destination, shown in json.load(sys.stdin):
        py_compile.compile(
            source,
            cfile=destination,
            dfile=shown,
            doraise=True,
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
