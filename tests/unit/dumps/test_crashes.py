"""The record of crashes: comes back as it was, is bounded, and is one clear error when it makes no sense."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdumpd.dumps.crashes import Crash, Crashes, State, locked, read, write
from kdumpd.errors import DumpError

ONE = Crash(12.5, "/var/crash/web1-1", State.VERIFIED, "", "panic", "web1", "6.1.0", 4096, ("a",), "7-8", "b2", "b1")


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    crashes = Crashes("b2", (ONE, ONE._replace(path=None, state=State.MISSING, why="no trace")), ("key",))
    write(crashes, str(tmp_path))
    assert read(str(tmp_path)) == crashes
    document = json.loads((tmp_path / "crashes.json").read_text())
    assert document["version"] == 1
    assert document["boot_id"] == "b2"
    assert {"time", "path", "state", "why", "panic", "pstore"} <= document["crashes"][0].keys()


def test_no_record_is_none(tmp_path: Path) -> None:
    assert read(str(tmp_path)) is None


def test_the_record_is_bounded_and_what_has_no_directory_goes_first() -> None:
    crashes = Crashes("b", tuple(ONE._replace(path=f"/c/{number}", identity=str(number)) for number in range(999)))
    crashes = crashes.with_crash(ONE._replace(path=None)).with_crash(ONE._replace(path="/c/1000"))
    assert len(crashes.crashes) == 1000
    assert crashes.crashes[0].path == "/c/0"
    assert None not in [crash.path for crash in crashes.crashes]
    crashes = crashes.with_crash(ONE._replace(path="/c/1001"))
    assert crashes.crashes[0].path == "/c/1"
    assert len(Crashes().with_seen(tuple(map(str, range(5000)))).seen) == 2000


def test_a_directory_is_known_by_more_than_its_name() -> None:
    crashes = Crashes("b", (ONE,))
    assert crashes.place("/var/crash/web1-1", "7-8") == 0
    assert crashes.place("/var/crash/web1-1", "7-9") is None
    assert crashes.without("/var/crash/web1-1", "7-8", "why").place("/var/crash/web1-1", "7-8") is None


def test_a_directory_that_was_renamed_on_its_target_is_known_by_what_it_is() -> None:
    crashes = Crashes("b", (ONE, ONE._replace(path="/var/crash/web1-2", identity="9-0")))
    assert crashes.place("/var/crash/incident-7", "7-8") == 0
    assert crashes.place("/srv/copy/web1-1", "7-8") is None
    assert crashes.place("/var/crash/web1-3", "9-0") is None  # without a record an inode alone proves nothing
    gone = crashes.without("/var/crash/incident-7", "7-8", "why").crashes[0]
    assert (gone.path, gone.removed) == ("/var/crash/incident-7", "why")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
entries = st.fixed_dictionaries(
    {"time": json_values, "path": json_values, "state": json_values | st.sampled_from(State)},
    optional={"size": json_values, "pstore": json_values, "panic": json_values},
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.binary(max_size=20)
    | json_values.map(lambda value: json.dumps(value).encode())
    | st.lists(entries, max_size=3).map(
        lambda crashes: json.dumps({"version": 1, "boot_id": "b", "crashes": crashes}).encode()
    )
)
def test_a_record_of_anything_is_a_record_or_one_clear_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "crashes.json").write_bytes(content)
    try:
        read(str(tmp_path))
    except DumpError as error:
        assert "every dump is read again" in str(error)
    else:
        assert content


@pytest.mark.parametrize("kind", ["pipe", "large", "folder"])
def test_a_record_that_is_no_file_of_ours_is_one_clear_error(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "crashes.json"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        with path.open("wb") as stream:
            stream.truncate(1 << 40)
    with pytest.raises(DumpError, match="is no file of at most 4 MiB"):
        read(str(tmp_path))


HOLDER = """
import sys, time
from kdumpd.dumps.crashes import locked
with locked(print, sys.argv[1]):
    print("held", flush=True)
    time.sleep(0.5)
"""


def test_a_second_one_waits_and_says_so(tmp_path: Path) -> None:
    said: list[str] = []
    with subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with locked(said.append, str(tmp_path)):
            assert holder.wait(10) == 0
    assert said == ["another kdumpd is at work on the dumps; waiting for it to end"]
