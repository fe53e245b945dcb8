"""The runner's door: the one place under `capture` where any exception becomes a value and goes no further.

Called by `capture.child` around a step in its process, by `capture.step` around one in the runner's own, and by
`capture.__main__` around the whole. May import `errors`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NamedTuple

from kdumpd.errors import KdumpdError

Result = dict[str, Any]  # what a step hands back: JSON


class Failure(NamedTuple):
    """Why a step did not do its work: `kind` is the exception's class, or "killed", "overrun", "stopped"."""

    kind: str
    text: str


class Outcome(NamedTuple):
    """What came out of a step: a result, or the failure."""

    result: Result
    failure: Failure | None = None


def guarded(work: Callable[[], Result]) -> Outcome:
    """Runs `work`; whatever it raises is a Failure and never passes this door."""
    try:
        return Outcome(work())
    except KdumpdError as error:
        return Outcome({}, Failure(type(error).__name__, str(error)))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return Outcome({}, Failure("OSError", f"{where}{error.strerror or error}"))
    except Exception as error:
        return Outcome({}, Failure(type(error).__name__, f"{type(error).__name__}: {error}{_place(error)}"))


def _place(error: BaseException) -> str:
    """Where it was raised: capture.log has no traceback, and this is what one would be read for."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return ""
    return f" at {os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}"
