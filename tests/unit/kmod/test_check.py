"""What the module refuses, each with an error of its own (kmod/check.c)."""

from __future__ import annotations

import ctypes
import errno

import pytest

from kdumpd.scan import requests
from kdumpd.scan.requests import LAYOUT, UNKNOWN, Layout
from tests.unit.kmod import stubs
from tests.unit.kmod.structures import layout
from tests.unit.scan.layouts import TEXTS

_U64, _U32 = ctypes.c_uint64, ctypes.c_uint32
GIB = 1 << 30
GOOD = Layout(*LAYOUT.unpack(requests.pack_layout(layout("6.1"), 4096)))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """check.c, compiled natively."""
    library = stubs.library(tmp_path_factory.mktemp("check"))
    library.ks_check_layout.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
    library.ks_check_ranges.argtypes = (ctypes.c_void_p, _U32, _U64, _U64)
    library.ks_check_runs.argtypes = (ctypes.c_void_p, _U32, _U64, _U64, _U64)
    library.ks_check_old.argtypes = (_U64, _U64)
    return library


def settled(made: ctypes.CDLL, given: Layout, level: int = 31) -> tuple[int, Layout, int]:
    """(errno, the layout, the level) after the check."""
    packed = ctypes.create_string_buffer(LAYOUT.pack(*given), LAYOUT.size)
    left = _U32(level)
    error = -made.ks_check_layout(packed, ctypes.byref(left))
    return error, Layout(*LAYOUT.unpack(packed.raw)), left.value


def elements(made: ctypes.CDLL, kind: str, given: list[tuple[int, ...]], *more: int) -> int:
    """The errno for these ranges or runs in the window of page frames 0x40000 to 0x80000."""
    flat = [number for element in given for number in element]
    check = getattr(made, f"ks_check_{kind}")
    return -int(check((_U64 * max(len(flat), 1))(*flat), len(given), 0x40000, 0x80000, *more))


def test_every_layout_that_is_known_is_good(made: ctypes.CDLL) -> None:
    for kind in TEXTS:
        given = Layout(*LAYOUT.unpack(requests.pack_layout(layout(kind), 4096)))
        assert settled(made, given) == (0, given, 30), kind


@pytest.mark.parametrize(
    "change",
    [
        {"page_size": 2048},
        {"page_size": 131072},
        {"page_size": 5000},
        {"size": 24},
        {"size": 264},
        {"size": 60},
        {"size": UNKNOWN},
        {"flags": UNKNOWN},
        {"flags": 64},
        {"flags": 60},
        {"flags": 4},
        {"mapping": UNKNOWN - 7},
        {"mapcount": 62},
        {"mapcount": 61},
        {"mapcount": 64},
        {"private_offset": 1 << 40},
        {"compound_head": 63},
        {"second_order": 64},
        {"second_dtor": 64},
        {"slab_type": 1 << 32},
        {"buddy_type": UNKNOWN - 1},
        {"offline_type": 1 << 63},
        {"unaccepted_type": 1 << 32},
        {"free_orders": 20},
        {"free_orders": UNKNOWN},
        {"hugetlb": 4},
        {"hugetlb": UNKNOWN},
        {"hugetlb": 1, "hugetlb_value": 1 << 32},
        {"hugetlb": 2, "hugetlb_value": 64},
        {"hugetlb": 3, "hugetlb_value": 256},
        {"hugetlb": 3, "second_dtor": UNKNOWN},
    ],
    ids=str,
)
def test_a_layout_that_cannot_be_is_out_of_domain(made: ctypes.CDLL, change: dict[str, int]) -> None:
    assert settled(made, GOOD._replace(**change))[0] == errno.EDOM


def test_what_is_unknown_takes_its_class_out_of_the_level(made: ctypes.CDLL) -> None:
    assert settled(made, GOOD._replace(lru=0))[2] == 8 | 16
    assert settled(made, GOOD._replace(swapcache=UNKNOWN))[2] == 8 | 16
    assert settled(made, GOOD._replace(slab_flag=0, slab_type=UNKNOWN))[2] == 16
    without_free = settled(made, GOOD._replace(free_orders=0, unaccepted_type=5))[1]
    assert (without_free.buddy_type, without_free.unaccepted_type) == (UNKNOWN, UNKNOWN)


