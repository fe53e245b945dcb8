"""What an apply leaves for the next boot: the record that early loading goes by, for the kernel that it is for."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from kdumpd.plan import nextboot, state
from kdumpd.plan.situation import Situation
from kdumpd.policy.compiled import to_json
from kdumpd.policy.load import parse
from kdumpd.policy.model import Early
from tests.unit.plan.test_decide import ARMED, FACTS

ONE_DISK = "22 1 254:1 / / rw - ext4 /dev/vda1 rw\n"
TWO_DISKS = ONE_DISK + "30 22 254:2 / /var rw - ext4 /dev/vda2 rw\n"


def machine(root: Path, mountinfo: str = ONE_DISK) -> Path:
    """The /proc of a machine whose state lies in `root`."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/mountinfo").write_text(mountinfo)
    return root / "proc"


def armed(root: Path, policy: str = "") -> Situation:
    image = state.image_of(root, "6.1")
    image.parent.mkdir(parents=True)
    image.write_bytes(b"image")
    assert ARMED.step is not None
    return replace(ARMED, image=image, step=replace(ARMED.step, policy_json=to_json(parse(policy.encode()))))


def keep(situation: Situation, root: Path, proc: Path) -> tuple[dict[str, object], list[str]]:
    said: list[str] = []
    nextboot.keep(situation, root, said.append, proc)
    return json.loads(nextboot.record_beside(situation.image).read_text()), said


def test_the_record_is_that_of_the_load_in_this_boot(tmp_path: Path) -> None:
    record, said = keep(armed(tmp_path), tmp_path, machine(tmp_path))
    assert said == []
    assert record["boot_id"] == FACTS.boot_id
    assert record["image_sha256"] == state.sha256_of(state.image_of(tmp_path, "6.1"))
    assert (record["command_line"], record["vmlinuz"]) == (ARMED.command_line, str(FACTS.kernel.vmlinuz))
    assert (record["reservation"], record["release"]) == (FACTS.reservation, "6.1")


def test_a_kernel_that_does_not_run_yet_has_a_record_of_no_boot(tmp_path: Path) -> None:
    record, _ = keep(replace(armed(tmp_path), load=False), tmp_path, machine(tmp_path))
    assert record["boot_id"] == ""


def test_a_record_that_cannot_be_written_is_told_and_stops_nothing(tmp_path: Path) -> None:
    situation, said = armed(tmp_path), list[str]()
    (nextboot.record_beside(situation.image) / "x").mkdir(parents=True)
    nextboot.keep(situation, tmp_path, said.append, machine(tmp_path))
    (line,) = said
    assert line.startswith(
        f"early loading at the next boot: {nextboot.record_beside(situation.image)}: cannot be writt"
    )


def test_without_an_image_there_is_no_record(tmp_path: Path) -> None:
    situation = armed(tmp_path)
    situation.image.unlink()
    nextboot.keep(situation, tmp_path, print, machine(tmp_path))
    assert not nextboot.record_beside(situation.image).exists()


@pytest.mark.parametrize(
    ("early", "mountinfo", "wanted"),
    [
        (Early.AUTO, ONE_DISK, False),
        (Early.AUTO, TWO_DISKS, True),
        (Early.SERVICE, TWO_DISKS, False),
        (Early.INITRAMFS, ONE_DISK, True),
    ],
)
def test_who_loads_is_the_policy_s_to_say_or_the_disk_s(
    tmp_path: Path, early: Early, mountinfo: str, wanted: bool
) -> None:
    proc = machine(tmp_path, mountinfo)
    assert nextboot.wants_initramfs(early, Path("/var/lib/kdumpd"), proc) is wanted


def test_a_line_that_names_addresses_is_carried_by_no_initramfs(tmp_path: Path) -> None:
    situation = replace(armed(tmp_path, "early: initramfs"), command_line="irqpoll memmap=64K$0x1000")
    _, said = keep(situation, tmp_path, machine(tmp_path))
    assert said == []
    assert not (situation.image.parent / "early").exists()


def test_a_disk_that_takes_no_more_is_told_and_this_boot_stays_armed(tmp_path: Path) -> None:
    situation = armed(tmp_path, "early: initramfs\n")
    (situation.image.parent / "early").write_text("no folder can be made here")
    _, said = keep(situation, tmp_path, machine(tmp_path))
    assert len(said) == 1
    assert said[0].startswith("early loading by the initramfs: ")
