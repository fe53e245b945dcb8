"""The dump reader against hostile files: every answer is a DumpError of one line or a verdict, never anything else."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from kdumpd.dumpfile.format import HEADER, SUB_HEADER, Header, SubHeader
from kdumpd.dumpfile.info import info
from kdumpd.dumpfile.reader import Dump
from kdumpd.dumpfile.verify import verify
from kdumpd.errors import DumpError, VmcoreError
from kdumpd.vmcore.vmcore import Vmcore
from tests.unit.dumpfile import crash

EXAMPLES = 300
RUNS = [
    (0x100, 0x300),
    (0x800, 8),
    (0x900, 8),
    (0xA00, 8),
    (0x1300, 40),
    (0x1780, 3),
]  # small, with the page tables and the log in it


@cache
def good() -> bytes:
    """A small dump; one for all examples."""
    with TemporaryDirectory() as folder:
        path = crash.save_vmcore(Path(folder) / "vmcore")
        with Vmcore.open(path) as core:
            crash.dump(core, Path(folder) / "dump", runs=RUNS)
        return (Path(folder) / "dump").read_bytes()


def read_all(content: bytes) -> str:
    """What the reader makes of such a file: a verdict, or the error's text."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "dump"
        path.write_bytes(content)
        try:
            with Dump.open(str(path)) as dump:
                verdict = verify(dump).verdict
                info(dump)
                for pfn in (0, 0x1301, 0xFFFF, 1 << 40):
                    read(dump, pfn)
                return verdict
        except (DumpError, VmcoreError) as error:
            assert "\n" not in str(error)
            assert str(error).startswith(str(path))
            return str(error)


def read(dump: Dump, pfn: int) -> bytes:
    try:
        return dump.read(pfn * dump.layout.block_size + 7, 5000)
    except VmcoreError as error:
        return str(error).encode()


def test_the_dump_that_is_spoilt_here_is_good_before() -> None:
    assert read_all(good()) == "good"


def numbers(code: str) -> st.SearchStrategy[int]:
    size = struct.calcsize(code)
    signed = code in "qi"
    low, high = (-(1 << 8 * size - 1), (1 << 8 * size - 1) - 1) if signed else (0, (1 << 8 * size) - 1)
    usual = st.sampled_from([0, 1, 2, 3, 4096, 4200, 65536, high, low, high // 2])
    return st.one_of(usual, st.integers(low, high), st.integers(0, 1 << 20))


HEADER_FIELDS = {
    "version": "i",
    "seconds": "q",
    "microseconds": "q",
    "block_size": "i",
    "sub_header_blocks": "i",
    "bitmap_blocks": "I",
    "max_mapnr": "I",
    "cpus": "i",
}
SUB_HEADER_FIELDS = dict(zip(SubHeader._fields, "QiiQQqQqQqQQQQ", strict=True))


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    st.fixed_dictionaries({}, optional={name: numbers(code) for name, code in HEADER_FIELDS.items()}),
    st.fixed_dictionaries({}, optional={name: numbers(code) for name, code in SUB_HEADER_FIELDS.items()}),
)
def test_headers_that_lie(header_changes: dict[str, int], sub_header_changes: dict[str, int]) -> None:
    content = bytearray(good())
    header = Header.unpack(bytes(content))
    sub_header = SubHeader.unpack(bytes(content[4096:]))
    content[: HEADER.size] = HEADER.pack(
        *HEADER.unpack(header.pack())[:3],
        *(header_changes.get(name, getattr(header, name)) for name in ("seconds", "microseconds")),
        int(header.status),
        *(
            header_changes.get(name, getattr(header, name))
            for name in ("block_size", "sub_header_blocks", "bitmap_blocks", "max_mapnr")
        ),
        0,
        0,
        0,
        0,
        header_changes.get("cpus", header.cpus),
    )
    content[4096 : 4096 + SUB_HEADER.size] = sub_header._replace(**sub_header_changes).pack()
    read_all(bytes(content))


def spans(size: int) -> st.SearchStrategy[tuple[int, bytes]]:
    """A place in the file, more often in its first pages, and bytes to put there."""
    place = st.one_of(st.integers(0, size - 1), st.integers(0, 30000))
    return st.tuples(place, st.binary(min_size=1, max_size=64))


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.data())
def test_bytes_changed_anywhere_and_the_end_cut_off(data: st.DataObject) -> None:
    content = bytearray(good())
    for place, changed in data.draw(st.lists(spans(len(content)), max_size=8)):
        content[place : place + len(changed)] = changed
    cut = data.draw(st.one_of(st.none(), st.integers(0, len(content))))
    read_all(bytes(content[:cut]))


@settings(max_examples=EXAMPLES // 3, deadline=None)
@given(st.binary(max_size=20000))
def test_random_bytes_behind_a_signature(content: bytes) -> None:
    assert read_all(b"KDUMP   " + content) not in ("good", "incomplete")


@settings(max_examples=EXAMPLES // 3, deadline=None)
@given(st.binary(max_size=5000))
def test_random_bytes(content: bytes) -> None:
    assert "no dump" in read_all(content)


def windows(content: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


@settings(max_examples=EXAMPLES // 3, deadline=None)
@given(st.integers(0, 1 << 32), st.sampled_from([24, 512, 4096]))
def test_pieces_of_the_file_in_another_order(seed: int, size: int) -> None:
    shuffled = list(windows(good(), size))[464 // size + 1 :]
    Random(seed).shuffle(shuffled)
    head = good()[: size * (464 // size + 1)]
    read_all(head + b"".join(shuffled))
