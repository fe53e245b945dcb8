"""A kernel module that oopses where it is told to: an undefined instruction in the middle of one of its functions.

Called by the tests of the page-scan module's failures. x86_64 alone.
"""

from __future__ import annotations

import io

from elftools.elf.elffile import ELFFile
from elftools.elf.relocation import RelocationSection
from elftools.elf.sections import SymbolTableSection

UNDEFINED = b"\x0f\x0b"  # ud2
ENTRY = b"\xf3\x0f\x1e\xfa"  # endbr64
TRACED = 5  # bytes of the call to __fentry__ that the kernel itself writes to


def poisoned(module: bytes, function: str) -> bytes:
    """The module, whose `function` is an invalid opcode as soon as it is called."""
    elf = ELFFile(io.BytesIO(module))
    symbols = elf.get_section_by_name(".symtab")
    assert isinstance(symbols, SymbolTableSection)
    symbol = (symbols.get_symbol_by_name(function) or [])[0]
    section = elf.get_section(symbol["st_shndx"])
    relocations = elf.get_section_by_name(f".rela{section.name}")
    assert isinstance(relocations, RelocationSection)
    # The kernel writes 4 bytes at each, none of them here, where the first instruction of the compiler's begins.
    written = {relocation["r_offset"] + byte for relocation in relocations.iter_relocations() for byte in range(4)}
    start, code = symbol["st_value"], section.data()
    place = start + TRACED + (len(ENTRY) if code[start:].startswith(ENTRY) else 0)
    assert not written & {place, place + 1}, f"{function}: its first instruction is relocated"
    changed = bytearray(module)
    at = section["sh_offset"] + place
    changed[at : at + len(UNDEFINED)] = UNDEFINED
    return bytes(changed)
