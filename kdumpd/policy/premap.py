"""The map hints of a policy: which old memory they mean on this machine, and the parameter that tells kdumpd_scan.

Old memory is what the crashed kernel ran in: its System RAM, without the crash reservation and what else the capture
kernel has as RAM of its own. Pure. Called by `policy.memmap`. May import `policy.ranges` alone.
"""

from __future__ import annotations

from collections.abc import Iterable

from kdumpd.policy.ranges import ByteRange, common, merged, resources, shown, without

#: The module's parameter; half-open ranges of bytes, START-END[,START-END...].
PARAMETER = "kdumpd_scan.map"
#: Ranges that the module takes (kmod/main.c, KS_MOST_PREMAPS).
MOST = 63

#: Where a kernel may have 64 KiB pages, a range of those alone can be mapped by any.
_GRANULES = {"x86_64": 4096}
_LARGEST_GRANULE = 64 << 10
#: A capture kernel on x86 has the first MiB as RAM (Linux arch/x86/kernel/crash.c, crash_setup_memmap_entries).
_OWN: dict[str, tuple[ByteRange, ...]] = {"x86_64": ((0, 1 << 20),)}
_SYSTEM_RAM = "system-ram"
_MOST_SHOWN = 4


class OldMemory:
    """The old memory of one machine, and what of it may be mapped."""

    def __init__(
        self, iomem: str, reservation: Iterable[ByteRange], hands_off: Iterable[ByteRange], machine: str
    ) -> None:
        ram = (ranges for name, ranges in resources(iomem).items() if name.startswith(_SYSTEM_RAM))
        self._own = _OWN.get(machine, ())
        self._old = without((extent for ranges in ram for extent in ranges), (*self._own, *reservation, *hands_off))
        self._granule = _GRANULES.get(machine, _LARGEST_GRANULE)

    def named(self, ranges: Iterable[ByteRange], name: str) -> tuple[ByteRange, ...]:
        """What of a name's ranges may be mapped, in whole pages; ValueError where nothing may."""
        found = self._whole_pages(common(ranges, self._old))
        if not found:
            raise ValueError(f"no memory of {name!r} is the crashed kernel's RAM, which map is for; name system-ram")
        return found

    def numbered(self, start: int, end: int) -> tuple[ByteRange, ...]:
        """The whole pages of a range given by number; ValueError unless all of it may be mapped."""
        if common([(start, end)], self._own):
            raise ValueError(
                f"{start:#x}-{end:#x} touches {shown(self._own, ' and ')}, which the capture kernel has as RAM of its "
                "own; start behind it"
            )
        if without([(start, end)], self._old):
            near = sorted(self._old, key=lambda extent: max(extent[0] - end, start - extent[1]))[:_MOST_SHOWN]
            right = f"keep to {shown(sorted(near), ' or ')}" if near else "run this as root"
            raise ValueError(f"{start:#x}-{end:#x} is not all System RAM in /proc/iomem, which map is for; {right}")
        found = self._whole_pages([(start, end)])
        if not found:
            raise ValueError(
                f"{start:#x}-{end:#x} holds no whole page of {self._granule:#x} bytes; write a larger size"
            )
        return found

    def _whole_pages(self, ranges: Iterable[ByteRange]) -> tuple[ByteRange, ...]:
        size = self._granule
        pages = ((-(-start // size) * size, end // size * size) for start, end in ranges)
        return merged((start, end) for start, end in pages if start < end)


def word(ranges: tuple[ByteRange, ...]) -> str:
    """The one word of a command line for these ranges; ValueError when they are more than the module takes."""
    if len(ranges) > MOST:
        raise ValueError(
            f"the map hints come to {len(ranges)} ranges, and {PARAMETER} takes {MOST}; name the largest of them by "
            "start and size"
        )
    return f"{PARAMETER}={shown(ranges, ',')}"
