"""What `kdumpd check` says about files: those that cannot be read, and what the verb prints."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kdumpd.errors import PolicyError
from kdumpd.policy.load import load


def refused(path: str) -> str:
    with pytest.raises(PolicyError) as caught:
        load(path)
    assert len(caught.value.problems) == 1
    return caught.value.problems[0]


def test_a_file_that_cannot_be_read_is_one_clear_line(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert refused(str(tmp_path)) == f"{tmp_path}:1:1: policy: is a directory; name the file in it"
    assert "cannot be opened: No such file or directory; write one" in refused(str(tmp_path / "missing"))
    assert "is not a file but a pipe" in refused(str(pipe))
    assert "larger than 256 KiB" in refused("/dev/zero")
    assert "NUL" in refused("a\0b")
    assert "\n" not in refused(str(tmp_path / "a\nb"))


UNPRIVILEGED = """
import os, sys
from kdumpd.errors import PolicyError
from kdumpd.policy.load import load

os.chdir(sys.argv[1])
if os.getuid() == 0:
    os.setuid(65534)
try:
    load("secret.yaml")
except PolicyError as error:
    print(error)
"""


def test_a_file_that_may_not_be_read_is_one_clear_line(tmp_path: Path) -> None:
    secret = tmp_path / "secret.yaml"
    secret.write_text("version: 1\n")
    secret.chmod(0)
    tmp_path.chmod(0o755)
    command = [sys.executable, "-c", UNPRIVILEGED, str(tmp_path)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said == (
        "secret.yaml:1:1: policy: cannot be opened: Permission denied; run this as root, or make the file readable\n"
    )


def test_the_verb_prints_problems_on_stderr_and_ends_with_1(tmp_path: Path) -> None:
    policy = tmp_path / "kdumpd.yaml"
    policy.write_text("dmup: 1\ndump: {level: 32}\n")
    command = [sys.executable, "-m", "kdumpd", "check", str(policy)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stdout == ""
    assert [line.split(": ")[:2] for line in result.stderr.splitlines()] == [
        [f"{policy}:1:1", "dmup"],
        [f"{policy}:2:15", "dump.level"],
    ]
    policy.write_text("")
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
