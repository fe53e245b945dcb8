"""Each key of the policy that the runner obeys changes what it does, and nothing else of what it leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kdumpd.capture import console, runner
from kdumpd.dumpfile.reader import Dump
from kdumpd.policy.compiled import to_json
from kdumpd.policy.load import default, parse
from tests.unit.capture.machines import Disks, crashed

STRUCTURES = 0x1000  # the page frame where the builder's page structures start, which compress well


def obeyed(folder: Path, vmcore: str, text: str) -> dict[str, Any]:
    """What a capture under this policy (YAML) leaves, in the terms of its keys."""
    folder.mkdir()
    rig = Disks(folder, vmcore)
    rig.write("policy.json", to_json(parse(f"{{retention: {{min_free: 0}}, {text}}}".encode())))
    lines: list[str] = []
    started = console.uptime() - 4.0  # seconds ago, as far as the time budget is concerned
    runner.capture(
        rig.machine, console.Console(lambda line: lines.append(line.decode()), lambda: console.uptime() - started)
    )
    (crash,) = rig.crash_folders()
    report = rig.report()
    with Dump.open(str(crash / "vmcore")) as dump:
        descriptor = dump.descriptor(STRUCTURES)
        level = dump.sub_header.dump_level
    return {
        "level": level,
        "kept": report["dump"]["pages"]["kept"],
        "compression": descriptor.flags if descriptor else None,
        "dmesg": (crash / "dmesg.txt").exists(),
        "jobs": report["dump"]["jobs"],
        "scan": report["scan"]["why"],
        "budget": next(line for line in lines if " s for everything" in line).rpartition(", ")[2].strip(),
        "end": rig.ended,
    }


@pytest.fixture(scope="module")
def vmcore(tmp_path_factory: pytest.TempPathFactory) -> str:
    return crashed(tmp_path_factory.mktemp("vmcore") / "vmcore")


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ("dump: {level: 15}", {"level", "kept"}),
        ("dump: {compression: zlib}", {"compression"}),
        ("dump: {compression: none}", {"compression"}),
        ("dump: {dmesg: false}", {"dmesg"}),
        ("dump: {jobs: 3}", {"jobs"}),
        ("scan: {engine: user}", {"scan"}),
        ("scan: {engine: kernel}", {"scan"}),
        ("time_budget: 5min", {"budget"}),
        ("on_success: halt", {"end"}),
        ("on_failure: [poweroff]", set()),
    ],
    ids=lambda value: value if isinstance(value, str) else "+".join(sorted(value)),
)
def test_a_key_changes_what_it_says_of_a_capture_that_succeeds(
    text: str, changed: set[str], vmcore: str, tmp_path: Path
) -> None:
    before = obeyed(tmp_path / "default", vmcore, "dump: {}")
    after = obeyed(tmp_path / "changed", vmcore, text)
    assert {name for name in before if before[name] != after[name]} == changed


def test_default_policy_is_what_the_comparison_starts_from(vmcore: str, tmp_path: Path) -> None:
    left = obeyed(tmp_path / "default", vmcore, "dump: {}")
    assert (left["level"], left["dmesg"], left["end"]) == (int(default().dump.level), True, ["reboot"])
