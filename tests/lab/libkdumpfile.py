"""Debian's libkdumpfile through ctypes: an independent reader of dumps (libkdumpfile/kdumpfile.h).

Called by tests; imports nothing of kdumpd.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import os
from pathlib import Path

KDUMP_OK = 0
MACHINE_PHYSICAL = 1  # ADDRXLAT_MACHPHYSADDR
STRING = 4  # KDUMP_STRING
PAGE_SIZE = 4096


class Attribute(ctypes.Structure):
    """kdump_attr_t with the one kind of value that is set here."""

    _fields_ = (("type", ctypes.c_int), ("text", ctypes.c_char_p))


class LibKdumpFile:
    """A dump opened by the library; a context manager."""

    def __init__(self, dump: Path) -> None:
        name = ctypes.util.find_library("kdumpfile")
        if name is None:
            raise RuntimeError(
                "libkdumpfile is not installed: apt-get install libkdumpfile10 (its number differs by release)"
            )
        self._library = ctypes.CDLL(name)
        self._library.kdump_new.restype = ctypes.c_void_p
        self._library.kdump_get_err.restype = ctypes.c_char_p
        self._library.kdump_get_err.argtypes = [ctypes.c_void_p]
        self._library.kdump_free.argtypes = [ctypes.c_void_p]
        self._library.kdump_open_fdset.argtypes = [ctypes.c_void_p, ctypes.c_uint, ctypes.POINTER(ctypes.c_int)]
        self._library.kdump_read.argtypes = [
            ctypes.c_void_p,
            ctypes.c_int,
            ctypes.c_uint64,
            ctypes.c_char_p,
            ctypes.POINTER(ctypes.c_size_t),
        ]
        self._library.kdump_set_attr.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.POINTER(Attribute)]
        self._library.kdump_vmcoreinfo_raw.argtypes = [ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p)]
        self._dump = dump

    def __enter__(self) -> LibKdumpFile:
        self._file = os.open(self._dump, os.O_RDONLY)
        self._context = self._library.kdump_new()
        if self._library.kdump_open_fdset(self._context, 1, (ctypes.c_int * 1)(self._file)) != KDUMP_OK:
            raise ValueError(f"{self._dump}: {self._error()}")
        linux = Attribute(STRING, b"linux")
        if self._library.kdump_set_attr(self._context, b"addrxlat.ostype", ctypes.byref(linux)) != KDUMP_OK:
            raise ValueError(f"{self._dump}: {self._error()}")
        return self

    def __exit__(self, *exception: object) -> None:
        self._library.kdump_free(self._context)
        os.close(self._file)

    def read_page(self, pfn: int) -> bytes:
        """The page's bytes; ValueError with the library's words when the dump does not have it."""
        buffer = ctypes.create_string_buffer(PAGE_SIZE)
        size = ctypes.c_size_t(PAGE_SIZE)
        status = self._library.kdump_read(self._context, MACHINE_PHYSICAL, pfn * PAGE_SIZE, buffer, ctypes.byref(size))
        if status != KDUMP_OK:
            raise ValueError(f"{self._dump}: page {pfn}: {self._error()}")
        return buffer.raw

    def vmcoreinfo(self) -> str:
        """The VMCOREINFO text as the library found it."""
        text = ctypes.c_void_p()
        if self._library.kdump_vmcoreinfo_raw(self._context, ctypes.byref(text)) != KDUMP_OK:
            raise ValueError(f"{self._dump}: {self._error()}")
        return ctypes.string_at(text.value or 0).decode("ascii", "replace")

    def _error(self) -> str:
        return str(self._library.kdump_get_err(self._context).decode("utf-8", "replace"))
