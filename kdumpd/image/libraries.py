"""Shared libraries: what a program or an extension module needs, found by the system's own dynamic loader.

Called by `image.interpreter`. May import `host` and `errors`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from kdumpd.errors import ImageError
from kdumpd.host import program

_FOUND = re.compile(r"^\s+(?:\S+ => )?(/\S+) \(0x[0-9a-f]+\)$")
_MISSING = re.compile(r"^\s+(\S+) => not found$")


def parse(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(paths found, names not found) of ldd's output; the vdso has no path and is no file."""
    lines = text.splitlines()
    found = tuple(match[1] for match in map(_FOUND.match, lines) if match)
    return found, tuple(match[1] for match in map(_MISSING.match, lines) if match)


def needed(files: Iterable[Path]) -> tuple[Path, ...]:
    """Every library that these files need, the dynamic loader included, as the loader finds them here.

    Raises ImageError when one is not found.
    """
    libraries: dict[Path, None] = {}
    ldd = program.require("ldd", "libc-bin")
    for path in files:
        outcome = program.run([ldd, str(path)])
        if "not a dynamic executable" in outcome.errors or "statically linked" in outcome.output:
            continue
        found, missing = parse(outcome.output)
        if outcome.code != 0 or missing:
            raise ImageError(f"{path}: needs {', '.join(missing) or outcome.complaint}, which is not installed")
        libraries.update(dict.fromkeys(Path(library) for library in found))
    return tuple(libraries)
