"""A kernel module's file: its plain ELF bytes, what it says of itself, the firmware it names, and who signed it.

Called by `image.kernel` and `image.scan_module`. May import `errors`, pyelftools and zstandard.
"""

from __future__ import annotations

import gzip
import io
import lzma
import struct
import zlib
from pathlib import Path
from typing import IO

import zstandard
from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from kdumpd.errors import HostError

#: No module or firmware file comes near this; a file that decompresses to more is damaged.
LIMIT = 1 << 28

#: What a signed module ends in: PKCS#7, this structure, the words (Linux include/linux/module_signature.h).
_SIGNATURE = struct.Struct(">8xI")
_SIGNED = b"~Module signature appended~\n"
#: The common name of X.520 in DER, and the tags of the kinds of text that it may be.
_COMMON_NAME = bytes.fromhex("0603550403")
_TEXTS = (b"\x0c", b"\x13", b"\x14", b"\x16")


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


def modinfo(module: bytes, name: str) -> dict[str, tuple[str, ...]]:
    """What the .modinfo section of a module says: the values of each field, in their order."""
    try:
        section = ELFFile(io.BytesIO(module)).get_section_by_name(".modinfo")
        content: bytes = section.data() if section is not None else b""
    except ELFError as error:
        raise HostError(f"{name}: not a kernel module: {error}; reinstall the package it belongs to") from error
    found: dict[str, tuple[str, ...]] = {}
    for item in content.split(b"\0"):
        field, equals, value = item.decode(errors="replace").partition("=")
        if equals:
            found[field] = (*found.get(field, ()), value)
    return found


def firmware_names(module: bytes, name: str) -> tuple[str, ...]:
    """The firmware files (patterns, relative to /lib/firmware) that a module names."""
    return modinfo(module, name).get("firmware", ())


def signer(module: bytes) -> str | None:
    """Who signed a module: the common name of its certificate's issuer, "" where the signature tells none; None where
    nobody did."""
    signed = module.removesuffix(_SIGNED)
    if len(signed) == len(module) or len(signed) < _SIGNATURE.size:
        return None
    (size,) = _SIGNATURE.unpack(signed[-_SIGNATURE.size :])
    signature = signed[: -_SIGNATURE.size][-size:] if size else b""
    # The last name in it is the one that the signer is known by: it carries no certificates (scripts/sign-file.c).
    at = signature.rfind(_COMMON_NAME) + len(_COMMON_NAME)
    kind, length, text = signature[at : at + 1], signature[at + 1 : at + 2], signature[at + 2 :]
    if at < len(_COMMON_NAME) or kind not in _TEXTS or not length or not length[0] <= min(0x7F, len(text)):
        return ""
    name = text[: length[0]].decode(errors="replace")
    return name if name.isprintable() else ""
