"""What children say, in the loop's terms; and what the service says of itself, in one line. Pure.

May import `service.actions` and the standard library.
"""

from __future__ import annotations

import json
from typing import NamedTuple

from kdumpd.service.actions import Ended, State, Tell

_LONGEST = 600  # characters of a reason


class Verdict(NamedTuple):
    """Armed or not, why, and what is wrong with the policy where the last good one is in force ("" nothing)."""

    armed: bool
    reason: str
    policy_problem: str


def _line(text: object) -> str:
    """Text of others as one line of a bearable length, with nothing that neither the journal nor systemd takes."""
    line = " ".join(text.split()) if isinstance(text, str) else ""
    # A path may have any byte but 0, JSON any surrogate and 0.
    line = line.encode("utf-8", "replace").decode().replace("\0", "?")
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"


def complaint(event: Ended, late: bool) -> str:
    """Why a child failed: what it wrote on stderr, without its own name in front."""
    verb = event.work.value
    lines = [line.strip().removeprefix(f"kdumpd {verb}: ") for line in event.errors.splitlines() if line.strip()]
    if late:
        return f"{verb}: not done in time and stopped"
    if event.code < 0:
        return f"{verb}: ended by signal {-event.code}"
    return _line("; ".join(lines)) or f"{verb}: failed with exit code {event.code} and said nothing"


def targets(event: Ended) -> tuple[str, ...]:
    """A line for each target that apply could not prove."""
    lines = (line.removeprefix("kdumpd apply: ") for line in event.errors.splitlines())
    return tuple(_line(line) for line in lines if line.startswith("target "))


def read(event: Ended, late: bool) -> Verdict:
    """The verdict of `kdumpd status --json`; not armed when it gave none, since armed means proved."""
    try:
        document = json.loads(event.output)
        armed = document["armed"]
        reason = document["reason"]
        problems = document.get("policy_problems") or document.get("policy_problem") or ()
    except (ValueError, TypeError, KeyError, AttributeError):
        return Verdict(False, complaint(event, late), "")
    if not isinstance(armed, bool) or not isinstance(reason, str):
        return Verdict(False, "status: armed and reason are missing from what it printed", "")
    if isinstance(problems, str):
        problems = (problems,)
    return Verdict(armed, _line(reason) or "it did not say why", _line("; ".join(map(str, problems))))


def found(line: str) -> Tell | None:
    """A line of JSON by which `kdumpd.dumps.aftermath` tells what it found or did; None for anything else."""
    try:
        document = json.loads(line)
        event, reason = document.pop("event"), document.pop("reason")
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    known = ((str(name), value) for name, value in document.items() if value not in (None, "", []))
    fields = ((name, value if isinstance(value, str) else json.dumps(value)) for name, value in known)
    return Tell(_line(event), _line(reason), tuple((name, _line(value)) for name, value in fields))


def said(state: State) -> str:
    """The line that `systemctl status` shows."""
    parts = [f"{'armed' if state.armed else 'NOT ARMED'}: {state.reason}"]
    if state.busy:
        parts.append(f"{state.busy} now")
    if state.policy_problem:
        parts.append(f"the policy is not valid and the last good one in force: {state.policy_problem}")
    return "; ".join(parts)
