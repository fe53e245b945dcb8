"""A machine for the loop: a clock, what a look shows, and children that end as they are told."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from kdumpd.service.actions import Action, Ended, Event, Noticed, Start, Started, Woken, Work
from kdumpd.service.look import Look, Room
from kdumpd.service.loop import Loop

IMAGE = "/var/lib/kdumpd/6.1/capture.img"

QUIET_MACHINE = Look(
    policy=(1, 100, 1, 1),
    image=((2, 1000, 1, 1), (3, 10, 1, 1), (4, 10, 1, 1)),
    record=(5, 10, 1, 1),
    kernel=((6, 1000, 1, 1), None),
    modules=((7, 100, 1, 1), (8, 100, 1, 1)),
    loaded=True,
    reservation=192 << 20,
    cpus="0-1",
    memory=("00100000-7fffffff : System RAM",),
    disks=("vda", "vda1"),
    mounts=("254:1 / / rw ext4 /dev/vda1 rw",),
    room=(Room("/var/crash", 1, 1 << 30),),
    hostname="host",
    disarmed=False,
)

Kind = TypeVar("Kind")


def status(armed: bool, reason: str = "because", problem: str = "") -> str:
    """What `kdumpd status --json` prints."""
    return json.dumps({"version": 1, "armed": armed, "reason": reason, "policy_problem": problem or None})


class Machine:
    """`actions` is all that the loop has asked for; `now` the time."""

    def __init__(self, look: Look = QUIET_MACHINE) -> None:
        self.loop = Loop(IMAGE, clock=1000.0)
        self.now = 100.0
        self.look = look
        self.actions: list[Action] = []

    def step(self, event: Event) -> list[Action]:
        done = self.loop.step(event, self.now)
        self.actions += done
        return done

    def start(self) -> list[Action]:
        return self.step(Started(self.look))

    def notice(self, *words: str) -> list[Action]:
        """An event, and the look that follows it."""
        self.step(Noticed(frozenset(words)))
        return self.wake()

    def wake(self) -> list[Action]:
        """The time that the loop asked for comes."""
        self.now = max(self.now, self.loop.wake)
        return self.step(Woken(self.look))

    def change(self, **fields: Any) -> None:
        """A look shows something else from now on."""
        self.look = self.look._replace(**fields)

    def end(self, work: Work, code: int = 0, output: str = "", errors: str = "", seconds: float = 2.0) -> list[Action]:
        self.now += seconds
        return self.step(Ended(work, code, output, errors, self.look))

    def armed(self) -> list[Action]:
        """status says that the machine is armed."""
        return self.end(Work.STATUS, 0, status(True, "all is well"))

    def not_armed(self, reason: str = "stale", problem: str = "") -> list[Action]:
        """status says that it is not."""
        return self.end(Work.STATUS, 3, status(False, reason, problem))

    def settle(self) -> None:
        """Started, armed, the search after a crash done, and nothing more to do."""
        self.start()
        self.end(Work.APPLY)
        self.armed()
        self.end(Work.AFTERMATH)
        self.actions.clear()


def of(kind: type[Kind], actions: list[Action]) -> list[Kind]:
    """The actions of one kind."""
    return [action for action in actions if isinstance(action, kind)]


def started(actions: list[Action]) -> list[Work]:
    """The work that was started."""
    return [start.work for start in of(Start, actions)]
