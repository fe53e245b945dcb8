"""`kdumpd dump` onto a file system that fills up: a real tmpfs of a given size, with one and two workers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.dumpfile import crash


@pytest.fixture(scope="module")
def vmcore(tmp_path_factory: pytest.TempPathFactory) -> str:
    return crash.save_vmcore(tmp_path_factory.mktemp("vmcore") / "vmcore")


@pytest.fixture(params=["64K", "300K", "1M"])
def small(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A file system too small for the bitmaps' descriptors (64K), or for the pages."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={request.param}", "none", tmp_path], check=True)
    yield tmp_path
    subprocess.run(["umount", tmp_path], check=True)


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_disk_that_fills_up_is_told_in_one_line_and_nothing_has_the_final_name(
    vmcore: str, small: Path, jobs: str
) -> None:
    command = [sys.executable, "-m", "kdumpd", "dump", "--level", "0", "--compression", "none", "--jobs", jobs]
    result = subprocess.run([*command, vmcore, str(small / "dump")], capture_output=True, text=True, timeout=60)
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert "No space left on device; make room there or give another target" in result.stderr
    assert list(small.iterdir()) == []
