"""A kernel module's file: its plain ELF bytes, and the firmware it names.

Called by `image.kernel`. May import `errors`, pyelftools and zstandard.
"""

from __future__ import annotations

import gzip
import io
import lzma
import zlib
from pathlib import Path

import zstandard
from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from kdumpd.errors import HostError

#: No module or firmware file comes near this; a file that decompresses to more is damaged.
_LIMIT = 1 << 30


def plain_bytes(path: Path) -> bytes:
    """A file's content, decompressed by what its name ends in (.xz, .zst, .gz)."""
    data = path.read_bytes()
    try:
        if path.suffix == ".xz":
            return lzma.decompress(data)
        if path.suffix == ".zst":
            return zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data)).read(_LIMIT)
        if path.suffix == ".gz":
            return gzip.decompress(data)
    except (lzma.LZMAError, zstandard.ZstdError, zlib.error, EOFError, OSError) as error:
        raise HostError(f"{path}: cannot be decompressed: {error}; reinstall the package it belongs to") from error
    return data


def firmware_names(module: bytes, name: str) -> tuple[str, ...]:
    """The firmware files (patterns, relative to /lib/firmware) that a module's .modinfo section names."""
    try:
        section = ELFFile(io.BytesIO(module)).get_section_by_name(".modinfo")
        content: bytes = section.data() if section is not None else b""
    except ELFError as error:
        raise HostError(f"{name}: not a kernel module: {error}; reinstall the package it belongs to") from error
    fields = content.split(b"\0")
    return tuple(field[9:].decode(errors="replace") for field in fields if field.startswith(b"firmware="))
