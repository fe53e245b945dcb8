"""The verb's own decisions, before any machine is started."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdumpd.cli import rehearse
from kdumpd.cli.main import main
from kdumpd.errors import HostError
from kdumpd.image import build, manifest
from kdumpd.plan import state
from kdumpd.plan.situation import LoadedRecord
from kdumpd.policy import load
from kdumpd.policy.compiled import carried
from kdumpd.policy.model import Policy
from kdumpd.rehearse.kernels import Kernel
from kdumpd.rehearse.scenario import Disk, Scenario
from kdumpd.rehearse.session import require_programs
from tests.unit.host.machine import FakeMachine
from tests.unit.image.test_parts import INPUTS

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


def armed(machine: FakeMachine, policy: Policy) -> Path:
    """An image of this policy in its place, and loaded; the file."""
    image = state.image_of(machine.base, KERNEL.release)
    image.parent.mkdir(parents=True)
    digest = manifest.sha256(b"image")
    build.place(image, b"image", manifest.Manifest(INPUTS, {}, 0, {}, digest), carried(policy))
    machine.write("sys/kernel/kexec_crash_loaded", "1\n")
    state.record(machine.base, LoadedRecord("boot-1", digest, "/boot/vmlinuz", "v", ""))
    return image


def test_the_armed_image_is_taken_where_it_is_of_this_policy(tmp_path: Path) -> None:
    machine, policy = FakeMachine(tmp_path), load.default()
    missing = rehearse.armed_image(KERNEL, policy, tmp_path, machine.places)
    assert missing == (None, "there is none for kernel 6.1.0-9-test, or only root may read it")
    image = armed(machine, policy)
    assert rehearse.armed_image(KERNEL, policy, tmp_path, machine.places) == (image, "")
    kept = load.parse(b"retention: {keep: 3}")
    assert rehearse.armed_image(KERNEL, kept, tmp_path, machine.places) == (image, "")
    other = load.parse(b"dump: {level: 1}")
    assert rehearse.armed_image(KERNEL, other, tmp_path, machine.places).why.endswith(
        "for another policy than this one"
    )


@pytest.mark.parametrize(
    ("path", "text", "why"),
    [
        ("sys/kernel/kexec_crash_loaded", "0\n", "is not loaded: run kdumpd apply"),
        ("proc/sys/kernel/random/boot_id", "boot-2\n", "is not loaded: run kdumpd apply"),
        (f"var/lib/kdumpd/{KERNEL.release}/capture.img", "damaged", "is not what its manifest describes"),
        ("var/lib/kdumpd/loaded.json", "{}", "is not loaded: run kdumpd apply"),
    ],
)
def test_an_image_that_is_not_what_is_loaded_now_is_not_armed(tmp_path: Path, path: str, text: str, why: str) -> None:
    machine, policy = FakeMachine(tmp_path), load.default()
    armed(machine, policy)
    machine.write(path, text)
    found = rehearse.armed_image(KERNEL, policy, tmp_path, machine.places)
    assert found.image is None
    assert why in found.why


def test_an_image_that_was_built_since_is_not_what_is_loaded(tmp_path: Path) -> None:
    machine, policy = FakeMachine(tmp_path), load.default()
    image = armed(machine, policy)
    digest = manifest.sha256(b"newer")
    build.place(image, b"newer", manifest.Manifest(INPUTS, {}, 0, {}, digest), carried(policy))
    assert "was built anew" in rehearse.armed_image(KERNEL, policy, tmp_path, machine.places).why


def test_the_reservation_is_the_machine_s_own_as_far_as_half_of_the_memory_goes(tmp_path: Path) -> None:
    machine = FakeMachine(tmp_path)
    assert rehearse.own_reservation(2 << 30, machine.places) == "192M"
    machine.write("sys/kernel/kexec_crash_size", f"{4 << 30}\n")
    assert rehearse.own_reservation(2 << 30, machine.places) == "1024M"


def test_every_target_gets_a_disk_of_its_own_unless_the_scenario_says_otherwise() -> None:
    policy = load.parse(b"targets: [{path: /var/crash}, {path: /srv/crash}]")
    assert Scenario(policy, KERNEL).all_disks() == (Disk(("/var/crash",)), Disk(("/srv/crash",)))
    shared = (Disk(("/var/crash", "/srv/crash"), size=1 << 28),)
    assert Scenario(policy, KERNEL, disks=shared).all_disks() == shared
