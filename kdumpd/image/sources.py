"""The files of this machine that an image is made from, with the hash of each: one that changes makes the image stale.

Called by `image.build`. May import `image` below it and `errors`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from kdumpd.errors import ImageError
from kdumpd.image import dracut, libraries
from kdumpd.image.closure import Module, Program
from kdumpd.image.kernel import KernelFiles


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise ImageError(f"{path}: {error.strerror}; reinstall the package it belongs to") from error


def _program_files(of: Program, modules: Iterable[Module]) -> Iterable[Path]:
    binaries = [of.interpreter]
    for module in modules:
        if module.kind == "extension":
            binaries.append(Path(module.file))
        elif module.kind == "source":
            yield Path(module.file)
    yield from binaries
    yield from libraries.needed(binaries)
    yield from sorted(path for path in dracut.module_folder().iterdir() if path.is_file())


def hashes(of: Program, modules: Iterable[Module], files: KernelFiles) -> Mapping[str, str]:
    """SHA-256 by path: kernel modules and firmware by theirs in the image, which no --root changes, all else by its own
    here. About 40 MB are read, a tenth of a second's work."""
    found = {inside: _sha256(path) for path, inside in (*files.modules, *files.firmware)}
    found.update((str(path), _sha256(path)) for path in _program_files(of, modules))
    return dict(sorted(found.items()))
