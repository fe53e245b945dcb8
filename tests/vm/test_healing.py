"""One armed server lives through what befalls servers, one fault after the other, and is armed again each time.

In each: kdumpd-armed.service, the journal and what the service publishes say alike whether it is armed, with the reason
in one line; and when the cause is gone, nobody has to do anything. The tests share the server, each leaves it armed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from kdumpd.rehearse import disks
from tests.lab.system import System, armed
from tests.vm.watching import (
    AGREEING_SECONDS,
    ARMING_SECONDS,
    cursor,
    journal,
    said,
    wait_agreed,
    wait_armed,
    wait_until,
)

pytestmark = [pytest.mark.matrix, pytest.mark.timeout(2400)]

MOUNT = "/srv/dumps"
POLICY = "version: 1\ntargets: [{{path: {path}}}]\ndump: {{level: {level}}}\nretention: {{min_free: 64M}}\n"
SPARE_SIZE = 512 << 20
KEXEC_SOMETHING_ELSE = "kexec -p --initrd=/boot/initrd.img-$(uname -r) --command-line='' /boot/vmlinuz-$(uname -r)"
#: All of the target but 32 MiB, half of what min_free keeps.
FILL = f"fallocate --length $(($(stat --file-system --format '%a * %S' {MOUNT}) - (32 << 20))) {MOUNT}/filling"
#: What a build may leave when it ends too early.
LEFT_OVERS = "find /var/lib/kdumpd -name '*.new' -o -name 'kdumpd-image-*'"


def policy(level: int = 31, path: str = "/var/crash") -> str:
    """A policy that differs from another in what is said here."""
    return POLICY.format(level=level, path=path)


@pytest.fixture(scope="module")
def armed_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A server that kdumpd has armed; its second disk is not mounted yet."""
    folder = tmp_path_factory.mktemp("healing")
    disks.make(folder / "spare", SPARE_SIZE)
    with System.boot(folder, disks=(folder / "spare",), base=armed.disk()) as system:
        system.must(f"mkdir {MOUNT}")
        wait_armed(system)
        yield system


@pytest.fixture
def server(armed_server: System) -> System:
    """The server, armed whatever the test before did."""
    if armed_server.get("/etc/kdumpd.yaml") != policy().encode():
        since = cursor(armed_server)
        armed_server.put("/etc/kdumpd.yaml", policy())
        ruled = ("built", "policy-valid")
        wait_until(lambda: journal(armed_server, *ruled, cursor=since), ARMING_SECONDS, "the policy rules")
    wait_armed(armed_server)
    return armed_server


def image_of(system: System) -> str:
    """The image of the running kernel."""
    return system.must("echo /var/lib/kdumpd/$(uname -r)/capture.img").strip()


def told(system: System, since: str, *events: str) -> list[dict[str, str]]:
    """The first of these events after that place in the journal, once there is one."""
    return wait_until(lambda: journal(system, *events, cursor=since), AGREEING_SECONDS, " or ".join(events))


def armed_by_its_own_word(system: System) -> None:
    """`kdumpd status` and `kdumpd plan` agree that nothing is left to do."""
    status = system.run("kdumpd status", 300)
    assert status.code == 0, status.said
    assert status.out.startswith("armed: ")
    plan = system.run("kdumpd plan", 300)
    assert plan.code == 0, plan.said


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ("rm {0}", "there is no image"),
        ("truncate --size 1M {0}", "damaged"),
        ("printf X | dd of={0} bs=1 seek=2000000 conv=notrunc status=none", "damaged"),
    ],
    ids=["deleted", "truncated", "one byte changed"],
)
def test_a_lost_image_is_built_again(server: System, damage: str, reason: str) -> None:
    since = cursor(server)
    server.must(damage.format(image_of(server)))
    building = told(server, since, "building")[0]
    assert reason in building["KDUMPD_REASON"]
    told_later = wait_until(lambda: journal(server, "built", cursor=since), ARMING_SECONDS, "the image is built")
    assert len(told_later) == 1
    wait_armed(server)
    armed_by_its_own_word(server)


