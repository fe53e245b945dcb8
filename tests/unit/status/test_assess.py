"""Armed or not, with the reason in one line, and what is known beside it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kdumpd.dumps.whereabouts import Found
from kdumpd.loader import contents
from kdumpd.plan.decide import decide
from kdumpd.plan.situation import DiskState, Situation
from kdumpd.status.assess import assess, from_outside, without_policy
from kdumpd.status.records import Records
from kdumpd.status.value import PolicyState, Rehearsal, Status, Verdict
from kdumpd.steps.build import BuildImage, CaptureTarget
from tests.unit.plan.test_decide import ARMED, FACTS, IMAGE, POLICY, upgraded, with_inputs, with_state

VALID = PolicyState("/etc/kdumpd.yaml")
BROKEN = PolicyState("/etc/kdumpd.yaml", ("/etc/kdumpd.yaml:1:2: dump.levl: unknown key; did you mean level?",))
CALLED_FOR = "kernel 6.1 is loaded with the image that this policy and this hardware call for"


def status(situation: Situation, policy: PolicyState = VALID, records: Records | None = None) -> Status:
    return assess(decide(situation), situation, policy, records or Records())


def test_armed_is_what_plan_has_nothing_to_do_for_and_the_kernel_confirms() -> None:
    assert status(ARMED).verdict == Verdict(True, CALLED_FOR)


@pytest.mark.parametrize(
    ("situation", "reason"),
    [
        (replace(ARMED, blocked=("reservation: none",)), "reservation: none"),
        (replace(ARMED, blocked=("target /a: gone", "target /b: gone")), "target /a: gone (and 1 more)"),
        (replace(ARMED, facts=replace(FACTS, loaded=False)), "another program unloaded the crash kernel"),
        (
            replace(ARMED, facts=replace(FACTS, loaded=False), disarmed=True),
            "`kdumpd disarm` unloaded the crash kernel",
        ),
        (replace(ARMED, load=False, facts=replace(FACTS, loaded=False)), "no crash kernel is loaded"),
        (with_inputs(boot="dracut"), "the way it boots changed: direct to dracut"),
        (with_state(manifest=None), "the image has no readable manifest beside it"),
        (
            replace(ARMED, memory=contents.Found.OTHER),
            "another program replaced the crash kernel, or its memory is damaged: it is not what kdumpd loaded",
        ),
        (
            replace(ARMED, facts=replace(FACTS, loaded=False), state=DiskState(None, None, "", None)),
            "no crash kernel is loaded (and 1 more)",
        ),
    ],
)
def test_not_armed_says_why_in_one_line(situation: Situation, reason: str) -> None:
    found = status(situation)
    assert found.verdict == Verdict(False, reason)
    assert "\n" not in found.verdict.reason


def test_an_image_for_a_kernel_that_does_not_run_yet_is_no_matter_of_being_armed() -> None:
    found = status(upgraded())
    assert found.verdict.armed
    assert (found.kernel.newer, found.kernel.newer_ready) == ("6.2", False)


def test_the_last_good_policy_rules_and_is_called_so() -> None:
    found = status(ARMED, replace(BROKEN, last_good=True))
    assert found.verdict == Verdict(True, CALLED_FOR.replace("this policy", "the last good policy"))


def test_a_policy_that_was_never_good_is_why_nothing_is_armed() -> None:
    found = without_policy(FACTS, BROKEN, Records())
    assert not found.verdict.armed
    assert found.verdict.reason.endswith("this one is not valid: " + BROKEN.problems[0])


def with_targets(**proofs: dict[str, object]) -> Status:
    """A machine with the targets /a and /b, and these proofs of them."""
    targets = tuple(CaptureTarget(f"UUID={name}", "ext4", "/", f"/{name}") for name in "ab")
    situation = replace(
        ARMED,
        step=BuildImage("6.1", IMAGE.parent, POLICY, targets, IMAGE),
        nodes={"/a": "/dev/sda1", "/b": "/dev/sdb1"},
        target_paths=("/a", "/b"),
    )
    return status(situation, records=Records(targets={f"/{name}": proof for name, proof in proofs.items()}))


GOOD: dict[str, object] = {"time": 1000, "ok": True, "free": 5 << 30, "why": ""}
BAD: dict[str, object] = {"time": 1000, "ok": False, "free": None, "why": "read-only"}


def test_each_target_has_its_last_proof_beside_it() -> None:
    first, second = with_targets(a=GOOD).targets
    assert (first.path, first.device, first.node, first.fstype) == ("/a", "UUID=a", "/dev/sda1", "ext4")
    assert (first.ok, first.free, first.proved) == (True, 5 << 30, 1000)
    assert (second.ok, second.free, second.proved) == (None, None, 0)


def test_a_target_that_failed_is_in_the_line_while_another_can_take_the_dump() -> None:
    assert with_targets(a=BAD, b=GOOD).verdict == Verdict(True, f"{CALLED_FOR}; but target /a: read-only")
    assert with_targets(a=BAD).verdict.armed  # the other one was not proved yet


def test_a_machine_on_which_no_target_can_take_a_dump_is_not_armed() -> None:
    reason = "it is loaded, but no target can take a dump: target /a: read-only (and 1 more)"
    assert with_targets(a=BAD, b=BAD).verdict == Verdict(False, reason)


@pytest.mark.parametrize(
    ("release", "image", "same"),
    [("6.1", "i1", (True, True)), ("6.1", "i0", (True, False)), ("6.0", "i0", (False, False))],
)
def test_a_rehearsal_is_held_against_this_kernel_and_image(release: str, image: str, same: tuple[bool, bool]) -> None:
    record = {"time": 5, "release": release, "image_sha256": image, "verified": True, "panic": "sysrq", "why": ""}
    found = status(ARMED, records=Records(rehearsal=record)).rehearsal
    assert found == Rehearsal(5, True, release, "sysrq", "", *same)


def test_the_last_crash_is_the_newest_on_record() -> None:
    entries = (
        {"time": 1, "path": "/a", "state": "verified"},
        {"time": 0, "path": None, "state": "missing", "why": "?"},
    )
    found = status(ARMED, records=Records(crashes=entries))
    assert found.crash is not None
    assert (found.crash.state, found.crash.path, found.crashes) == ("missing", None, 2)


@pytest.mark.parametrize(
    ("more", "now"),
    [
        ({"removed": "max_size"}, None),
        ({}, Found(None, dump=False)),
        ({}, Found("/c/b", dump=True)),
        ({}, Found("/c/a\x1b[2J\udcff", dump=True, problem="/c/a\x1b[2J\udcff: cannot be looked at")),
    ],
)
def test_what_is_said_of_a_directory_s_name_moves_no_cursor(more: dict[str, str], now: Found | None) -> None:
    entry = {"time": 1, "path": "/c/a\x1b[2J\udcff", "state": "verified", "why": ""} | more
    found = status(ARMED, records=Records(crashes=(entry,), dump=now)).crash
    assert found is not None
    assert found.why.isprintable()
    assert "/c/a?[2J?" in found.why


def test_a_dump_that_retention_took_says_so() -> None:
    entry = {"time": 1, "path": "/a", "state": "verified", "why": "", "removed": "more than 5 dumps"}
    found = status(ARMED, records=Records(crashes=(entry,))).crash
    assert found is not None
    assert (found.state, found.path) == ("gone", None)
    assert found.why == "removed since: more than 5 dumps: /a; it was verified"


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (Found("/c/a", dump=True), ("verified", "/c/a", "")),
        (Found("/c/b", dump=True), ("verified", "/c/b", "renamed since, from /c/a")),
        (Found("/c/a", dump=False), ("gone", "/c/a", "its vmcore is not there any more; it was verified")),
        (
            Found("/c/a", dump=True, problem="/c/a: Input/output error"),
            ("verified", "/c/a", "/c/a: Input/output error"),
        ),
        (
            Found(None, dump=False),
            (
                "gone",
                None,
                "/c/a is not there any more: removed or moved by hand, or its file system is not mounted; it was "
                "verified",
            ),
        ),
    ],
)
def test_a_dump_that_somebody_removed_or_renamed_is_not_told_as_it_was(
    now: Found, said: tuple[str, str | None, str]
) -> None:
    entry = {"time": 1, "path": "/c/a", "state": "verified", "why": ""}
    found = status(ARMED, records=Records(crashes=(entry,), dump=now)).crash
    assert found is not None
    assert (found.state, found.path, found.why) == said


def test_a_crash_without_a_dump_keeps_its_directory() -> None:
    entry = {"time": 1, "path": "/c/a", "state": "incomplete", "why": "no room"}
    found = status(ARMED, records=Records(crashes=(entry,), dump=Found("/c/a", dump=False))).crash
    assert found is not None
    assert (found.state, found.path, found.why) == ("incomplete", "/c/a", "no room")


def test_the_image_says_whether_the_reservation_was_seen_to_hold_it() -> None:
    held = [status(replace(ARMED, memory=memory)).image for memory in (contents.Found.SAME, contents.Found.UNKNOWN)]
    assert [image.held for image in held if image] == [True, None]


SERVICE = {"armed": True, "reason": "kernel 6.1 is loaded", "since": 5, "busy": ""}


def test_a_user_without_privilege_hears_the_service_and_says_so() -> None:
    found = from_outside(FACTS, VALID, Records(service=SERVICE, service_runs=True))
    assert found.verdict == Verdict(True, "kernel 6.1 is loaded (as kdumpd.service says)")


def test_a_user_without_privilege_and_service_proves_nothing() -> None:
    found = from_outside(FACTS, VALID, Records(service=SERVICE, service_runs=False, unread=("/var/lib/kdumpd",)))
    assert found.verdict.reason.startswith("not proved: a crash kernel is loaded, but only root sees")
    assert found.unread == ("/var/lib/kdumpd",)


def test_a_user_without_privilege_sees_what_the_kernel_tells_anybody() -> None:
    unloaded = from_outside(replace(FACTS, loaded=False), VALID, Records())
    assert unloaded.verdict == Verdict(False, "no crash kernel is loaded")
    unreserved = from_outside(replace(FACTS, loaded=False, reservation=0), VALID, Records())
    assert unreserved.verdict.reason.startswith("reservation: no memory is reserved")
