"""What the firmware kept of a crash: pstore records, where the kernel shows them and where systemd-pstore moved them.

A record is known by its name and content, so that one that systemd moves meanwhile is told once. Nothing is deleted:
that is systemd's to do. Called by `dumps.aftermath`. May import `dumps.told`, `dumpfile` and `errors`.

Sources: fs/pstore/platform.c (the first line, "Panic#1 Part1"), drivers/firmware/efi/efi-pstore.c (generic_id),
systemd's src/pstore/pstore.c (what it makes of them).
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterator
from typing import NamedTuple

from kdumpd.dumpfile.info import panic_message
from kdumpd.dumps import told
from kdumpd.errors import DumpError

PLACES = ("/sys/fs/pstore", "/var/lib/systemd/pstore")
_DEEPEST = 3  # /var/lib/systemd/pstore/ID/NUMBER/FILE
_MOST_FILES = 1000
_MOST_BYTES = 4 << 20  # of one record, and copied beside one crash
_PANIC = re.compile(rb"(?:^|\n)Panic#[0-9]+ Part[0-9]+\n")
_LEVEL = re.compile(rb"^<[0-9]+>", re.MULTILINE)
_STAMPED = re.compile(r"dmesg-(?:efi|efi_pstore|erst)-(?P<id>[0-9]{15,20})(?:\..*)?")
_MILLION_PARTS = 100_000  # what efi-pstore multiplies a time by to make an id


class Record(NamedTuple):
    """A record: where it lies, its name for a copy, what tells it from others, and what it holds."""

    path: str
    name: str
    key: str
    content: bytes
    time: float | None

    @property
    def of_a_panic(self) -> bool:
        """Whether the kernel wrote it as it died; an oops that the machine survived leaves records as well."""
        return _PANIC.search(self.content) is not None


def records(places: tuple[str, ...] = PLACES) -> tuple[Record, ...]:
    """Every record that is there, by name; what cannot be read is none."""
    found: dict[str, Record] = {}
    for place in places:
        for path in _files(place, _DEEPEST):
            record = _record(path)
            if record is not None:
                found.setdefault(record.key, record)
    return tuple(sorted(found.values(), key=lambda record: record.path))


def panic_of(found: tuple[Record, ...]) -> str:
    """The panic that the records tell of, "" where they tell none; parts come last first."""
    for record in found:
        lines = _LEVEL.sub(b"", record.content).split(b"\n")
        panic = panic_message(lines)
        if panic:
            return told.printable(panic)
    return ""


def copy(found: tuple[Record, ...], folder: str) -> tuple[str, ...]:
    """The records lie in `folder`/pstore, on the disk, as far as they fit; the paths of the copies."""
    if not found:
        return ()
    place, left, copies = f"{folder}/pstore", _MOST_BYTES, []
    os.makedirs(place, 0o700, exist_ok=True)
    for record in found:
        left -= len(record.content)
        if left < 0:
            break
        path = f"{place}/{record.name}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(path, flags, 0o600), "wb") as stream:
            stream.write(record.content)
            stream.flush()
            os.fsync(stream.fileno())
        copies.append(path)
    return tuple(copies)


def _files(place: str, depth: int) -> Iterator[str]:
    try:
        with os.scandir(place) as scanned:
            entries = sorted(scanned, key=lambda entry: entry.name)[:_MOST_FILES]
    except OSError:
        return
    for entry in entries:
        if entry.is_file(follow_symlinks=False):
            yield entry.path
        elif entry.is_dir(follow_symlinks=False) and depth > 1:
            yield from _files(entry.path, depth - 1)


def _record(path: str) -> Record | None:
    folder, name = os.path.split(path)
    try:
        place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            content = told.read(place, name, _MOST_BYTES)
            status = os.stat(name, dir_fd=place, follow_symlinks=False)
        finally:
            os.close(place)
    except (OSError, DumpError):
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    above = os.path.basename(folder)
    shown = f"{above}-{name}" if name == "dmesg.txt" else name  # systemd makes one for each crash
    key = hashlib.sha256(name.encode("utf-8", "surrogateescape") + b"\0" + content).hexdigest()[:32]
    return Record(path, told.printable(shown).replace("/", "_"), key, content, _time(name, path, status.st_mtime))


def _time(name: str, path: str, changed: float) -> float | None:
    """When the kernel wrote it: by its name, or the file's time where the kernel shows it; systemd's copy has none."""
    match = _STAMPED.fullmatch(name)
    if match is not None:
        return float(int(match["id"]) // _MILLION_PARTS)
    return changed if path.startswith(PLACES[0]) else None
