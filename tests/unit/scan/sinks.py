"""Sinks for bitmap 2."""

from __future__ import annotations


class Bits:
    """Takes bitmap 2 and remembers it."""

    def __init__(self) -> None:
        self.content = bytearray()

    def write(self, bits: bytes) -> None:
        self.content += bits
