"""Whatever makes systemd or dracut give up in an image that they boot, the runner runs and the dump is there.

Their own answers are a shell that waits at the console for ever, or the end of the machine without a trace.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from kdumpd.policy import load
from kdumpd.rehearse import kernels
from kdumpd.rehearse.scenario import Disturbance, OverlayFile, Scenario
from kdumpd.rehearse.session import rehearse
from tests.fault.captures import keys

POLICY = load.parse(b"capture_kernel: {boot: dracut}\n")
RESERVED = "192M"

pytestmark = [pytest.mark.matrix, pytest.mark.timeout(600)]


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(("rd.systemd.unit=emergency.target",), id="systemd-emergency"),
        pytest.param(("rd.systemd.unit=rescue.target",), id="systemd-rescue"),
        pytest.param(("root=/dev/nowhere",), id="root-that-never-comes"),
        pytest.param(("root=nonsense",), id="root-that-makes-dracut-die"),
    ],
)
def test_an_emergency_in_the_image_runs_the_runner(tmp_path: Path, words: tuple[str, ...]) -> None:
    scenario = Scenario(POLICY, kernels.find(), crashkernel=RESERVED, capture_words=words)
    outcome = rehearse(scenario, tmp_path)
    assert outcome.verified, "\n".join([outcome.failure, *outcome.console[-40:]])
    assert outcome.ending == "Restarting system"
    assert sum("kdumpd: " in line and " start: kdumpd " in line for line in outcome.console) <= 1


def test_control_alt_delete_does_not_end_the_capture(tmp_path: Path) -> None:
    hand = Disturbance("scan: ", "send-key", keys("ctrl", "alt", "delete"))
    outcome = rehearse(Scenario(POLICY, kernels.find(), crashkernel=RESERVED, disturbances=(hand,)), tmp_path)
    assert outcome.verified, "\n".join([outcome.failure, *outcome.console[-40:]])


def test_where_systemd_itself_dies_the_machine_restarts(tmp_path: Path) -> None:
    unit = b'[Service]\nExecStart=\nExecStart=/bin/sh -c "kill -SEGV 1; sleep 1000"\n'
    overlay = (OverlayFile("etc/systemd/system/kdumpd-capture.service.d/dies.conf", unit),)
    outcome = rehearse(Scenario(POLICY, kernels.find(), crashkernel=RESERVED, overlay=overlay), tmp_path)
    assert outcome.ending == "Restarting system", "\n".join([outcome.failure, *outcome.console[-40:]])
    assert not outcome.saved
