"""The lock and the records under /var/lib/kdumpd."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from kdumpd.errors import HostError
from kdumpd.plan import state
from kdumpd.plan.situation import DiskState, LoadedRecord

RECORD = LoadedRecord("boot-1", "i1", "/boot/vmlinuz", "v1", "irqpoll")


def test_nothing_on_the_disk_is_no_image_and_no_record(tmp_path: Path) -> None:
    assert state.read(tmp_path, "6.1") == DiskState(None, None, "", None)


def test_files_that_make_no_sense_count_as_missing(tmp_path: Path) -> None:
    image = state.image_of(tmp_path, "6.1")
    image.parent.mkdir(parents=True)
    image.write_bytes(b"x")
    (image.parent / "capture.manifest.json").write_text('{"files": 3}')
    (state.folder(tmp_path) / "loaded.json").write_text("[]")
    found = state.read(tmp_path, "6.1")
    assert (found.manifest, found.loaded) == (None, None)
    assert len(found.image_sha256) == 64


def test_a_record_is_read_back(tmp_path: Path) -> None:
    state.folder(tmp_path).mkdir(parents=True)
    state.record(tmp_path, RECORD)
    assert state.read(tmp_path, "6.1").loaded == RECORD


def test_the_second_waits_for_the_first_and_says_so(tmp_path: Path) -> None:
    said: list[str] = []
    order: list[str] = []
    waiting = threading.Event()

    def say(line: str) -> None:
        said.append(line)
        waiting.set()

    def second() -> None:
        with state.locked(tmp_path, say):
            order.append("second")

    with state.locked(tmp_path, said.append):
        thread = threading.Thread(target=second)
        thread.start()
        assert waiting.wait(10)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]
    assert said == [f"another kdumpd (process {os.getpid()}) is at work; waiting for it to end"]


def test_a_folder_that_cannot_be_made_is_no_matter_of_privilege(tmp_path: Path) -> None:
    (tmp_path / "var").write_text("")
    said = r"Not a directory; .*: make that folder one it can write to"
    with pytest.raises(HostError, match=said), state.locked(tmp_path, print):
        pass
