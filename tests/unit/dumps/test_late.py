"""A dump whose target comes in a later boot than the one that took its crash for missing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kdumpd.dumps import ended
from kdumpd.dumps.crashes import State
from tests.unit.dumps.targets import Rig


@pytest.fixture
def began(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """When this boot began, by its clock; a minute after the crash at first."""

    def at(moment: float) -> None:
        monkeypatch.setattr(ended, "boot_time", lambda: moment)

    at(1795514460.0)
    return at


def missed(rig: Rig, *numbers: int) -> Path:
    """boot-1 ended by itself, its dump lies on a target that boot-2 did not have; boot-3 has not got it yet."""
    for number in numbers:
        rig.dump(number)
    away = rig.targets[0].rename(rig.targets[0].with_name("away"))
    rig.running()
    (missing,) = rig.run()
    assert missing.event == "crash-without-dump"
    rig.boot("boot-3")
    return away


def test_a_dump_whose_target_came_in_a_later_boot_takes_the_place_of_the_missing_one(
    rig: Rig, began: Callable[[float], None]
) -> None:
    away = missed(rig, 1)
    began(1795514900.0)
    # boot-2 ends by itself as well, minutes after it began.
    rig.running("boot-2", since=1795514500.0)
    assert [event.event for event in rig.run()] == ["crash-without-dump"]
    rig.boot("boot-4")
    away.rename(rig.targets[0])
    (event,) = rig.run()
    assert event.event == "crash-found"
    first, second = rig.record().crashes
    assert (first.path, first.state, first.ended) == (event.crash and event.crash.path, State.VERIFIED, "boot-1")
    assert (second.path, second.state, second.ended) == (None, State.MISSING, "boot-2")
    assert rig.run() == []


def test_a_dump_of_an_earlier_boot_that_comes_late_does_not_explain_how_the_last_one_ended(
    rig: Rig, began: Callable[[float], None]
) -> None:
    away = missed(rig, 1)
    began(1795514900.0)
    away.rename(rig.targets[0])
    rig.running("boot-2", since=1795514500.0)
    assert [event.event for event in rig.run()] == ["crash-without-dump", "crash-found"]
    assert [(crash.state, crash.ended) for crash in rig.record().crashes] == [
        (State.VERIFIED, "boot-1"),
        (State.MISSING, "boot-2"),
    ]


@pytest.mark.usefixtures("began")
@pytest.mark.parametrize(
    "running",
    [
        {"since": 1795514402.0},  # the dump is older than that boot
        {"host": "web2"},
        {"host": ""},
        {"since": 30.0},  # a clock that was not set
    ],
)
def test_a_dump_that_may_be_of_another_crash_leaves_the_missing_one(rig: Rig, running: dict[str, Any]) -> None:
    path = rig.dump(1)
    away = rig.targets[0].rename(rig.targets[0].with_name("away"))
    rig.running(**running)
    rig.run()
    rig.boot("boot-3")
    away.rename(rig.targets[0])
    rig.run()
    assert [(crash.path, crash.state) for crash in rig.record().crashes] == [
        (None, State.MISSING),
        (str(path), State.VERIFIED),
    ]


def test_a_dump_of_a_later_boot_leaves_the_missing_one(rig: Rig, began: Callable[[float], None]) -> None:
    began(1795514400.0)
    missed(rig, 1).rename(rig.targets[0])
    rig.run()
    assert [crash.state for crash in rig.record().crashes] == [State.MISSING, State.VERIFIED]


@pytest.mark.usefixtures("began")
def test_of_two_dumps_that_may_be_the_missing_one_none_takes_its_place(rig: Rig) -> None:
    missed(rig, 1, 2).rename(rig.targets[0])
    rig.run()
    assert [crash.state for crash in rig.record().crashes] == [State.MISSING, State.VERIFIED, State.VERIFIED]
