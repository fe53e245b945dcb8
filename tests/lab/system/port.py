"""The other end of the agent in a guest (`inside/agent.py`): requests by number, answers as they come, boots counted.

Called by `life`; imports nothing of kdumpd.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path


class GuestLostError(Exception):
    """The guest restarted, ended or fell silent before it answered."""


class Port:
    """A connection to QEMU's socket of the agent's port; `boots` are the boot ids it has told, oldest first."""

    def __init__(self, path: Path, within: float) -> None:
        self.boots: list[str] = []
        self._connection = _connected(path, within)
        self._news = threading.Condition()
        self._answers: dict[int, dict[str, object]] = {}
        self._asked_in: dict[int, int] = {}
        self._number = 0
        self._ended = False
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def ask(self, request: dict[str, object]) -> int:
        """The number of a request that is on its way."""
        with self._news:
            self._number += 1
            number = self._number
            self._asked_in[number] = len(self.boots)
        try:
            self._connection.sendall(json.dumps({"id": number, **request}).encode() + b"\n")
        except OSError as error:
            raise GuestLostError(f"the agent's port is gone ({error})") from error
        return number

    def answer(self, number: int, within: float) -> dict[str, object]:
        """The answer to that request; GuestLostError when the guest restarted or nothing came in so many seconds."""
        asked_in = self._asked_in[number]
        self._wait(lambda: number in self._answers or len(self.boots) > asked_in, within, "an answer")
        with self._news:
            if number not in self._answers:
                raise GuestLostError("the guest restarted before it answered")
            return self._answers.pop(number)

    def wait_boots(self, count: int, within: float) -> None:
        """The agent has started in `count` boots."""
        self._wait(lambda: len(self.boots) >= count, within, f"boot {count}")

    def close(self) -> None:
        """The connection is closed."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._thread.join(timeout=10)
        self._connection.close()

    def _wait(self, come: Callable[[], bool], within: float, what: str) -> None:
        deadline = time.monotonic() + within
        with self._news:
            while not come():
                left = deadline - time.monotonic()
                if self._ended or left <= 0:
                    why = "the machine has ended" if self._ended else f"nothing came for {within:.0f} s"
                    raise GuestLostError(f"{why} while {what} was expected of the agent")
                self._news.wait(left)

    def _read(self) -> None:
        rest = b""
        while data := self._received():
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self._take(line)
        with self._news:
            self._ended = True
            self._news.notify_all()

    def _received(self) -> bytes:
        try:
            return self._connection.recv(1 << 16)
        except OSError:
            return b""

    def _take(self, line: bytes) -> None:
        try:
            document = json.loads(line)
        except ValueError:
            return  # empty, or cut off by a reset
        with self._news:
            if "boot" in document:
                # The agent's own restart is not a boot.
                if document["boot"] not in self.boots:
                    self.boots.append(document["boot"])
            else:
                self._answers[document["id"]] = document
            self._news.notify_all()


def _connected(path: Path, within: float) -> socket.socket:
    deadline = time.monotonic() + within
    while True:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(str(path))
        except OSError as error:
            connection.close()
            if time.monotonic() > deadline:
                raise GuestLostError(f"{path}: QEMU does not open the agent's port ({error})") from error
            time.sleep(0.1)
        else:
            return connection
