"""A symbol looked up in the crashed kernel's kallsyms, in the three ways that kernels have kept addresses."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from struct import pack

import pytest

from kdumpd.errors import VmcoreError
from kdumpd.vmcore.kallsyms import address_of
from kdumpd.vmcore.vmcore import Vmcore
from tests.builders.vmcore import DIRECT, STRUCTURES, VmcoreBuilder

_NAMES = STRUCTURES
_COUNT = STRUCTURES + 0x180000
_TABLE = _COUNT + 0x1000
_INDEX = _COUNT + 0x4000
_OFFSETS = _COUNT + 0x5000
_BASE = _COUNT + 0x80000
_RELATIVE_BASE = 0xFFFFFFFF81000000


def _put(builder: VmcoreBuilder, symbols: Mapping[bytes, int], *, place_relative: bool = False) -> None:
    """Write kallsyms: each byte is a token of itself, and token 1 is "zone"; `symbols` to their stored offsets."""
    tokens = [bytes((byte,)) for byte in range(256)]
    tokens[0], tokens[1] = b"", b"zone"
    table = index = names = b""
    for token in tokens:
        index += pack("<H", len(table))
        table += token + b"\0"
    for name in symbols:
        encoded = b"T" + name.replace(b"zone", b"\1")
        length = len(encoded)
        names += bytes((length,)) if length < 0x80 else bytes((length & 0x7F | 0x80, length >> 7))
        names += encoded
    builder.write(_NAMES, names)
    builder.write(_COUNT, pack("<I", len(symbols)))
    builder.write(_TABLE, table)
    builder.write(_INDEX, index)
    builder.write(_OFFSETS, b"".join(pack("<I", offset & 0xFFFFFFFF) for offset in symbols.values()))
    builder.write(_BASE, pack("<Q", _RELATIVE_BASE))
    for key, at in (
        ("names", _NAMES),
        ("num_syms", _COUNT),
        ("token_table", _TABLE),
        ("token_index", _INDEX),
        ("offsets", _OFFSETS),
        *(() if place_relative else (("relative_base", _BASE),)),
    ):
        builder.info[f"SYMBOL(kallsyms_{key})"] = f"{DIRECT + at:x}"


def _look_up(builder: VmcoreBuilder, tmp_path: Path, name: bytes) -> int | None:
    with Vmcore.open(builder.save(tmp_path / "vmcore")) as core:
        return address_of(name, core.info, core.read_virtual)


def test_addresses_are_relative_to_the_base(tmp_path: Path) -> None:
    builder = VmcoreBuilder()
    _put(builder, {b"_stext": 0, b"vm_zone": 0x10, b"vm_zone_stat": 0x1234})
    assert _look_up(builder, tmp_path, b"vm_zone_stat") == _RELATIVE_BASE + 0x1234


def test_addresses_below_zero_count_from_the_base_downwards(tmp_path: Path) -> None:
    builder = VmcoreBuilder()
    _put(builder, {b"__per_cpu_start": 0, b"vm_zone_stat": -1 - 0x1234})
    assert _look_up(builder, tmp_path, b"vm_zone_stat") == _RELATIVE_BASE + 0x1234


def test_addresses_are_relative_to_their_place(tmp_path: Path) -> None:
    builder = VmcoreBuilder()
    _put(builder, {b"_stext": 0, b"vm_zone_stat": -0x1000}, place_relative=True)
    assert _look_up(builder, tmp_path, b"vm_zone_stat") == DIRECT + _OFFSETS + 4 - 0x1000


def test_long_names_and_many_windows_are_passed(tmp_path: Path) -> None:
    builder = VmcoreBuilder()
    _put(builder, {b"f%05d_" % number + b"x" * (number % 300): number for number in range(5000)})
    assert _look_up(builder, tmp_path, b"f04999_" + b"x" * 199) == _RELATIVE_BASE + 4999


def test_a_symbol_that_is_not_there_is_none(tmp_path: Path) -> None:
    builder = VmcoreBuilder()
    assert _look_up(builder, tmp_path, b"vm_zone_stat") is None
    _put(builder, {b"_stext": 0})
    assert _look_up(builder, tmp_path, b"vm_zone_stat") is None


def test_a_count_beyond_reason_is_an_error(tmp_path: Path) -> None:
    builder = VmcoreBuilder()
    _put(builder, {b"_stext": 0})
    builder.write(_COUNT, pack("<I", 0xFFFFFFFF))
    with pytest.raises(VmcoreError, match="kallsyms of 4294967295 symbols"):
        _look_up(builder, tmp_path, b"vm_zone_stat")


def test_free_pages_come_from_the_sum_of_zones_where_the_nodes_are_not_named(tmp_path: Path) -> None:
    builder = VmcoreBuilder(info={"SYMBOL(node_data)": None})
    counters = STRUCTURES + 0x170000
    builder.write(counters, pack("<q", 4711))
    _put(builder, {b"vm_zone_stat": counters - _OFFSETS}, place_relative=True)
    with Vmcore.open(builder.save(tmp_path / "vmcore")) as core:
        assert core.free_pages() == 4711


@pytest.mark.parametrize("table", [b"a" * 600 + b"\0", b"a" * 8192])
def test_a_token_that_does_not_end_is_refused(tmp_path: Path, table: bytes) -> None:
    builder = VmcoreBuilder()
    _put(builder, {b"vm_zone_stat": 4})
    builder.write(_TABLE, table)
    with pytest.raises(VmcoreError, match="kallsyms token at 0 is cut or has more than 512 bytes"):
        _look_up(builder, tmp_path, b"vm_zone_stat")
