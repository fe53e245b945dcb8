"""Steps under one time budget: each has a deadline, a line on the console, a time that is kept, and cannot take the
runner down with it. Called by `capture.runner` and what it calls. May import `capture.child`, `capture.console` and
`capture.stage`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from kdumpd.capture.child import Tell, run_in_child
from kdumpd.capture.console import Console
from kdumpd.capture.door import Outcome, Result, guarded
from kdumpd.capture.stage import Stage

_CLOSING_SHARE = 10  # a tenth of the budget, at most a minute, is kept for syncing and unmounting
_CLOSING_MOST = 60.0


class Timing(NamedTuple):
    """When a step began (seconds since the capture kernel started), how long it took, and how it ended."""

    stage: str
    start: float
    seconds: float
    failure: str


class Steps:
    """Runs steps; `budget` is seconds since the capture kernel started by which everything should be over."""

    def __init__(self, console: Console, budget: float) -> None:
        self.console = console
        self.stage = Stage(console)
        self.timings: list[Timing] = []
        self.incidents: list[str] = []
        self.notes: list[str] = []
        self.set_budget(budget)
        self._stop = False

    def set_budget(self, budget: float) -> None:
        """The policy's budget, once it is read."""
        self._end = budget
        self._closing = min(_CLOSING_MOST, budget / _CLOSING_SHARE)

    def stop(self) -> None:
        """The step that runs now, or the next that may be stopped (it has no floor), ends as stopped."""
        self._stop = True

    @property
    def left(self) -> float:
        """Seconds of the budget that are left for work, without what closing needs; 0 or less when it is spent."""
        return self._end - self._closing - self.console.clock()

    def say(self, stage: str, text: str) -> None:
        self.console.say(stage, text)

    def incident(self, stage: str, text: str) -> None:
        """Something that should not have happened: on the console, and in kdumpd.json."""
        self.incidents.append(f"{stage}: {text}")
        self.console.say(stage, text)

    def note(self, stage: str, text: str) -> None:
        """Something worth knowing that cost nothing: on the console, and in kdumpd.json."""
        self.notes.append(f"{stage}: {text}")
        self.console.say(stage, text)

    def guard(self, stage: str, work: Callable[[], None]) -> bool:
        """Whether `work`, done in the runner's own process, came to its end; a defect in it is an incident."""

        def guardable() -> Result:
            work()
            return {}

        failure = guarded(guardable).failure
        if failure is not None:
            self.incident(stage, f"failed: {failure.text}")
        return failure is None

    def run(
        self,
        stage: str,
        seconds: float,
        work: Callable[[Tell], Result],
        *,
        floor: float = 0.0,
        sooner: Callable[[], float] | None = None,
    ) -> Outcome:
        """`work` done in a child within `seconds` and what is left of the budget, but at least `floor` seconds.

        A step with a floor is what saves the log and the disk: it cannot be stopped. `sooner` gives, while it runs, an
        earlier moment by which it must be over. A failure is said and kept. The child leaves the stage first.
        """
        start = self.console.clock()
        allowed = max(min(seconds, self.left), floor)
        end = start + allowed
        self.console.stage = stage

        def staged(tell: Tell) -> Result:
            self.stage.leave(stage)
            return work(tell)

        outcome = self._in_child(staged, lambda: min(end, sooner()) if sooner else end, may_stop=not floor)
        took = self.console.clock() - start
        failure = outcome.failure
        self.timings.append(Timing(stage, round(start, 3), round(took, 3), failure.text if failure else ""))
        if failure is not None:
            spent = f" ({took:.1f} s)" if failure.kind == "overrun" else ""
            self.incident(stage, f"failed: {failure.text}{spent}")
        return outcome

    def _in_child(self, work: Callable[[Tell], Result], deadline: Callable[[], float], may_stop: bool) -> Outcome:
        """The outcome of `work` in a child; a fork that fails for want of memory is a failure of the step alone."""
        outcomes: list[Outcome] = []

        def attempt() -> Result:
            clock = self.console.clock
            outcomes.append(run_in_child(work, deadline, clock, self.say, lambda: self._tick(may_stop)))
            return {}

        door = guarded(attempt)
        return outcomes[0] if outcomes else door

    def _tick(self, may_stop: bool) -> bool:
        """Looks at the memory; True once after `stop`."""
        self.console.sample()
        if not (may_stop and self._stop):
            return False
        self._stop = False
        return True
