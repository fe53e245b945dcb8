"""The newcomer's path on a Debian server: the package installed, one file edited, memory reserved, a crash saved.

A whole virtual machine with the distribution's own Python packages, its boot loader, its kernel, its systemd, and no
network.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from tests.lab.system import Done, System
from tests.lab.system.package import deb
from tests.vm.watching import ARMING_SECONDS, armed_unit, journal, wait_armed, wait_until

pytestmark = pytest.mark.timeout(1800)

POLICY = """\
version: 1
dump: {level: 31, compression: zstd}
retention: {keep: 3}
"""
#: As the package says when it is installed.
RESERVE = "sed -i 's/^GRUB_CMDLINE_LINUX_DEFAULT=\"/&crashkernel=192M /' /etc/default/grub && update-grub"


class Story(NamedTuple):
    """What the newcomer saw, step by step; `seconds` are those of the machine when each step was done."""

    installed: Done
    unreserved: Done
    unreserved_unit: str
    armed: Done
    planned: Done
    armed_unit: str
    memory: int
    listed: Done
    told: dict[str, Any]
    told_text: str
    verified: Done
    found: list[dict[str, str]]
    again: Done
    seconds: dict[str, float]


@pytest.fixture(
    scope="module",
    params=["bookworm", pytest.param("trixie", marks=pytest.mark.matrix)],
    ids=["Debian 12", "Debian 13"],
)
def story(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """The whole path, walked once; the tests look at what was seen on it."""
    folder = tmp_path_factory.mktemp("newcomer")
    with System.boot(folder, request.param) as system:
        yield walk(system)


def walk(system: System) -> Story:
    """From `apt install` to the crash, and what the system says of it after that."""
    seconds = {"booted": system.seconds}
    name, package = deb()
    system.put(f"/root/{name}", package)
    installed = system.run(f"apt-get install --yes ./{name}", 600)
    seconds["installed"] = system.seconds
    unreserved = system.run("kdumpd status", 300)
    unreserved_unit = armed_unit(system)

    system.put("/etc/kdumpd.yaml", POLICY)
    system.must(RESERVE, 300)
    system.reboot()
    seconds["rebooted"] = system.seconds
    wait_armed(system, ARMING_SECONDS)
    seconds["armed"] = system.seconds
    armed, planned = system.run("kdumpd status", 300), system.run("kdumpd plan", 300)
    unit = armed_unit(system)
    memory = int(system.must("sed -n 's/^VmRSS: *//p' /proc/$(systemctl show -P MainPID kdumpd)/status").split()[0])

    system.crash()
    system.wait_boot(900)
    seconds["crashed, dumped and booted"] = system.seconds
    found = wait_until(lambda: journal(system, "crash-found", "crash-without-dump"), 300, "the crash is told of")
    listed = system.run("kdumpd list", 120)
    document = json.loads(system.run("kdumpd status --json", 300).out)
    told_text = system.run("kdumpd status", 300).out
    verified = system.run("kdumpd verify /var/crash/debian-*/vmcore", 600)
    wait_armed(system, ARMING_SECONDS)
    again = system.run("kdumpd status", 300)
    seconds["armed again"] = system.seconds
    return Story(
        installed=installed,
        unreserved=unreserved,
        unreserved_unit=unreserved_unit,
        armed=armed,
        planned=planned,
        armed_unit=unit,
        memory=memory,
        listed=listed,
        told=document,
        told_text=told_text,
        verified=verified,
        found=found,
        again=again,
        seconds=seconds,
    )


def test_the_package_installs_without_a_reservation_and_says_what_to_do(story: Story) -> None:
    assert story.installed.code == 0
    assert "add crashkernel=" in story.installed.said
    assert "update-grub" in story.installed.said


def test_without_a_reservation_status_says_so_and_no_unit_has_failed(story: Story) -> None:
    assert story.unreserved.code == 3
    first = story.unreserved.out.splitlines()[0]
    assert first.startswith("not armed: ")
    assert "no memory is reserved for a crash kernel" in first
    assert story.unreserved_unit == "inactive"


def test_after_the_reboot_the_machine_is_armed_and_nothing_is_left_to_do(story: Story) -> None:
    assert story.armed.code == 0
    assert story.armed.out.startswith("armed: ")
    assert (story.planned.code, story.armed_unit) == (0, "active")


def test_the_service_keeps_under_20_megabytes(story: Story) -> None:
    assert story.memory < 20_000_000 // 1024


def test_the_next_boot_finds_the_dump_and_tells_of_it(story: Story) -> None:
    (event,) = story.found
    assert event["KDUMPD_EVENT"] == "crash-found"
    assert "sysrq" in event["MESSAGE"]
    assert story.listed.code == 0
    assert "complete" in story.listed.out
    assert "sysrq triggered crash" in story.listed.out
    crash = story.told["crash"]
    assert crash["state"] == "verified"
    assert "sysrq triggered crash" in crash["panic"]
    assert crash["path"] in story.told_text


def test_the_dump_is_read_whole(story: Story) -> None:
    assert story.verified.code == 0


def test_the_machine_is_armed_again_after_the_crash(story: Story) -> None:
    assert story.again.code == 0
