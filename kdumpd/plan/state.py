"""What kdumpd keeps under /var/lib/kdumpd: one folder for each kernel release, the record of the last load, the lock.

Called by `plan.gather` and `plan.carry`. May import `image`, `plan.situation` and `errors`.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from kdumpd.errors import HostError, ImageError
from kdumpd.image import build, manifest
from kdumpd.plan.situation import DiskState, LoadedRecord

IMAGE = "capture.img"


def folder(root: Path) -> Path:
    """kdumpd's own folder of the system at `root`."""
    return root / "var" / "lib" / "kdumpd"


def image_of(root: Path, release: str) -> Path:
    """Where the image for a release lies."""
    return folder(root) / release / IMAGE


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


def _loaded(text: str | None) -> LoadedRecord | None:
    try:
        return LoadedRecord(**json.loads(text or ""))
    except (ValueError, TypeError):
        return None


def read(root: Path, release: str) -> DiskState:
    """The state for a release; what is missing or makes no sense is None."""
    image = image_of(root, release)
    text = _read(build.manifest_beside(image))
    try:
        described = None if text is None else manifest.from_json(text, str(build.manifest_beside(image)))
    except ImageError:
        described = None
    policy = _read(build.policy_beside(image))
    return DiskState(described, policy, sha256_of(image), _loaded(_read(folder(root) / "loaded.json")))


def record(root: Path, loaded: LoadedRecord) -> None:
    """The record of the last load is replaced in one step."""
    path = folder(root) / "loaded.json"
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps(asdict(loaded), sort_keys=True) + "\n")
    temporary.replace(path)


@contextmanager
def locked(root: Path, waiting: Callable[[str], None]) -> Iterator[None]:
    """Holds the one lock of everything that changes something; `waiting` is told when another holds it."""
    path = folder(root) / "lock"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        remedy = "run it as root" if isinstance(error, PermissionError) else "make that folder one it can write to"
        raise HostError(
            f"{error.filename}: {error.strerror}; apply keeps its images and records there: {remedy}"
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            waiting(f"another kdumpd (process {holder}) is at work; waiting for it to end")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)
