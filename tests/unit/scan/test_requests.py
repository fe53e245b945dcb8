"""kdumpd/scan/requests.py declares what kmod/kdumpd_scan.h does, byte by byte: the compiler says so."""

from __future__ import annotations

import re
import struct
import subprocess
from pathlib import Path

import pytest

from kdumpd.scan import requests
from kdumpd.vmcore.layout import MAX_BLOCK_ORDER
from tests.unit.scan.layouts import TEXTS, layout

HEADER = Path(__file__).parents[3] / "kmod" / "kdumpd_scan.h"

# structure: (its fields here, how they are packed)
STRUCTURES = {
    "kdumpd_range": (("start", "end"), requests.RANGE),
    "kdumpd_run": (("first_pfn", "pages", "physical"), requests.RUN),
    "kdumpd_map": (requests.Map._fields, requests.MAP),
    "kdumpd_layout": (requests.Layout._fields, requests.LAYOUT),
    "kdumpd_scan": (requests.Scan._fields, requests.SCAN),
    "kdumpd_gather": (requests.Gather._fields, requests.GATHER),
    "kdumpd_unmap": (requests.Unmap._fields, requests.UNMAP),
    "kdumpd_progress": (requests.Progress._fields, requests.PROGRESS),
}
COUNTS = requests.Scan._fields[requests.Scan._fields.index("total") : -1]
# What is called otherwise in C, or lies deeper.
IN_C = {
    ("kdumpd_map", "range_count"): "count",
    ("kdumpd_map", "leaves_1g"): "leaves[0]",
    ("kdumpd_map", "leaves_2m"): "leaves[1]",
    ("kdumpd_map", "leaves_4k"): "leaves[2]",
    **{("kdumpd_scan", name): f"counts.{name}" for name in COUNTS},
    ("kdumpd_scan", "hands_off_pages"): "counts.hands_off",
}
CONSTANTS = {
    "KDUMPD_SCAN_VERSION": requests.VERSION,
    "KDUMPD_UNKNOWN": requests.UNKNOWN,
    "KDUMPD_WINDOW_ORDER": requests.WINDOW_ORDER,
    "KDUMPD_MOST_RANGES": requests.MOST_RANGES,
    "KDUMPD_MOST_RUNS": requests.MOST_RUNS,
    "KDUMPD_MAP": requests.KDUMPD_MAP,
    "KDUMPD_SCAN": requests.KDUMPD_SCAN,
    "KDUMPD_GATHER": requests.KDUMPD_GATHER,
    "KDUMPD_UNMAP": requests.KDUMPD_UNMAP,
    "KDUMPD_PROGRESS": requests.KDUMPD_PROGRESS,
    **{f"KDUMPD_{strategy.name}": strategy for strategy in requests.Strategy},
    **{f"KDUMPD_HUGETLB_{mark.name}": value for mark, value in requests.HUGETLB.items()},
}


def places(fields: tuple[str, ...], packed: struct.Struct) -> list[tuple[str, int, int]]:
    """(field, offset, bytes) of each field here."""
    codes = "".join(code * int(count or 1) for count, code in re.findall(r"(\d*)([IQ])", packed.format))
    assert len(codes) == len(fields)
    return [
        (name, struct.calcsize(f"={codes[:at]}"), struct.calcsize(f"={codes[at]}")) for at, name in enumerate(fields)
    ]


@pytest.fixture(scope="module")
def in_c(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """What the compiler makes of the header: expression to value."""
    folder = tmp_path_factory.mktemp("header")
    asked = [*CONSTANTS]
    for name, (fields, _) in STRUCTURES.items():
        asked.append(f"sizeof(struct {name})")
        for field in fields:
            member = IN_C.get((name, field), field)
            asked.append(f"offsetof(struct {name}, {member})")
            asked.append(f"sizeof(((struct {name} *)0)->{member})")
    lines = "\n".join(f'\tprintf("%llu\\n", (unsigned long long)({expression}));' for expression in asked)
    source = folder / "ask.c"
    source.write_text(
        f'#include <stdio.h>\n#include <stddef.h>\n#include "{HEADER}"\nint main(void)\n{{\n{lines}\n\treturn 0;\n}}\n'
    )
    subprocess.run(["gcc", "-Wall", "-Wextra", "-Werror", "-o", folder / "ask", source], check=True)
    answer = subprocess.run([folder / "ask"], check=True, capture_output=True, text=True)
    return dict(zip(asked, map(int, answer.stdout.split()), strict=True))


@pytest.mark.parametrize("name", STRUCTURES)
def test_structure_has_the_size_and_every_field_its_place(name: str, in_c: dict[str, int]) -> None:
    fields, packed = STRUCTURES[name]
    assert packed.size == in_c[f"sizeof(struct {name})"]
    for field, offset, size in places(fields, packed):
        member = IN_C.get((name, field), field)
        assert offset == in_c[f"offsetof(struct {name}, {member})"], field
        assert size == in_c[f"sizeof(((struct {name} *)0)->{member})"], field


def test_every_structure_of_the_header_is_declared_here() -> None:
    declared = set(re.findall(r"^struct (\w+) {", HEADER.read_text(), re.MULTILINE))
    assert declared == {*STRUCTURES, "kdumpd_counts"}


def test_every_field_of_the_header_is_declared_here(in_c: dict[str, int]) -> None:
    # Sizes agree and no two fields here share a place: so no field of the header can be missing.
    for name, (fields, packed) in STRUCTURES.items():
        assert sum(size for _, _, size in places(fields, packed)) == in_c[f"sizeof(struct {name})"]


def test_numbers_of_requests_and_constants_are_the_headers(in_c: dict[str, int]) -> None:
    assert {name: in_c[name] for name in CONSTANTS} == CONSTANTS


def test_windows_are_as_large_as_the_largest_block() -> None:
    assert requests.WINDOW_ORDER == MAX_BLOCK_ORDER


@pytest.mark.parametrize("kernel", TEXTS)
def test_layout_is_packed_with_its_unknowns(kernel: str) -> None:
    known = layout(kernel)
    packed = requests.Layout._make(requests.LAYOUT.unpack(requests.pack_layout(known, 4096)))
    assert (packed.page_size, packed.size, packed.private_offset) == (4096, 64, known.private)
    assert packed.unaccepted_type == (requests.UNKNOWN if known.unaccepted_type is None else known.unaccepted_type)
    assert packed.second_dtor == (requests.UNKNOWN if known.second_dtor is None else known.second_dtor)
    assert bool(packed.slab_flag) == (packed.slab_type == requests.UNKNOWN)
    assert packed.free_orders == 11


def test_layout_without_free_pages_has_no_orders() -> None:
    packed = requests.Layout._make(requests.LAYOUT.unpack(requests.pack_layout(layout("6.1", without="BUDDY"), 4096)))
    assert (packed.buddy_type, packed.free_orders) == (requests.UNKNOWN, 0)


def test_fact_that_is_not_known_is_a_mask_of_zero() -> None:
    known = layout("6.1", without="PG_hwpoison")
    assert requests.Layout._make(requests.LAYOUT.unpack(requests.pack_layout(known, 4096))).hwpoison == 0
