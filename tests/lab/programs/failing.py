"""Every allocation and mapping of the module fails in turn: the nth of each scan, up to the last.

For each strategy: how many there are, and that the scan gave the same bitmap all the same, whoever did it.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

from kdumpd.errors import ScanError
from kdumpd.policy.model import EngineChoice, MappingStrategy, PageKind
from kdumpd.scan.engine import ScanOptions, select
from kdumpd.vmcore.vmcore import Vmcore

PARAMETERS = Path("/sys/module/kdumpd_scan/parameters")
EACH = 64  # strategy page maps every page for itself: of what comes after so many, a few


class Crc:
    """Takes bitmap 2 and keeps its checksum."""

    def __init__(self) -> None:
        self.value = 0

    def write(self, bits: bytes) -> None:
        self.value = zlib.crc32(bits, self.value)


def scan(core: Vmcore, options: ScanOptions) -> tuple[int, bool, str]:
    """(checksum, whether the user engine took over, why)."""
    sink = Crc()
    selected = select(core, PageKind(31), (), sink, None, options)
    if selected.pages is not None:
        # A page through the map as well: gathering allocates.
        try:
            selected.pages.pages([(0x8000, 16)])
        finally:
            selected.pages.close()
    return sink.value, selected.report.engine is EngineChoice.USER, selected.report.why


def each(core: Vmcore, strategy: MappingStrategy, right: int) -> dict[str, Any]:
    """Fail the first, the second, ... until a scan does not reach it."""
    taken_over = survived = nth = 0
    reasons: set[str] = set()
    while True:
        nth = nth + 1 if nth < EACH else 2 * nth
        (PARAMETERS / "fail_nth").write_text(str(nth))
        try:
            crc, by_user, why = scan(core, ScanOptions(EngineChoice.AUTO, strategy))
        except ScanError as error:  # of the page that was gathered
            crc, by_user, why = right, False, str(error)
        left = int((PARAMETERS / "fail_nth").read_text())
        (PARAMETERS / "fail_nth").write_text("0")
        held = int((PARAMETERS / "held").read_text())
        if crc != right or held:
            raise RuntimeError(f"{strategy.value}, number {nth}: checksum {crc:#x}, {held} held: {why}")
        if left:
            return {
                "points": taken_over + survived,
                "last": nth,
                "taken_over": taken_over,
                "survived": survived,
                "reasons": sorted(reasons),
            }
        taken_over += by_user
        survived += not by_user
        reasons.add(why)


def main(arguments: dict[str, Any]) -> dict[str, Any]:
    """By strategy."""
    with Vmcore.open("/proc/vmcore") as core:
        right, _, _ = scan(core, ScanOptions(EngineChoice.USER))
        return {strategy.value: each(core, strategy, right) for strategy in MappingStrategy}
