"""The service as a real process: what it weighs, how often it wakes, and what it does about real events."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.service.process import Service


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    running = Service(tmp_path)
    yield running
    running.end(signal.SIGKILL)


def _switches(service: Service) -> int:
    text = Path(f"/proc/{service.process.pid}/status").read_text()
    match = re.search(r"^voluntary_ctxt_switches:\s*(\d+)", text, re.MULTILINE)
    assert match
    return int(match[1])


def test_it_weighs_less_than_20_mb_and_sleeps_when_nothing_happens(service: Service) -> None:
    service.settled()
    rollup = Path(f"/proc/{service.process.pid}/smaps_rollup").read_text()
    match = re.search(r"^Rss:\s*(\d+) kB", rollup, re.MULTILINE)
    assert match
    assert int(match[1]) * 1024 < 20_000_000
    time.sleep(3)  # what its own records may wake it for
    before = _switches(service)
    time.sleep(10)
    # Whatever else goes on here, disks and mounts among it, may wake it: a few times, not to do anything.
    assert _switches(service) <= before + 5
    assert service.work == ["apply", "status", "aftermath"]


def test_it_tells_systemd_that_it_is_ready_and_what_it_knows(service: Service) -> None:
    service.settled()
    assert service.notified[0] == "READY=1"
    assert "STATUS=armed: all is well" in service.notified


def test_a_policy_that_an_editor_renames_into_place_is_applied_in_seconds(service: Service) -> None:
    service.settled()
    begun = time.monotonic()
    service.write("etc/kdumpd.yaml.new", "version: 1\ndump: {level: 1}\n")
    (service.root / "etc/kdumpd.yaml.new").replace(service.root / "etc/kdumpd.yaml")
    service.wait(lambda: service.work[3:] == ["apply", "status"])
    assert time.monotonic() - begun < 4


def test_a_policy_that_is_written_in_place_through_a_link_is_applied(tmp_path: Path) -> None:
    running = Service(tmp_path)
    try:
        running.settled()
        (tmp_path / "fleet").mkdir()
        (tmp_path / "etc/kdumpd.yaml").rename(tmp_path / "fleet/policy.yaml")
        (tmp_path / "etc/kdumpd.yaml").symlink_to(tmp_path / "fleet/policy.yaml")
        running.wait(lambda: running.work[3:] == ["apply", "status"])
        done = len(running.work)
        time.sleep(2)
        running.write("fleet/policy.yaml", "version: 1\ndump: {level: 3}\n")
        running.wait(lambda: running.work[done:] == ["apply", "status"])
    finally:
        running.end(signal.SIGKILL)


def test_a_reload_is_told_to_systemd_with_its_time_and_looks_at_everything(service: Service) -> None:
    service.settled()
    service.process.send_signal(signal.SIGHUP)
    service.wait(lambda: service.work[3:] == ["apply", "status"])
    reloading = next(index for index, text in enumerate(service.notified) if text.startswith("RELOADING=1"))
    assert re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=\d+", service.notified[reloading])
    assert service.notified[reloading + 1] == "READY=1"


def test_how_the_boot_before_ended_is_on_record_until_the_search_after_it_has_succeeded(service: Service) -> None:
    service.write("broken", "")
    service.write("var/lib/kdumpd/running.json", '{"version": 1, "boot_id": "boot-1"}')
    service.wait(lambda: service.work == ["apply", "status", "aftermath"])
    time.sleep(2)
    assert service.document("var/lib/kdumpd/running.json")["boot_id"] == "boot-1"
    (service.root / "broken").unlink()
    service.write("etc/kdumpd.yaml", "version: 1\ndump: {level: 3}\n")
    service.settled()
    assert sorted(service.work[3:]) == ["aftermath", "apply", "status"]


def test_children_that_cannot_be_started_are_the_last_word(service: Service) -> None:
    service.settled()
    service.shell.unlink()
    service.write("etc/kdumpd.yaml", "version: 1\ndump: {level: 3}\n")
    service.wait(lambda: any(text.startswith("STATUS=NOT ARMED") for text in service.notified))
    time.sleep(1)
    assert service.document("run/kdumpd/service.json")["armed"] is False
    told = [text for text in service.notified if text.startswith("STATUS=")]
    assert told[-1].startswith("STATUS=NOT ARMED")


def test_a_state_that_cannot_be_written_takes_the_old_one_away_and_is_written_as_soon_as_it_can_be(
    service: Service,
) -> None:
    service.settled()
    (service.root / "run/kdumpd/service.json.new").mkdir()  # for root there is hardly another way
    service.write("status.json", '{"armed": false, "reason": "no kexec"}')
    service.write("etc/kdumpd.yaml", "wrong\n")
    service.wait(lambda: any(text.startswith("STATUS=NOT ARMED") for text in service.notified))
    service.wait(lambda: service.document("run/kdumpd/service.json") == {})
    (service.root / "run/kdumpd/service.json.new").rmdir()
    service.write("run/kdumpd/room", "")
    service.wait(lambda: service.document("run/kdumpd/service.json").get("armed") is False)


def test_a_clean_stop_leaves_no_record_and_no_child(service: Service) -> None:
    service.settled()
    service.write("slow", "")
    service.write("etc/kdumpd.yaml", "version: 1\ndump: {level: 3}\n")
    service.wait(lambda: service.document("run/kdumpd/service.json").get("busy") == "building the image")
    assert service.end() == b""
    assert service.process.returncode == 0
    assert "STOPPING=1" in service.notified
    assert service.document("run/kdumpd/service.json") == {}
    assert service.document("var/lib/kdumpd/running.json") == {}
    assert not _processes_of(service.root)


def test_a_kill_while_building_loses_nothing_and_the_next_start_goes_on(tmp_path: Path) -> None:
    running = Service(tmp_path)
    running.settled()
    running.write("slow", "")
    running.write("etc/kdumpd.yaml", "version: 1\ndump: {level: 3}\n")
    running.wait(lambda: running.document("run/kdumpd/service.json").get("busy") == "building the image")
    running.process.kill()
    running.process.wait()
    assert running.document("var/lib/kdumpd/running.json")["armed"] is True
    for pid in _processes_of(tmp_path):
        os.kill(pid, signal.SIGKILL)


def _processes_of(root: Path) -> list[int]:
    """Processes whose command line names the root, but for the service itself."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if str(root / "script").encode() in words:
                found.append(int(entry.name))
    return found
