"""The loop, what is said: armed or not, why, to whom, and when a moment of staleness is not worth a word."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kdumpd.plan import render
from kdumpd.plan.decide import decide
from kdumpd.plan.line import paint
from kdumpd.service.actions import (
    Asked,
    Ended,
    Forget,
    Keep,
    Notify,
    Publish,
    Said,
    Start,
    Stopped,
    Tell,
    Unit,
    Work,
)
from kdumpd.service.loop import APART, GRACE, POLL
from tests.unit.plan.test_decide import ARMED, INPUTS
from tests.unit.service.machine import QUIET_MACHINE, Machine, of, started, status


def test_an_armed_machine_is_published_told_and_its_unit_started() -> None:
    machine = Machine()
    machine.start()
    machine.end(Work.APPLY)
    actions = machine.armed()
    state = of(Publish, actions)[0].state
    assert (state.armed, state.reason, state.busy, state.policy_problem) == (True, "all is well", "", "")
    assert state.since == machine.now + 1000.0
    assert Notify("STATUS=armed: all is well") in actions
    assert Tell("armed", "all is well") in actions
    assert Unit("active") in actions


def test_a_crash_kernel_that_was_replaced_is_told_before_ours_is_loaded_again() -> None:
    machine = Machine()
    machine.settle()
    machine.now += APART
    machine.notice("loader")
    actions = machine.not_armed("another program replaced the crash kernel")
    assert of(Tell, actions) == [Tell("not-armed", "another program replaced the crash kernel")]
    assert started(actions) == [Work.APPLY]
    machine.change(record=(10, 10, 3, 3))
    machine.end(Work.APPLY)
    assert of(Tell, machine.armed()) == [Tell("armed", "all is well")]


def test_an_unloaded_crash_kernel_is_told_at_once_and_loaded_again() -> None:
    machine = Machine()
    machine.settle()
    machine.change(loaded=False)
    actions = machine.wake()
    assert started(actions) == [Work.APPLY]
    assert of(Publish, actions)[0].state.armed is False
    assert of(Tell, actions) == [Tell("not-armed", "another program unloaded the crash kernel")]
    assert of(Unit, actions) == [Unit("failed")]
    machine.change(loaded=True)
    machine.end(Work.APPLY)
    actions = machine.armed()
    assert of(Tell, actions) == [Tell("armed", "all is well")]
    assert of(Unit, actions) == [Unit("active")]
    assert of(Keep, actions) == [Keep(True)]


def test_a_crash_kernel_that_goes_while_another_kernels_image_is_built_is_told() -> None:
    machine = Machine()
    machine.settle()
    machine.change(modules=((7, 100, 2, 2), None))
    assert started(machine.notice("modules")) == [Work.APPLY]
    machine.step(Said(Work.APPLY, "build /var/lib/kdumpd/6.2/capture.img (direct: a plain disk)"))
    machine.step(Said(Work.APPLY, "    because there is no image yet"))
    machine.now += GRACE
    machine.change(loaded=False)
    published = of(Publish, machine.notice("loader"))
    assert not published[-1].state.armed
    assert "unloaded" in published[-1].state.reason


def test_a_load_that_takes_long_is_not_taken_for_an_unload() -> None:
    machine = Machine()
    machine.settle()
    machine.change(cpus="0-2")
    machine.notice("device")
    machine.step(Said(Work.APPLY, "load kernel 6.1 and /var/lib/kdumpd/6.1/capture.img"))
    machine.now += GRACE
    machine.change(loaded=False)
    assert not of(Tell, machine.notice("loader"))
    machine.step(Said(Work.APPLY, "loaded kernel 6.1 by kexec_file_load; the kernel confirms it"))
    assert [tell.event for tell in of(Tell, machine.notice("loader"))] == ["not-armed"]


def test_a_verdict_that_comes_too_late_is_not_believed() -> None:
    machine = Machine()
    machine.settle()
    machine.now += APART
    machine.notice("device")
    machine.change(loaded=False)
    actions = machine.armed()
    assert [tell.event for tell in of(Tell, actions)] == ["not-armed"]
    assert started(actions) == [Work.APPLY]


def test_a_policy_that_is_not_valid_leaves_the_last_good_one_armed_and_says_where() -> None:
    machine = Machine()
    machine.settle()
    machine.change(policy=(9, 120, 2, 2))
    machine.notice("policy")
    machine.end(Work.APPLY, 1, errors="/etc/kdumpd.yaml:3:7: dump.level: 77 is too large\n", seconds=0.5)
    actions = machine.end(
        Work.STATUS, 0, status(True, "all is well", "/etc/kdumpd.yaml:3:7: dump.level: 77 is too large")
    )
    state = of(Publish, actions)[0].state
    assert state.armed
    assert "/etc/kdumpd.yaml:3:7: dump.level" in state.policy_problem
    assert "/etc/kdumpd.yaml:3:7: dump.level" in of(Notify, actions)[-1].text
    assert [tell.event for tell in of(Tell, actions)] == ["policy-invalid"]
    assert of(Unit, actions) == []
    for _ in range(30):
        assert started(machine.wake()) == []
    machine.change(policy=(9, 100, 3, 3))
    machine.notice("policy")
    machine.end(Work.APPLY)
    assert of(Tell, machine.armed()) == [Tell("policy-valid", "the policy is valid again")]


def test_staleness_that_is_put_right_at_once_alarms_nobody() -> None:
    machine = Machine()
    machine.settle()
    machine.change(policy=(9, 120, 2, 2))
    machine.notice("policy")
    machine.step(Said(Work.APPLY, "build /var/lib/kdumpd/6.1/capture.img (direct: a plain disk)"))
    actions = machine.step(Said(Work.APPLY, "    because the policy changed: dump.level 31 to 1"))
    assert of(Tell, actions) == [Tell("building", "the policy changed: dump.level 31 to 1")]
    state = of(Publish, actions)[0].state
    assert state.armed
    assert state.busy == "building the image"
    machine.change(record=(10, 10, 3, 3))
    machine.step(Said(Work.APPLY, "built /var/lib/kdumpd/6.1/capture.img: 5 MiB"))
    machine.step(Said(Work.APPLY, "loaded kernel 6.1 by kexec_file_load"))
    machine.end(Work.APPLY, seconds=10)
    machine.armed()
    assert [tell.event for tell in of(Tell, machine.actions)] == ["building", "built", "loaded"]
    assert of(Unit, machine.actions) == []
    assert of(Publish, machine.actions)[-1].state.busy == ""


def test_what_apply_prints_is_understood() -> None:
    plan = decide(replace(ARMED, inputs=replace(INPUTS, kdumpd="0.2.0")))
    machine = Machine()
    machine.start()
    for line in render.lines(plan, ARMED):
        machine.step(Said(Work.APPLY, paint(line, colours=False)))
    assert of(Tell, machine.actions) == [Tell("building", "kdumpd's version changed: 0.1.0 to 0.2.0")]


def test_the_image_of_a_kernel_that_does_not_run_yet_takes_nothing_from_being_armed() -> None:
    machine = Machine()
    machine.settle()
    machine.change(modules=((9, 100, 2, 2), None))
    machine.notice("modules")
    machine.step(Said(Work.APPLY, "build /var/lib/kdumpd/6.2/capture.img (direct: a plain disk)"))
    machine.step(Said(Work.APPLY, "    because kernel 6.2 is installed"))
    assert of(Publish, machine.actions)[-1].state.busy == "building the image"
    machine.now += GRACE
    machine.wake()
    assert of(Publish, machine.actions)[-1].state.armed
    assert [tell.event for tell in of(Tell, machine.actions)] == ["building"]


def test_staleness_that_lasts_is_said() -> None:
    machine = Machine()
    machine.settle()
    machine.change(policy=(9, 120, 2, 2))
    machine.notice("policy")
    begun = machine.now
    machine.step(Said(Work.APPLY, "build /var/lib/kdumpd/6.1/capture.img (direct: a plain disk)"))
    machine.step(Said(Work.APPLY, "    because the policy changed: dump.level 31 to 1"))
    actions = machine.wake()
    assert machine.now == begun + GRACE
    assert of(Publish, actions)[0].state.armed is False
    assert of(Tell, actions) == [
        Tell("not-armed", "the image is being built: the policy changed: dump.level 31 to 1"),
    ]
    assert of(Unit, actions) == [Unit("failed")]


def test_the_first_start_says_nothing_of_the_unit_before_it_knows() -> None:
    machine = Machine(QUIET_MACHINE._replace(loaded=False))
    assert of(Unit, machine.start()) == []
    machine.change(loaded=True)
    machine.end(Work.APPLY)
    actions = machine.armed()
    assert of(Unit, actions) == [Unit("active")]
    assert [tell.event for tell in of(Tell, machine.actions)] == ["armed"]


def test_a_machine_without_a_reservation_is_left_alone_and_its_unit_inactive() -> None:
    machine = Machine(QUIET_MACHINE._replace(loaded=False, reservation=0))
    machine.start()
    actions = machine.end(Work.STATUS, 3, status(False, "no memory is reserved; add crashkernel="))
    assert of(Unit, actions) == [Unit("inactive")]
    assert of(Publish, actions)[0].state.armed is False
    assert started(actions) == [Work.AFTERMATH]
    for _ in range(30):
        assert started(machine.wake()) == []


def test_a_status_that_cannot_be_read_is_not_armed() -> None:
    machine = Machine()
    machine.settle()
    machine.now += APART
    assert started(machine.notice("everything")) == [Work.STATUS]
    actions = machine.end(Work.STATUS, -9, "", "")
    assert started(actions) == [Work.APPLY]
    machine.end(Work.APPLY)
    actions = machine.end(Work.STATUS, 1, "", "kdumpd status: internal error: no\n")
    assert Tell("not-armed", "internal error: no") in actions


def test_what_a_crash_has_left_is_looked_for_once_and_told() -> None:
    machine = Machine()
    machine.start()
    machine.end(Work.APPLY)
    assert Start(Work.AFTERMATH) in machine.armed()
    line = '{"event": "crash-found", "reason": "sysrq", "path": "/var/crash/x"}'
    actions = machine.step(Said(Work.AFTERMATH, line))
    assert actions == [Tell("crash-found", "sysrq", (("path", "/var/crash/x"),))]
    assert machine.step(Said(Work.AFTERMATH, "some words")) == []
    assert machine.end(Work.AFTERMATH) == [Keep(True)]
    machine.change(loaded=False)
    assert Keep(False) in machine.wake()


def test_that_this_boot_runs_is_written_only_after_the_last_one_was_looked_at() -> None:
    machine = Machine()
    machine.start()
    machine.end(Work.APPLY)
    machine.armed()
    machine.change(loaded=False)
    machine.wake()
    assert of(Keep, machine.actions) == []
    assert machine.step(Stopped())[-1] == Forget(kept=False)


def searches(machine: Machine, minutes: int, code: int = 1, errors: str = "no policy\n") -> list[int]:
    """The minutes in which the search after a crash was begun again, where each fails at once."""
    begun = []
    for minute in range(minutes):
        before = machine.now
        if Work.AFTERMATH in started(machine.wake()):
            begun.append(minute)
            machine.end(Work.AFTERMATH, code, errors=errors, seconds=0)
        assert machine.now - before == POLL  # not one more wake-up for that
    return begun


@pytest.mark.parametrize("code", [1, 127, -9])
def test_a_search_after_a_crash_that_failed_is_begun_again_ever_more_slowly_and_this_boot_is_not_written(
    code: int,
) -> None:
    machine = Machine()
    machine.start()
    machine.end(Work.APPLY)
    machine.armed()
    assert machine.end(Work.AFTERMATH, code, errors="no policy\n", seconds=0)[1:] == []
    assert searches(machine, 40, code) == [0, 2, 6, 14, 24, 34]
    assert len([tell for tell in of(Tell, machine.actions) if tell.event == "aftermath-failed"]) == 1
    machine.change(loaded=False)
    machine.wake()
    assert of(Keep, machine.actions) == []
    assert machine.step(Stopped())[-1] == Forget(kept=False)


def test_a_search_that_succeeds_at_last_lets_this_boot_be_written_and_is_not_begun_again() -> None:
    machine = Machine()
    machine.start()
    machine.end(Work.APPLY)
    machine.armed()
    machine.end(Work.AFTERMATH, 1, errors="no policy\n", seconds=0)
    assert started(machine.wake()) == [Work.AFTERMATH]
    assert machine.end(Work.AFTERMATH, seconds=0) == [Keep(True)]
    assert searches(machine, 30) == []


def test_a_policy_that_was_put_right_and_a_reload_begin_the_search_again_at_once() -> None:
    machine = Machine()
    machine.start()
    machine.end(Work.APPLY)
    machine.armed()
    for _ in range(3):
        machine.end(Work.AFTERMATH, 1, errors="no policy\n", seconds=0)
        machine.now += 601
        machine.wake()
    machine.end(Work.AFTERMATH, 1, errors="no policy\n", seconds=0)
    machine.change(policy=(9, 120, 2, 2))
    assert Work.AFTERMATH in started(machine.notice("policy"))
    machine.end(Work.APPLY)
    machine.armed()
    machine.end(Work.AFTERMATH, -9)
    machine.step(Asked())
    assert Work.AFTERMATH in started(machine.wake())


def test_a_child_that_cannot_be_started_is_a_failure_like_others() -> None:
    machine = Machine()
    machine.start()
    missing = "/usr/bin/python3: No such file or directory"
    assert started(machine.step(Ended(Work.APPLY, 127, "", missing, machine.look))) == [Work.STATUS]
    actions = machine.step(Ended(Work.STATUS, 127, "", missing, machine.look))
    assert Tell("not-armed", missing) in actions
