"""Sizes, times and compression: what people write, and the values they become."""

from __future__ import annotations

import pytest

from kdumpd.policy.model import Compression, CompressionKind
from kdumpd.policy.units import nearest_spelling, parse_compression, parse_size, parse_time, render_size


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("65536", 65536), ("64K", 65536), ("2G", 2 << 30), ("1T", 1 << 40), ("0x1f", 31), ("0xFF", 255)],
)
def test_a_size_is_bytes_and_its_units_are_powers_of_1024(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "K", "1.5G", "-1", "64k", "1KiB", " 1", "1\n", "0x", "0x1G", "9" * 21, "٣"])
def test_what_is_not_a_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(text)


@pytest.mark.parametrize(("text", "seconds"), [("0s", 0), ("90s", 90), ("15min", 900), ("2h", 7200)])
def test_a_time_is_seconds(text: str, seconds: int) -> None:
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text", ["", "90", "15m", "1h30min", "1.5h", "-1s", "1s\n"])
def test_what_is_not_a_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a time"):
        parse_time(text)


@pytest.mark.parametrize(
    ("text", "kind", "level"),
    [
        ("zstd", CompressionKind.ZSTD, 1),
        ("zstd:3", CompressionKind.ZSTD, 3),
        ("zstd:22", CompressionKind.ZSTD, 22),
        ("zlib", CompressionKind.ZLIB, 1),
        ("zlib:9", CompressionKind.ZLIB, 9),
        ("none", CompressionKind.NONE, 0),
    ],
)
def test_compression_is_a_kind_and_a_level(text: str, kind: CompressionKind, level: int) -> None:
    assert parse_compression(text) == Compression(kind, level)


@pytest.mark.parametrize(
    "text", ["", "lzo", "zstd:", "zstd:0", "zstd:23", "zlib:10", "none:1", "zstd:1:2", "ZSTD", "zstd:٣"]
)
def test_what_is_not_a_compression_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"zstd|zlib|none"):
        parse_compression(text)


@pytest.mark.parametrize("size", [0, 1, 1023, 1024, 65536, 3 << 20, (3 << 20) + 1, 5 << 30, 7 << 40])
def test_a_rendered_size_reads_back_as_itself(size: int) -> None:
    assert parse_size(render_size(size)) == size


@pytest.mark.parametrize(
    ("text", "meant"),
    [("64k", "64K"), ("2 GiB", "2G"), ("1tb", "1T"), ("15 minutes", "15min"), ("15m", "15min"), ("3 hours", "3h")],
)
def test_another_spelling_of_a_unit_is_understood(text: str, meant: str) -> None:
    assert meant in nearest_spelling(text)
