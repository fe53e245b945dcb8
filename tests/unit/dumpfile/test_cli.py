"""`kdumpd verify` and `kdumpd info` from the outside: exit codes, one line of error, JSON, and where a bar is drawn."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from kdumpd.cli.main import main
from tests.unit.dumpfile import crash

VERIFY_KEYS = [
    "file",
    "verdict",
    "size",
    "memory_pages",
    "pages",
    "zero",
    "raw",
    "zstd",
    "zlib",
    "unwritten",
    "unreadable",
    "damaged",
    "unchecked",
    "checksum",
    "problem_count",
    "problems",
]
INFO_KEYS = [
    "file",
    "complete",
    "size",
    "release",
    "version",
    "machine",
    "nodename",
    "crash_time",
    "panic",
    "log_error",
    "level",
    "excluded",
    "compression",
    "page_size",
    "processors",
    "memory_size",
    "pages",
    "written_by",
]


def test_verify_says_good_in_one_line(dump_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(dump_path)]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"{dump_path}: good: ")
    assert (out.count("\n"), err) == (1, "")


def test_verify_says_what_is_damaged_in_one_line(
    dump_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = bytearray(dump_path.read_bytes())
    content[-3000:] = bytes(3000)
    (tmp_path / "dump").write_bytes(content)
    assert main(["verify", str(tmp_path / "dump")]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"kdumpd verify: {tmp_path / 'dump'}: damaged: page frame ")


def test_the_keys_of_the_json_are_stable(dump_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(dump_path), "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)) == VERIFY_KEYS
    assert main(["info", str(dump_path), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert list(result) == INFO_KEYS
    assert list(result["pages"])[:3] == ["memory", "kept", "zero"]


def test_a_damaged_dump_is_told_as_json_as_well(
    dump_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "dump").write_bytes(dump_path.read_bytes()[:-3000])
    assert main(["verify", str(tmp_path / "dump"), "--json"]) == 1
    result = json.loads(capsys.readouterr().out)
    assert result["verdict"] == "damaged"
    assert result["problems"]


def test_info_says_what_the_kernel_died_of(dump_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(dump_path)]) == 0
    out = capsys.readouterr().out
    assert crash.PANIC.decode() in out
    assert "2023-11-14 22:13:20 UTC" in out


@pytest.mark.parametrize("verb", ["verify", "info"])
@pytest.mark.parametrize("content", [b"", b"\x7fELF" + bytes(5000), bytes(9000)])
def test_what_is_no_dump_is_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str, content: bytes
) -> None:
    (tmp_path / "file").write_bytes(content)
    assert main([verb, str(tmp_path / "file")]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert f"{tmp_path / 'file'}: no dump" in err
    assert main([verb, str(tmp_path / "nothing")]) == 1
    assert "No such file" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["verify", "info"])
def test_a_bar_is_drawn_on_a_terminal_and_nothing_in_a_pipe(dump_path: Path, verb: str) -> None:
    command = [sys.executable, "-m", "kdumpd", verb, str(dump_path)]
    assert subprocess.run(command, capture_output=True, check=True).stderr == b""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "200"}
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=theirs, check=True, env=environment)
    os.close(theirs)
    drawn = os.read(ours, 1 << 16)
    os.close(ours)
    assert b"100%" in drawn
