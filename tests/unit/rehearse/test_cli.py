"""The verb's own decisions, before any machine is started."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdumpd.cli import rehearse
from kdumpd.cli.main import main
from kdumpd.errors import HostError
from kdumpd.image import build
from kdumpd.plan import state
from kdumpd.policy import load
from kdumpd.policy.compiled import to_json
from kdumpd.rehearse.kernels import Kernel
from kdumpd.rehearse.scenario import Disk, Scenario
from kdumpd.rehearse.session import require_programs

KERNEL = Kernel("6.1.0-9-test", Path("/boot/vmlinuz"), Path("/lib/modules/6.1.0-9-test"), None)


def test_a_named_policy_that_is_not_there_is_an_error(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    missing = tmp_path / "kdumpd.yaml"
    assert main(["rehearse", "--policy", str(missing)]) == 1
    assert str(missing) in capsys.readouterr().err


def test_without_a_policy_of_its_own_the_machine_rehearses_the_default() -> None:
    if not Path(rehearse.DEFAULT_POLICY).exists():
        assert rehearse.read_policy(rehearse.DEFAULT_POLICY) == load.default()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--memory", "lots"], "is not a size"),
        (["--memory", "64M"], "less than 512M"),
        (["--crashkernel", "128M quiet"], "not what the kernel takes"),
        (["--keep-memory"], "--output"),
    ],
)
def test_a_wrong_argument_is_a_usage_error_of_one_line(
    arguments: list[str], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["rehearse", *arguments]) == 2
    assert word in capsys.readouterr().err.splitlines()[-1]


def test_missing_programs_are_one_line_with_the_command_that_installs_them() -> None:
    needs = (("sh", "dash"), ("no-such-program", "some-package"), ("nor-this", "another"))
    with pytest.raises(HostError, match=r"no-such-program, nor-this: .*apt-get install another some-package$"):
        require_programs(needs)


def test_the_armed_image_is_taken_where_it_is_of_this_policy(tmp_path: Path) -> None:
    policy = load.default()
    assert rehearse.armed_image(KERNEL, policy, tmp_path) is None
    image = state.image_of(tmp_path, KERNEL.release)
    image.parent.mkdir(parents=True)
    image.write_bytes(b"image")
    build.policy_beside(image).write_text(to_json(policy))
    assert rehearse.armed_image(KERNEL, policy, tmp_path) == image
    assert rehearse.armed_image(KERNEL, load.parse(b"dump: {level: 1}"), tmp_path) is None


def test_every_target_gets_a_disk_of_its_own_unless_the_scenario_says_otherwise() -> None:
    policy = load.parse(b"targets: [{path: /var/crash}, {path: /srv/crash}]")
    assert Scenario(policy, KERNEL).all_disks() == (Disk(("/var/crash",)), Disk(("/srv/crash",)))
    shared = (Disk(("/var/crash", "/srv/crash"), size=1 << 28),)
    assert Scenario(policy, KERNEL, disks=shared).all_disks() == shared
