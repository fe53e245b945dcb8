"""A kernel module's file: its plain ELF bytes, and the firmware it names.

Called by `image.kernel`. May import `errors`, pyelftools and zstandard.
"""

from __future__ import annotations

import gzip
import io
import lzma
import zlib
from pathlib import Path
from typing import IO

import zstandard
from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from kdumpd.errors import HostError

#: No module or firmware file comes near this; a file that decompresses to more is damaged.
LIMIT = 1 << 28


def _stream(path: Path, data: bytes) -> IO[bytes] | gzip.GzipFile:
    """The plain content as a stream, by what the file's name ends in."""
    compressed = io.BytesIO(data)
    if path.suffix == ".xz":
        return lzma.open(compressed)
    if path.suffix == ".zst":
        return zstandard.ZstdDecompressor().stream_reader(compressed)
    return gzip.open(compressed) if path.suffix == ".gz" else compressed


def plain_bytes(path: Path, limit: int = LIMIT) -> bytes:
    """A file's content, decompressed by what its name ends in (.xz, .zst, .gz); HostError where that is damaged or more
    than `limit` bytes."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise HostError(f"{path}: {error.strerror}; reinstall the package it belongs to") from error
    try:
        with _stream(path, data) as stream:
            plain = stream.read(limit + 1)
    except (lzma.LZMAError, zstandard.ZstdError, zlib.error, EOFError, OSError) as error:
        raise HostError(f"{path}: cannot be decompressed: {error}; reinstall the package it belongs to") from error
    if len(plain) > limit:
        raise HostError(f"{path}: is more than {limit:,} bytes of a module; reinstall the package it belongs to")
    return plain


def firmware_names(module: bytes, name: str) -> tuple[str, ...]:
    """The firmware files (patterns, relative to /lib/firmware) that a module's .modinfo section names."""
    try:
        section = ELFFile(io.BytesIO(module)).get_section_by_name(".modinfo")
        content: bytes = section.data() if section is not None else b""
    except ELFError as error:
        raise HostError(f"{name}: not a kernel module: {error}; reinstall the package it belongs to") from error
    fields = content.split(b"\0")
    return tuple(field[9:].decode(errors="replace") for field in fields if field.startswith(b"firmware="))
