"""Records replaced, on a disk that has room and on one that has none."""

from __future__ import annotations

import errno
import json
import tempfile
from pathlib import Path
from typing import NoReturn

import pytest

from kdumpd.errors import HostError
from kdumpd.host import statefile


def full(*_: object, **__: object) -> NoReturn:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_written_over_where_that_takes_no_more_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "targets.json"
    statefile.replace(path, {"targets": [{"why": "a longer text than the one that follows"}]})
    monkeypatch.setattr(tempfile, "mkstemp", full)
    statefile.replace(path, {"targets": []})
    assert json.loads(path.read_text()) == {"targets": []}
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(HostError, match=r"cannot be written: No space left on device; make room there"):
        statefile.replace(path, {"targets": ["x" * 9000]})
    assert json.loads(path.read_text()) == {"targets": []}
    with pytest.raises(HostError, match=r"loaded\.json: cannot be written: No space left on device; make room there"):
        statefile.replace(tmp_path / "loaded.json", {})


def test_another_failure_leaves_what_there_was(tmp_path: Path) -> None:
    (tmp_path / "targets.json" / "x").mkdir(parents=True)
    with pytest.raises(HostError, match="make that folder one it can write to"):
        statefile.replace(tmp_path / "targets.json", {})
    assert [one.name for one in tmp_path.iterdir()] == ["targets.json"]
