"""The page-scan module's device: each request as a call, each of its errors as one clear line.

User memory is handed over by the address of an `array`, so nothing here needs ctypes.
Called by `scan.kernel`, `scan.gather` and `scan.engine`. May import `errors`, `scan.requests` and `scan.selection`.
"""

from __future__ import annotations

import errno
import fcntl
import os
from array import array
from collections.abc import Iterable
from typing import NamedTuple, Protocol, Self

from kdumpd.errors import ScanError
from kdumpd.scan import requests
from kdumpd.scan.requests import Strategy
from kdumpd.vmcore.memory import Range

PATH = "/dev/kdumpd_scan"

_NAMES = {
    requests.KDUMPD_MAP: "mapping old memory",
    requests.KDUMPD_SCAN: "scanning page structures",
    requests.KDUMPD_GATHER: "gathering pages",
    requests.KDUMPD_UNMAP: "unmapping old memory",
    requests.KDUMPD_PROGRESS: "asking for progress",
}

_OTHER_SOURCE = "build the module from the same source as kdumpd"
_DEFECT = "a defect of kdumpd: please report it"

#: What the module's errors mean, as its header says, and what to do.
MEANINGS = {
    errno.ENOTTY: f"the module does not know this request; {_OTHER_SOURCE}",
    errno.EPERM: "CAP_SYS_ADMIN is missing; run this as root",
    errno.EINVAL: f"the module does not take this version, size, strategy, page size or alignment; {_OTHER_SOURCE}",
    errno.E2BIG: f"the module does not know a field of the request, or it has too many elements; {_OTHER_SOURCE}",
    errno.EFAULT: f"an address of this process cannot be used, {_DEFECT}",
    errno.EOVERFLOW: "a range lies beyond the physical addresses of this processor: the vmcore's headers are damaged",
    errno.ERANGE: "runs or ranges are empty, overlap or leave the window: the tables of mem_map are damaged",
    errno.EDOM: "such a struct page cannot be: VMCOREINFO is damaged",
    errno.EBUSY: "a range is memory of the capture kernel itself; look at its /proc/iomem",
    errno.EADDRNOTAVAIL: "a range is memory of a device or of the firmware; look at /proc/iomem",
    errno.EMFILE: f"this file has as many maps as it may, {_DEFECT}",
    errno.ENOENT: f"there is no such map, {_DEFECT}",
    errno.ENXIO: "page structures lie in old memory that is not mapped",
    errno.EIO: "old memory can only be mapped uncached, a hundred times slower; look for MTRRs in the kernel's log",
    errno.ENOSPC: f"a buffer is too short, {_DEFECT}",
    errno.ENOMEM: "no memory, or more page tables than allowed; reserve more with crashkernel=",
    errno.EOPNOTSUPP: "memory is encrypted, which the module cannot read",
    errno.ETIME: "its deadline has passed",
    errno.EINTR: "a signal stopped it",
    errno.ENOTRECOVERABLE: "a processor died in it; the kernel's log has the oops",
}

_ABSENT = "is not there: the module kdumpd_scan is not loaded"
_OPENING = {
    errno.ENOENT: _ABSENT,
    errno.ENODEV: _ABSENT,
    errno.ENXIO: _ABSENT,
    errno.EPERM: MEANINGS[errno.EPERM],
    errno.EACCES: MEANINGS[errno.EPERM],
}


class Leaves(NamedTuple):
    """How many entries of page tables map memory, by the size of what each maps."""

    gib_1: int = 0
    mib_2: int = 0
    kib_4: int = 0


class Mapped(NamedTuple):
    """A map, as the module read it back from its page tables; `nanoseconds` that it took to make."""

    id: int
    leaves: Leaves
    table_bytes: int
    premapped_bytes: int = 0
    retried: int = 0
    refused_bytes: int = 0
    nanoseconds: int = 0


class Window(NamedTuple):
    """What is to be scanned: the pfns from `first`, a multiple of 1 << WINDOW_ORDER, up to `end`.

    Words of 8 bytes: `runs` has 3 a run (first pfn, pages, physical address), `present` and `hands_off` 2 an interval.
    """

    first: int
    end: int
    runs: array[int]
    present: array[int]
    hands_off: array[int]


class Gathered(NamedTuple):
    """Pages gathered, how many of them were copied since they are not zero, and the pfn where it stopped."""

    pages: int
    copied: int
    next_pfn: int


class ScanDevice(Protocol):
    """What the engine asks of the module. Errors are ScanErrors."""

    def map(self, ranges: Iterable[Range], strategy: Strategy, page_shift: int) -> Mapped:
        """Map ranges of bytes, ascending and apart, by pages of at most 1 << `page_shift`."""

    def scan(
        self, mapped: int, layout: bytes, level: int, window: Window, bitmap: array[int], timeout: int
    ) -> requests.Scan:
        """Fill `bitmap`, a bit for each pfn of the window; `timeout` in nanoseconds. The answer has the counts."""

    def gather(
        self,
        mapped: int,
        page_size: int,
        first: int,
        bitmap: array[int],
        buffer: array[int],
        used: int,
        zero: array[int],
    ) -> Gathered:
        """Copy the pages of `bitmap`, whose first bit is pfn `first`, behind the `used` bytes of `buffer`.

        `zero` gets a bit for each page, 1 where it is all zero and was not copied. No page where the first that is
        wanted is not mapped.
        """

    def unmap(self, mapped: int) -> None:
        """Give a map up."""

    def close(self) -> None:
        """Give everything up."""