def test_a_crash_kernel_that_was_unloaded_is_loaded_again(server: System) -> None:
    since = cursor(server)
    server.must("kexec -p -u")
    gone = told(server, since, "not-armed")[0]
    assert "unloaded" in gone["KDUMPD_REASON"]
    wait_armed(server)
    assert server.must("cat /sys/kernel/kexec_crash_loaded").strip() == "1"
    assert not journal(server, "built", cursor=since)


def test_a_crash_kernel_that_something_else_loaded_is_replaced(server: System) -> None:
    since = cursor(server)
    server.must(KEXEC_SOMETHING_ELSE)
    told(server, since, "loaded")
    wait_armed(server)
    assert not journal(server, "built", cursor=since)
    armed_by_its_own_word(server)


def test_a_policy_that_is_broken_leaves_the_last_good_one_armed_and_is_told_by_line_and_column(server: System) -> None:
    since = cursor(server)
    server.put("/etc/kdumpd.yaml", "version: 1\ndump: {levle: 31}\n")
    invalid = told(server, since, "policy-invalid")[0]
    assert re.search(r"/etc/kdumpd\.yaml:2:\d+: dump\.levle", invalid["KDUMPD_REASON"])
    assert "/etc/kdumpd.yaml:2:" in server.run("systemctl status kdumpd").out
    assert said(server).armed
    status = server.run("kdumpd status", 300)
    assert status.code == 0
    assert "/etc/kdumpd.yaml:2:" in status.out
    server.put("/etc/kdumpd.yaml", policy())
    told(server, since, "policy-valid")
    wait_armed(server)


def test_a_policy_that_is_broken_while_nothing_is_loaded_has_the_last_good_one_loaded(server: System) -> None:
    since = cursor(server)
    server.put("/etc/kdumpd.yaml", "dump: [\n")
    told(server, since, "policy-invalid")
    since = cursor(server)
    server.must("kexec -p -u")
    told(server, since, "armed")
    assert server.must("cat /sys/kernel/kexec_crash_loaded").strip() == "1"


def test_clocks_that_jump_change_nothing(server: System) -> None:
    restarts = server.must("systemctl show --property NRestarts --value kdumpd")
    for jump in ("+3 years", "-6 years", "+3 years"):
        server.must(f"date --set '{jump}'")
        armed_by_its_own_word(server)
    since = cursor(server)
    server.must("kexec -p -u")
    told(server, since, "not-armed")
    wait_armed(server)
    assert server.must("systemctl show --property NRestarts --value kdumpd") == restarts


def test_a_service_killed_while_it_builds_begins_anew(server: System) -> None:
    since = cursor(server)
    server.put("/etc/kdumpd.yaml", policy(level=30))
    told(server, since, "building")
    server.must("kill -KILL $(systemctl show --property MainPID --value kdumpd)")
    wait_until(lambda: journal(server, "built", cursor=since), ARMING_SECONDS, "the image is built")
    wait_armed(server)
    armed_by_its_own_word(server)
    assert server.must(LEFT_OVERS) == ""


def test_of_two_that_apply_the_second_waits_and_says_so(server: System) -> None:
    server.must("systemctl stop kdumpd")
    server.put("/etc/kdumpd.yaml", policy(level=29))
    both = [server.start("kdumpd apply"), server.start("kdumpd apply")]
    first, second = (running.wait(ARMING_SECONDS) for running in both)
    assert (first.code, second.code) == (0, 0)
    assert len(re.findall(r"another kdumpd \(process \w+\) is at work; waiting", first.err + second.err)) == 1
    assert (first.out + second.out).count("\nbuilt ") == 1
    server.must("systemctl start kdumpd")
    wait_armed(server)


def test_a_power_cut_while_it_builds_leaves_a_machine_that_arms_itself(server: System) -> None:
    since = cursor(server)
    server.put("/etc/kdumpd.yaml", policy(level=28))
    server.must("sync /etc/kdumpd.yaml")
    told(server, since, "building")
    server.power_cut()
    wait_armed(server)
    armed_by_its_own_word(server)
    assert server.must(LEFT_OVERS) == ""
    assert '"level":28' in server.must(f"cat {image_of(server).removesuffix('.img')}.policy.json")


