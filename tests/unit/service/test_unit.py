"""kdumpd-armed.service becomes what was said last, whatever systemd makes of a job."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdumpd.service.unit import TRIES, Step, Turn


class Systemd:
    """A unit; `lose` is how many jobs get lost. Who is armed is told by what was said last when a restart runs."""

    def __init__(self, lose: int = 0) -> None:
        self.turn = Turn()
        self.said, self.state, self.lose = "", "inactive", lose
        self.running: Step | None = None
        self.orders = 0

    def say(self, state: str) -> None:
        self.said = state
        self.begin(self.turn.want(state))

    def wake(self) -> None:
        self.begin(self.turn.look())

    def end(self) -> None:
        """What runs takes effect as it ends."""
        step, self.running = self.running, None
        assert step is not None
        if step.zero is None:
            self._order(step.word)
            code = 0
        else:
            code = 0 if self.state == step.word.removeprefix("is-") else 3
        self.begin(self.turn.ended(code))

    def settle(self) -> None:
        for _ in range(TRIES + 1):
            while self.running:
                self.end()
            self.wake()

    def begin(self, step: Step | None) -> None:
        if step is not None:
            assert self.running is None
            self.running = step

    def _order(self, word: str) -> None:
        self.orders += 1
        if self.lose:
            self.lose -= 1
        elif word == "restart":
            # It reads what is said, where the service says anything but that there is no reservation.
            self.state = "active" if self.said == "active" else "failed"
        elif word == "stop":
            self.state = "inactive" if self.state == "active" else self.state
        elif word == "reset-failed":
            self.state = "inactive" if self.state == "failed" else self.state


def test_two_states_in_quick_succession_are_two_jobs_one_after_the_other_and_the_last_wins() -> None:
    systemd = Systemd()
    systemd.say("active")
    systemd.say("inactive")
    assert systemd.running == Step("restart")
    systemd.end()
    assert systemd.running == Step("stop")
    systemd.settle()
    assert systemd.state == "inactive"


@pytest.mark.parametrize("state", ["active", "failed"])
def test_a_lost_job_is_asked_for_again_at_the_next_wake_up(state: str) -> None:
    systemd = Systemd(lose=1)
    systemd.say(state)
    systemd.end()
    assert systemd.state == "inactive"
    systemd.wake()
    systemd.end()
    systemd.end()
    assert systemd.state == state


def test_a_unit_that_is_what_it_is_to_be_is_asked_once() -> None:
    systemd = Systemd()
    systemd.say("active")
    systemd.settle()
    assert (systemd.state, systemd.orders) == ("active", 1)
    systemd.wake()
    assert systemd.running is None


def test_a_state_that_comes_during_a_check_is_not_taken_for_checked() -> None:
    systemd = Systemd()
    systemd.say("active")
    systemd.end()
    systemd.wake()
    systemd.say("failed")
    systemd.settle()
    assert systemd.state == "failed"


def test_a_unit_that_never_becomes_so_is_left_alone_in_the_end() -> None:
    systemd = Systemd(lose=1000)
    systemd.say("active")
    systemd.settle()
    assert systemd.orders == TRIES
    systemd.wake()
    assert systemd.running is None


def test_that_it_was_left_alone_is_told_once_for_each_state() -> None:
    systemd = Systemd(lose=1000)
    for state in ("active", "failed"):
        systemd.say(state)
        assert systemd.turn.given_up() == ""
        systemd.settle()
        assert systemd.turn.given_up() == state
        assert systemd.turn.given_up() == ""


def test_what_it_reads_was_written_at_last_and_the_unit_is_asked_to_read_it_again() -> None:
    assert Turn().again() is None
    systemd = Systemd(lose=TRIES)
    systemd.say("active")
    systemd.settle()
    systemd.begin(systemd.turn.again())
    systemd.settle()
    assert systemd.state == "active"


@given(st.lists(st.sampled_from(["active", "failed", "inactive", "wake", "end"])), st.integers(0, TRIES - 1))
def test_whatever_the_order_the_last_state_is_what_the_unit_ends_in(events: list[str], lose: int) -> None:
    systemd = Systemd(lose)
    for event in events:
        if event == "wake":
            systemd.wake()
        elif event == "end":
            systemd.end() if systemd.running else None
        else:
            systemd.say(event)
    systemd.settle()
    if systemd.said and not systemd.lose:
        assert systemd.state == systemd.said
