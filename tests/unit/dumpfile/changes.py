"""Changes to a good dump's bytes, for tests of what `verify` and the reader say of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from kdumpd.dumpfile.format import DESCRIPTOR, HEADER, SUB_HEADER, Header, SubHeader
from kdumpd.dumpfile.reader import Dump
from kdumpd.dumpfile.verify import Verification

Change = Callable[[bytearray], None]
Changed = Callable[[Change], Verification]


def place_of(dump_path: Path, pfn: int) -> tuple[int, int]:
    """Offset of a page's descriptor and of its contents."""
    with Dump.open(str(dump_path)) as dump:
        for index, (frame, descriptor) in enumerate(dump.pages()):
            if frame == pfn:
                return dump.layout.descriptors + index * DESCRIPTOR.size, descriptor.offset
    raise AssertionError(f"{pfn:#x} is not in the dump")


def with_header(content: bytearray, **fields: Any) -> None:
    content[: HEADER.size] = Header.unpack(bytes(content))._replace(**fields).pack()


def with_sub_header(content: bytearray, **fields: int) -> None:
    content[4096 : 4096 + SUB_HEADER.size] = SubHeader.unpack(bytes(content[4096:]))._replace(**fields).pack()


def forget_checks(content: bytearray) -> None:
    """Make it a dump as makedumpfile writes them: no note, no checksums of raw pages."""
    with_sub_header(content, notes_size=content.index(b"KDUMPD\0") - 12 - 4096 - 104)
    for place in range(content.index(b"KDUMPD\0") + 1200, len(content) - 24):
        if content[place + 20 : place + 24] == b"\x01\0\0\0" and content[place + 8 : place + 16] == b"\0\x10" + bytes(
            6
        ):
            content[place + 16 : place + 24] = bytes(8)
