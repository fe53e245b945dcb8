"""Times of a capture, read from a console; the peer's image by part."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from bench.captures import OURS, ConsoleLine, Times, times
from bench.kdump_tools.capture import MARKS, parts
from kdumpd.image import archive

FIRST_KERNEL = (
    ConsoleLine(1.0, "[    0.000000] Linux version 6.1.0"),
    ConsoleLine(4.0, "[    3.000000] Run /init as init process"),
    ConsoleLine(5.0, "kdumpd: +1.00 s mem=30 M dump: begins, 800 s at most"),
)


def test_times_count_from_the_first_line_of_the_second_kernel() -> None:
    console = (
        *FIRST_KERNEL,
        ConsoleLine(20.0, "[    0.000000] Linux version 6.1.0"),
        ConsoleLine(23.0, "[    2.900000] Run /init as init process"),
        ConsoleLine(24.5, "[    4.500000] kdumpd: +4.60 s mem=32 M start: kdumpd 0.1.0"),
        ConsoleLine(25.5, "[    5.500000] kdumpd: +5.60 s mem=30 M dump: begins, 800 s at most"),
        ConsoleLine(30.0, "[    9.900000] kdumpd: +9.99 s mem=20 M dump: saved: 10 pages, 4096 bytes"),
    )
    assert times(console, OURS) == Times(3.0, 4.5, 5.5, 10.0)


def test_a_capture_without_an_end_names_what_it_did_not_say() -> None:
    console = (*FIRST_KERNEL, ConsoleLine(20.0, "[    0.000000] Linux version 6.1.0"))
    with pytest.raises(LookupError, match="Run /init"):
        times(console, OURS)
    with pytest.raises(LookupError, match="no capture kernel"):
        times(FIRST_KERNEL, OURS)


def test_the_peers_dump_counts_as_saved_once_it_is_synced() -> None:
    console = (
        *FIRST_KERNEL,
        ConsoleLine(20.0, "[    0.000000] Linux version 6.1.0"),
        ConsoleLine(23.0, "[    2.900000] Run /init as init process"),
        ConsoleLine(60.0, "[   40.100000] kdump-tools[210]: Starting kdump-tools:"),
        ConsoleLine(61.0, "running makedumpfile -F -c -d 31 /proc/vmcore | compress > /var/crash/1/dump-incomplete."),
        ConsoleLine(75.0, "kdump-tools: saved vmcore in /var/crash/1."),
        ConsoleLine(76.0, "Tue, 24 Nov 2026 08:00:00 +0000"),
    )
    assert times(console, MARKS) == Times(3.0, 40.0, 41.0, 56.0)


def test_the_peers_image_is_told_by_part(tmp_path: Path) -> None:
    plain = archive.pack(
        [
            archive.file("usr/lib/modules/6.1/a.ko", b"m" * 10),
            archive.file("usr/lib/libc.so.6", b"l" * 20),
            archive.file("usr/bin/busybox", b"b" * 30),
        ]
    )
    initrd = tmp_path / "initrd"
    initrd.write_bytes(gzip.compress(plain))
    assert parts(initrd) == {"kernel modules": 10, "libraries": 20, "programs and scripts": 30}
