"""kdumpd.service in a whole system: what it weighs, how often it wakes, how fast it arms, hardware that comes later.

What befalls an armed machine otherwise is in test_healing.py. The tests of one release share a server, and the crash
is last.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from tests.lab.system import System, armed
from tests.vm.watching import ARMING_SECONDS, cursor, journal, said, wait_armed, wait_until

pytestmark = [pytest.mark.matrix, pytest.mark.timeout(2400)]

#: A socket for a third processor and a slot for memory, both empty.
SOCKETS = ("-smp", "2,maxcpus=3", "-m", "2048M,slots=1,maxmem=4G")
DIMM = 512 << 20
#: An emulated processor takes ten seconds for each start of kdumpd, and a policy is applied and then judged.
EMULATED = 60.0
#: The same where a plan may be at work already, and what comes later has to wait for its status as well.
GROWING = 240.0
SCORE = re.compile(r"exposure level for kdumpd\.service: (\d\.\d)")


@pytest.fixture(
    scope="module",
    params=["bookworm", "trixie"],
    ids=["Debian 12", "Debian 13"],
)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """An armed server with room for more."""
    folder, suite = tmp_path_factory.mktemp("service"), request.param
    with System.boot(folder, suite, base=armed.disk(suite), extra=SOCKETS) as system:
        wait_armed(system)
        yield system


def main_pid(system: System) -> str:
    return system.must("systemctl show --property MainPID --value kdumpd").strip()


def loaded(system: System) -> bool:
    return system.must("cat /sys/kernel/kexec_crash_loaded").strip() == "1"


def record(system: System) -> dict[str, Any]:
    """The record of the last load."""
    document: dict[str, Any] = json.loads(system.get("/var/lib/kdumpd/loaded.json"))
    return document


def test_it_weighs_less_than_20_mb(server: System) -> None:
    rollup = server.must(f"cat /proc/{main_pid(server)}/smaps_rollup")
    match = re.search(r"^Rss:\s*(\d+) kB", rollup, re.MULTILINE)
    assert match
    assert int(match[1]) * 1024 < 20_000_000


def test_it_wakes_once_a_minute_when_nothing_happens(server: System) -> None:
    pid = main_pid(server)
    count = f"sed -n 's/^voluntary_ctxt_switches:\\s*//p' /proc/{pid}/status"
    before, after = server.must(f"sleep 20; {count}; sleep 240; {count}", 400).split()
    # A wake-up is one sleep that ended; in it the process that looks at the target is waited for, and mostly a read or
    # a message for a moment as well.
    assert int(after) - int(before) <= 4 * 4


def test_it_is_hardened(server: System) -> None:
    match = SCORE.search(server.must("systemd-analyze security kdumpd.service --no-pager"))
    assert match
    assert float(match[1]) < 4


def test_a_saved_policy_is_armed_within_ten_seconds_and_the_time_of_its_image(server: System) -> None:
    since, begun = cursor(server), server.seconds
    server.put("/etc/kdumpd.yaml", "version: 1\ndump: {level: 17}\n")
    wait_until(lambda: journal(server, "building", cursor=since), EMULATED, "the policy is seen")
    assert server.seconds - begun < EMULATED
    wait_until(lambda: journal(server, "built", cursor=since), ARMING_SECONDS, "the image is built")
    built = server.seconds
    wait_until(lambda: journal(server, "loaded", cursor=since), EMULATED, "the image is loaded")
    assert server.seconds - built < EMULATED
    wait_armed(server)


def test_a_reload_is_waited_for_and_disarms_nobody(server: System) -> None:
    since = cursor(server)
    server.must("systemctl reload kdumpd")
    assert server.must("systemctl is-active kdumpd").strip() == "active"
    wait_armed(server)
    assert not journal(server, "not-armed", cursor=since)


def test_a_stop_unloads_nothing_and_a_restart_is_no_alarm(server: System) -> None:
    since = cursor(server)
    server.must("systemctl stop kdumpd")
    assert loaded(server)
    assert server.run("test -e /var/lib/kdumpd/running.json").code == 1
    server.must("systemctl start kdumpd")
    wait_armed(server)
    server.must("systemctl restart kdumpd")
    wait_armed(server)
    assert not journal(server, "not-armed", cursor=since)
    assert server.run("systemctl is-failed --quiet kdumpd-armed").code != 0


def test_who_disarms_by_hand_is_left_in_peace_until_apply(server: System) -> None:
    server.must("kdumpd disarm")
    wait_until(lambda: "disarm" in said(server).reason and said(server).agrees, 120, "disarmed is what all say")
    time.sleep(90)
    assert not loaded(server)
    server.must("kdumpd apply", ARMING_SECONDS)
    wait_armed(server)


def test_a_service_that_hangs_is_started_again_and_the_machine_armed_all_the_while(server: System) -> None:
    pid = main_pid(server)
    server.must(f"kill -STOP {pid}")
    wait_until(lambda: main_pid(server) not in (pid, "0"), 400, "the watchdog ends it")
    assert loaded(server)
    assert server.must("systemctl show --property NRestarts --value kdumpd").strip() == "1"
    wait_armed(server)


FOLLOWS = "cat /sys/devices/system/cpu/crash_hotplug /sys/devices/system/memory/crash_hotplug"
MEMORY = "sed -n 's/^MemTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo"


class Grown(NamedTuple):
    """A server that got a processor and a DIMM when it was armed; its loads before and after, and whether its kernel
    tells the crash kernel of them by itself."""

    system: System
    processors: int
    before: dict[str, Any]
    after: dict[str, Any]
    follows: bool


def more_processors(server: System) -> int:
    """How many there are when a third one has come.

    Linux of late (6.12.118, `acpi_is_processor_usable`) lets none come to a machine that it takes for bare metal, as
    it does an emulated one: there the second goes and comes again, which is the same event to the crash kernel.
    """
    online = "/sys/devices/system/cpu/cpu{}/online"
    if server.must("cat /sys/devices/system/cpu/possible").strip() == "0-1":
        server.must(f"echo 0 > {online.format(1)} && echo 1 > {online.format(1)}")
        return 2
    sockets = server.qmp("query-hotpluggable-cpus")
    assert isinstance(sockets, list)
    empty = next(socket for socket in sockets if "qom-path" not in socket)
    server.qmp("device_add", driver=empty["type"], id="cpu2", **empty["props"])
    wait_until(lambda: server.must("cat /sys/devices/system/cpu/present").strip() == "0-2", 60, "the processor is seen")
    server.run(f"echo 1 > {online.format(2)}")
    return 3


@pytest.fixture(scope="module")
def grown(server: System) -> Grown:
    wait_armed(server)
    before, since = record(server), cursor(server)
    follows = server.run(FOLLOWS).out.split() == ["1", "1"]
    processors = more_processors(server)
    server.qmp("object-add", **{"qom-type": "memory-backend-ram", "id": "dimm", "size": DIMM})
    server.qmp("device_add", driver="pc-dimm", id="dimm0", memdev="dimm")
    online = "for state in /sys/devices/system/memory/memory*/state; do echo online > $state; done 2>/dev/null"
    wait_until(lambda: int(server.must(f"{online}; {MEMORY}")) > 2100 << 10, 60, "the memory is in use")
    if not follows:
        wait_until(lambda: journal(server, "loaded", cursor=since), GROWING, "the image is loaded again")
        wait_until(
            lambda: record(server)["cpus"] == f"0-{processors - 1}" and record(server)["memory"] != before["memory"],
            GROWING,
            "both are on record",
        )
    wait_armed(server)
    return Grown(server, processors, before, record(server), follows)


def test_hardware_that_came_later_is_known_to_the_crash_kernel(grown: Grown) -> None:
    built_so = grown.system.run("grep -q ^CONFIG_CRASH_HOTPLUG=y /boot/config-$(uname -r)").code == 0
    assert grown.follows is built_so
    assert grown.after["image_sha256"] == grown.before["image_sha256"]
    assert (grown.after["time"] == grown.before["time"]) is grown.follows
    assert grown.system.run("kdumpd plan", 300).code == 0


def test_a_crash_after_that_is_dumped_with_the_memory_that_came_later(grown: Grown) -> None:
    system = grown.system
    system.crash()
    system.wait_boot(900)
    wait_until(lambda: journal(system, "crash-found", "crash-without-dump"), 300, "the crash is told of")
    told = json.loads(system.must("kdumpd info --json /var/crash/*/vmcore", 300))
    assert told["complete"]
    # Of the 2048 MiB from the start, the reservation and some holes are not in a dump.
    assert told["pages"]["memory"] * told["page_size"] > (1700 << 20) + DIMM
    assert told["processors"] >= grown.processors
    wait_armed(system)
