"""A progress bar on a terminal, and nothing at all where standard error is none.

Called by the verbs that take long. May import the standard library and rich.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

Report = Callable[[int, int], None]  # (done, in all)


@contextlib.contextmanager
def bar(title: str) -> Iterator[Report | None]:
    """A function that draws how far it is told the work is; None where nobody would see it."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    # No refresh thread: the writer forks, and a fork takes no thread along.
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, auto_refresh=False) as progress:
        task = progress.add_task(title, total=None)

        def report(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total, refresh=True)

        yield report
