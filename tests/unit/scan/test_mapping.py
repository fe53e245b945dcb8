"""How memory is mapped: what is chosen and why, what may be mapped, what page tables it takes."""

from __future__ import annotations

import pytest

from kdumpd.policy.model import MappingPageSize, MappingStrategy
from kdumpd.scan.mapping import GIB, KIB, MANY_RUNS, MIB, Machine, choose, for_pages, leaves, linear_ranges, table_bytes
from kdumpd.scan.requests import Strategy
from kdumpd.vmcore.memory import Range, Ranges

TIB = 1 << 40
AUTO, SIZE = MappingStrategy.AUTO, MappingPageSize.AUTO

X86 = "processor\t: 0\nflags\t\t: fpu pse pdpe1gb lm\n"
MEMINFO = "MemTotal:  178000 kB\nMemAvailable:   131072 kB\n"
IOMEM = """00000000-00000fff : Reserved
00001000-0009fbff : System RAM
000a0000-000bffff : PCI Bus 0000:00
35000000-3ef5ffff : System RAM
  36000000-36ffffff : Kernel code
3ef60000-3fffffff : RAM buffer
"""


def of_size(size: int) -> Ranges:
    """Memory as q35 has it: the first megabyte apart, 2 GiB low, the rest from 4 GiB on."""
    low = min(size, 2 * GIB)
    high = [(4 * GIB, 4 * GIB + size - low)] if size > low else []
    return Ranges([(MIB, low), *high])


def machine(leaf_shift: int = 30, available: int = 128 * MIB) -> Machine:
    return Machine(leaf_shift, available, Ranges([]))


@pytest.mark.parametrize(
    ("size", "runs", "here", "wanted"),
    [
        (2 * GIB, 2, machine(), Strategy.LINEAR),
        (960 * GIB, 5, machine(), Strategy.LINEAR),
        (16 * TIB, 5, machine(), Strategy.LINEAR),
        # no pdpe1gb: 512 leaves a GiB, which a small machine does not feel
        (4 * GIB, 2, machine(21), Strategy.LINEAR),
        (64 * GIB, 2, machine(21), Strategy.CHUNK),
        (64 * GIB, MANY_RUNS + 1, machine(21), Strategy.LINEAR),
        (16 * TIB, MANY_RUNS + 1, machine(21), Strategy.CHUNK),  # 64 MiB of page tables
        # nohugeiomap: 2 MiB of page tables a GiB
        (2 * GIB, 2, machine(12), Strategy.CHUNK),
        (2 * GIB, MANY_RUNS + 1, machine(12), Strategy.CHUNK),
        (2 * GIB, 2, machine(30, 0), Strategy.CHUNK),
        (0, 2, machine(), Strategy.CHUNK),
    ],
)
def test_linear_where_its_page_tables_are_cheap(size: int, runs: int, here: Machine, wanted: Strategy) -> None:
    choice = choose(AUTO, SIZE, runs, of_size(size) if size else Ranges([]), here)
    assert choice.strategy is wanted
    assert choice.why.startswith(wanted.name.lower())
    assert "\n" not in choice.why


@pytest.mark.parametrize("strategy", [MappingStrategy.LINEAR, MappingStrategy.CHUNK, MappingStrategy.PAGE])
@pytest.mark.parametrize(
    ("size", "shift"),
    [(MappingPageSize.AUTO, 30), (MappingPageSize.GIB_1, 30), (MappingPageSize.MIB_2, 21), (MappingPageSize.KIB_4, 12)],
)
def test_policys_wish_is_obeyed(strategy: MappingStrategy, size: MappingPageSize, shift: int) -> None:
    choice = choose(strategy, size, 2, of_size(64 * GIB), machine(12, 0))
    assert (choice.strategy.name.lower(), choice.page_shift) == (strategy.value, shift)
    assert choice.why == f"{strategy.value} by the policy"


def test_page_size_of_the_policy_counts_for_the_choice() -> None:
    choice = choose(AUTO, MappingPageSize.KIB_4, 2, of_size(2 * GIB), machine())
    assert (choice.strategy, choice.page_shift) == (Strategy.CHUNK, 12)


def test_reason_names_tables_memory_and_runs() -> None:
    why = choose(AUTO, SIZE, 2, of_size(960 * GIB), machine()).why
    assert why == "linear: 20 KiB of page tables for 960.0 GiB by 1G, mem_map in 2 runs"
    why = choose(AUTO, SIZE, 513, of_size(16 * TIB), machine(21)).why
    assert why == (
        "chunk: linear would take 65676 KiB of page tables for 16384.0 GiB by 2M, of 32768 KiB allowed, "
        "mem_map in more than 512 runs"
    )
    why = choose(AUTO, SIZE, 2, of_size(64 * GIB), machine(21)).why
    assert why == "chunk: linear would be slower, 33023 pages to map, mem_map in 2 runs"


@pytest.mark.parametrize(
    ("size", "shift", "tables"),
    [
        # 1 GiB leaves but for the head of the low memory, which starts at 1 MiB.
        (960 * GIB, 30, 1 + 1 + 3),
        (960 * GIB, 21, 1 + 960 + 3),
        (4 * GIB, 12, 4 * 512 + 4 + 2),
    ],
)
def test_page_tables_of_a_linear_map(size: int, shift: int, tables: int) -> None:
    assert table_bytes(of_size(size), shift) == tables * 4 * KIB


