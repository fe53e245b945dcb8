"""The text that is read at 3 a.m."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kdumpd.plan.line import paint
from kdumpd.status.render import age, lines
from kdumpd.status.value import Crash, Image, Kernel, PolicyState, Rehearsal, Service, Status, Target, Verdict

NOW = 1_800_000_000.0
HOUR = 3600.0
STATUS = Status(
    verdict=Verdict(True, "kernel 6.1 is loaded with the image that this policy and this hardware call for"),
    kernel=Kernel("6.1", "6.2", True),
    reservation=256 << 20,
    loaded=True,
    policy=PolicyState("/etc/kdumpd.yaml"),
    image=Image(
        path="/var/lib/kdumpd/6.1/capture.img",
        size=10 << 20,
        unpacked=30 << 20,
        built=NOW - 3 * HOUR,
        boot="direct",
        boot_reason="every target is a plain local disk",
        scan="by the kernel: kdumpd_scan 1.0, unsigned",
        sha256="i1",
        loaded=NOW - 2 * HOUR,
        held=True,
    ),
    targets=(Target("/var/crash", "UUID=1", "/dev/vda1", "ext4", NOW - 60, True, 12 << 30),),
    crash=Crash(NOW - 50 * HOUR, "/var/crash/h-1", "verified", "", "sysrq triggered crash"),
    crashes=1,
    rehearsal=Rehearsal(NOW - 30 * HOUR, True, "6.1", "sysrq", "", True, True),
    service=Service(True, True, "", NOW - HOUR, ""),
)


def printed(status: Status) -> list[str]:
    return [paint(line, colours=False) for line in lines(status, NOW)]


def row(status: Status, name: str) -> str:
    (line,) = (line for line in printed(status) if line.startswith(f"{name} "))
    return line.removeprefix(name).strip()


def test_a_good_machine_is_a_screen_of_one_line_a_thing() -> None:
    assert printed(STATUS) == [
        "armed: kernel 6.1 is loaded with the image that this policy and this hardware call for",
        "kernel       6.1",
        "             6.2 is installed and newer; its image is ready",
        "image        built 3 hours ago, 10.0 MiB (30.0 MiB unpacked)",
        "             boots direct (every target is a plain local disk)",
        "             loaded 2 hours ago, seen in the reserved memory",
        "page scan    by the kernel: kdumpd_scan 1.0, unsigned",
        "reservation  256M",
        "policy       /etc/kdumpd.yaml, valid",
        "target       /var/crash (ext4 on /dev/vda1): good, 12.0 GiB free, proved 1 minute ago",
        "last crash   2027-01-13 06:00 UTC, 2 days ago: dump verified: /var/crash/h-1; sysrq triggered crash",
        "rehearsal    verified 1 day ago, with this kernel and image",
        "service      watches; it says armed since 2027-01-15 07:00 UTC (1 hour ago)",
    ]


def test_not_armed_comes_first_then_all_that_apply_would_do() -> None:
    found = printed(replace(STATUS, verdict=Verdict(False, "because (and 1 more)"), pending=("because", "also")))
    assert found[:3] == ["not armed: because (and 1 more)", "to do        because", "             also"]


def test_a_broken_policy_is_shown_with_its_place_beside_the_one_that_rules() -> None:
    policy = PolicyState("/etc/kdumpd.yaml", ("/etc/kdumpd.yaml:3:8: dump.levl: unknown key",), last_good=True)
    found = printed(replace(STATUS, policy=policy))
    place = found.index("policy       NOT VALID; the last good one rules:")
    assert found[place + 1] == "             /etc/kdumpd.yaml:3:8: dump.levl: unknown key"
    many = replace(policy, problems=("one", "two", "three", "four", "five"))
    assert "             and 2 more: kdumpd check /etc/kdumpd.yaml" in printed(replace(STATUS, policy=many))


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (Target("/a"), "/a: not proved yet"),
        (Target("/a", proved=NOW - 60, ok=False, why="read-only"), "/a: FAILED: read-only; proved 1 minute ago"),
        (Target("/a", proved=NOW, ok=True, free=1 << 30, why="tight"),
         "/a: good, 1.0 GiB free, proved just now; but tight"),
    ],
)  # fmt: skip
def test_a_target_says_what_its_last_proof_found(target: Target, said: str) -> None:
    assert row(replace(STATUS, targets=(target,)), "target") == said


def test_a_crash_without_a_dump_is_loud() -> None:
    crash = Crash(0, None, "missing", "the capture kernel did not report", "")
    assert row(replace(STATUS, crash=crash), "last crash") == (
        "at an unknown time: NO DUMP (the capture kernel did not report)"
    )
    assert row(replace(STATUS, crash=None), "last crash") == "none on record"


def test_a_dump_that_could_not_be_read_yet_is_called_so() -> None:
    crash = Crash(NOW - 60, "/c/h-1", "unread", "/c/h-1/vmcore: could not be read: Input/output error", "a panic")
    assert row(replace(STATUS, crash=crash), "last crash").endswith(
        "1 minute ago: dump not read yet: /c/h-1 (/c/h-1/vmcore: could not be read: Input/output error); a panic"
    )


def test_a_directory_s_name_moves_no_cursor() -> None:
    crash = Crash(NOW - 60, "/c/\x1b[2J\udcff", "gone", "", "")
    assert row(replace(STATUS, crash=crash), "last crash").endswith("dump gone: /c/?[2J?")


def test_a_rehearsal_of_something_else_proves_nothing_about_this() -> None:
    old = Rehearsal(NOW - 60, True, "6.0", "nmi", "", False, False)
    assert row(replace(STATUS, rehearsal=old), "rehearsal") == (
        "this kernel and image never; the last one, of kernel 6.0, verified 1 minute ago"
    )
    other = Rehearsal(NOW - 60, False, "6.1", "nmi", "no dump", True, False)
    assert row(replace(STATUS, rehearsal=other), "rehearsal").endswith(
        "of another image, FAILED (no dump) 1 minute ago"
    )
    assert row(replace(STATUS, rehearsal=None), "rehearsal").startswith("never")


def test_a_service_that_is_not_there_and_one_that_works() -> None:
    assert row(replace(STATUS, service=None), "service") == "kdumpd.service does not run: nobody watches this machine"
    busy = Service(True, False, "it builds", 0, "building")
    assert row(replace(STATUS, service=busy), "service") == "watches; it says not armed: it builds; building now"


def test_what_could_not_be_read_is_one_line_after_the_verdict() -> None:
    assert printed(replace(STATUS, unread=("/var/lib/kdumpd", "/run/kdumpd")))[1] == (
        "not root: could not read /var/lib/kdumpd, /run/kdumpd"
    )


def test_who_may_not_read_the_records_is_not_told_that_there_are_none() -> None:
    bare = Status(
        Verdict(False, "not proved"), Kernel("6.1"), 1 << 20, True, PolicyState("/p"), unread=("/var/lib/kdumpd",)
    )
    assert printed(bare) == [
        "not armed: not proved",
        "not root: could not read /var/lib/kdumpd",
        "kernel       6.1",
        "reservation  1M",
        "policy       /p, valid",
    ]


def test_colours_are_for_a_terminal_and_say_the_verdict() -> None:
    assert paint(lines(STATUS, NOW)[0], colours=True).startswith("\x1b[1;32marmed\x1b[0m: kernel")
    bad = lines(replace(STATUS, verdict=Verdict(False, "x")), NOW)[0]
    assert paint(bad, colours=True).startswith("\x1b[1;31mnot armed\x1b[0m: x")


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "just now"), (59, "59 seconds ago"), (61, "1 minute ago"), (7200, "2 hours ago"), (14 * 86400, "2 weeks ago"),
     (-5, "in the future: a clock was wrong")],
)  # fmt: skip
def test_ages_are_told_by_their_largest_unit(seconds: int, said: str) -> None:
    assert age(NOW - seconds, NOW) == said
