"""One symbol of the crashed kernel, looked up in its own kallsyms: for what VMCOREINFO does not name.

Names are stored as runs of tokens, a length before each (scripts/kallsyms.c; 73bbb94466fd for lengths over 127). They
are decoded one after the other, in windows, which takes a third of a second for a whole kernel: not for the common way.
Called by `vmcore.vmcore`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from struct import Struct

from kdumpd.errors import VmcoreError
from kdumpd.vmcore.vmcoreinfo import VmcoreInfo

_WORD = Struct("<Q")
_UINT = Struct("<I")
_OFFSET = Struct("<i")
_TOKEN_INDEX = Struct("<256H")

_MOST_SYMBOLS = 1 << 22
_MOST_NAMES = 32 << 20  # bytes
_WINDOW = 64 << 10  # bytes
_LONGEST_NAME = 2 + 0x3FFF
_LONGEST_TOKEN = 512  # bytes: KSYM_NAME_LEN
_TOKEN_TABLE_BYTES = 8 << 10  # more than any table has; what lies behind it is read as well, and not used
_ADDRESS_MASK = (1 << 64) - 1

ReadVirtual = Callable[[int, int], bytes]


def address_of(wanted: bytes, info: VmcoreInfo, read_virtual: ReadVirtual) -> int | None:
    """Return the address of the symbol, None where VMCOREINFO (before 6.0) has no kallsyms or they do not name it."""
    names, count_at = info.symbol("kallsyms_names"), info.symbol("kallsyms_num_syms")
    table, index = info.symbol("kallsyms_token_table"), info.symbol("kallsyms_token_index")
    offsets = info.symbol("kallsyms_offsets")
    if names is None or count_at is None or table is None or index is None or offsets is None:
        return None
    (count,) = _UINT.unpack(read_virtual(count_at, _UINT.size))
    if count > _MOST_SYMBOLS:
        raise VmcoreError(f"{info.name}: kallsyms of {count} symbols: damaged")
    tokens = _tokens(read_virtual(table, _TOKEN_TABLE_BYTES), read_virtual(index, _TOKEN_INDEX.size))
    for number, encoded in enumerate(_encoded_names(names, count, read_virtual)):
        if len(encoded) > len(wanted) + 1:
            continue  # no token is empty
        # The first character is the symbol's type.
        if b"".join([tokens[token] for token in encoded])[1:] == wanted:
            return _address(number, offsets, info, read_virtual)
    return None


def _tokens(table: bytes, index: bytes) -> list[bytes]:
    tokens = []
    for start in _TOKEN_INDEX.unpack(index):
        end = table.find(b"\0", start, start + _LONGEST_TOKEN + 1)
        if end < 0:
            raise VmcoreError(f"the kallsyms token at {start} is cut or has more than {_LONGEST_TOKEN} bytes: damaged")
        tokens.append(table[start:end])
    return tokens


def _encoded_names(start: int, count: int, read_virtual: ReadVirtual) -> Iterator[bytes]:
    window = b""
    position = 0
    end = start + _MOST_NAMES
    for _ in range(count):
        if len(window) - position < _LONGEST_NAME:
            start += position
            if start > end:
                return  # damaged: no kernel has so many
            window, position = read_virtual(start, _WINDOW), 0
        length = window[position]
        position += 1
        if length & 0x80:
            length = length & 0x7F | window[position] << 7
            position += 1
        yield window[position : position + length]
        position += length


def _address(number: int, offsets: int, info: VmcoreInfo, read_virtual: ReadVirtual) -> int:
    place = offsets + number * _OFFSET.size
    offset: int = _OFFSET.unpack(read_virtual(place, _OFFSET.size))[0]
    base_at = info.symbol("kallsyms_relative_base")
    if base_at is None:
        return (place + offset) & _ADDRESS_MASK  # 7.0, a081b5789255
    base: int = _WORD.unpack(read_virtual(base_at, _WORD.size))[0]
    # Below zero with CONFIG_KALLSYMS_ABSOLUTE_PERCPU (x86_64 before 6.15).
    return (base - 1 - offset if offset < 0 else base + offset) & _ADDRESS_MASK
