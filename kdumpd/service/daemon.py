"""The loop joined to the machine: one poll, every event handed to `loop`, every action of it carried out.

Called by the verb `service`. May import the rest of `service`, `errors` and systemd-python.
"""

from __future__ import annotations

import math
import os
import select
import signal
import time
from collections.abc import Mapping
from contextlib import suppress

from systemd.daemon import notify
from systemd.journal import send

from kdumpd.service import events, record
from kdumpd.service.actions import (
    Action,
    Asked,
    Ended,
    Event,
    Forget,
    Keep,
    Kill,
    Noticed,
    Notify,
    Publish,
    Reload,
    Said,
    Start,
    Started,
    State,
    Stopped,
    Tell,
    Unit,
    Woken,
    Work,
)
from kdumpd.service.children import COMMANDS, Child, environment, finish
from kdumpd.service.look import take
from kdumpd.service.loop import KILLED, Loop
from kdumpd.service.paths import Paths
from kdumpd.service.space import Spaces
from kdumpd.service.unit import TRIES, Step, Turn
from kdumpd.service.watch import Devices, Files, Mounts

_ARMED_UNIT = "kdumpd-armed.service"
_SYSTEMCTL = "/usr/bin/systemctl"
_LAST = 1.0  # seconds, at a stop, for the end of what was killed
_UNSTARTED = 127  # as a shell says it
_SIGNALS: dict[signal.Signals, Asked | Stopped] = {
    signal.SIGTERM: Stopped(),
    signal.SIGINT: Stopped(),
    signal.SIGHUP: Asked(),
}


