"""A capture kernel that dies itself: `panic=` on its command line restarts the machine, and what was saved stays."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from kdumpd.dumps.aftermath import Aftermath, Places
from kdumpd.dumps.telling import Event
from kdumpd.image.interpreter import LIBRARY, RUNNER
from kdumpd.policy.load import default
from kdumpd.policy.model import LocalTarget
from kdumpd.rehearse.outcome import Outcome, Saved
from kdumpd.rehearse.scenario import Disturbance, OverlayFile
from tests.fault.captures import Fault, Rig, capture, keys, on

pytestmark = pytest.mark.timeout(300)


def restarted_by_itself(outcome: Outcome) -> bool:
    """Whether the capture kernel's own panic ended the machine: it neither hung nor did anybody else end it."""
    console = "\n".join(outcome.console)
    return "Rebooting in 10 seconds" in console and outcome.failure.startswith("the machine ended")


def test_a_kernel_that_panics_during_the_dump_restarts_and_the_log_is_there(rig: Rig, tmp_path: Path) -> None:
    crash = Disturbance("scan: ", "send-key", keys("alt", "sysrq", "c"))
    outcome = capture(rig, tmp_path, "", Fault(words=("sysrq_always_enabled",), disturbances=(crash,)))
    assert outcome.capture_panic == "Kernel panic - not syncing: sysrq triggered crash"
    assert restarted_by_itself(outcome), outcome.failure
    saved = on(outcome, "/var/crash")
    assert outcome.nonce in saved.text("dmesg.txt")
    assert "vmcore" not in saved.files, "a dump that is not whole has the final name"
    assert "stage.txt" in saved.files, "nothing says how far it came"
    (event,) = next_boot(saved, tmp_path)
    assert event.event == "crash-without-dump"
    assert ", the capture kernel did not report; last stage dump: " in event.reason
    assert "Kernel panic - not syncing: sysrq triggered crash" in event.message
    assert f"{saved.directory.name}: dmesg.txt" in event.message


def next_boot(saved: Saved, folder: Path) -> list[Event]:
    """What the service of the same host tells of it at its next start."""
    target, state, proc = folder / "target", folder / "state", folder / "proc"
    for place in (target, state, proc / "sys/kernel"):
        place.mkdir(parents=True)
    host, _, _ = saved.directory.name.rsplit("-", 2)
    (proc / "sys/kernel/hostname").write_text(f"{host}\n")
    crash = target / saved.directory.name
    shutil.copytree(saved.directory, crash)
    crash.chmod(0o700)
    policy = replace(default(), targets=(LocalTarget(str(target)),))
    events: list[Event] = []
    Aftermath(policy, Places(str(state), str(proc), ()), events.append).run(retain=True)
    return events


@pytest.mark.matrix
@pytest.mark.parametrize(
    ("overlay", "panic"),
    [
        pytest.param(OverlayFile(RUNNER, b"garbage"), "No working init found", id="no-init"),
        pytest.param(
            OverlayFile(f"{LIBRARY}/encodings/__init__.pyc", b"garbage"),
            "Attempted to kill init!",
            id="init-ends",
        ),
    ],
)
def test_an_init_that_cannot_start_or_ends_restarts_the_machine(
    rig: Rig, tmp_path: Path, overlay: OverlayFile, panic: str
) -> None:
    outcome = capture(rig, tmp_path, "", Fault(overlay=(overlay,)))
    assert panic in outcome.capture_panic
    assert restarted_by_itself(outcome), outcome.failure
    assert not outcome.saved
