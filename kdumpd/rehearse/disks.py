"""Throwaway disks: made here, never mounted here; what lies on those of ext2, ext3 and ext4 is read from outside.

Called by `rehearse.session` and `rehearse.vmdisks`; programs: those of e2fsprogs, and mkfs of each other file system.
May import `host.program`, `rehearse.filesystems` and `errors`.
"""

from __future__ import annotations

import re
import tempfile
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from kdumpd.errors import RehearsalError
from kdumpd.host import program
from kdumpd.rehearse import filesystems

# Named one by one, so that every kernel from 5.10 on mounts what any e2fsprogs made.
_FEATURES = (
    "none,has_journal,ext_attr,dir_index,filetype,extent,64bit,flex_bg,sparse_super,large_file,huge_file,dir_nlink,"
    "extra_isize,metadata_csum,resize_inode"
)


class FilledFile(NamedTuple):
    """A file that a new file system already holds: `block`, as often as `blocks` says."""

    name: str
    block: bytes
    blocks: int


def make(
    path: Path, size: int, directories: Iterable[str] = (), files: Iterable[FilledFile] = (), identity: str = ""
) -> str:
    """An ext4 file system of `size` bytes in the new sparse file `path`, with these directories and files; its UUID.

    That is `identity` unless it is empty.
    """
    identity = identity or str(uuid.uuid4())
    with tempfile.TemporaryDirectory(dir=path.parent) as root:
        for file in files:
            with Path(root, file.name).open("wb") as stream:
                for _ in range(file.blocks):
                    stream.write(file.block)
        for directory in directories:
            Path(root, directory.lstrip("/")).mkdir(parents=True, exist_ok=True)
        for made in (Path(root), *Path(root).rglob("*")):
            made.chmod(0o755)
        with path.open("xb") as disk:
            disk.truncate(size)
        _run("mkfs.ext4", "-q", "-F", "-O", _FEATURES, "-N", "2048", "-m", "0", "-U", identity, "-d", root, str(path))
    return identity


def readable(kind: str) -> bool:
    """Whether `take_out` and `is_clean` can read a file system of this kind."""
    return kind in filesystems.EXT


def make_kind(path: Path, size: int, kind: str, identity: str = "") -> str:
    """An empty file system of this kind and UUID (empty: a new one) in the new sparse file `path`; its UUID."""
    identity = identity or str(uuid.uuid4())
    with path.open("xb") as disk:
        disk.truncate(size)
    name, package, words = filesystems.mkfs(kind, identity)
    _run(name, *words, str(path), of=package)
    return identity


def take_out(path: Path, directory: str, into: Path) -> tuple[Path, ...]:
    """What lies in `directory` of the file system now also lies in `into`; the folders and files there, sorted.

    A journal that the last kernel left is replayed first.
    """
    into.mkdir(parents=True, exist_ok=True)
    outcome = program.run([program.require("e2fsck", filesystems.EXT_PACKAGE), "-f", "-p", str(path)])
    if outcome.code >= 4:  # e2fsck(8): 4 errors left uncorrected, 8 and above could not work
        raise RehearsalError(f"{path}: e2fsck cannot repair the file system the VM left: {outcome.complaint}")
    for name in _names(path, directory):
        _run("debugfs", "-R", f'rdump "{directory.rstrip("/")}/{name}" "{into}"', str(path))
    return tuple(sorted(into.iterdir()))


def is_clean(path: Path) -> bool:
    """Whether the file system was unmounted, with nothing left in its journal."""
    text = _run("dumpe2fs", "-h", str(path))
    state = re.search(r"^Filesystem state:\s+(.*)$", text, re.MULTILINE)
    return bool(state and state[1] == "clean") and "needs_recovery" not in text


def _names(path: Path, directory: str) -> list[str]:
    # "/inode/mode/uid/gid/name/size/" (debugfs(8), ls -p)
    listing = _run("debugfs", "-R", f'ls -p "{directory}"', str(path))
    names = [line.split("/")[5] for line in listing.splitlines() if line.count("/") >= 6]
    return [name for name in names if name not in (".", "..", "lost+found")]


def _run(name: str, *arguments: str, of: str = filesystems.EXT_PACKAGE) -> str:
    outcome = program.run([program.require(name, of), *arguments])
    if outcome.code:
        raise RehearsalError(f"{name} {arguments[-1]}: {outcome.complaint or f'exit code {outcome.code}'}")
    return outcome.output
