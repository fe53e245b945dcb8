"""kdumpd-armed.service on its way to what it is to be: one systemctl at a time, and the last state wins. Pure.

systemd may lose a job (it is being replaced, its bus is full, a transaction is refused), and two programs that ask for
one thing each may come in either order. So the next order waits for the end of the one before, and at the next wake-up
of the loop the unit is asked whether it is what it was to be.

    want ──► orders, one after the other ──► (next wake-up) checks ──► done, or the orders again

Called by `service.daemon`. May import the standard library alone.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

TRIES = 5  # times that orders are given for one state: who masks the unit wants it so


class Step(NamedTuple):
    """A run of systemctl. `zero` is whether a check is to end with 0; None for an order, which the checks judge."""

    word: str
    zero: bool | None = None


_ACTIVE, _FAILED = "is-active", "is-failed"
_ORDERS = {
    "active": (Step("restart"),),
    "failed": (Step("restart"),),
    "inactive": (Step("stop"), Step("reset-failed")),
}
_CHECKS = {
    "active": (Step(_ACTIVE, True),),
    "failed": (Step(_FAILED, True),),
    "inactive": (Step(_ACTIVE, False), Step(_FAILED, False)),
}


class Turn:
    """What the unit is to be, what runs for it, and whether it was seen to be so."""

    def __init__(self) -> None:
        self._state = ""
        self._left: deque[Step] = deque()
        self._running: Step | None = None
        self._overtaken = False
        self._open = False
        self._tries = 0
        self._given_up = ""

    def want(self, state: str) -> Step | None:
        """The unit is to be active, failed or inactive; what to run now, None while something else runs."""
        self._state, self._open, self._tries, self._given_up = state, True, 1, ""
        self._left = deque(_ORDERS[state])
        self._overtaken = self._running is not None
        return self._next()

    def again(self) -> Step | None:
        """What the unit goes by was written only now: it is asked once more to be what it is to be."""
        return self.want(self._state) if self._state else None

    def given_up(self) -> str:
        """The state that the unit did not take however often it was asked; "" otherwise, and when that was told."""
        given_up, self._given_up = self._given_up, ""
        return given_up

    def look(self) -> Step | None:
        """A moment to see whether the unit is what it was to be; None where that was seen, or something runs."""
        if not self._open or self._running is not None:
            return None
        self._left = deque(_CHECKS[self._state])
        return self._next()

    def ended(self, code: int) -> Step | None:
        """What runs has ended; what to run next."""
        step, self._running = self._running, None
        if step is not None and step.zero is not None and not self._overtaken:
            if (code == 0) is not step.zero:
                self._left.clear()
                self._again()
            elif not self._left:
                self._open = False
        self._overtaken = False
        return self._next()

    def _again(self) -> None:
        if self._tries >= TRIES:
            self._open, self._given_up = False, self._state
            return
        self._tries += 1
        self._left.extend(_ORDERS[self._state])

    def _next(self) -> Step | None:
        if self._running is not None or not self._left:
            return None
        self._running = self._left.popleft()
        return self._running
