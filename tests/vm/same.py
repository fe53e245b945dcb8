"""Bitmaps and pages of one crash by two ways: what the tests of the page-scan module compare.

Called by tests of this folder; imports scan and vmcore.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kdumpd.policy.model import PageKind
from kdumpd.scan import user
from kdumpd.vmcore.vmcore import Vmcore
from tests.unit.scan.sinks import Bits


def pages_are_the_same(pages: dict[str, Any]) -> None:
    """Every page that is kept is the same by the module's map as by /proc/vmcore."""
    assert pages["map"] == pages["vmcore"]
    assert pages["map"][1] == pages["kept"] > 1000
    assert pages["map"][2] > 0


def by_file(vmcore: Path, level: int) -> bytes:
    """What the user engine makes of the same vmcore on this machine."""
    bits = Bits()
    with Vmcore.open(str(vmcore)) as core:
        user.scan(core, PageKind(level), (), bits)
    return bytes(bits.content)
