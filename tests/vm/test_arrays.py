"""Disks that die with the crash: an array that lost one holds the dump, and where none is left nothing hangs."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdumpd.cli.main import main
from kdumpd.rehearse import disks
from tests.vm.life import HOSTNAME, MIRROR, Plot, live

pytestmark = [pytest.mark.matrix, pytest.mark.timeout(900)]

SCRIPT = "kdumpd apply"


def test_a_mirror_that_lost_a_disk_is_put_together_without_it(tmp_path: Path) -> None:
    life = live(tmp_path, MIRROR, Plot(SCRIPT, dying=(1,)))
    saved = [path for path in disks.take_out(life.disks[0], "/", tmp_path / "saved") if path.is_dir()]
    assert [path.name.partition("-")[0] for path in saved] == [HOSTNAME], life.console[-60:]
    assert main(["verify", str(saved[0] / "vmcore")]) == 0
    assert disks.is_clean(life.disks[0])
    assert "Restarting system" in life.capture()


def test_where_no_disk_is_left_the_log_is_told_and_the_policy_ends_the_machine(tmp_path: Path) -> None:
    """dracut waits for the array in vain: its shell, or a restart of its own, would leave no trace."""
    plot = Plot(SCRIPT, policy="on_failure: [next-target, dmesg-only, poweroff]", dying=(0, 1))
    said = live(tmp_path, MIRROR, plot).capture()
    assert "no such block device came up in time" in said
    assert "kdumpd| " in said
    assert "Kernel panic - not syncing: sysrq triggered crash" in said
    assert "reboot: Power down" in said
