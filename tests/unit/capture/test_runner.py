"""The whole capture, on a machine made of files."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from collections.abc import Sequence
from pathlib import Path

import pytest

from kdumpd.capture import console, kernel, manifest, runner
from kdumpd.capture.crash import TAIL
from kdumpd.dumpfile.reader import Dump
from kdumpd.target.local import utc
from tests.unit.capture.machines import Disks, crashed


@pytest.fixture(scope="module")
def vmcore(tmp_path_factory: pytest.TempPathFactory) -> str:
    return crashed(tmp_path_factory.mktemp("vmcore") / "vmcore")


def run(rig: Disks, started: float = 4.0, defect: str = "") -> list[str]:
    """The lines of the console, of a capture kernel that has been up for some seconds.

    With a `defect`, the runner's own process raises what it never should as it says a line with that text.
    """
    lines: list[str] = []
    offset = started - console.uptime()

    def write(line: bytes) -> None:
        lines.append(line.decode())
        if defect and defect in lines[-1]:
            raise ZeroDivisionError

    runner.capture(rig.machine, console.Console(write, lambda: console.uptime() + offset))
    return lines


def stages(lines: Sequence[str]) -> list[str]:
    found = [console.parse(line) for line in lines]
    return [line.stage for line in found if line is not None]


def test_a_capture_leaves_dump_log_and_story_and_reboots(tmp_path: Path, vmcore: str) -> None:
    rig = Disks(tmp_path, vmcore)
    lines = run(rig)
    (folder,) = rig.crash_folders()
    assert sorted(path.name for path in folder.iterdir()) == ["capture.log", "dmesg.txt", "kdumpd.json", "vmcore"]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert folder.name.startswith("crashed-20")
    assert (folder / "dmesg.txt").read_text().splitlines()[-1].endswith("line 63")
    with Dump.open(str(folder / "vmcore")) as dump:
        assert dump.header.utsname.nodename == b"crashed"
    assert rig.ended == ["reboot"]
    assert stages(lines).index("dmesg") < stages(lines).index("dump")


def test_the_report_tells_policy_counts_timings_and_memory(tmp_path: Path, vmcore: str) -> None:
    rig = Disks(tmp_path, vmcore)
    run(rig)
    report = rig.report()
    assert report["complete"] is True
    assert report["crash"]["host"] == "crashed"
    assert report["policy"]["dump"]["level"] == 31
    assert report["dump"]["pages"]["free"] == 2048
    assert report["dump"]["free_pages"] == {"scanned": 2048, "kernel": 2048, "meaning": ""}
    assert report["incidents"] == []
    assert {"target", "dmesg", "dump"} <= {timing["stage"] for timing in report["timings"]}
    assert 0 < report["memory"]["smallest_available"] < 1 << 50
    log = (rig.crash_folders()[0] / "capture.log").read_text().splitlines()
    assert all(console.parse(line) for line in log)


def test_hands_off_memory_is_left_out_and_counted(tmp_path: Path, vmcore: str) -> None:
    rig = Disks(tmp_path, vmcore)
    targets = json.loads((rig.settings / "targets.json").read_text())
    rig.write("targets.json", json.dumps(targets | {"hands_off": [[0x9000800, 0x9003000]]}))
    run(rig)
    assert rig.report()["dump"]["pages"]["hands_off"] == 3
    assert rig.report()["hands_off"] == [[0x9000800, 0x9003000]]


def test_a_broken_policy_is_replaced_by_the_default_and_said(tmp_path: Path, vmcore: str) -> None:
    rig = Disks(tmp_path, vmcore)
    rig.write("policy.json", '{"version": 1, "dump"')
    lines = run(rig)
    assert any("policy.json" in line and "the default policy is used instead" in line for line in lines)
    assert rig.report()["policy"]["dump"]["level"] == 31
    assert any("policy.json" in incident for incident in rig.report()["incidents"])


def test_a_scan_that_fails_leads_to_an_unfiltered_dump(tmp_path: Path) -> None:
    vmcore = crashed(tmp_path / "vmcore", info={"OFFSET(page._mapcount)": None, "SIZE(page)": "0"})
    rig = Disks(tmp_path, vmcore)
    run(rig)
    report = rig.report()
    assert report["complete"] is True
    assert report["dump"]["engine"] == "unfiltered"
    assert report["dump"]["pages"]["kept"] == report["dump"]["pages"]["total"]
    assert any("unfiltered" in incident for incident in report["incidents"])
    assert rig.ended == ["reboot"]


def test_an_unfiltered_dump_that_may_not_fit_is_not_begun(tmp_path: Path) -> None:
    vmcore = crashed(tmp_path / "vmcore", info={"SIZE(page)": "0"})
    room = os.statvfs(tmp_path)
    free = room.f_bavail * room.f_frsize
    rig = Disks(tmp_path, vmcore, {"retention": {"min_free": free - (128 << 20)}})
    lines = run(rig)
    (folder,) = rig.crash_folders()
    assert "vmcore" not in {path.name for path in folder.iterdir()}
    assert (folder / "dmesg.txt").exists()
    assert any("an unfiltered dump needs up to" in line for line in lines)
    assert rig.report()["complete"] is False


def test_a_log_that_cannot_be_read_does_not_cost_the_dump(tmp_path: Path) -> None:
    rig = Disks(tmp_path, crashed(tmp_path / "vmcore", log=False))
    run(rig)
    (folder,) = rig.crash_folders()
    assert (folder / "vmcore").exists()
    assert not (folder / "dmesg.txt").exists()
    assert any(incident.startswith("dmesg: failed") for incident in rig.report()["incidents"])


def test_a_disk_that_cannot_be_written_leads_to_the_next_target(tmp_path: Path, vmcore: str) -> None:
    rig = Disks(tmp_path, vmcore, disks=2)
    rig.break_disk(0, errno.EROFS)
    lines = run(rig)
    assert any("cannot be mounted to write" in line and "errno 30" in line for line in lines)
    assert rig.crash_folders(0) == []
    assert rig.report(1)["complete"] is True


def test_a_disk_that_does_not_answer_is_found_out_once_and_the_others_are_used(tmp_path: Path, vmcore: str) -> None:
    rig = Disks(tmp_path, vmcore, {"retention": {"min_free": 1 << 60}}, disks=3)
    rig.silence_disk(0)
    targets = json.loads((rig.settings / "targets.json").read_text())
    rig.write("targets.json", json.dumps(targets | {"targets": targets["targets"][1:]}))
    lines = run(rig)
    told = [line for line in lines if "/dev/vda: does not answer" in line]
    assert len(told) == 1
    assert [len(rig.crash_folders(disk)) for disk in (1, 2)] == [1, 1]


def test_a_link_that_leads_out_of_the_target_leads_to_the_next_one(tmp_path: Path, vmcore: str) -> None:
    rig = Disks(tmp_path, vmcore, disks=2)
    (rig.folders[0] / "var").symlink_to(tmp_path / "initramfs")
    lines = run(rig)
    assert any("a symbolic link leads out" in line for line in lines)
    assert not (tmp_path / "initramfs").exists()
    assert rig.report(1)["complete"] is True


def test_a_file_system_is_synced_by_itself(tmp_path: Path) -> None:
    kernel.sync_file_system(str(tmp_path))
    with pytest.raises(FileNotFoundError):
        kernel.sync_file_system(str(tmp_path / "none"))


def test_a_list_without_next_target_stops_at_the_first(tmp_path: Path, vmcore: str) -> None:
    rig = Disks(tmp_path, vmcore, {"on_failure": ["poweroff"]}, disks=2)
    rig.break_disk(0)
    run(rig)
    assert rig.crash_folders(1) == []
    assert rig.ended == ["poweroff"]


def test_a_dump_that_fails_leaves_the_log_and_the_next_target_is_tried(tmp_path: Path, vmcore: str) -> None:
    rig = Disks(tmp_path, vmcore, {"retention": {"min_free": 1 << 60}}, disks=2)
    lines = run(rig)
    for disk in (0, 1):
        (folder,) = rig.crash_folders(disk)
        assert (folder / "dmesg.txt").exists()
        assert not (folder / "vmcore").exists()
        assert rig.report(disk)["complete"] is False
    assert rig.ended == ["reboot"], lines
    # Each at a place of its own: a mount that comes late must not cover the next target's.
    assert sorted(point.name for point in (tmp_path / "run" / "targets").iterdir()) == ["0", "1"]


def test_where_no_target_takes_the_log_its_end_is_on_the_console(tmp_path: Path, vmcore: str) -> None:
    rig = Disks(tmp_path, vmcore)
    rig.break_disk(0)
    lines = run(rig)
    assert [line for line in lines if line.startswith("kdumpd| ")][-1].endswith("line 63")
    assert sum(line.startswith("kdumpd| ") for line in lines) == TAIL
    assert rig.ended == ["reboot"]


def test_dmesg_only_saves_the_log_that_the_policy_left_out(tmp_path: Path, vmcore: str) -> None:
    dump = {"level": 31, "compression": {"kind": "zstd", "level": 1}, "dmesg": False, "jobs": 1}
    rig = Disks(tmp_path, vmcore, {"dump": dump, "retention": {"min_free": 1 << 60}})
    run(rig)
    (folder,) = rig.crash_folders()
    assert (folder / "dmesg.txt").exists()
    assert rig.report()["dmesg"] > 0


def test_a_dump_without_a_log_beside_it_is_as_the_policy_wants_it(tmp_path: Path, vmcore: str) -> None:
    dump = {"level": 31, "compression": {"kind": "zstd", "level": 1}, "dmesg": False, "jobs": 1}
    rig = Disks(tmp_path, vmcore, {"dump": dump})
    lines = run(rig)
    assert not any(line.startswith("kdumpd| ") for line in lines)
    assert "trace" not in stages(lines)
    assert rig.report()["incidents"] == []


def test_a_vmcore_that_is_none_still_ends_in_the_failure_action(tmp_path: Path) -> None:
    path = tmp_path / "vmcore"
    path.write_bytes(b"no vmcore")
    rig = Disks(tmp_path, str(path), {"on_failure": ["next-target", "halt"]})
    run(rig)
    assert rig.ended == ["halt"]
    assert any(folder.name.startswith("known-") for folder in rig.crash_folders())


def test_a_spent_budget_still_saves_the_log(tmp_path: Path, vmcore: str) -> None:
    rig = Disks(tmp_path, vmcore, {"time_budget": 60})
    lines = run(rig, started=55.0)
    (folder,) = rig.crash_folders()
    assert (folder / "dmesg.txt").exists()
    assert not (folder / "vmcore").exists()
    assert any("did not end before its deadline" in line for line in lines)


def test_an_image_that_was_cut_is_said_and_the_capture_goes_on(tmp_path: Path, vmcore: str) -> None:
    rig = Disks(tmp_path, vmcore)
    rig.write("manifest.json", json.dumps({"kernel": "", "files": {"/no/such/library.so": 4096}}))
    lines = run(rig)
    assert any("the image is not whole" in line and "/no/such/library.so" in line for line in lines)
    assert rig.report()["complete"] is True


HALT = {"on_failure": ["next-target", "dmesg-only", "halt"]}


def test_a_defect_before_the_targets_still_saves_the_log_and_ends_as_the_policy_says(
    tmp_path: Path, vmcore: str
) -> None:
    rig = Disks(tmp_path, vmcore, HALT)
    run(rig, defect=" s for everything")
    (folder,) = rig.crash_folders()
    assert (folder / "dmesg.txt").exists()
    assert any("ZeroDivisionError" in incident for incident in rig.report()["incidents"])
    assert rig.ended == ["halt"]


def test_a_defect_while_a_target_is_tried_keeps_its_log_and_tells_the_story(tmp_path: Path, vmcore: str) -> None:
    rig = Disks(tmp_path, vmcore, HALT)
    run(rig, defect="dump: begins")
    (folder,) = rig.crash_folders()
    assert sorted(path.name for path in folder.iterdir()) == ["capture.log", "dmesg.txt", "kdumpd.json"]
    assert any("ZeroDivisionError" in incident for incident in rig.report()["incidents"])
    assert rig.ended == ["halt"]


def test_after_a_defect_without_a_target_the_end_of_the_log_is_on_the_console(tmp_path: Path, vmcore: str) -> None:
    rig = Disks(tmp_path, vmcore, HALT)
    rig.break_disk(0)
    lines = run(rig, defect=" s for everything")
    assert sum(line.startswith("kdumpd| ") for line in lines) == TAIL
    assert rig.ended == ["halt"]


@pytest.mark.parametrize("time", [1e300, float("inf"), float("nan"), -1e300, 10**30])
def test_a_moment_that_no_calendar_has_is_the_start_of_1970(time: float) -> None:
    assert utc("%Y-%m-%d", time) == "1970-01-01"


def test_an_absurd_time_of_the_crash_costs_nothing(tmp_path: Path) -> None:
    rig = Disks(tmp_path, crashed(tmp_path / "vmcore", info={"CRASHTIME": str(10**18)}))
    run(rig)
    assert rig.report()["complete"] is True
    assert rig.ended == ["reboot"]


def test_another_policy_than_the_image_was_made_for_is_said_and_followed(tmp_path: Path, vmcore: str) -> None:
    rig = Disks(tmp_path, vmcore, HALT)
    policy = (rig.settings / "policy.json").read_bytes()
    document = {"kernel": os.uname().release, "files": {}, "policy_sha256": hashlib.sha256(policy).hexdigest()}
    rig.write("manifest.json", json.dumps(document))
    assert manifest.check(str(rig.settings)) == "0 files are as the manifest says"
    (rig.settings / "policy.json").write_bytes(policy + b"\n")
    run(rig)
    assert any("is not the policy that the image was made for" in incident for incident in rig.report()["incidents"])
    assert rig.report()["complete"] is True
    # What a later initrd replaced and says so is no surprise.
    rig.write("overlay.json", json.dumps({"files": {str(rig.settings / "policy.json"): len(policy)}}))
    assert manifest.check(str(rig.settings)) == "1 files are as the manifest says"
