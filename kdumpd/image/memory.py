"""How much of the reservation an image takes before the runner starts. Pure. May import `errors` alone."""

from __future__ import annotations

from kdumpd.errors import ImageError

#: Bytes of the reservation that are gone before any image, and that the runner and its workers take between its first
#: line and its smallest MemAvailable (kdumpd.json). Measured on 6.1 in a 2 GiB guest with the default policy and
#: crashkernel=128M: 59 and 14 MiB; the two MiB beside them are a guess at what other machines take more.
KERNEL = 59 << 20
RUNNER = 16 << 20

_MIB = 1 << 20


def needed(unpacked: int) -> int:
    """The smallest reservation in bytes: an image counts twice, packed and unpacked, until it is unpacked."""
    return KERNEL + RUNNER + 2 * unpacked


def check(unpacked: int, reservation: int | None, name: str) -> None:
    """Raises ImageError when an image cannot be unpacked in this reservation; None is a reservation not known."""
    if reservation is None or needed(unpacked) <= reservation:
        return
    least = -(-needed(unpacked) // (16 * _MIB)) * 16
    raise ImageError(
        f"{name}: does not fit the reservation of {reservation // _MIB} MiB: {unpacked / _MIB:.1f} MiB unpacked count "
        f"twice beside {KERNEL // _MIB} MiB of kernel and {RUNNER // _MIB} MiB for the runner; "
        f"boot with crashkernel={least}M, or use fewer targets or capture_kernel.boot: direct"
    )
