"""A dump goes from rung to rung: what it leaves behind, what is said, and what the record says of the scan."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kdumpd.capture import console, runner
from kdumpd.capture.machine import Machine
from kdumpd.policy.compiled import to_json
from kdumpd.policy.load import parse
from kdumpd.policy.model import EngineChoice
from kdumpd.scan import device, engine
from kdumpd.vmcore.vmcore import Vmcore
from tests.unit.capture.machines import Disks, crashed


@pytest.fixture(scope="module")
def vmcore(tmp_path_factory: pytest.TempPathFactory) -> str:
    return crashed(tmp_path_factory.mktemp("vmcore") / "vmcore")


def captured(rig: Disks, policy: str, started: float = 4.0) -> list[str]:
    """The lines of a capture under this policy (YAML), of a kernel that has been up for so many seconds."""
    rig.write("policy.json", to_json(parse(f"{{retention: {{min_free: 0}}, {policy}}}".encode())))
    lines: list[str] = []
    offset = started - console.uptime()
    runner.capture(
        rig.machine, console.Console(lambda line: lines.append(line.decode()), lambda: console.uptime() + offset)
    )
    return lines


def scan_of(rig: Disks) -> dict[str, Any]:
    scan = rig.report()["scan"]
    assert isinstance(scan, dict)
    return scan


def test_without_the_module_auto_is_the_user_engine_and_says_why(tmp_path: Path, vmcore: str) -> None:
    rig = Disks(tmp_path, vmcore)
    lines = captured(rig, "scan: {engine: auto}")
    assert any("pages chosen (user: " in line and "the module scans /proc/vmcore alone" in line for line in lines)
    scan, report = scan_of(rig), rig.report()
    assert set(scan) == {
        "engine",
        "why",
        "strategy",
        "page_size",
        "leaves",
        "page_table_bytes",
        "pages_map",
        "seconds",
        "nanoseconds_per_page",
        "fell_back",
    }
    assert (scan["engine"], scan["page_table_bytes"], scan["fell_back"]) == ("user", 0, False)
    assert scan["seconds"] > 0
    assert report["incidents"] == report["notes"] == []
    assert (report["dump"]["engine"], report["dump"]["source"]) == ("user", "vmcore")
    assert "scan" not in report["dump"]


def test_a_policy_that_names_the_user_engine_is_obeyed(tmp_path: Path, vmcore: str) -> None:
    rig = Disks(tmp_path, vmcore)
    lines = captured(rig, "scan: {engine: user}")
    assert any("pages chosen (user by the policy)" in line for line in lines)
    assert scan_of(rig)["why"] == "user by the policy"


def test_a_policy_that_names_the_kernel_engine_gets_the_user_engine_and_an_incident(
    tmp_path: Path, vmcore: str
) -> None:
    rig = Disks(tmp_path, vmcore)
    lines = captured(rig, "scan: {engine: kernel}")
    assert any("pages chosen (user: kernel before it failed: " in line for line in lines)
    report = rig.report()
    assert report["complete"] is True
    assert scan_of(rig)["engine"] == "user"
    assert scan_of(rig)["why"].startswith("user: kernel before it failed: ")
    assert any("the user engine chooses the pages instead" in incident for incident in report["incidents"])


def dies() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hangs() -> None:
    time.sleep(60)


def errs() -> None:
    raise ZeroDivisionError


@pytest.mark.parametrize(
    ("fails", "reason"),
    [(dies, "killed by SIGKILL"), (hangs, "did not end before its deadline"), (errs, "ZeroDivisionError")],
)
def test_a_child_that_dies_hangs_or_errs_in_the_kernel_engine_leads_to_the_user_engine(
    tmp_path: Path, vmcore: str, monkeypatch: pytest.MonkeyPatch, fails: Callable[[], None], reason: str
) -> None:
    whole = engine.select

    def select(core: Vmcore, *arguments: Any) -> engine.Selected:
        if arguments[-1].engine is EngineChoice.AUTO:
            fails()
        return whole(core, *arguments)

    monkeypatch.setattr(engine, "select", select)
    rig = Disks(tmp_path, vmcore)
    (tmp_path / "kdumpd_scan").touch()
    rig.machine = rig.machine._replace(scanner=str(tmp_path / "kdumpd_scan"))
    start = time.monotonic()
    captured(rig, "scan: {engine: auto}, time_budget: 60s", started=40.0)
    assert time.monotonic() - start < 15
    report, scan = rig.report(), scan_of(rig)
    assert report["complete"] is True
    assert scan["engine"] == "user"
    assert scan["why"].startswith("user: auto before it failed: ")
    assert reason in scan["why"]
    assert any(reason in incident for incident in report["incidents"])
    assert any("the user engine chooses the pages instead" in incident for incident in report["incidents"])
    assert sorted(path.name for path in rig.crash_folders()[0].iterdir())[-1] == "vmcore"


def test_the_machine_of_a_capture_kernel_has_the_modules_device() -> None:
    assert Machine().scanner == device.PATH
