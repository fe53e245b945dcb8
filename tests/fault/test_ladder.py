"""The ladder on real crashes: whatever the capture meets, the log is kept, what can be saved is, and the machine ends.

Each test is one VM that crashes; several faults share one where the next target is what follows from them anyway.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from kdumpd.image.interpreter import LIBRARY
from kdumpd.image.settings import POLICY
from kdumpd.rehearse.outcome import Saved
from kdumpd.rehearse.scenario import Disk, Disturbance, OverlayFile
from tests.fault.captures import LOG, Fault, Rig, capture, damaged, hidden, incidents, keys, on, unreadable

pytestmark = pytest.mark.timeout(300)

MIB = 1 << 20


def has_log_and_no_dump(saved: Saved, nonce: str, *, begun: bool) -> None:
    """The crashed kernel's whole log is there; a dump that was begun is called incomplete."""
    assert saved.files == (*LOG, "vmcore.incomplete") if begun else saved.files == LOG
    assert nonce in saved.text("dmesg.txt")
    assert saved.record["complete"] is False
    assert saved.record["dmesg"] == len(saved.text("dmesg.txt").encode())


def test_missing_read_only_and_full_disks_lead_to_the_next_target(rig: Rig, tmp_path: Path) -> None:
    policy = "targets: [{path: /missing}, {path: /fixed}, {path: /full}, {path: /good}]\nretention: {min_free: 0}"
    disks = (
        Disk(("/missing",), attached=False),
        Disk(("/fixed",), read_only=True),
        Disk(("/full",), free=8 * MIB),
        Disk(("/good",)),
    )
    outcome = capture(rig, tmp_path, policy, Fault(), disks)
    full, good = on(outcome, "/full"), on(outcome, "/good")
    has_log_and_no_dump(full, outcome.nonce, begun=True)
    assert "No space left on device" in full.record["failure"]
    assert good.files == (*LOG, "vmcore")
    assert damaged(outcome) == []
    story = incidents(good)
    assert "no such block device came up in time" in story
    assert "cannot be mounted to write" in story
    assert "No space left on device" in story
    assert outcome.ending == "Restarting system"


def test_a_broken_policy_is_replaced_by_the_default(rig: Rig, tmp_path: Path) -> None:
    fault = Fault(overlay=(OverlayFile(POLICY, b'{"version":1,"dump":{'),))
    outcome = capture(rig, tmp_path, "", fault)
    saved = on(outcome, "/var/crash")
    assert saved.files == (*LOG, "vmcore")
    assert damaged(outcome) == []
    assert "the default policy is used instead" in incidents(saved)


def test_killed_stopped_and_slow_dumps_leave_the_log_on_each_target(rig: Rig, tmp_path: Path) -> None:
    # The kernel's own out-of-memory killer, called by hand; a signal to the runner; a disk that all but stands still.
    policy = """
targets: [{path: /killed}, {path: /stopped}, {path: /slow}]
scan: {engine: user}
on_failure: [next-target, dmesg-only, halt]
retention: {min_free: 0}
time_budget: 60s
"""
    disturbances = (
        Disturbance("scan: ", "send-key", keys("alt", "sysrq", "f")),
        Disturbance("scan: ", "send-key", keys("ctrl", "alt", "delete")),
        Disturbance("scan: ", "block_set_io_throttle", throttle("disk2", 256 << 10)),
    )
    fault = Fault(words=("sysrq_always_enabled",), disturbances=disturbances)
    disks = (Disk(("/killed",)), Disk(("/stopped",)), Disk(("/slow",)))
    outcome = capture(rig, tmp_path, policy, fault, disks)
    killed, stopped, slow = (on(outcome, target) for target in ("/killed", "/stopped", "/slow"))
    for saved in (killed, stopped, slow):
        has_log_and_no_dump(saved, outcome.nonce, begun=True)
    assert "killed by SIGKILL" in killed.record["failure"]
    assert "stopped by a signal" in stopped.record["failure"]
    assert "did not end before its deadline" in slow.record["failure"]
    assert outcome.ending == "System halted"


def throttle(disk: str, rate: int) -> dict[str, object]:
    """Arguments of QMP's block_set_io_throttle: so many bytes are written in a second at most."""
    others = dict.fromkeys(("bps", "bps_rd", "iops", "iops_rd", "iops_wr"), 0)
    return {"device": disk, "bps_wr": rate, **others}


def test_memory_that_cannot_be_read_leaves_log_and_an_incomplete_dump(rig: Rig, tmp_path: Path) -> None:
    # Without KASLR the kernel and its log lie below the range that cannot be read.
    fault = Fault(overlay=(unreadable(200 * MIB, 560 * MIB),), first_words=("nokaslr",))
    policy = "{scan: {engine: user}, on_failure: [next-target, poweroff]}"  # the module reads memory by itself
    outcome = capture(rig, tmp_path / "run", policy, fault)
    saved = on(outcome, "/var/crash")
    has_log_and_no_dump(saved, outcome.nonce, begun=True)
    assert "Bad address" in saved.record["failure"]
    assert outcome.ending.startswith("Power")


def test_a_scan_that_fails_leads_to_an_unfiltered_dump_where_it_fits(rig: Rig, tmp_path: Path) -> None:
    policy = "targets: [{path: /small}, {path: /large}]\nretention: {min_free: 0}"
    disks = (Disk(("/small",), free=200 * MIB), Disk(("/large",)))
    fault = Fault(overlay=(hidden("SIZE(page)="),))
    outcome = capture(rig, tmp_path / "run", policy, fault, disks)
    small, large = on(outcome, "/small"), on(outcome, "/large")
    has_log_and_no_dump(small, outcome.nonce, begun=False)
    assert "an unfiltered dump needs up to" in small.record["failure"]
    assert large.files == (*LOG, "vmcore")
    assert large.record["dump"]["engine"] == "unfiltered"
    assert large.record["dump"]["pages"]["kept"] == large.record["dump"]["pages"]["total"]


def test_a_defect_inside_a_step_leaves_the_log_and_ends_in_the_failure_action(rig: Rig, tmp_path: Path) -> None:
    # The compressor of the image is garbage: importing it raises inside the dump's step.
    fault = Fault(overlay=(OverlayFile(f"{LIBRARY}/zstandard/__init__.pyc", b"garbage"),))
    outcome = capture(rig, tmp_path, "on_failure: [next-target, dmesg-only, poweroff]", fault)
    saved = on(outcome, "/var/crash")
    has_log_and_no_dump(saved, outcome.nonce, begun=True)
    assert "ImportError" in saved.record["failure"]
    assert outcome.ending.startswith("Power")


def test_without_a_readable_vmcore_the_machine_still_ends(rig: Rig, tmp_path: Path) -> None:
    outcome = capture(rig, tmp_path, "", Fault(words=("elfcorehdr=0x1000",)))
    saved = on(outcome, "/var/crash")
    assert saved.files == ("capture.log", "kdumpd.json")
    assert "/proc/vmcore" in incidents(saved)
    assert outcome.ending == "Restarting system"


def test_where_no_target_takes_it_the_end_of_the_log_is_on_the_console(rig: Rig, tmp_path: Path) -> None:
    outcome = capture(rig, tmp_path, "", Fault(), (Disk(("/var/crash",), read_only=True),))
    assert outcome.saved == ()
    shown = [line for line in outcome.console if "kdumpd| " in line]
    assert any("Kernel panic - not syncing: sysrq triggered crash" in line for line in shown)
    assert outcome.ending == "Restarting system"