class Daemon:
    """The service at work; `run` returns when somebody asked for the end."""

    def __init__(self, paths: Paths, commands: Mapping[Work, tuple[str, ...]] = COMMANDS) -> None:
        self._paths, self._commands = paths, commands
        self._spaces = Spaces()
        self._since = time.time()
        self._loop = Loop(os.path.join(paths.images, "capture.img"))
        self._children: dict[Work, Child] = {}
        self._turn, self._unit = Turn(), 0
        self._unwritten: State | None = None
        self._unstarted: list[Ended] = []
        self._files = Files(paths)
        self._watches: dict[int, Files | Devices | Mounts] = {}
        self._poll = select.poll()
        for watch in (self._files, Devices(), Mounts(paths)):
            self._watches[watch.fileno()] = watch
            self._poll.register(watch, watch.events)
        self._signals, wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._poll.register(self._signals, select.POLLIN)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        for number in (*_SIGNALS, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)

    def run(self) -> int:
        """The exit code of the service."""
        self._step(Started(take(self._paths, self._spaces)))
        while True:
            ready = {descriptor for descriptor, _ in self._poll.poll(self._timeout())}
            words = {word for number in ready & self._watches.keys() for word in self._watches[number].read()}
            if words:
                self._step(Noticed(frozenset(words)))
            for event in self._asked() if self._signals in ready else []:
                self._step(event)
                if isinstance(event, Stopped):
                    return self._end()
            for child in [*self._children.values()]:
                if ready & {child.fileno(), child.output.descriptor, child.errors.descriptor}:
                    self._hear(child, ended=child.fileno() in ready)
            if time.monotonic() >= self._loop.wake:
                self._step(Woken(take(self._paths, self._spaces)))
                self._rewrite()
                self._systemctl(self._turn.look())

    def _timeout(self) -> int:
        """Milliseconds to sleep, rounded up: to wake too early would be to wake twice."""
        return max(0, math.ceil((self._loop.wake - time.monotonic()) * 1000))

    def _asked(self) -> list[Asked | Stopped]:
        """What signals ask for; SIGCHLD is about systemctl, after whose end the next one may be due."""
        numbers = set(os.read(self._signals, 4096))
        if self._unit:
            ended, code = os.waitpid(self._unit, os.WNOHANG)
            if ended:
                self._unit = 0
                self._systemctl(self._turn.ended(os.waitstatus_to_exitcode(code)))
        return [event for number, event in _SIGNALS.items() if number in numbers]

    def _step(self, event: Event) -> None:
        # A clock may have been set.
        self._loop.clock = time.time() - time.monotonic()
        for action in self._loop.step(event, time.monotonic()):
            self._do(action)
        # Not before all of that is done: what it publishes is older than what they bring.
        while self._unstarted:
            self._step(self._unstarted.pop(0))

    def _do(self, action: Action) -> None:
        """One action is carried out; what it cannot write is said in the journal, and the service goes on."""
        try:
            match action:
                case Start(work):
                    self._start(work)
                case Kill(work, hard):
                    if work in self._children:
                        self._children[work].kill(hard)
                case Notify(text):
                    notify(text)
                case Reload():
                    self._reload()
                case Tell():
                    send(**events.fields(action))
                case Publish(said):
                    self._unwritten = said
                    record.publish(self._paths, said)
                    self._unwritten = None
                case Unit(state):
                    self._systemctl(self._turn.want(state))
                case Keep(armed):
                    record.keep(self._paths, armed, self._since)
                case Forget(kept):
                    record.forget(self._paths, kept)
        except OSError as error:
            self._failed(f"{error.filename or type(action).__name__}: {error.strerror or error}")

    def _rewrite(self) -> None:
        """What could not be written is written as soon as it can be; that it could not was told."""
        if self._unwritten is not None:
            with suppress(OSError):
                record.publish(self._paths, self._unwritten)
                self._unwritten = None
                self._systemctl(self._turn.again())

    def _failed(self, reason: str) -> None:
        with suppress(OSError):  # It may be the journal that cannot be written to.
            send(**events.fields(Tell("service-failed", reason)))

    def _start(self, work: Work) -> None:
        try:
            child = Child(work, self._commands[work], environment())
        except OSError as error:
            failed = f"{self._commands[work][0]}: {error.strerror}"
            self._unstarted.append(Ended(work, 127, "", failed, take(self._paths, self._spaces)))
            return
        self._children[work] = child
        for descriptor in (child.fileno(), child.output.descriptor, child.errors.descriptor):
            self._poll.register(descriptor, select.POLLIN)

    def _hear(self, child: Child, ended: bool) -> None:
        """What a child has written is told line by line, and in whole at its end."""
        code = 0
        if ended:
            self._poll.unregister(child)
            for text in (child.output, child.errors):
                if not text.ended:
                    self._poll.unregister(text.descriptor)
            code = child.reap()
            del self._children[child.work]
        else:
            for text in (child.output, child.errors):
                if not text.ended and text.drain():
                    self._poll.unregister(text.descriptor)
        for line in child.output.lines():
            self._step(Said(child.work, line))
        if ended:
            self._step(Ended(child.work, code, child.output.all(), child.errors.all(), take(self._paths, self._spaces)))

    def _reload(self) -> None:
        notify(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")
        self._files.renew()
        notify("READY=1")

    def _systemctl(self, step: Step | None) -> None:
        """systemd is told and not waited for: it may be waiting for us."""
        while step is not None:
            command = (_SYSTEMCTL, "--no-block", step.word, _ARMED_UNIT)
            quiet = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in range(3)]
            try:
                self._unit = os.posix_spawn(command[0], command, environment(), file_actions=quiet, setsigmask=())
                return
            except OSError as error:
                self._failed(f"{_SYSTEMCTL}: {error.strerror}")
                step = self._turn.ended(_UNSTARTED)
        if state := self._turn.given_up():
            times = f"systemd was asked {TRIES} times"
            self._failed(f"{_ARMED_UNIT}: is not {state} though {times}; see systemctl status {_ARMED_UNIT}")

    def _end(self) -> int:
        """Children end; what no signal ends is left to systemd, which is not to wait for the service as well."""
        finish(list(self._children.values()), KILLED, _LAST)
        return 0
