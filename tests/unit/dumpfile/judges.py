"""Readers of dumps that are not ours: Debian's libkdumpfile, and drgn, whose wheel carries one of its own."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Self

import drgn

from tests.lab.libkdumpfile import KDUMP_OK, LibKdumpFile


class _Value(ctypes.Union):
    _fields_ = (("number", ctypes.c_uint64), ("text", ctypes.c_char_p))


class _Attribute(ctypes.Structure):
    _fields_ = (("kind", ctypes.c_int), ("value", _Value))  # kdump_attr_t


class Attributes(LibKdumpFile):
    """A dump opened by libkdumpfile, with what it found out about the crashed system."""

    def __enter__(self) -> Self:
        super().__enter__()
        return self

    def number(self, key: str) -> int:
        """An attribute that is a number or an address."""
        return int(self._attribute(key).value.number)

    def text(self, key: str) -> bytes:
        return bytes(self._attribute(key).value.text)

    def _attribute(self, key: str) -> _Attribute:
        attribute = _Attribute()
        context = ctypes.c_void_p(self._context)
        if self._library.kdump_get_attr(context, key.encode(), ctypes.byref(attribute)) != KDUMP_OK:
            raise ValueError(f"{key}: {self._error()}")
        return attribute


def open_with_drgn(path: Path) -> drgn.Program:
    """The dump, opened by drgn; `.read(address, size, True)` reads physical memory."""
    program = drgn.Program()
    program.set_core_dump(str(path))
    return program
