"""Step lines are written once and read back by the same module."""

from __future__ import annotations

import errno
import os

from hypothesis import given
from hypothesis import strategies as st

from kdumpd.capture.console import LOG_LINES, Console, StepLine, available_memory, parse, render


def test_a_line_says_seconds_memory_step_and_text() -> None:
    line = render(StepLine(3.4149, 84, "scan", "32466 of 524158 pages chosen"))
    assert line == "kdumpd: +3.41 s mem=84 M scan: 32466 of 524158 pages chosen"


def test_a_line_is_found_behind_what_the_kernel_puts_before_it() -> None:
    line = parse("\x1b[0m[    3.412345] kdumpd: +3.41 s mem=84 M dump: begins, 800 s at most\r\n")
    assert line == StepLine(3.41, 84, "dump", "begins, 800 s at most")


def test_other_lines_are_no_step_lines() -> None:
    for text in (
        "",
        "kdumpd| line 49",
        "kdumpd: +x s mem=84 M dump: begins",
        "kdumpd: +3 s mem=²4 M dump: begins",
        "kdumpd: +3.41 s mem=84 M cut",
        "[ 1.0] Run /init as init process",
    ):
        assert parse(text) is None


@given(
    st.floats(0, 1e6),
    st.integers(0, 1 << 30),
    st.from_regex(r"[a-z]{1,12}", fullmatch=True),
    st.text(st.characters(categories=["L", "N", "P", "Zs"])),
)
def test_what_is_rendered_is_parsed(seconds: float, memory: int, stage: str, text: str) -> None:
    line = parse(render(StepLine(round(seconds, 2), memory, stage, text)))
    assert line == StepLine(round(seconds, 2), memory, stage, text)


@given(st.text())
def test_parsing_never_raises(text: str) -> None:
    parse("kdumpd: +" + text)


def test_the_smallest_memory_is_remembered_with_its_step() -> None:
    left = iter((900 << 20, 800 << 20, 300 << 20, 700 << 20))
    console = Console(lambda line: None, clock=lambda: 1.0, memory=lambda: next(left))
    console.say("target", "mounted")
    console.say("dump", "begins")
    console.say("record", "written")
    assert (console.smallest_memory, console.smallest_stage) == (300 << 20, "dump")


def test_a_console_that_cannot_be_written_to_keeps_the_log() -> None:
    def broken(line: bytes) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    console = Console(broken)
    console.say("start", "hello\nworld")
    assert console.lines[0].endswith("start: hello world")


def test_memory_is_read_from_this_kernel() -> None:
    assert 1 << 20 < available_memory() < 1 << 50


def test_a_log_that_is_full_keeps_the_beginning_and_the_end() -> None:
    console = Console(lambda line: None, clock=lambda: 1.0, memory=lambda: 1)
    for number in range(3 * LOG_LINES):
        console.say("dump", f"{number} pages")
    kept = [line.text for line in map(parse, console.lines) if line is not None]
    assert len(kept) == LOG_LINES
    assert (kept[0], kept[LOG_LINES // 2 - 1]) == ("0 pages", f"{LOG_LINES // 2 - 1} pages")
    assert kept[-1] == f"{3 * LOG_LINES - 1} pages"