def test_the_largest_block_is_as_large_as_the_step_of_windows(made: ctypes.CDLL) -> None:
    assert settled(made, GOOD._replace(free_orders=requests.WINDOW_ORDER + 1))[0] == 0


@pytest.mark.parametrize(
    ("ranges", "error"),
    [
        ([], 0),
        ([(0, 0x50000), (0x50000, 0x60000), (0x70000, 0x90000)], 0),
        ([(0x50000, 0x50000)], errno.ERANGE),
        ([(0x50001, 0x50000)], errno.ERANGE),
        ([(0x60000, 0x70000), (0x50000, 0x60000)], errno.ERANGE),
        ([(0x50000, 0x60000), (0x5FFFF, 0x70000)], errno.ERANGE),
        ([(0, 0x40000)], errno.ERANGE),
        ([(0x80000, 0x90000)], errno.ERANGE),
        ([(0x70000, UNKNOWN)], errno.EOVERFLOW),
    ],
)
def test_ranges_ascend_apart_and_touch_the_window(made: ctypes.CDLL, ranges: list[tuple[int, ...]], error: int) -> None:
    assert elements(made, "ranges", ranges) == error


@pytest.mark.parametrize(
    ("runs", "error"),
    [
        ([], 0),
        ([(0x30000, 0x20000, 0x1000), (0x50000, 0x8000, 0x8)], 0),
        ([(0x50000, 0, 0x1000)], errno.ERANGE),
        ([(0x50000, 0x100, 0), (0x500FF, 0x100, 0x8000)], errno.ERANGE),
        ([(0x30000, 0x10000, 0)], errno.ERANGE),
        ([(0x80000, 1, 0)], errno.ERANGE),
        ([(0x50000, UNKNOWN, 0)], errno.EOVERFLOW),
        ([(UNKNOWN, 2, 0)], errno.EOVERFLOW),
        ([(0x50000, 1 << 51, 0)], errno.EOVERFLOW),
        ([(0x50000, 1, (1 << 46) - 56)], errno.EOVERFLOW),
        ([(0x50000, 1, (1 << 46) - 64)], 0),
        ([(0x50000, 1, UNKNOWN - 7)], errno.EOVERFLOW),
        ([(0x50000, 1, 4)], errno.EINVAL),
    ],
)
def test_runs_ascend_apart_and_their_structures_exist(
    made: ctypes.CDLL, runs: list[tuple[int, ...]], error: int
) -> None:
    assert elements(made, "runs", runs, 64) == error


def test_only_old_memory_is_mapped(made: ctypes.CDLL) -> None:
    assert made.ks_check_old(GIB, 2 * GIB) == 0
    assert made.ks_check_old(0x1E0FF000, 0x1E101000) == -errno.EBUSY
    assert made.ks_check_old(0x0FFFF000, 0x10001000) == -errno.EBUSY
    assert made.ks_check_old(2 * GIB, 3 * GIB + 4096) == -errno.EADDRNOTAVAIL
    assert made.ks_check_old(4 * GIB, 1 << 46) == 0
    assert made.ks_check_old(4 * GIB, (1 << 46) + 4096) == -errno.EOVERFLOW


def test_the_buffer_that_x86_leaves_behind_its_ram_is_old_memory(made: ctypes.CDLL) -> None:
    assert made.ks_check_old(0x1E100000, 0x1F800000) == 0
    assert made.ks_check_old(0x1F000000, 0x1F001000) == 0
    assert made.ks_check_old(0x1FC00000, 0x30000000) == 0
    assert made.ks_check_old(0x1F7FF000, 0x1F801000) == -errno.EADDRNOTAVAIL  # Reserved
    assert made.ks_check_old(0xFFFFF000, 4 * GIB + 4096) == -errno.EADDRNOTAVAIL


def test_encrypted_memory_is_left_to_the_user_engine(made: ctypes.CDLL) -> None:
    encrypted = ctypes.c_bool.in_dll(made, "encrypted")
    encrypted.value = True
    try:
        assert made.ks_check_old(GIB, 2 * GIB) == -errno.EOPNOTSUPP
    finally:
        encrypted.value = False
