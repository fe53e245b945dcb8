"""Which rung follows which failure."""

from __future__ import annotations

import pytest

from kdumpd.capture.door import Failure
from kdumpd.capture.rungs import INSTEAD, Phase, Rung, leads_on, rungs, scan_share
from kdumpd.policy.model import EngineChoice

AUTO, KERNEL, USER, UNFILTERED = Rung


@pytest.mark.parametrize(
    ("engine", "module", "expected"),
    [
        (EngineChoice.AUTO, True, (AUTO, USER, UNFILTERED)),
        (EngineChoice.AUTO, False, (AUTO, UNFILTERED)),
        (EngineChoice.KERNEL, True, (KERNEL, USER, UNFILTERED)),
        (EngineChoice.KERNEL, False, (KERNEL, USER, UNFILTERED)),
        (EngineChoice.USER, True, (USER, UNFILTERED)),
    ],
)
def test_the_policy_and_the_module_say_which_rungs_there_are(
    engine: EngineChoice, module: bool, expected: tuple[Rung, ...]
) -> None:
    assert rungs(engine, module) == expected
    assert all(rung in INSTEAD for rung in expected[1:])


@pytest.mark.parametrize("kind", ["killed", "overrun", "ScanError", "VmcoreError", "ZeroDivisionError"])
def test_a_scan_that_fails_leads_to_the_next_rung(kind: str) -> None:
    assert leads_on(Failure(kind, ""), Phase.SCANNING)
    assert not leads_on(Failure(kind, ""), Phase.WRITING)


@pytest.mark.parametrize("kind", ["stopped", "DumpError", "TargetError", "OSError"])
@pytest.mark.parametrize("phase", list(Phase))
def test_what_any_dump_would_meet_ends_it(kind: str, phase: Phase) -> None:
    assert not leads_on(Failure(kind, ""), phase)


@pytest.mark.parametrize("kind", ["killed", "WorkerError"])
def test_a_process_that_dies_while_the_module_hands_out_pages_leads_to_the_user_engine(kind: str) -> None:
    assert leads_on(Failure(kind, ""), Phase.GATHERING)


def test_each_scan_leaves_time_for_the_rungs_after_it() -> None:
    assert [scan_share(place, 2) for place in range(2)] == [0.5, 1.0]
    assert scan_share(0, 3) < scan_share(1, 3) < scan_share(2, 3) == 1.0
