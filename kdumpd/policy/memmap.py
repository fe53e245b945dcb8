"""The memmap hints of a policy resolved to numbers: kernel arguments, and the ranges that a dump keeps its hands off.

Pure: it works on the text of /proc/iomem, the crash reservation and the architecture. Called by `plan`. Byte ranges
are half-open, (start, end). Source of the syntax: Linux, Documentation/admin-guide/kernel-parameters.txt, memmap=;
map hints are no memmap= but a parameter of our own module (`policy.premap`).
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from kdumpd.errors import PolicyError
from kdumpd.policy import premap
from kdumpd.policy.model import HintKind, MemmapHint
from kdumpd.policy.ranges import ByteRange, are_hidden, folded, merged, resources, shown
from kdumpd.policy.units import render_size

PAGE = 4096
# kexec lays the ELF headers of /proc/vmcore at the low end of the reservation (kexec_file_load) or at its high end
# (kexec-tools) and leaves them out of the capture kernel's map of RAM (Linux, arch/x86/kernel/crash.c,
# memmap_exclude_ranges): a ram hint there would let it overwrite them.
MARGIN = 1 << 20
# The boot parameters of x86 carry 128 map entries (Linux, E820_MAX_ENTRIES_ZEROPAGE), and the firmware needs most.
MOST_RANGES = 32

_SIGNS = {HintKind.RAM: "@", HintKind.ACPI: "#", HintKind.RESERVED: "$"}
_HANDS_OFF = (HintKind.ACPI, HintKind.RESERVED)


class ResolvedHints(NamedTuple):
    """`arguments`: words of the capture kernel's command line, memmap= by address and then kdumpd_scan's own;
    `hands_off` and `mapped`: whole pages, merged, sorted."""

    arguments: tuple[str, ...]
    hands_off: tuple[ByteRange, ...]
    mapped: tuple[ByteRange, ...] = ()


class _Located(NamedTuple):
    """One range of a hint: `number` is the hint's place in the policy."""

    start: int
    end: int
    kind: HintKind
    number: int


class _Machine(NamedTuple):
    """What of the machine decides: the text of /proc/iomem, the reservation, and the architecture."""

    iomem: str
    reservation: tuple[ByteRange, ...]
    machine: str


def resolve(
    hints: tuple[MemmapHint, ...], iomem: str, reservation: tuple[ByteRange, ...], machine: str
) -> ResolvedHints:
    """What the hints come to on this machine. PolicyError, one line for each hint that cannot be obeyed.

    `iomem`: the text of /proc/iomem as root reads it; `reservation`: the ranges of "Crash kernel"; `machine`: as uname
    gives it.
    """
    on = _Machine(iomem, reservation, machine)
    problems: dict[int, str] = {}
    located: list[_Located] = []
    # What is mapped depends on what is kept hands off, whichever the policy names first.
    for index, hint in sorted(enumerate(hints), key=lambda numbered: numbered[1].kind is HintKind.MAP):
        try:
            found = (_old_memory if hint.kind is HintKind.MAP else _argued)(hint, on, located)
        except ValueError as error:
            problems[index] = str(error)
        else:
            located += [_Located(start, end, hint.kind, index) for start, end in found]
    mapped = merged((item.start, item.end) for item in located if item.kind is HintKind.MAP)
    arguments = _arguments(located)
    if len(arguments) > MOST_RANGES and not problems:
        wrong = f"the hints come to {len(arguments)} ranges, more than {MOST_RANGES}; name fewer ranges"
        problems[_largest(item for item in located if item.kind is not HintKind.MAP)] = wrong
    if mapped:
        try:
            arguments += (premap.word(mapped),)
        except ValueError as error:
            problems[_largest(item for item in located if item.kind is HintKind.MAP)] = str(error)
    if problems:
        raise PolicyError(tuple(f"memmap[{index}]: {problems[index]}" for index in sorted(problems)))
    return ResolvedHints(arguments, _hands_off(located), mapped)


def _arguments(located: list[_Located]) -> tuple[str, ...]:
    """memmap= for each range of the kinds that have one, by address."""
    found = {
        (start, f"memmap={render_size(end - start)}{sign}{start:#x}")
        for kind, sign in _SIGNS.items()
        for start, end in merged((item.start, item.end) for item in located if item.kind is kind)
    }
    return tuple(text for _, text in sorted(found))


def _hands_off(located: Iterable[_Located]) -> tuple[ByteRange, ...]:
    """The pages that ranges of acpi and reserved hints touch."""
    return merged(
        (item.start // PAGE * PAGE, -(-item.end // PAGE) * PAGE) for item in located if item.kind in _HANDS_OFF
    )


def _largest(located: Iterable[_Located]) -> int:
    """The number of the hint with the most ranges, the first of equals."""
    return Counter(sorted(item.number for item in located)).most_common(1)[0][0]


def _argued(hint: MemmapHint, on: _Machine, located: list[_Located]) -> tuple[ByteRange, ...]:
    """The ranges of a hint that becomes memmap=; ValueError when it cannot be obeyed."""
    if on.machine != "x86_64":
        raise ValueError(f"the kernel of {on.machine} has no memmap= parameter, only that of x86_64; remove the hint")
    ranges = _ranges(hint, on.iomem)
    for start, end in ranges:
        _check_reservation(hint.kind, start, end, on.reservation)
        _check_overlap(hint.kind, start, end, located)
    return ranges


def _old_memory(hint: MemmapHint, on: _Machine, located: list[_Located]) -> tuple[ByteRange, ...]:
    """The ranges of a map hint: cut to what may be mapped where it is a name, ValueError where a number leaves that."""
    ranges = _ranges(hint, on.iomem)
    memory = premap.OldMemory(on.iomem, on.reservation, _hands_off(located), on.machine)
    if hint.range is not None:
        return memory.named(ranges, hint.range)
    ((start, end),) = ranges
    _check_reservation(hint.kind, start, end, on.reservation)
    _check_overlap(hint.kind, start, end, located)
    return memory.numbered(start, end)


def _ranges(hint: MemmapHint, iomem: str) -> tuple[ByteRange, ...]:
    """The hint's ranges; ValueError when its name is not in iomem."""
    if hint.range is None:
        assert hint.start is not None and hint.size is not None
        return ((hint.start, hint.start + hint.size),)
    named = resources(iomem)
    if are_hidden(named):
        raise ValueError("/proc/iomem hides its addresses from this user; run this as root")
    wanted = folded(hint.range)
    if wanted in named:
        return merged(named[wanted])
    near = difflib.get_close_matches(wanted, named, n=1)
    right = f"did you mean {near[0]}?" if near else "name a range that it lists, or give start and size"
    raise ValueError(f"/proc/iomem lists no range named {hint.range!r}; {right}")


def _check_reservation(kind: HintKind, start: int, end: int, reservation: tuple[ByteRange, ...]) -> None:
    """RAM must lie inside the reservation, everything else outside; ValueError says which and why."""
    where = shown(reservation, " and ")
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
    right = "keep to " + shown(usable, " or ")
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
