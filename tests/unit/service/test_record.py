"""What the service writes, and what kdumpd-armed.service makes of it."""

from __future__ import annotations

import json
import os
import resource
import signal
import stat
from pathlib import Path

import pytest

from kdumpd.service import armed, record
from kdumpd.service.actions import State
from kdumpd.service.paths import Paths

ARMED = State(True, "all is well", 5.0, "", "")


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    (tmp_path / "proc").symlink_to("/proc")
    return Paths(str(tmp_path), "6.1")


def test_the_state_is_a_document_for_everybody(paths: Paths) -> None:
    record.publish(paths, ARMED._replace(policy_problem="/etc/kdumpd.yaml:1:1: wrong"))
    document = json.loads(Path(paths.service).read_text())
    assert document.pop("pid") > 0
    assert document.pop("started") > 0
    assert document == {
        "version": 1,
        "armed": True,
        "reason": "all is well",
        "since": 5.0,
        "busy": "",
        "policy_problem": "/etc/kdumpd.yaml:1:1: wrong",
    }
    assert stat.S_IMODE(Path(paths.service).stat().st_mode) == 0o644
    assert stat.S_IMODE(Path(paths.run).stat().st_mode) == 0o755
    assert [path.name for path in Path(paths.run).iterdir()] == ["service.json"]


def test_what_holds_no_longer_is_not_left_where_what_holds_cannot_be_written(paths: Paths) -> None:
    record.publish(paths, ARMED)
    child = os.fork()
    if child == 0:  # a full file system, as far as a process sees it
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1, 1))
        try:
            record.publish(paths, ARMED._replace(armed=False))
        except OSError:
            os._exit(0)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert list(Path(paths.run).iterdir()) == []
    assert record.read(paths)[0] is None


def test_the_unit_repeats_what_the_service_says(paths: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    record.publish(paths, ARMED)
    assert armed.main(paths) == 0
    assert capsys.readouterr().out == "armed: all is well\n"
    record.publish(paths, ARMED._replace(armed=False, reason="no kexec"))
    assert armed.main(paths) == 3
    assert capsys.readouterr().err == "not armed: no kexec\n"


def test_nobody_is_armed_by_a_service_that_is_gone(paths: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    assert armed.main(paths, patience=0) == 3
    record.publish(paths, ARMED)
    document = json.loads(Path(paths.service).read_text())
    Path(paths.service).write_text(json.dumps({**document, "pid": 1 << 30}))
    assert armed.main(paths, patience=0) == 3
    assert "does not run" in capsys.readouterr().err


def test_nobody_is_armed_by_a_process_that_has_its_number_now(paths: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    record.publish(paths, ARMED)
    document = json.loads(Path(paths.service).read_text())
    Path(paths.service).write_text(json.dumps({**document, "pid": 1}))
    assert armed.main(paths, patience=0) == 3
    assert "does not run" in capsys.readouterr().err


def test_a_process_that_may_not_be_looked_at_is_believed_where_it_is_there(paths: Paths, tmp_path: Path) -> None:
    record.publish(paths, ARMED)
    (tmp_path / "proc").unlink()
    (tmp_path / "proc" / str(os.getpid())).mkdir(parents=True, mode=0)  # as /proc with hidepid=1 has it
    assert _as_nobody(paths) == (True, "all is well")
    (tmp_path / "proc" / str(os.getpid())).rmdir()
    assert _as_nobody(paths)[0] is None


def _as_nobody(paths: Paths) -> tuple[bool | None, str]:
    """What an ordinary user reads."""
    Path(paths.root).chmod(0o755)
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        os.chdir(paths.root)  # the folders above are root's alone
        if os.geteuid() == 0:
            os.setgroups([])
            os.setresuid(65534, 65534, 65534)
        os.write(theirs, json.dumps(record.read(paths._replace(root="."))).encode())
        os._exit(0)
    os.close(theirs)
    with os.fdopen(ours) as stream:
        armed, reason = json.load(stream)
    os.waitpid(child, 0)
    return armed, reason


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"armed": true}', "\0"])
def test_a_record_without_sense_is_one_line(paths: Paths, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path(paths.run).mkdir(parents=True)
    Path(paths.service).write_text(text)
    assert armed.main(paths) == 3
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_boot_is_on_record_until_a_clean_stop(paths: Paths) -> None:
    record.keep(paths, armed=True, since=7.0)
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert json.loads(Path(paths.running).read_text()) == {
        "version": 1,
        "boot_id": boot,
        "since": 7.0,
        "armed": True,
        "host": os.uname().nodename,
    }
    assert stat.S_IMODE(Path(paths.running).stat().st_mode) == 0o600
    assert stat.S_IMODE(Path(paths.state).stat().st_mode) == 0o700
    record.publish(paths, ARMED)
    record.forget(paths, kept=True)
    assert not Path(paths.service).exists()
    assert not Path(paths.running).exists()


@pytest.mark.parametrize("text", ['{"version": 1, "boot_id": "boot-1"}', "", "[]", "{", "null"])
def test_what_an_earlier_boot_left_stays_where_nobody_looked_at_it(paths: Paths, text: str) -> None:
    Path(paths.state).mkdir(parents=True)
    Path(paths.running).write_text(text)
    record.forget(paths, kept=False)
    assert Path(paths.running).read_text() == text


def test_a_clean_stop_of_a_service_that_was_killed_once_in_this_boot_is_a_clean_stop(paths: Paths) -> None:
    record.keep(paths, armed=True, since=7.0)
    record.forget(paths, kept=False)
    assert not Path(paths.running).exists()
