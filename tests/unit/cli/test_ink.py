"""Colours reach a terminal that wants them, and nothing else."""

from __future__ import annotations

import io
import os

import pytest

from kdumpd.cli.ink import colours


@pytest.mark.parametrize(
    ("term", "no_color", "expected"),
    [("xterm", "", True), ("xterm", "1", False), ("dumb", "", False), ("", "", False)],
)
def test_a_terminal_has_colours_unless_it_cannot_or_shall_not(
    monkeypatch: pytest.MonkeyPatch, term: str, no_color: str, expected: bool
) -> None:
    monkeypatch.setenv("TERM", term)
    monkeypatch.setenv("NO_COLOR", no_color)
    master, slave = os.openpty()
    with os.fdopen(slave, "w") as terminal:
        assert colours(terminal) is expected
    os.close(master)


def test_a_pipe_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert not colours(io.StringIO())
