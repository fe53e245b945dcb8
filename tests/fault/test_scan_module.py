"""The page-scan module fails in a capture kernel after a real crash: the same pages are dumped, and the record says it.

Each test is one VM that crashes. Whatever chose the pages, the dump's bitmap is held against the user engine's word on
the same crash, which the dump itself allows (`tests.fault.again`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kdumpd.policy.model import EngineChoice
from kdumpd.rehearse import kernels
from kdumpd.rehearse.outcome import Outcome, Saved
from kdumpd.rehearse.scenario import Disk, Disturbance, OverlayFile
from tests.fault.again import chosen
from tests.fault.captures import LOG, Fault, Rig, capture, damaged, ending_with, make_rig, on
from tests.fault.poison import poisoned
from tests.lab import kmod

pytestmark = pytest.mark.timeout(300)

TARGET = "/var/crash"


def holds_the_right_pages(outcome: Outcome, folder: Path) -> Saved:
    """A whole dump with the pages that the user engine chooses; the machine restarted."""
    saved = on(outcome, TARGET)
    assert saved.files == (*LOG, "vmcore"), saved.text("capture.log")
    assert damaged(outcome) == []
    assert saved.dump is not None
    bits, expected = chosen(saved.dump, folder)
    assert bits == expected
    assert outcome.ending == "Restarting system"
    return saved


def scan_of(saved: Saved) -> dict[str, Any]:
    scan = saved.record["scan"]
    assert isinstance(scan, dict)
    return scan


def scan_module(rig: Rig) -> str:
    """Where the module lies in the image."""
    return f"usr/lib/modules/{rig.kernel.release}/{kmod.INSTALLED}"


def test_the_module_chooses_the_pages_and_hands_them_out(rig: Rig, tmp_path: Path) -> None:
    # Two workers, forked with the device open.
    outcome = capture(rig, tmp_path, "{mapping: {strategy: linear}, dump: {jobs: 2}}", Fault())
    saved = holds_the_right_pages(outcome, tmp_path)
    assert saved.record["dump"]["jobs"] == 2
    scan = scan_of(saved)
    assert (scan["engine"], scan["strategy"], scan["fell_back"]) == ("kernel", "linear", False), scan["why"]
    assert sum(scan["leaves"].values()) > 0
    assert scan["page_table_bytes"] > 0
    assert scan["seconds"] > 0
    assert (saved.record["dump"]["source"], saved.record["dump"]["source_trouble"]) == ("map", "")
    assert saved.record["incidents"] == saved.record["notes"] == []
    assert "pages chosen (kernel, linear " in saved.text("capture.log")
    assert outcome.verified


def test_a_module_that_cannot_map_leaves_the_scan_to_the_user_engine(rig: Rig, tmp_path: Path) -> None:
    # The first allocation is that of the open file.
    outcome = capture(rig, tmp_path, "mapping: {strategy: linear}", Fault(words=("kdumpd_scan.fail_nth=2",)))
    saved = holds_the_right_pages(outcome, tmp_path)
    scan = scan_of(saved)
    assert (scan["engine"], scan["fell_back"]) == ("user", True)
    assert "mapping old memory: no memory" in scan["why"]
    assert saved.record["dump"]["source"] == "vmcore"
    assert any("the module did not get to the end" in note for note in saved.record["notes"])
    assert outcome.verified  # under auto a note, no incident


def test_a_module_that_fails_while_it_hands_out_pages_leaves_the_rest_to_the_vmcore(rig: Rig, tmp_path: Path) -> None:
    # Each request for pages allocates once, and the dump takes hundreds of them.
    fault = Fault(words=("kdumpd_scan.fail_nth=100",))
    outcome = capture(rig, tmp_path, "{mapping: {strategy: linear}, scan: {engine: kernel}}", fault)
    saved = holds_the_right_pages(outcome, tmp_path)
    assert (scan_of(saved)["engine"], saved.record["dump"]["source"]) == ("kernel", "map")
    assert "gathering pages: no memory" in saved.record["dump"]["source_trouble"]
    # Where the policy names the module, it is an incident.
    assert any("pages came from the vmcore" in incident for incident in saved.record["incidents"])


@pytest.fixture(scope="module")
def rig_without(tmp_path_factory: pytest.TempPathFactory) -> Rig:
    """An image that has no page-scan module."""
    return make_rig(tmp_path_factory.mktemp("rig"), EngineChoice.USER)


@pytest.mark.matrix
def test_without_the_module_a_policy_that_names_it_gets_the_user_engine_and_an_incident(
    rig_without: Rig, tmp_path: Path
) -> None:
    outcome = capture(rig_without, tmp_path, "scan: {engine: kernel}", Fault())
    saved = holds_the_right_pages(outcome, tmp_path)
    assert scan_of(saved)["engine"] == "user"
    assert scan_of(saved)["why"].startswith("user: kernel before it failed: /dev/kdumpd_scan: is not there")
    assert any("the user engine chooses the pages instead" in incident for incident in saved.record["incidents"])
    assert not outcome.verified


@pytest.mark.matrix
def test_a_module_of_another_kernel_is_a_note_and_the_user_engine_scans(rig: Rig, tmp_path: Path) -> None:
    other = kernels.fetch("linux-image-amd64", "6.12")
    strange = OverlayFile(scan_module(rig), kmod.compile_module(other).module.read_bytes())
    outcome = capture(rig, tmp_path, "", Fault(overlay=(strange,)))
    saved = holds_the_right_pages(outcome, tmp_path)
    (note,) = saved.record["notes"]
    assert note.startswith("drivers: kdumpd_scan not loaded: it was made for another kernel (ENOEXEC)")
    assert scan_of(saved)["engine"] == "user"
    assert "is not there" in scan_of(saved)["why"]
    assert saved.record["incidents"] == []
    assert outcome.verified


# The request goes to the module as ever, and its process is killed while the module scans: page by page, which takes
# long enough. Should it be too fast for that, it is killed right behind it.
KILLED = """
import time as _time

