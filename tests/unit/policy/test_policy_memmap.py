"""Memory hints: what they come to on a machine, and what is refused and why."""

from __future__ import annotations

import pytest

from kdumpd.errors import PolicyError
from kdumpd.policy.memmap import ResolvedHints, resolve
from kdumpd.policy.model import HintKind, MemmapHint
from kdumpd.policy.ranges import ByteRange, common, merged, without

IOMEM = """\
00000000-00000fff : Reserved
00001000-0009fbff : System RAM
000f0000-000fffff : System ROM
00100000-7ffddfff : System RAM
  01000000-01ffffff : Kernel code
  2f000000-36ffffff : Crash kernel
7ffde000-7fffdfff : ACPI Tables
7fffe000-7fffffff : ACPI Tables
80000000-8fffffff : ACPI Non-volatile Storage
b0000000-bfffffff : PCI MMCONFIG 0000 [bus 00-ff]
100000000-17fffffff : System RAM
"""
RESERVATION = ((0x2F000000, 0x37000000),)
RAM, ACPI, RESERVED, MAP = HintKind.RAM, HintKind.ACPI, HintKind.RESERVED, HintKind.MAP


def number(kind: HintKind, start: int, size: int) -> MemmapHint:
    return MemmapHint(kind, None, start, size)


def name(kind: HintKind, range_name: str) -> MemmapHint:
    return MemmapHint(kind, range_name, None, None)


def resolved(
    *hints: MemmapHint,
    iomem: str = IOMEM,
    reservation: tuple[ByteRange, ...] = RESERVATION,
    machine: str = "x86_64",
) -> ResolvedHints:
    return resolve(hints, iomem, reservation, machine)


def refused(
    *hints: MemmapHint,
    iomem: str = IOMEM,
    reservation: tuple[ByteRange, ...] = RESERVATION,
    machine: str = "x86_64",
) -> tuple[str, ...]:
    with pytest.raises(PolicyError) as caught:
        resolve(hints, iomem, reservation, machine)
    return caught.value.problems


def test_no_hints_come_to_nothing_on_every_architecture() -> None:
    assert resolved() == resolved(machine="aarch64") == resolved(iomem="", reservation=()) == ResolvedHints((), ())


def test_reserved_memory_becomes_nn_at_dollar_and_is_kept_hands_off() -> None:
    assert resolved(number(RESERVED, 0x18690000, 0x10000)) == ResolvedHints(
        ("memmap=64K$0x18690000",), ((0x18690000, 0x186A0000),)
    )


def test_acpi_memory_becomes_nn_at_hash_and_is_kept_hands_off() -> None:
    assert resolved(number(ACPI, 0x7FFDE000, 0x22000)) == ResolvedHints(
        ("memmap=136K#0x7ffde000",), ((0x7FFDE000, 0x80000000),)
    )


def test_ram_inside_the_reservation_becomes_nn_at_at_and_is_not_kept_hands_off() -> None:
    assert resolved(number(RAM, 0x30000000, 1 << 20)) == ResolvedHints(("memmap=1M@0x30000000",), ())


def test_hands_off_covers_every_page_that_a_range_touches() -> None:
    assert resolved(number(RESERVED, 0x18690001, 0x1000)) == ResolvedHints(
        ("memmap=4K$0x18690001",), ((0x18690000, 0x18692000),)
    )


@pytest.mark.parametrize("written", ["ACPI Tables", "acpi-tables", "acpi_tables", " ACPI  TABLES "])
def test_a_name_stands_for_every_range_that_iomem_lists_under_it(written: str) -> None:
    assert resolved(name(ACPI, written)).arguments == ("memmap=136K#0x7ffde000",)


def test_a_name_may_stand_for_ranges_inside_others() -> None:
    assert resolved(name(RESERVED, "kernel-code")).hands_off == ((0x1000000, 0x2000000),)


