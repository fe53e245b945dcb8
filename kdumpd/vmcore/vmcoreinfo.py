"""VMCOREINFO: what the crashed kernel wrote down about itself (kernel/vmcore_info.c), as typed look-ups.

A key that is absent answers None; one that is present but not a number is damage and raises VmcoreError. Needs only the
note's bytes, so it serves vmcores and dumps alike. Called by everything that reads the crashed kernel.
"""

from __future__ import annotations

from kdumpd.errors import VmcoreError

_MOST_BYTES = 1 << 20  # the kernel's own limit is one page
_LOWEST, _HIGHEST = -(1 << 63), (1 << 64) - 1  # what a C program can print as a number of 64 bits
_PAGE_SIZES = (4096, 16384, 65536)


class VmcoreInfo:
    """The key=value lines of VMCOREINFO; `release` is the kernel's, `page_size` in bytes."""

    def __init__(self, text: bytes, name: str = "VMCOREINFO") -> None:
        if len(text) > _MOST_BYTES:
            raise VmcoreError(f"{name}: VMCOREINFO of {len(text)} bytes, more than {_MOST_BYTES}: damaged notes")
        self.name = name
        self._values: dict[str, str] = {}
        for line in text.rstrip(b"\0").decode("ascii", "replace").split("\n"):
            key, equals, value = line.partition("=")
            if equals:
                self._values[key] = value
        self.release = self._values.get("OSRELEASE", "")
        size = self._number("PAGESIZE", 10)
        if size not in _PAGE_SIZES:
            raise VmcoreError(f"{name}: VMCOREINFO says PAGESIZE={size}; 4096, 16384 or 65536 would be right")
        self.page_size: int = size

    def value(self, key: str) -> str | None:
        """The text behind `key=`."""
        return self._values.get(key)

    def config(self, name: str) -> str | None:
        """The value of CONFIG_`name`, such as "y"."""
        return self._values.get(f"CONFIG_{name}")

    def symbol(self, name: str) -> int | None:
        """The run-time virtual address of a symbol: KASLR is already in it."""
        return self._number(f"SYMBOL({name})", 16)

    def number(self, name: str) -> int | None:
        """The value of a constant or variable."""
        return self._number(f"NUMBER({name})", 10)

    def offset(self, member: str) -> int | None:
        """The offset in bytes of `structure.member`."""
        return self._number(f"OFFSET({member})", 10)

    def size(self, structure: str) -> int | None:
        """The size in bytes of a structure."""
        return self._number(f"SIZE({structure})", 10)

    def length(self, array: str) -> int | None:
        """The number of elements of an array."""
        return self._number(f"LENGTH({array})", 10)

    @property
    def kernel_offset(self) -> int:
        """By how many bytes KASLR moved the kernel; 0 without it."""
        return self._number("KERNELOFFSET", 16) or 0

    @property
    def crash_time(self) -> int | None:
        """When the kernel crashed, in seconds since 1970; None where it does not say so or what it says is no time."""
        text = self._values.get("CRASHTIME", "")
        seconds = int(text) if text.isascii() and text.isdecimal() and len(text) <= 10 else 1 << 32
        return seconds if seconds < 1 << 32 else None

    @property
    def version(self) -> tuple[int, int]:
        """(major, minor) of the release; (0, 0) when it starts with no version."""
        major, _, rest = self.release.partition(".")
        minor = rest[: len(rest) - len(rest.lstrip("0123456789"))]
        return (int(major), int(minor)) if major.isdecimal() and minor.isdecimal() else (0, 0)

    def need(self, value: int | None, key: str) -> int:
        """Return `value`, or raise a VmcoreError that says that `key` is missing."""
        if value is None:
            raise VmcoreError(f"{self.name}: VMCOREINFO of {self.release or 'an unknown kernel'} has no {key}")
        return value

    def _number(self, key: str, base: int) -> int | None:
        text = self._values.get(key)
        if text is None:
            return None
        try:
            # NUMBER() is decimal but where the kernel's architecture code says 0x; 64 bits are below 20 digits.
            if len(text) > 24:
                raise ValueError
            number = int(text, 16 if text.startswith("0x") else base)
            if not _LOWEST <= number <= _HIGHEST:
                raise ValueError
            return number
        except ValueError:
            raise VmcoreError(f"{self.name}: VMCOREINFO says {key}={text[:24]}, which is no number") from None
