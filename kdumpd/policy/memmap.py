"""The memmap hints of a policy resolved to numbers: kernel arguments, and the ranges that a dump keeps its hands off.

Pure: it works on the text of /proc/iomem, the crash reservation and the architecture. Called by `plan`. Byte ranges
are half-open, (start, end). Source of the syntax: Linux, Documentation/admin-guide/kernel-parameters.txt, memmap=.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import NamedTuple

from kdumpd.errors import PolicyError
from kdumpd.policy.model import HintKind, MemmapHint
from kdumpd.policy.units import render_size

ByteRange = tuple[int, int]

PAGE = 4096
# kexec lays the ELF headers of /proc/vmcore at the low end of the reservation (kexec_file_load) or at its high end
# (kexec-tools) and leaves them out of the capture kernel's map of RAM (Linux, arch/x86/kernel/crash.c,
# memmap_exclude_ranges): a ram hint there would let it overwrite them.
MARGIN = 1 << 20
# The boot parameters of x86 carry 128 map entries (Linux, E820_MAX_ENTRIES_ZEROPAGE), and the firmware needs most.
MOST_RANGES = 32

_SIGNS = {HintKind.RAM: "@", HintKind.ACPI: "#", HintKind.RESERVED: "$"}
_HANDS_OFF = (HintKind.ACPI, HintKind.RESERVED)
_RESOURCE = re.compile(r" *([0-9a-f]+)-([0-9a-f]+) : (.+)")


class ResolvedHints(NamedTuple):
    """`arguments`: words of the capture kernel's command line, by address; `hands_off`: whole pages, merged, sorted."""

    arguments: tuple[str, ...]
    hands_off: tuple[ByteRange, ...]


class _Located(NamedTuple):
    """One range of a hint: `number` is the hint's place in the policy."""

    start: int
    end: int
    kind: HintKind
    number: int


def resolve(
    hints: tuple[MemmapHint, ...], iomem: str, reservation: tuple[ByteRange, ...], machine: str
) -> ResolvedHints:
    """What the hints come to on this machine. PolicyError, one line for each hint that cannot be obeyed.

    `iomem`: the text of /proc/iomem as root reads it; `reservation`: the ranges of "Crash kernel"; `machine`: as uname
    gives it.
    """
    if not hints:
        return ResolvedHints((), ())
    if machine != "x86_64":
        raise PolicyError(
            (f"memmap[0]: the kernel of {machine} has no memmap= parameter, only that of x86_64; remove the hints",)
        )
    problems: list[str] = []
    located: list[_Located] = []
    for index, hint in enumerate(hints):
        try:
            ranges = _ranges(hint, iomem)
            for start, end in ranges:
                _check_reservation(hint.kind, start, end, reservation)
                _check_overlap(hint.kind, start, end, located)
            located += [_Located(start, end, hint.kind, index) for start, end in ranges]
        except ValueError as error:
            problems.append(f"memmap[{index}]: {error}")
    arguments = {
        (start, f"memmap={render_size(end - start)}{sign}{start:#x}")
        for kind, sign in _SIGNS.items()
        for start, end in merged((item.start, item.end) for item in located if item.kind is kind)
    }
    if len(arguments) > MOST_RANGES and not problems:
        most = max(range(len(hints)), key=lambda index: sum(item.number == index for item in located))
        problems.append(
            f"memmap[{most}]: the hints come to {len(arguments)} ranges, more than {MOST_RANGES}; name fewer ranges"
        )
    if problems:
        raise PolicyError(tuple(problems))
    hands_off = merged(
        (item.start // PAGE * PAGE, -(-item.end // PAGE) * PAGE) for item in located if item.kind in _HANDS_OFF
    )
    return ResolvedHints(tuple(text for _, text in sorted(arguments)), hands_off)


def merged(ranges: Iterable[ByteRange]) -> tuple[ByteRange, ...]:
    """The ranges sorted, those that touch or overlap made one."""
    found: list[ByteRange] = []
    for start, end in sorted(ranges):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return tuple(found)


def _ranges(hint: MemmapHint, iomem: str) -> tuple[ByteRange, ...]:
    """The hint's ranges; ValueError when its name is not in iomem."""
    if hint.range is None:
        assert hint.start is not None and hint.size is not None
        return ((hint.start, hint.start + hint.size),)
    named: dict[str, list[ByteRange]] = {}
    for line in iomem.splitlines():
        match = _RESOURCE.fullmatch(line)
        if match:
            named.setdefault(_folded(match[3]), []).append((int(match[1], 16), int(match[2], 16) + 1))
    if named and all(found == (0, 1) for ranges in named.values() for found in ranges):
        raise ValueError("/proc/iomem hides its addresses from this user; run this as root")
    wanted = _folded(hint.range)
    if wanted in named:
        return merged(named[wanted])
    near = difflib.get_close_matches(wanted, named, n=1)
    right = f"did you mean {near[0]}?" if near else "name a range that it lists, or give start and size"
    raise ValueError(f"/proc/iomem lists no range named {hint.range!r}; {right}")


def _folded(name: str) -> str:
    """A resource's name with case and separators made alike: `System RAM`, `system_ram` and `system-ram` are one."""
    return re.sub(r"[\s_-]+", "-", name.strip().lower())


def _check_reservation(kind: HintKind, start: int, end: int, reservation: tuple[ByteRange, ...]) -> None:
    """RAM must lie inside the reservation, everything else outside; ValueError says which and why."""
    where = " and ".join(f"{low:#x}-{high:#x}" for low, high in reservation)
    if kind is not HintKind.RAM:
        if any(start < high and low < end for low, high in reservation):
            raise ValueError(
                f"{start:#x}-{end:#x} overlaps the reservation {where}, which the capture kernel runs in; "
                "keep outside it"
            )
        return
    if not reservation:
        raise ValueError("ram needs a reservation to lie in, and there is none; boot with crashkernel=")
    usable = [(low + MARGIN, high - MARGIN) for low, high in reservation if high - low > 2 * MARGIN]
    if any(low <= start and end <= high for low, high in usable):
        return
    right = "keep to " + " or ".join(f"{low:#x}-{high:#x}" for low, high in usable)
    if any(low <= start and end <= high for low, high in reservation):
        raise ValueError(
            f"{start:#x}-{end:#x} touches the first or last MiB of the reservation {where}, "
            f"where kexec puts the headers of the vmcore; {right}"
        )
    raise ValueError(
        f"{start:#x}-{end:#x} leaves the reservation {where}: as RAM of the capture kernel "
        f"it would overwrite what is to be dumped; {right}"
    )


def _check_overlap(kind: HintKind, start: int, end: int, located: list[_Located]) -> None:
    """Ranges of one kind are merged; those of two kinds must be apart. ValueError names the other hint."""
    for other in located:
        if other.kind is not kind and start < other.end and other.start < end:
            raise ValueError(
                f"{start:#x}-{end:#x} overlaps memmap[{other.number}], which is {other.kind}; "
                "keep ranges of different kinds apart"
            )
