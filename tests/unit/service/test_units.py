"""The units: systemd takes them, and they are as hardened as the documentation says."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]
UNITS = ("kdumpd.service", "kdumpd-armed.service", "kdumpd-early.service")
#: What this machine does not have: the installed program and its man pages.
ABSENT = re.compile(r"Command (/usr/bin/kdumpd|'man kdumpd.*) (is not executable|failed)")


@pytest.mark.parametrize("unit", UNITS)
def test_systemd_has_nothing_to_say(unit: str) -> None:
    command = ["systemd-analyze", "verify", "--recursive-errors=no", str(REPOSITORY / "units" / unit)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert [line for line in run.stderr.splitlines() if not ABSENT.search(line)] == []


def test_the_score_is_the_one_in_the_documentation() -> None:
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(REPOSITORY / "units/kdumpd.service")]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    match = re.search(r"exposure level for kdumpd\.service: (\d\.\d)", run.stdout)
    assert match
    if "systemd 252 " in subprocess.run(["systemctl", "--version"], capture_output=True, text=True).stdout:
        assert f"**{match[1]}**" in (REPOSITORY / "docs/service.md").read_text()
    assert float(match[1]) < 4


def test_what_is_loaded_stays_loaded_and_who_disarmed_stays_disarmed_over_a_stop() -> None:
    text = (REPOSITORY / "units/kdumpd.service").read_text()
    assert "ExecStop" not in text
    assert "RuntimeDirectoryPreserve=yes" in text


def test_children_are_ended_by_the_service_alone_and_anybody_may_read_what_it_says() -> None:
    lines = (REPOSITORY / "units/kdumpd.service").read_text().splitlines()
    assert {"KillMode=mixed", "RuntimeDirectoryMode=0755", "StateDirectoryMode=0700"} <= {*lines}
