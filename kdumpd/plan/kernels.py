"""Which kernels are installed, and which of them boots next as far as their versions tell.

Called by `plan.gather`. May import `host.facts`.
"""

from __future__ import annotations

import re
from pathlib import Path

from kdumpd.host.facts import kernel_files

_NUMBERS = re.compile(r"\d+(?:[.-]\d+)*")


def _folders(root: Path) -> set[str]:
    folders = (root / "lib" / "modules", root / "usr" / "lib" / "modules")
    return {entry.name for folder in folders if folder.is_dir() for entry in folder.iterdir() if entry.is_dir()}


def by_version(release: str) -> list[tuple[int, int, str]]:
    """A key that sorts releases by their numbers as numbers."""
    return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in re.split(r"(\d+)", release)]


def newest(root: Path) -> str:
    """The newest kernel that has modules under `root`, "" without any."""
    return max(_folders(root), key=by_version, default="")


def numbers(release: str) -> tuple[int, ...]:
    """The numbers that a release begins with: 6.1.0-56 of 6.1.0-56-rt-amd64."""
    match = _NUMBERS.match(release)
    return tuple(int(part) for part in re.split("[.-]", match[0])) if match else ()


def newer(root: Path, running: str) -> str:
    """The newest whole kernel (vmlinuz and modules) under `root` where its version is above the running one's, else "".

    Another flavour of the same version is not newer.
    """
    whole = [name for name in _folders(root) if numbers(name) > numbers(running) and _is_whole(root, name)]
    return max(whole, key=by_version, default="")


def _is_whole(root: Path, release: str) -> bool:
    files = kernel_files(release, root)
    return files.vmlinuz is not None and files.modules is not None and (files.modules / "modules.dep").is_file()
