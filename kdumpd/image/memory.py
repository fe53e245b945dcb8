"""How much of the reservation a capture with this image takes. Pure. May import `errors` alone."""

from __future__ import annotations

from kdumpd.errors import ImageError

#: What the capture kernel itself takes of the reservation, and what the runner needs to start beside it, in bytes;
#: measured on 6.1 in a 2 GiB guest: 59 MiB of 128M are gone before any image.
KERNEL = 59 << 20
RUNNER = 16 << 20
#: Runner, writer and what the kernel takes for them while a dump is written: with 38 MiB (crashkernel=112M) the kernel
#: killed the writer, with 54 MiB (128M) 21 were left (bench.crashkernel).
DUMP = 44 << 20

_MIB = 1 << 20


def needed(unpacked: int) -> int:
    """The smallest reservation in bytes: an image counts twice, packed and unpacked, until the runner starts, and once
    while it dumps."""
    return KERNEL + max(RUNNER + 2 * unpacked, DUMP + unpacked)


def check(unpacked: int, reservation: int | None, name: str) -> None:
    """Raises ImageError when a capture with an image does not fit this reservation; None is one not known."""
    if reservation is None or needed(unpacked) <= reservation:
        return
    least = -(-needed(unpacked) // (16 * _MIB)) * 16
    raise ImageError(
        f"{name}: does not fit the reservation of {reservation // _MIB} MiB: {unpacked / _MIB:.1f} MiB unpacked count "
        f"twice beside {KERNEL // _MIB} MiB of kernel and {RUNNER // _MIB} MiB for the runner, or once beside "
        f"{DUMP // _MIB} MiB for the dump; boot with crashkernel={least}M, or use fewer targets or "
        "capture_kernel.boot: direct"
    )