def test_ranges_of_one_kind_that_touch_or_overlap_are_merged() -> None:
    hints = (number(RESERVED, 0x3000, 0x1000), number(RESERVED, 0x1000, 0x1800), number(RESERVED, 0x2000, 0x1000))
    assert resolved(*hints) == ResolvedHints(("memmap=12K$0x1000",), ((0x1000, 0x4000),))


def test_arguments_are_sorted_by_address_and_hands_off_merges_the_kinds() -> None:
    hints = (number(RESERVED, 0x2000, 0x1000), number(RAM, 0x30000000, 0x1000), number(ACPI, 0x1000, 0x1000))
    assert resolved(*hints) == ResolvedHints(
        ("memmap=4K#0x1000", "memmap=4K$0x2000", "memmap=4K@0x30000000"), ((0x1000, 0x3000),)
    )


@pytest.mark.parametrize(
    ("start", "size"), [(0x10000000, 0x1000), (0x2EFFF000, 0x200000), (0x36000000, 0x2000000), (0x100000, 0x7FEDE000)]
)
def test_ram_outside_the_reservation_is_refused_as_it_overwrites_the_evidence(start: int, size: int) -> None:
    (problem,) = refused(number(RAM, start, size))
    assert problem == (
        f"memmap[0]: {start:#x}-{start + size:#x} leaves the reservation 0x2f000000-0x37000000: as RAM of the capture "
        "kernel it would overwrite what is to be dumped; keep to 0x2f100000-0x36f00000"
    )


@pytest.mark.parametrize(("start", "size"), [(0x2F000000, 0x8000000), (0x2F0FF000, 0x2000), (0x36F00000, 0x1000)])
def test_ram_over_the_ends_of_the_reservation_is_refused_as_the_vmcore_s_headers_lie_there(
    start: int, size: int
) -> None:
    (problem,) = refused(number(RAM, start, size))
    assert "touches the first or last MiB of the reservation" in problem
    assert problem.endswith("; keep to 0x2f100000-0x36f00000")


def test_ram_may_lie_in_either_part_of_a_reservation_of_two() -> None:
    two = ((0x2F000000, 0x37000000), (0x140000000, 0x150000000))
    assert resolved(number(RAM, 0x145000000, 0x1000), reservation=two).arguments == ("memmap=4K@0x145000000",)
    assert "0x2f100000-0x36f00000 or 0x140100000-0x14ff00000" in refused(number(RAM, 0x37000000, 1), reservation=two)[0]


def test_ram_without_a_reservation_is_refused() -> None:
    problems = refused(number(RAM, 0x1000, 0x1000), reservation=())
    assert problems == ("memmap[0]: ram needs a reservation to lie in, and there is none; boot with crashkernel=",)


@pytest.mark.parametrize("kind", [ACPI, RESERVED])
def test_other_kinds_over_the_reservation_are_refused(kind: HintKind) -> None:
    assert refused(number(kind, 0x36FFF000, 0x2000), name(kind, "system-ram")) == (
        "memmap[0]: 0x36fff000-0x37001000 overlaps the reservation 0x2f000000-0x37000000, which the capture "
        "kernel runs in; keep outside it",
        "memmap[1]: 0x100000-0x7ffde000 overlaps the reservation 0x2f000000-0x37000000, which the capture "
        "kernel runs in; keep outside it",
    )


def test_a_range_that_only_touches_the_reservation_is_allowed() -> None:
    hints = (number(RESERVED, 0x2EFFF000, 0x1000), number(RESERVED, 0x37000000, 0x1000))
    assert len(resolved(*hints).arguments) == 2


def test_hints_of_two_kinds_that_overlap_are_refused_and_both_are_named() -> None:
    (problem,) = refused(name(ACPI, "acpi-tables"), number(RESERVED, 0x7FFFF000, 0x1000))
    assert problem == (
        "memmap[1]: 0x7ffff000-0x80000000 overlaps memmap[0], which is acpi; keep ranges of different kinds apart"
    )


