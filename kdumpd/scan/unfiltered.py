"""The engine of last resort: every page that the vmcore holds is kept; nothing of the crashed kernel is read.

Called by `capture.save` when a scan is not wanted or has failed. May import the rest of `scan` and `vmcore`.
"""

from __future__ import annotations

from kdumpd.policy.model import PageKind
from kdumpd.scan.fates import Fates
from kdumpd.scan.selection import BitmapSink, Interval, PageCounts, Progress, present_pages
from kdumpd.vmcore.vmcore import Vmcore


def scan(
    core: Vmcore,
    level: PageKind,
    hands_off: tuple[Interval, ...],
    sink: BitmapSink,
    progress: Progress | None = None,
) -> PageCounts:
    """Stream all pages of `core`, less `hands_off`, to `sink`; `level` is not asked."""
    present = present_pages(core.memory.stored_ranges, core.page_size)
    return Fates(core.max_pfn, present, hands_off, sink, progress).finish(0, ())
