"""The newc cpio archive that an initramfs is made of: read, and written the same way twice.

Format: Linux Documentation/driver-api/early-userspace/buffer-format.rst. Called by `image.build` and by `rehearse` for
a second initrd. May import `errors` alone.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from kdumpd.errors import ImageError

_MAGIC = b"070701"
_FIELDS = 13
_HEADER = len(_MAGIC) + 8 * _FIELDS
_TRAILER = "TRAILER!!!"


class Entry(NamedTuple):
    """One file of an archive; `name` has no leading slash, `data` is a link's target for a symbolic link."""

    name: str
    mode: int
    data: bytes = b""
    major: int = 0
    minor: int = 0

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.mode)


def directory(name: str, permissions: int = 0o755) -> Entry:
    """A directory's entry."""
    return Entry(name, stat.S_IFDIR | permissions)


def file(name: str, data: bytes, permissions: int = 0o644) -> Entry:
    """A regular file's entry."""
    return Entry(name, stat.S_IFREG | permissions, data)


def link(name: str, target: str) -> Entry:
    """A symbolic link's entry."""
    return Entry(name, stat.S_IFLNK | 0o777, target.encode())


def device(name: str, major: int, minor: int, permissions: int = 0o600) -> Entry:
    """A character device's entry."""
    return Entry(name, stat.S_IFCHR | permissions, b"", major, minor)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _record(entry: Entry, inode: int) -> bytes:
    name = entry.name.encode(errors="surrogateescape") + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    # ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor, namesize, check
    numbers = (inode, entry.mode, 0, 0, links, 0, len(entry.data), 0, 0, entry.major, entry.minor, len(name), 0)
    return _padded(_MAGIC + b"".join(b"%08X" % number for number in numbers) + name) + _padded(entry.data)


def pack(entries: Iterable[Entry]) -> bytes:
    """An archive of these entries, sorted by name and owned by root, with the directories they need: equal entries give
    equal bytes."""
    by_name = {entry.name: entry for entry in entries}
    for name in tuple(by_name):
        parent = name.rpartition("/")[0]
        while parent and parent not in by_name:
            by_name[parent] = directory(parent)
            parent = parent.rpartition("/")[0]
    records = [_record(by_name[name], number) for number, name in enumerate(sorted(by_name), 1)]
    records.append(_record(Entry(_TRAILER, 0), 0))
    return b"".join(records)


def unpack(archive: bytes, name: str) -> Iterator[Entry]:
    """The entries of an uncompressed archive, hard links given their data; ImageError when it is damaged."""
    position = 0
    shared: dict[tuple[int, int, int], list[Entry]] = {}
    while True:
        header = archive[position : position + _HEADER]
        if len(header) < _HEADER or header[:6] != _MAGIC:
            raise ImageError(f"{name}: not a newc cpio archive at offset {position}; build it again")
        try:
            numbers = [int(header[at : at + 8], 16) for at in range(6, _HEADER, 8)]
        except ValueError as error:
            raise ImageError(f"{name}: damaged cpio header at offset {position}; build it again") from error
        inode, mode, _, _, links, _, size, major, minor, rmajor, rminor, name_size, _ = numbers
        start = position + _HEADER
        path = archive[start : start + name_size - 1].decode(errors="surrogateescape")
        data_at = start + name_size + -(start + name_size - position) % 4
        position = data_at + size + -size % 4
        if position > len(archive):
            raise ImageError(f"{name}: cut short inside {path}; build it again")
        if path == _TRAILER:
            break
        entry = Entry(path.removeprefix("./"), mode, archive[data_at : data_at + size], rmajor, rminor)
        if entry.is_file and links > 1:
            shared.setdefault((major, minor, inode), []).append(entry)
        elif entry.name not in ("", "."):
            yield entry
    for group in shared.values():
        data = max((entry.data for entry in group), key=len)
        yield from (entry._replace(data=data) for entry in group)
