"""What lies under /var/lib/kdumpd: an image for each kernel release, the records of build and load, the lock.

Called by the rest of `plan` and by the verbs. May import `host.statefile`, `image`, `plan.situation` and `errors`.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from kdumpd.errors import HostError, ImageError
from kdumpd.host import statefile
from kdumpd.host.statefile import folder
from kdumpd.image import build, manifest
from kdumpd.loader.contents import Piece
from kdumpd.plan.situation import BuiltRecord, DiskState, LoadedRecord

IMAGE = "capture.img"
VERSION = 1

#: Members of the records that are numbers; what else is no text is named in `_examine`.
_NUMBERS = frozenset(("time", "reservation", "size"))
_LARGEST = 1 << 60
_WAITED = -1  # a mark that no lock has
_RANGE = re.compile(r"[0-9a-f]+-[0-9a-f]+")


def may_read(root: Path) -> bool:
    """Whether this user sees what kdumpd keeps; where it keeps nothing yet there is nothing to hide."""
    try:
        next(folder(root).iterdir(), None)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def image_of(root: Path, release: str) -> Path:
    """Where the image for a release lies."""
    return folder(root) / release / IMAGE


def built_beside(image: Path) -> Path:
    """Where the record of an image's build lies."""
    return image.with_suffix(".built.json")


def loaded_file(root: Path) -> Path:
    """Where the record of the last load lies."""
    return folder(root) / "loaded.json"


def kept_file(root: Path) -> Path:
    """Where that record lies until the next boot when it cannot be written in its place: it counts in one boot only."""
    return root / "run" / "kdumpd" / "loaded.json"


def disarmed_file(run: Path = Path("/run")) -> Path:
    """What is there from `kdumpd disarm` until the next load or boot."""
    return run / "kdumpd" / "disarmed"


def sha256_of(path: Path) -> str:
    """A file's hash, "" when it cannot be read."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return ""


def _read(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return None


def _members(text: str | None, of: type) -> dict[str, Any]:
    """The members of a JSON document that a record has; what a later version adds is left out."""
    document = json.loads(text or "")
    if not isinstance(document, dict):
        raise ValueError("no object")
    names = {field.name for field in fields(of)}
    members = {name: value for name, value in document.items() if name in names}
    for name, value in members.items():
        _examine(name, value)
    return members


def _examine(name: str, value: object) -> None:
    """ValueError for a member that is not of its kind: a file that somebody has edited, or a disk has damaged."""
    if name in _NUMBERS:
        right = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _LARGEST
    elif name == "nodes":
        right = isinstance(value, dict) and all(isinstance(node, str) for node in value.values())
    elif name == "targets":
        right = isinstance(value, dict)
    elif name == "memory":
        right = isinstance(value, str) and all(map(_RANGE.fullmatch, value.split()))
    else:
        right = isinstance(value, list if name == "pieces" else str)
    if not right:
        raise ValueError(f"{name} makes no sense")


def _loaded(text: str | None) -> LoadedRecord | None:
    try:
        members = _members(text, LoadedRecord)
        members["pieces"] = tuple(
            Piece(str(name), int(address), int(size), str(digest))
            for name, address, size, digest in members.get("pieces", ())
        )
        return LoadedRecord(**members)
    except (ValueError, TypeError, OverflowError, RecursionError):
        return None


def read_loaded(root: Path) -> LoadedRecord | None:
    """The record of the last load; None without one that makes sense."""
    return _loaded(_read(kept_file(root))) or _loaded(_read(loaded_file(root)))


def _built(text: str | None) -> BuiltRecord | None:
    try:
        return BuiltRecord(**_members(text, BuiltRecord))
    except (ValueError, TypeError, RecursionError):
        return None


def read(root: Path, release: str) -> DiskState:
    """The state for a release; what is missing or makes no sense is None."""
    image = image_of(root, release)
    text = _read(build.manifest_beside(image))
    try:
        described = None if text is None else manifest.from_json(text, str(build.manifest_beside(image)))
    except ImageError:
        described = None
    try:
        size, time = image.stat().st_size, image.stat().st_mtime
    except OSError:
        size, time = 0, 0.0
    return DiskState(
        manifest=described,
        policy_json=_read(build.policy_beside(image)),
        image_sha256=sha256_of(image),
        loaded=read_loaded(root),
        built=_built(_read(built_beside(image))),
        image_size=size,
        image_time=time,
    )


def last_good(root: Path, release: str) -> str | None:
    """The compiled policy that the image for a release was built with, else that of the image built last."""
    beside = build.policy_beside(image_of(root, release))
    found = [beside] if beside.is_file() else sorted(folder(root).glob(f"*/{beside.name}"), key=_written)
    return _read(found[-1]) if found else None


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0


def _document(loaded: LoadedRecord) -> dict[str, object]:
    return {"version": VERSION, **asdict(loaded), "pieces": [*map(list, loaded.pieces)]}


def record(root: Path, loaded: LoadedRecord) -> str:
    """The record of the last load is replaced in one step. Where its place cannot be written (a full disk), it is kept
    in memory for this boot, and what came back says why; "" otherwise.

    Without one, what kdumpd itself has loaded would be another program's, to be loaded again and again.
    """
    kept = kept_file(root)
    try:
        statefile.replace(loaded_file(root), _document(loaded))
    except HostError as error:
        with suppress(OSError):
            kept.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        statefile.replace(kept, _document(loaded))
        return f"{error}; until then what is loaded is on record for this boot alone, in {kept}"
    kept.unlink(missing_ok=True)
    return ""


def record_build(image: Path, built: BuiltRecord) -> None:
    """The record of an image's build is replaced in one step."""
    statefile.replace(built_beside(image), {"version": VERSION, **asdict(built)})