@pytest.mark.parametrize(
    ("start", "end", "shift", "found"),
    [
        (MIB, 2 * GIB, 30, (1, 511, 256)),
        (MIB, 2 * GIB, 21, (0, 1023, 256)),
        (MIB, 2 * GIB, 12, (0, 0, 524032)),
        (4 * GIB, 960 * GIB, 30, (956, 0, 0)),
        (GIB + MIB, GIB + 3 * MIB, 30, (0, 0, 512)),
        (GIB - 4096, GIB + 4096, 30, (0, 0, 2)),
    ],
)
def test_leaves_are_as_large_as_fit(start: int, end: int, shift: int, found: tuple[int, int, int]) -> None:
    assert leaves([Range(start, end)], shift) == found


@pytest.mark.parametrize(
    ("size", "leaf", "available", "kept", "mapped"),
    [
        (512 * GIB, 21, 128 * MIB, 2_100_000, True),  # 2 MiB of page tables; mem_map alone is that many pages
        (512 * GIB, 21, 128 * MIB, 90_000, False),  # 97 ms to map for 90 to win
        (512 * GIB, 21, 16 * MIB, 2_100_000, False),
        (64 * GIB, 12, 128 * MIB, 20_000_000, False),  # 128 MiB of page tables
        (2 * GIB, 12, 128 * MIB, 400_000, True),
        (2 * GIB, 12, 128 * MIB, 0, False),
        (0, 30, 128 * MIB, 0, False),
    ],
)
def test_pages_are_gathered_where_a_map_costs_less_than_that_saves(
    size: int, leaf: int, available: int, kept: int, mapped: bool
) -> None:
    ranges = of_size(size) if size else Ranges([])
    choice = for_pages(SIZE, ranges, kept, Machine(leaf, available, Ranges([])))
    assert (choice is not None) == mapped
    assert choice is None or choice.strategy is Strategy.LINEAR


def test_page_tables_a_tib_are_within_the_aims() -> None:
    assert table_bytes(of_size(TIB), 30) <= 64 * KIB
    for tib in (4, 16, 64):
        assert table_bytes(of_size(tib * TIB), 30) <= 64 * KIB * tib
        assert table_bytes(of_size(tib * TIB), 21) <= 4.1 * MIB * tib
        assert table_bytes(of_size(tib * TIB), 12) >= 2048 * MIB * tib


def test_range_that_no_large_page_fits_takes_small_ones() -> None:
    assert table_bytes([Range(3 * MIB, 4 * MIB)], 30) == 3 * 4 * KIB
    assert table_bytes([Range(MIB, 3 * MIB)], 30) == (2 + 1 + 1) * 4 * KIB


def test_linear_ranges_leave_out_what_is_not_old_memory() -> None:
    stored = [Range(0x1000, 0x9FC00), Range(MIB, 64 * MIB), Range(100 * MIB + 100, 101 * MIB - 100)]
    hands_off = [Range(2 * MIB, 2 * MIB + 0x1000)]
    own = [Range(8 * MIB + 1, 16 * MIB), Range(60 * MIB, 100 * MIB)]
    assert list(linear_ranges(stored, hands_off, own)) == [
        Range(MIB, 2 * MIB),
        Range(2 * MIB + 0x1000, 8 * MIB),
        Range(16 * MIB, 60 * MIB),
        Range(100 * MIB + 0x1000, 101 * MIB - 0x1000),
    ]


def test_linear_ranges_are_whole_pages_of_this_kernel() -> None:
    assert list(linear_ranges([Range(MIB + 4096, 2 * MIB + 4096)], [], [], 65536)) == [Range(MIB + 65536, 2 * MIB)]


def test_machine_is_what_proc_tells() -> None:
    here = Machine.of(X86, MEMINFO, "root=/dev/vda quiet\n", IOMEM)
    assert here.leaf_shift == 30
    assert here.available == 128 * MIB
    assert list(here.own) == [Range(0, 0x9FC00), Range(0xA0000, 0xC0000), Range(0x35000000, 0x3EF60000)]


@pytest.mark.parametrize(
    ("cpuinfo", "command_line", "granule", "shift"),
    [
        (X86, "", 4096, 30),
        (X86.replace("pdpe1gb ", ""), "", 4096, 21),
        (X86, "a nohugeiomap b", 4096, 12),
        ("processor\t: 0\nFeatures\t: fp asimd\n", "", 4096, 30),
        ("processor\t: 0\nFeatures\t: fp asimd\n", "", 65536, 21),
    ],
)
def test_largest_page_is_what_processor_and_command_line_allow(
    cpuinfo: str, command_line: str, granule: int, shift: int
) -> None:
    assert Machine.of(cpuinfo, MEMINFO, command_line, IOMEM, granule).leaf_shift == shift


def test_machine_that_tells_nothing_has_no_memory_to_spend() -> None:
    here = Machine.of("", "", "", "00000000-00000000 : System RAM\n")
    assert (here.available, len(here.own)) == (0, 0)


def test_this_machine_can_be_asked() -> None:
    assert Machine.here().available > 0