def _scan(self, *arguments, whole=Device.scan):
    victim = os.getpid()
    if os.fork() == 0:
        _time.sleep(0.03)
        os.kill(victim, 9)
        os._exit(0)
    whole(self, *arguments)
    _time.sleep(30)

Device.scan = _scan
"""


def test_a_child_that_is_killed_in_the_middle_of_the_scan_leads_to_the_user_engine(rig: Rig, tmp_path: Path) -> None:
    fault = Fault(overlay=(ending_with("kdumpd/scan/device", KILLED),))
    outcome = capture(rig, tmp_path, "mapping: {strategy: page}", fault)
    saved = holds_the_right_pages(outcome, tmp_path)
    scan = scan_of(saved)
    assert scan["engine"] == "user"
    assert scan["why"].startswith("user: auto before it failed: killed by SIGKILL")
    assert any("the user engine chooses the pages instead" in incident for incident in saved.record["incidents"])


def poisoned_module(rig: Rig, function: str) -> Fault:
    """The kernel oopses in that function of the module."""
    module = kmod.compile_module(rig.kernel).module.read_bytes()
    return Fault(overlay=(OverlayFile(scan_module(rig), poisoned(module, function)),))


def test_an_oops_while_the_module_scans_kills_the_child_and_not_the_capture(rig: Rig, tmp_path: Path) -> None:
    outcome = capture(rig, tmp_path, "time_budget: 90s", poisoned_module(rig, "ks_judge"))
    assert any("invalid opcode" in line for line in outcome.console)
    saved = holds_the_right_pages(outcome, tmp_path)
    assert scan_of(saved)["engine"] == "user"
    assert scan_of(saved)["why"].startswith("user: auto before it failed: ")
    assert any("the user engine chooses the pages instead" in incident for incident in saved.record["incidents"])


@pytest.mark.matrix
def test_an_oops_while_the_module_hands_out_pages_leads_to_the_user_engine(rig: Rig, tmp_path: Path) -> None:
    fault = poisoned_module(rig, "ks_gather_run")
    outcome = capture(rig, tmp_path, "{mapping: {strategy: linear}, time_budget: 90s}", fault)
    assert any("invalid opcode" in line for line in outcome.console)
    saved = holds_the_right_pages(outcome, tmp_path)
    assert (scan_of(saved)["engine"], saved.record["dump"]["source"]) == ("user", "vmcore")
    assert scan_of(saved)["why"].startswith("user: auto before it failed: ")


# Instead of a request that never comes back: reads of a disk that stands still, which no signal ends.
HUNG = """
import mmap as _mmap

def _scan(self, *arguments):
    disk = os.open("/dev/vdb", os.O_RDONLY | os.O_DIRECT)
    page = _mmap.mmap(-1, 1 << 20)
    while True:
        os.preadv(disk, [page], 0)

Device.scan = _scan
"""


def test_a_child_that_hangs_in_the_kernel_is_left_behind_at_its_deadline(rig: Rig, tmp_path: Path) -> None:
    stop = {"device": "disk1", "bps": 0, "bps_wr": 0, "iops": 0, "iops_rd": 0, "iops_wr": 0, "bps_rd": 1}
    fault = Fault(
        overlay=(ending_with("kdumpd/scan/device", HUNG),),
        disturbances=(Disturbance("dump: begins", "block_set_io_throttle", stop),),
    )
    disks = (Disk((TARGET,)), Disk(("/other",)))
    outcome = capture(rig, tmp_path, "time_budget: 90s", fault, disks)
    saved = holds_the_right_pages(outcome, tmp_path)
    assert scan_of(saved)["engine"] == "user"
    assert "its process hangs in the kernel and was left" in scan_of(saved)["why"]