@pytest.mark.parametrize(
    ("written", "right"),
    [("acpi-table", "did you mean acpi-tables?"), ("zzz", "name a range that it lists, or give start and size")],
)
def test_a_name_that_iomem_does_not_list_is_refused(written: str, right: str) -> None:
    assert refused(name(ACPI, written)) == (f"memmap[0]: /proc/iomem lists no range named {written!r}; {right}",)


def test_hidden_addresses_are_refused_as_such() -> None:
    hidden = "00000000-00000000 : System RAM\n  00000000-00000000 : Crash kernel\n"
    assert refused(name(ACPI, "system-ram"), iomem=hidden) == (
        "memmap[0]: /proc/iomem hides its addresses from this user; run this as root",
    )


@pytest.mark.parametrize("machine", ["aarch64", "ppc64le"])
def test_hints_are_refused_where_the_kernel_has_no_memmap(machine: str) -> None:
    assert refused(number(RESERVED, 0x1000, 0x1000), machine=machine) == (
        f"memmap[0]: the kernel of {machine} has no memmap= parameter, only that of x86_64; remove the hint",
    )


def test_a_name_that_comes_to_more_ranges_than_a_map_holds_is_refused() -> None:
    iomem = "".join(f"{number * 0x2000:08x}-{number * 0x2000 + 0xFFF:08x} : Reserved\n" for number in range(33))
    (problem,) = refused(number(ACPI, 0x1F000000, 0x1000), name(RESERVED, "reserved"), iomem=iomem)
    assert problem == "memmap[1]: the hints come to 34 ranges, more than 32; name fewer ranges"


def test_text_that_is_not_iomem_is_no_crash() -> None:
    assert "lists no range named" in refused(name(ACPI, "x"), iomem="\0\xff\n: : :\n1-2 :\n-\n")[0]


def test_merging_keeps_gaps_and_order() -> None:
    assert merged([(5, 6), (1, 2), (2, 3), (8, 9), (5, 7)]) == ((1, 3), (5, 7), (8, 9))


def test_cutting_and_what_is_common_part_ranges_where_they_must() -> None:
    assert without([(1, 9), (20, 30)], [(0, 2), (4, 5), (5, 6), (25, 40)]) == ((2, 4), (6, 9), (20, 25))
    assert without([(1, 9)], [(0, 10)]) == ()
    assert without([(1, 9)], [(9, 12)]) == ((1, 9),)
    assert common([(1, 9), (20, 30)], [(0, 2), (4, 5), (25, 40)]) == ((1, 2), (4, 5), (25, 30))


def test_all_of_ram_by_name_is_mapped_but_for_the_capture_kernels_own_and_what_is_kept_hands_off() -> None:
    hints = (name(MAP, "system-ram"), number(RESERVED, 0x18690001, 0x1000), number(RAM, 0x30000000, 1 << 20))
    assert resolved(*hints) == ResolvedHints(
        (
            "memmap=4K$0x18690001",
            "memmap=1M@0x30000000",
            "kdumpd_scan.map=0x100000-0x18690000,0x18692000-0x2f000000,0x37000000-0x7ffde000,0x100000000-0x180000000",
        ),
        ((0x18690000, 0x18692000),),
        ((0x100000, 0x18690000), (0x18692000, 0x2F000000), (0x37000000, 0x7FFDE000), (0x100000000, 0x180000000)),
    )


def test_a_name_inside_system_ram_maps_that_part_alone() -> None:
    assert resolved(name(MAP, "Kernel code")).arguments == ("kdumpd_scan.map=0x1000000-0x2000000",)


def test_ranges_to_map_are_whole_pages_inside_what_the_hints_name_and_merged() -> None:
    hints = (number(MAP, 0x1000800, 0x2000), number(MAP, 0x1002000, 0x1000), number(MAP, 0x1100000, 0x2345))
    assert resolved(*hints).mapped == ((0x1001000, 0x1003000), (0x1100000, 0x1102000))