class Device:
    """The module's device, open: see ScanDevice."""

    def __init__(self, fd: int, name: str = PATH) -> None:
        self.name = name
        self._fd = fd

    @classmethod
    def open(cls, path: str = PATH) -> Self:
        """Open it; ScanError where it is not there or refuses."""
        try:
            return cls(os.open(path, os.O_RDWR | os.O_CLOEXEC), path)
        except OSError as error:
            raise ScanError(f"{path}: {_OPENING.get(error.errno or 0, error.strerror)}") from error

    def close(self) -> None:
        """Every map is gone, unless a forked process still has the file."""
        os.close(self._fd)

    def fileno(self) -> int:
        """The descriptor, for poll(2): it is readable when there is news of progress."""
        return self._fd

    def map(self, ranges: Iterable[Range], strategy: Strategy, page_shift: int) -> Mapped:
        words = array("Q", (word for extent in ranges for word in extent))
        fields = requests.Map(
            size=requests.MAP.size,
            version=requests.VERSION,
            strategy=strategy,
            page_shift=page_shift,
            ranges=address(words),
            range_count=len(words) // 2,
        )
        answer = requests.Map._make(requests.MAP.unpack(self._ask(requests.KDUMPD_MAP, requests.MAP.pack(*fields))))
        return Mapped(
            answer.id,
            Leaves(answer.leaves_1g, answer.leaves_2m, answer.leaves_4k),
            answer.table_bytes,
            answer.premapped_bytes,
            answer.retried,
            answer.refused_bytes,
            answer.nanoseconds,
        )

    def scan(
        self, mapped: int, layout: bytes, level: int, window: Window, bitmap: array[int], timeout: int
    ) -> requests.Scan:
        structure = array("B", layout)
        fields = requests.Scan(
            size=requests.SCAN.size,
            version=requests.VERSION,
            map=mapped,
            level=level,
            layout=address(structure),
            runs=address(window.runs),
            present=address(window.present),
            hands_off=address(window.hands_off),
            layout_size=len(layout),
            run_count=len(window.runs) // 3,
            present_count=len(window.present) // 2,
            hands_off_count=len(window.hands_off) // 2,
            first_pfn=window.first,
            end_pfn=window.end,
            bitmap=address(bitmap),
            bitmap_size=len(bitmap),
            timeout=timeout,
        )
        return requests.Scan._make(requests.SCAN.unpack(self._ask(requests.KDUMPD_SCAN, requests.SCAN.pack(*fields))))

    def gather(
        self,
        mapped: int,
        page_size: int,
        first: int,
        bitmap: array[int],
        buffer: array[int],
        used: int,
        zero: array[int],
    ) -> Gathered:
        fields = requests.Gather(
            size=requests.GATHER.size,
            version=requests.VERSION,
            map=mapped,
            page_size=page_size,
            first_pfn=first,
            bits=len(bitmap) * 8,
            bitmap=address(bitmap),
            buffer=address(buffer) + used,
            buffer_size=len(buffer) - used,
            zero=address(zero),
            zero_size=len(zero),
        )
        request = bytearray(requests.GATHER.pack(*fields))
        try:
            fcntl.ioctl(self._fd, requests.KDUMPD_GATHER, request)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return Gathered(0, 0, first)
            raise self._error(requests.KDUMPD_GATHER, error) from error
        return Gathered(*requests.GATHER.unpack(request)[-3:])

    def unmap(self, mapped: int) -> None:
        fields = requests.Unmap(requests.UNMAP.size, requests.VERSION, mapped)
        self._ask(requests.KDUMPD_UNMAP, requests.UNMAP.pack(*fields))

    def progress(self) -> requests.Progress:
        """How far the scan of this file is."""
        fields = requests.Progress(requests.PROGRESS.size, requests.VERSION)
        answer = self._ask(requests.KDUMPD_PROGRESS, requests.PROGRESS.pack(*fields))
        return requests.Progress._make(requests.PROGRESS.unpack(answer))

    def _ask(self, number: int, request: bytes) -> bytearray:
        answer = bytearray(request)
        try:
            fcntl.ioctl(self._fd, number, answer)
        except OSError as error:
            raise self._error(number, error) from error
        return answer

    def _error(self, number: int, error: OSError) -> ScanError:
        meaning = MEANINGS.get(error.errno or 0, f"{error.strerror}; look at the kernel's log")
        return ScanError(f"{self.name}: {_NAMES[number]}: {meaning}")


def address(of: array[int]) -> int:
    """Where an array's contents lie, 0 where it has none; good until its length changes."""
    return of.buffer_info()[0] if of else 0