def holder(root: Path, proc: Path = Path("/proc")) -> str:
    """The process that holds the lock, "" when none does; asked of the kernel (proc_locks(5)) without touching it."""
    try:
        inode = (folder(root) / "lock").stat().st_ino
        lines = (proc / "locks").read_text().splitlines()
    except OSError:
        return ""
    for words in map(str.split, lines):
        # 1: FLOCK  ADVISORY  WRITE 1234 fe:01:5678 0 EOF
        if len(words) == 8 and words[1] == "FLOCK" and words[5].rpartition(":")[2] == str(inode):
            return words[4]
    return ""


def lock_mark(root: Path) -> int:
    """A number that is another one after each time that the lock was held; 0 before the first: there is no file."""
    try:
        return (folder(root) / "lock").stat().st_mtime_ns
    except OSError:
        return 0


def _opened(path: Path) -> tuple[int, int]:
    """The lock's file, and its mark of that moment where this has made it; 0 where it was there."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags | os.O_EXCL, 0o600)
    except FileExistsError:
        return os.open(path, flags, 0o600), 0
    return descriptor, os.fstat(descriptor).st_mtime_ns


def _sign(descriptor: int) -> None:
    """The lock names this process and has another mark. Its one block is never given up: a full disk has no other."""
    try:
        os.pwrite(descriptor, f"{os.getpid()}\n".ljust(16).encode(), 0)
    except OSError:
        with suppress(OSError):
            os.utime(descriptor)


@contextmanager
def locked(root: Path, waiting: Callable[[str], None]) -> Iterator[int]:
    """Holds the one lock of everything that changes something; `waiting` is told when another holds it.

    Yields the lock's mark: where it is the `lock_mark` of before, nobody has held it then or since.
    """
    path = folder(root) / "lock"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, made = _opened(path)
    except OSError as error:
        raise HostError(
            f"{error.filename}: {error.strerror}; kdumpd keeps its images and records there: {statefile.remedy(error)}"
        ) from error
    try:
        waited = False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            process = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            waiting(f"another kdumpd (process {process}) is at work; waiting for it to end")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            waited = True
        found = os.fstat(descriptor)
        # Who has made the file has seen none before. On a full disk it stays empty: its time tells of holders.
        mine = found.st_mtime_ns == made and not found.st_size
        _sign(descriptor)
        try:
            # One that was killed while it was waited for has not signed at its end.
            yield _WAITED if waited else 0 if mine else found.st_mtime_ns
        finally:
            # Who looked around meanwhile has seen what was there before.
            _sign(descriptor)
    finally:
        os.close(descriptor)
