"""What children say becomes a verdict; what the service says fits on a line."""

from __future__ import annotations

import json

import pytest

from kdumpd.service import events
from kdumpd.service.actions import Ended, State, Tell, Work
from kdumpd.service.verdict import Verdict, complaint, found, read, said
from tests.unit.service.machine import QUIET_MACHINE


def _ended(output: str = "", errors: str = "", code: int = 0) -> Ended:
    return Ended(Work.STATUS, code, output, errors, QUIET_MACHINE)


def test_a_status_is_read_with_every_problem_of_the_policy() -> None:
    text = json.dumps({"armed": True, "reason": "well", "policy_problems": ["f:1:1: a", "f:2:1: b"]})
    assert read(_ended(text), late=False) == Verdict(True, "well", "f:1:1: a; f:2:1: b")


@pytest.mark.parametrize(
    "text", ["", "[]", "null", "{}", '{"armed": 1, "reason": "x"}', '{"armed": true, "reason": 1}']
)
def test_a_status_without_sense_is_not_armed(text: str) -> None:
    assert read(_ended(text), late=False).armed is False
    assert read(_ended(text), late=False).reason


def test_a_complaint_is_one_line_without_the_verbs_name() -> None:
    assert complaint(_ended(errors="kdumpd status: a\n\nkdumpd status: b\n", code=1), late=False) == "a; b"
    assert complaint(_ended(code=-9), late=False) == "status: ended by signal 9"
    assert complaint(_ended(code=1), late=False) == "status: failed with exit code 1 and said nothing"
    assert len(complaint(_ended(errors="x" * 10000, code=1), late=False)) < 1000


def test_what_a_crash_has_left_becomes_an_event_with_its_fields() -> None:
    line = json.dumps(
        {"event": "crash-found", "reason": "panic", "message": "host crashed", "path": "/p", "pstore": []}
    )
    told = found(line)
    assert told == Tell("crash-found", "panic", (("message", "host crashed"), ("path", "/p")))
    assert events.fields(told) == {
        "MESSAGE": "host crashed",
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "kdumpd",
        "KDUMPD_EVENT": "crash-found",
        "KDUMPD_REASON": "panic",
        "KDUMPD_PATH": "/p",
    }
    assert found("{") is None
    assert found("[]") is None


def test_the_line_of_systemctl_status_says_all_that_matters() -> None:
    state = State(True, "well", 0.0, "building the image", "")
    assert said(state) == "armed: well; building the image now"
    state = State(False, "no kexec", 0.0, "", "/etc/kdumpd.yaml:3:7: dump.level: wrong")
    assert said(state).startswith("NOT ARMED: no kexec; the policy is not valid")
    assert said(state).endswith("/etc/kdumpd.yaml:3:7: dump.level: wrong")


@pytest.mark.parametrize(
    ("event", "priority"),
    [
        ("not-armed", "3"),
        ("crash-without-dump", "3"),
        ("target-failed", "3"),
        ("service-failed", "3"),
        ("record-failed", "4"),
        ("record-damaged", "4"),
        ("prune-failed", "4"),
        ("retention-unmet", "4"),
        ("armed", "5"),
        ("pruned", "5"),
        ("built", "6"),
    ],
)
def test_what_somebody_has_to_do_something_about_is_a_warning_at_least(event: str, priority: str) -> None:
    assert events.fields(Tell(event, "why"))["PRIORITY"] == priority


HOSTILE = "a\ud800 b\udcff\n\0c"


def test_what_no_text_can_hold_is_replaced_wherever_it_comes_from() -> None:
    output = json.dumps({"armed": False, "reason": HOSTILE, "policy_problems": [HOSTILE]})
    verdict = read(_ended(output), late=False)
    told = found(json.dumps({"event": "crash-found", "reason": HOSTILE, "path": HOSTILE, f"x{HOSTILE}": 1}))
    assert told
    texts = [verdict.reason, verdict.policy_problem, complaint(_ended(errors=HOSTILE, code=1), late=False)]
    texts += [text for pair in events.fields(told).items() for text in pair]
    assert texts[:3] == ["a? b? ?c", "a? b? ?c", "a? b?; ?c"]
    for text in texts:
        assert text.encode()
        assert "\0" not in text
