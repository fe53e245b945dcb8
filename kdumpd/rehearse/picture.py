"""`python -m kdumpd.rehearse.picture OUT.svg [REPORT.json]`: the README's picture of a rehearsal's timeline.

Drawn from a report that `kdumpd rehearse --json` wrote, else from a rehearsal made now with the default policy. May
import all of `rehearse`, `policy` and rich.
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from kdumpd.errors import KdumpdError, UsageError
from kdumpd.policy import load
from kdumpd.rehearse import kernels, report, session
from kdumpd.rehearse.scenario import Scenario
from kdumpd.rehearse.timeline import Event, Phase

WIDTH = 112


def draw(document: dict[str, Any], path: Path) -> None:
    """The timeline, the checks and the verdict of a report lie in `path` as an SVG of a terminal."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, highlight=False)
    console.print(Text("$ kdumpd rehearse", style="bold"))
    console.print(Text(report.HEADING, style="dim"))
    for fields in document["events"]:
        event = Event(**{**fields, "phase": Phase(fields["phase"])})
        line = report.line(event)
        line.truncate(WIDTH, overflow="ellipsis")
        console.print(line)
    console.print()
    for check in document["checks"]:
        style = "green" if check["good"] else "bold red"
        line = Text.assemble(("  good  " if check["good"] else "  BAD   ", style), f"{check['name']}: {check['found']}")
        line.truncate(WIDTH, overflow="ellipsis")
        console.print(line)
    console.print()
    console.print(Text(document["summary"], style="bold green" if document["verified"] else "bold red"))
    path.write_text(console.export_svg(title="a rehearsal: a real kernel crashes, its dump is verified"))


def main(arguments: Sequence[str]) -> int:
    """The picture is drawn; 0 where it shows a verified dump."""
    if not 1 <= len(arguments) <= 2:
        raise UsageError("usage: python -m kdumpd.rehearse.picture OUT.svg [REPORT.json]")
    if len(arguments) == 2:
        document = json.loads(Path(arguments[1]).read_text())
    else:
        teller = report.Teller(Console(highlight=False))
        with tempfile.TemporaryDirectory(prefix="kdumpd-picture-", dir="/var/tmp") as folder:
            scenario = Scenario(load.default(), kernels.find("", teller.note))
            document = report.document(session.rehearse(scenario, Path(folder), teller.tell))
        teller.close()
    draw(document, Path(arguments[0]))
    return 0 if document["verified"] else 1


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (KdumpdError, OSError, ValueError) as error:
        print(f"picture: {error}", file=sys.stderr)
        sys.exit(1)