def test_a_new_kernel_has_its_image_before_it_boots(server: System) -> None:
    """As dpkg calls the hooks for a kernel's package; the new kernel is the old one under another name."""
    release = server.must("uname -r").strip()
    # Another flavour of the same version would not be newer.
    new = re.sub(r"^\d+", lambda major: str(int(major[0]) + 1), release)
    server.must(f"cp --archive --link /lib/modules/{release} /lib/modules/{new} && depmod {new}")
    server.must(f"cp /boot/vmlinuz-{release} /boot/vmlinuz-{new} && cp /boot/config-{release} /boot/config-{new}")
    server.must(f"run-parts --exit-on-error --arg={new} --arg=/boot/vmlinuz-{new} /etc/kernel/postinst.d", 900)
    wait_until(
        lambda: server.run(f"test -s /var/lib/kdumpd/{new}/capture.img").code == 0, ARMING_SECONDS, "it has an image"
    )
    status = json.loads(server.run("kdumpd status --json", 300).out)
    assert status["armed"]
    assert status["kernel"]["newer"] == new
    assert status["kernel"]["newer_ready"]
    wait_armed(server)
    server.must(f"rm -r /lib/modules/{new} /boot/*-{new}")
    server.must(f"run-parts --exit-on-error --arg={new} --arg=/boot/vmlinuz-{new} /etc/kernel/postrm.d", 900)
    assert server.run(f"test -e /var/lib/kdumpd/{new}").code == 1
    wait_armed(server)


@pytest.fixture
def spare(server: System) -> Iterator[System]:
    """The server, armed for a target on its second disk."""
    server.must(f"mountpoint -q {MOUNT} || mount /dev/disk/by-id/virtio-disk0 {MOUNT}")
    server.put("/etc/kdumpd.yaml", policy(path=MOUNT))
    wait_until(
        lambda: MOUNT in server.run(f"cat {image_of(server).removesuffix('.img')}.policy.json").out,
        ARMING_SECONDS,
        "the image has the target",
    )
    wait_armed(server)
    yield server
    server.run(f"mount -o remount,rw {MOUNT}; rm -f {MOUNT}/filling")


@pytest.mark.parametrize(
    ("fault", "cure", "reason"),
    [
        (f"mount -o remount,ro {MOUNT}", f"mount -o remount,rw {MOUNT}", "read-only"),
        (FILL, f"rm {MOUNT}/filling", "free"),
    ],
    ids=["read-only", "full"],
)
def test_a_target_that_takes_no_dump_disarms_until_it_does(spare: System, fault: str, cure: str, reason: str) -> None:
    spare.must(fault)
    not_armed = wait_agreed(spare, armed=False, reason=reason)
    assert MOUNT in not_armed.reason
    assert spare.run("kdumpd status", 300).code == 3
    spare.must(cure)
    wait_armed(spare)


def test_a_target_that_is_unmounted_is_told_and_a_mount_heals_it(spare: System) -> None:
    since = cursor(spare)
    spare.must(f"umount {MOUNT}")
    building = told(spare, since, "building")[0]
    assert MOUNT in building["KDUMPD_REASON"]
    spare.must(f"mount /dev/disk/by-id/virtio-disk0 {MOUNT}")
    wait_armed(spare)
    armed_by_its_own_word(spare)


def test_a_target_whose_disk_is_pulled_out_is_told_and_armed_again_when_it_is_back(spare: System) -> None:
    since = cursor(spare)
    spare.unplug(0)
    # Where systemd unmounts what lay on it, the directory lies on the root's disk from then on.
    gone = told(spare, since, "not-armed", "building")[0]
    assert MOUNT in gone["KDUMPD_REASON"]
    spare.run(f"umount --lazy {MOUNT}")
    spare.plug(0)
    spare.must(f"udevadm settle; mount /dev/disk/by-id/virtio-disk0 {MOUNT}")
    wait_armed(spare)
    armed_by_its_own_word(spare)
