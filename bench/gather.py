"""In the capture kernel: pages a second by the module's GATHER, by mmap and by read of /proc/vmcore.

The same 4 GiB guest as the first of `python -m bench mapping`, the same pages by each in turn, medians of five rounds.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from bench.mapping import GUESTS
from tests.lab.inside import PROGRAMS, run_inside

LEVELS = (31, 1)
MOST = 16_000
SIDES = {"as the writer takes them": "", "the calls alone": " alone"}


def table(found: dict[str, Any]) -> str:
    """Markdown: pages a second, and GATHER's as multiples of the others."""
    lines = ["| dump level | pages | runs | | GATHER, pages/s | mmap | read | times mmap | times read |"]
    lines.append("|---|---|---|---|---|---|---|---|---|")
    for level, one in found.items():
        for side, suffix in SIDES.items():
            pace = [one["pages"] / one["seconds"][name + suffix] for name in ("GATHER", "mmap", "read")]
            cells = [f"{one['pages']:,}", f"{one['runs']:,}", side, *(f"{pages:,.0f}" for pages in pace)]
            cells += [f"{pace[0] / other:.2f}" for other in pace[1:]]
            lines.append(f"| {level} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """One guest, one boot."""
    guest = GUESTS[0]
    with tempfile.TemporaryDirectory(prefix="kdumpd-bench-") as folder:
        done = run_inside(
            guest.recipe,
            PROGRAMS / "gathering.py",
            Path(folder),
            arguments={"levels": LEVELS, "most": MOST},
            before=guest.before,
            within=600,
            say=print,
        )
    print(f"\n### {guest.title}\n\n{table(done.result)}\n")


if __name__ == "__main__":
    main()
