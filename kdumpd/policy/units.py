"""Sizes, times and compression as people write them, parsed once into bytes, seconds and values.

Called by `rules` and `load`, and by verbs that take a size. May import `model` alone.
"""

from __future__ import annotations

import re

from kdumpd.policy.model import Compression, CompressionKind

SIZE_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
TIME_UNITS = {"s": 1, "min": 60, "h": 3600}
UNLIMITED = "unlimited"  # in the place of a size

# The fastest of both, which makedumpfile takes as well (makedumpfile.c, Z_BEST_SPEED and ZSTD_compressCCtx).
DEFAULT_COMPRESSION_LEVELS = {CompressionKind.ZSTD: 1, CompressionKind.ZLIB: 1, CompressionKind.NONE: 0}
_HIGHEST_COMPRESSION_LEVELS = {CompressionKind.ZSTD: 22, CompressionKind.ZLIB: 9, CompressionKind.NONE: 0}

_SIZE = re.compile(r"(?:0x([0-9a-fA-F]{1,16})|([0-9]{1,20})([KMGT]?))")
_TIME = re.compile(r"([0-9]{1,10})(s|min|h)")
_LOOSE = re.compile(r"\s*([0-9]{1,12})\s*([A-Za-z]{1,7})\s*")
_LOOSE_TIMES = {"sec": "s", "second": "s", "m": "min", "minute": "min", "hr": "h", "hour": "h"}


def parse_size(text: str) -> int:
    """Bytes of `64K`, `0x10000` or `65536`; units are powers of 1024. ValueError for anything else."""
    match = _SIZE.fullmatch(text)
    if not match:
        raise ValueError(f"{text!r} is not a size such as 64K, 512M or 2G")
    if match[1]:
        return int(match[1], 16)
    return int(match[2]) * SIZE_UNITS.get(match[3], 1)


def parse_time(text: str) -> int:
    """Seconds of `90s`, `15min` or `2h`. ValueError for anything else."""
    match = _TIME.fullmatch(text)
    if not match:
        raise ValueError(f"{text!r} is not a time such as 90s, 15min or 2h")
    return int(match[1]) * TIME_UNITS[match[2]]


def parse_compression(text: str) -> Compression:
    """The value of `zstd`, `zlib:9` or `none`. ValueError for anything else, with what would be right."""
    name, colon, level = text.partition(":")
    try:
        kind = CompressionKind(name)
    except ValueError:
        raise ValueError(f"{text!r} is not a compression: zstd, zlib or none") from None
    if not colon:
        return Compression(kind, DEFAULT_COMPRESSION_LEVELS[kind])
    highest = _HIGHEST_COMPRESSION_LEVELS[kind]
    if highest == 0:
        raise ValueError(f"{text!r}: none takes no level")
    if not re.fullmatch("[1-9][0-9]?", level) or int(level) > highest:
        raise ValueError(f"{text!r}: the level of {name} is a number from 1 to {highest}")
    return Compression(kind, int(level))


def render_size(size: int) -> str:
    """The shortest exact text of a size in bytes: `64K`, `2G`, or the plain number."""
    for unit in reversed(SIZE_UNITS):
        if size and size % SIZE_UNITS[unit] == 0:
            return f"{size // SIZE_UNITS[unit]}{unit}"
    return str(size)


def shown_size(size: int) -> str:
    """Bytes for a person: three digits and a unit."""
    value, unit = float(size), "bytes"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{size} bytes" if unit == "bytes" else f"{value:.1f} {unit}"


def nearest_spelling(text: str) -> tuple[str, ...]:
    """How texts such as `2 GiB`, `64k` or `15 minutes` may be meant, in our spelling; the caller picks what fits."""
    match = _LOOSE.fullmatch(text)
    if not match:
        return ()
    number, unit = match[1], match[2]
    spellings = []
    size = unit.upper().removesuffix("B").removesuffix("I")
    if size in SIZE_UNITS:
        spellings.append(f"{number}{size}")
    time = unit.lower()
    for spelling in (time, time.removesuffix("s"), _LOOSE_TIMES.get(time, ""), _LOOSE_TIMES.get(time[:-1], "")):
        if spelling in TIME_UNITS:
            spellings.append(f"{number}{spelling}")
    return tuple(spellings)