def test_map_needs_no_memmap_parameter_and_works_on_every_architecture() -> None:
    arm = resolved(name(MAP, "system-ram"), machine="aarch64")
    # Pages of 64 KiB are mapped as well; the first MiB is the crashed kernel's there.
    assert arm.mapped == ((0x10000, 0x90000), (0x100000, 0x2F000000), (0x37000000, 0x7FFD0000), (1 << 32, 0x180000000))
    assert arm.hands_off == ()
    assert refused(number(RESERVED, 0x1000, 0x1000), name(MAP, "system-ram"), machine="aarch64") == (
        "memmap[0]: the kernel of aarch64 has no memmap= parameter, only that of x86_64; remove the hint",
    )


@pytest.mark.parametrize(
    ("start", "size", "said"),
    [
        (0x2EFFF000, 0x2000, "overlaps the reservation 0x2f000000-0x37000000, which the capture kernel runs in; keep"),
        (0x1000, 0x1000, "touches 0x0-0x100000, which the capture kernel has as RAM of its own; start behind it"),
        (0xB0000000, 0x1000, "is not all System RAM in /proc/iomem, which map is for; keep to 0x100000-0x2f000000 or"),
        (0x7FFDD000, 0x2000, "is not all System RAM in /proc/iomem, which map is for; keep to 0x100000-0x2f000000 or"),
        (0x1000800, 0x900, "holds no whole page of 0x1000 bytes; write a larger size"),
    ],
)
def test_a_range_to_map_by_number_must_be_old_memory_all_of_it(start: int, size: int, said: str) -> None:
    (problem,) = refused(number(MAP, start, size))
    assert problem.startswith(f"memmap[0]: {start:#x}-{start + size:#x} {said}")


def test_a_range_to_map_by_number_keeps_apart_from_other_hints_whichever_comes_first() -> None:
    hints = (number(MAP, 0x18000000, 1 << 24), number(RESERVED, 0x18690000, 0x1000))
    said = "0x18000000-0x19000000 overlaps memmap[{}], which is reserved; keep ranges of different kinds apart"
    assert refused(*hints) == (f"memmap[0]: {said.format(1)}",)
    assert refused(*reversed(hints)) == (f"memmap[1]: {said.format(0)}",)


@pytest.mark.parametrize("written", ["acpi-tables", "Crash kernel"])
def test_a_name_that_holds_nothing_to_map_is_refused(written: str) -> None:
    said = f"memmap[0]: no memory of {written!r} is the crashed kernel's RAM, which map is for; name system-ram"
    assert refused(name(MAP, written)) == (said,)


def test_hidden_addresses_cannot_be_mapped() -> None:
    hidden = "00000000-00000000 : System RAM\n  00000000-00000000 : Crash kernel\n"
    for hint in (name(MAP, "system-ram"), number(MAP, 0x1000000, 0x1000)):
        assert refused(hint, iomem=hidden, reservation=())[0].endswith("; run this as root")


def test_more_ranges_than_the_module_takes_are_refused_with_both_numbers() -> None:
    iomem = "".join(f"{(2 * at + 1) << 32:x}-{((2 * at + 2) << 32) - 1:x} : System RAM\n" for at in range(64))
    assert refused(number(RESERVED, 0x1000, 0x1000), name(MAP, "system-ram"), iomem=iomem, reservation=()) == (
        "memmap[1]: the map hints come to 64 ranges, and kdumpd_scan.map takes 63; name the largest of them by start "
        "and size",
    )


def test_hints_that_are_refused_are_named_in_the_policys_order() -> None:
    problems = refused(number(MAP, 0, 0x1000), number(RAM, 0, 0x1000), number(MAP, 0x36000000, 0x1000))
    assert [problem.partition(":")[0] for problem in problems] == ["memmap[0]", "memmap[1]", "memmap[2]"]
