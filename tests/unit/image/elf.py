"""A kernel module small enough to write by hand: ELF64 with one .modinfo section."""

from __future__ import annotations

import struct

#: Elf64_Ehdr and Elf64_Shdr (System V ABI, chapter 4).
HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
SECTION = struct.Struct("<IIQQQQIIQQ")


def module(*modinfo: str) -> bytes:
    """The bytes of a module whose .modinfo holds these fields."""
    content = b"".join(field.encode() + b"\0" for field in modinfo)
    names = b"\0.modinfo\0.shstrtab\0"
    content_at = HEADER.size
    names_at = content_at + len(content)
    sections_at = names_at + len(names)
    header = HEADER.pack(b"\x7fELF\x02\x01\x01", 1, 62, 1, 0, 0, sections_at, 0, HEADER.size, 0, 0, SECTION.size, 3, 2)
    table = (
        bytes(SECTION.size)
        + SECTION.pack(1, 1, 0, 0, content_at, len(content), 0, 0, 1, 0)
        + SECTION.pack(10, 3, 0, 0, names_at, len(names), 0, 0, 1, 0)
    )
    return header + content + names + table
