"""The lines of /proc/iomem: ranges with an end that is not in them, nested or not."""

from __future__ import annotations

from kdumpd.host.iomem import CRASH_KERNEL, Resource, ranges_named, resources

TEXT = """00001000-0009fbff : System RAM
100000000-23fffffff : System RAM
  1b2000000-1b9ffffff : Crash kernel
  not a line : of a range
"""


def test_each_line_is_a_range_up_to_and_without_its_end() -> None:
    assert list(resources(TEXT)) == [
        Resource(0x1000, 0x9FC00, "System RAM", nested=False),
        Resource(0x100000000, 0x240000000, "System RAM", nested=False),
        Resource(0x1B2000000, 0x1BA000000, "Crash kernel", nested=True),
    ]


def test_a_reader_without_privilege_learns_no_reservation() -> None:
    hidden = "00000000-00000000 : System RAM\n  00000000-00000000 : Crash kernel\n"
    assert ranges_named(TEXT, CRASH_KERNEL) == ((0x1B2000000, 0x1BA000000),)
    assert ranges_named(hidden, CRASH_KERNEL) == ()
