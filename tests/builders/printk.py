"""Puts a printk descriptor ring into a synthetic vmcore, with the offsets of its VMCOREINFO."""

from __future__ import annotations

from collections.abc import Sequence
from struct import pack
from typing import NamedTuple

from tests.builders.vmcore import DIRECT, STRUCTURES, VmcoreBuilder

_PRB_POINTER = 0x220000
_RING = 0x221000
_DESCRIPTORS = STRUCTURES
_INFOS = STRUCTURES + 0x100000
_TEXT = STRUCTURES + 0x200000

RESERVED, COMMITTED, FINALIZED, REUSABLE = range(4)


class Record(NamedTuple):
    """One printed message. `begin` and `end` override where the ring says the text lies; `text_length` its length."""

    text: bytes
    nanoseconds: int = 0
    state: int = FINALIZED
    caller: int = 0
    begin: int | None = None
    end: int | None = None
    text_length: int | None = None


def put_log(
    builder: VmcoreBuilder,
    records: Sequence[Record],
    *,
    count_bits: int = 6,
    text_bits: int = 12,
    first_id: int = 0,
    first_position: int = 0,
    tight: bool = False,
) -> None:
    """Write the ring that holds `records`, the first with id `first_id`, its text at logical position `first_position`.

    Blocks that do not fit behind the others go to the ring's start, as the kernel puts them; `tight` lets a block end
    exactly at the ring's end (6.18 and newer).
    """
    size = 1 << text_bits
    position = first_position
    builder.info["SYMBOL(prb)"] = builder.image(_PRB_POINTER)
    builder.write(_PRB_POINTER, pack("<Q", DIRECT + _RING))
    for number, record in enumerate(records):
        identifier = first_id + number
        index = identifier % (1 << count_bits)
        begin = position
        length = -(-(8 + len(record.text)) // 8) * 8
        end = begin + length
        at = begin % size
        if begin // size != (end - tight) // size:
            at, end = 0, (begin // size + 1) * size + length
        if not record.text:
            begin = end = 3  # NO_LPOS
        else:
            position = end
            builder.write(_TEXT + at, (pack("<Q", identifier) + record.text)[: size - at])
        begin = begin if record.begin is None else record.begin
        end = end if record.end is None else record.end
        builder.write(_DESCRIPTORS + 24 * index, pack("<QQQ", identifier | record.state << 62, begin, end))
        text_length = len(record.text) if record.text_length is None else record.text_length
        builder.write(
            _INFOS + 88 * index, pack("<QQHBBI", identifier, record.nanoseconds, text_length, 0, 0, record.caller)
        )
    last = first_id + len(records) - 1
    descriptor_ring = pack("<IxxxxQQQQ", count_bits, DIRECT + _DESCRIPTORS, DIRECT + _INFOS, last, first_id)
    text_ring = pack("<IxxxxQQQ", text_bits, DIRECT + _TEXT, position, first_position)
    builder.write(_RING, descriptor_ring + text_ring + bytes(8))
