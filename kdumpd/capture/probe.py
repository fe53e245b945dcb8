"""The search for targets' devices: a disk that does not answer is found out, and the search goes on without it.

A dead disk holds the process that reads it, often beyond any signal. All targets share one `Probe`, so that it does so
once. Called by `capture.attempt`. May import `capture.mark` and `target`.
"""

from __future__ import annotations

from collections.abc import Callable

from kdumpd.capture.mark import Note
from kdumpd.target.device import Places


class Probe:
    """Which device is looked at now, told from inside a child, and which never answered."""

    def __init__(self, places: Places, clock: Callable[[], float]) -> None:
        self._places = places
        self._clock = clock
        self._note = Note()
        self._number = 0
        self._since = 0.0
        self._dead: frozenset[str] = frozenset()

    def places(self) -> Places:
        """Where a child looks: not at the dead, and it tells where it is."""
        return self._places._replace(dead=self._dead, looking=self._note.set)

    def overdue(self) -> float:
        """The moment on the clock from which the device that is looked at now counts as dead; asked often."""
        if self._note.number != self._number:
            self._number, self._since = self._note.number, self._clock()
        return self._since + self._places.patience if self._note.text else float("inf")

    def bury(self) -> str:
        """The device that the last child did not come back from, not looked at again; "" if there was none."""
        dead = self._note.text
        self._note.set("")
        if dead:
            self._dead |= {dead}
        return dead
