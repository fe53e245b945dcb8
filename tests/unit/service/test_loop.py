"""The loop, what is started: what is noticed leads to work and then to a verdict, and an idle minute costs nothing."""

from __future__ import annotations

from kdumpd.service.actions import (
    Asked,
    Forget,
    Kill,
    Noticed,
    Notify,
    Publish,
    Reload,
    Stopped,
    Tell,
    Unit,
    Work,
)
from kdumpd.service.look import Room
from kdumpd.service.loop import APART, DEADLINES, FULL, PATIENCE, POLL, back_off
from tests.unit.service.machine import QUIET_MACHINE, Machine, of, started


def test_it_is_ready_at_once_and_applies_the_policy_first() -> None:
    machine = Machine()
    actions = machine.start()
    assert actions[0] == Notify("READY=1")
    assert started(actions) == [Work.APPLY]
    assert started(machine.end(Work.APPLY)) == [Work.STATUS]


def test_an_idle_minute_is_one_wake_up_one_ping_and_no_child() -> None:
    machine = Machine()
    machine.settle()
    before = machine.now
    for _ in range(30):
        assert machine.wake() == [Notify("WATCHDOG=1")]
    assert before <= machine.now <= before + 30 * POLL


def test_everything_is_proved_once_an_hour() -> None:
    machine = Machine()
    machine.settle()
    begun = machine.now
    while not started(machine.wake()):
        pass
    assert FULL <= machine.now - begun + 2.0 <= FULL + POLL
    assert started(machine.actions) == [Work.APPLY]
    machine.end(Work.APPLY)
    machine.armed()
    assert of(Tell, machine.actions) == []
    assert started(machine.wake()) == []


def test_a_saved_policy_is_applied_within_a_second_and_then_judged() -> None:
    machine = Machine()
    machine.settle()
    saved = machine.now
    machine.change(policy=(9, 120, 2, 2))
    assert started(machine.notice("policy")) == [Work.APPLY]
    assert machine.now - saved <= 1.0
    assert started(machine.end(Work.APPLY)) == [Work.STATUS]
    machine.armed()
    assert of(Tell, machine.actions) == []
    assert of(Unit, machine.actions) == []


def test_events_that_do_not_end_put_the_look_off_for_five_seconds_at_most() -> None:
    machine = Machine()
    machine.settle()
    begun = machine.now
    for _ in range(50):
        machine.step(Noticed(frozenset({"mounts"})))
        if machine.loop.wake <= machine.now:
            break
        machine.now = min(machine.now + 0.5, machine.loop.wake)
    assert machine.now - begun <= PATIENCE


def test_an_event_that_changes_nothing_starts_nothing() -> None:
    machine = Machine()
    machine.settle()
    assert machine.notice("state", "boot", "modules", "mounts") == [Notify("WATCHDOG=1")]


def test_what_no_look_shows_is_asked_of_status_but_not_again_and_again() -> None:
    machine = Machine()
    machine.settle()
    machine.now += APART
    assert started(machine.notice("device")) == [Work.STATUS]
    machine.armed()
    assert started(machine.notice("device")) == []
    assert started(machine.wake()) == [Work.STATUS]
    machine.armed()
    assert started(machine.wake()) == []


def test_our_own_load_is_no_reason_to_look_again() -> None:
    machine = Machine()
    machine.settle()
    machine.change(policy=(9, 120, 2, 2))
    machine.notice("policy")
    machine.step(Noticed(frozenset({"loader", "state"})))
    machine.change(record=(10, 10, 3, 3), image=((11, 1001, 3, 3), None, None))
    machine.end(Work.APPLY)
    machine.armed()
    machine.now += APART
    assert started(machine.wake()) == []


def test_memory_that_was_added_is_told_to_the_crash_kernel() -> None:
    machine = Machine()
    machine.settle()
    machine.change(memory=(*machine.look.memory, "100000000-13fffffff : System RAM"))
    assert started(machine.notice("device")) == [Work.APPLY]
    machine.change(record=(10, 10, 3, 3))
    assert started(machine.end(Work.APPLY)) == [Work.STATUS]
    machine.armed()
    assert started(machine.wake()) == []


def test_disks_and_mounts_that_come_and_go_are_looked_at_every_half_minute_at_most() -> None:
    machine = Machine()
    machine.settle()
    begun = machine.now
    attempts = 0
    for number in range(100):
        machine.change(mounts=(*machine.look.mounts[:1], f"254:{number} /mnt rw ext4 /dev/vdb rw"))
        if Work.APPLY in started(machine.notice("mounts")):
            attempts += 1
            machine.end(Work.APPLY)
            machine.armed()
        machine.now += 1
    assert 0 < attempts <= (machine.now - begun) / APART + 1


def test_a_target_that_fills_up_is_proved_again_and_one_that_is_written_to_a_little_is_not() -> None:
    machine = Machine(QUIET_MACHINE._replace(room=(Room("/var/crash", 1, 1000),)))
    machine.settle()
    machine.change(room=(Room("/var/crash", 1, 900),))
    assert started(machine.wake()) == []
    machine.change(room=(Room("/var/crash", 1, 100),))
    assert started(machine.wake()) == [Work.APPLY]
    machine.end(Work.APPLY, 1, errors="kdumpd apply: target /var/crash: no room\n")
    actions = machine.not_armed("it is loaded, but no target can take a dump: target /var/crash: no room")
    assert [tell.event for tell in of(Tell, machine.actions)] == ["target-failed", "apply-failed", "not-armed"]
    assert of(Publish, actions)[-1].state.reason.endswith("dump: target /var/crash: no room")
    machine.change(room=(Room("/var/crash", 1, 1000),))
    assert started(machine.wake()) == [Work.APPLY]
    machine.end(Work.APPLY)
    assert Tell("armed", "all is well") in machine.armed()


def test_failures_are_tried_again_ever_more_slowly() -> None:
    machine = Machine(QUIET_MACHINE._replace(loaded=False))
    machine.start()
    machine.end(Work.APPLY, 1, errors="kdumpd apply: dracut: not installed\n")
    machine.not_armed("no crash kernel is loaded")
    waits = []
    for _ in range(6):
        failed = machine.now
        while Work.APPLY not in started(machine.wake()):
            pass
        waits.append(machine.now - failed)
        machine.end(Work.APPLY, 1, errors="kdumpd apply: dracut: not installed\n")
        machine.not_armed("no crash kernel is loaded")
    for wait, expected in zip(waits, (60, 120, 240, 480, 600, 600), strict=True):
        assert expected <= wait <= expected + POLL
    told = [tell for tell in of(Tell, machine.actions) if tell.event != "aftermath-failed"]
    assert told == [
        Tell("apply-failed", "dracut: not installed"),
        Tell("not-armed", "no crash kernel is loaded; apply failed: dracut: not installed"),
    ]


def test_a_target_that_something_is_mounted_over_is_proved_again() -> None:
    machine = Machine()
    machine.settle()
    machine.now += APART
    machine.change(room=(Room("/var/crash", 2, 1 << 30),))
    assert started(machine.notice("mounts")) == [Work.APPLY]


def test_what_changes_after_a_failure_is_acted_on_at_once() -> None:
    machine = Machine(QUIET_MACHINE._replace(loaded=False))
    machine.start()
    for _ in range(5):
        machine.end(Work.APPLY, 1, errors="no\n")
        machine.not_armed()
        machine.now += 601
        machine.wake()
    machine.end(Work.APPLY, 1, errors="no\n")
    machine.not_armed()
    machine.change(modules=((9, 100, 2, 2), None))
    assert started(machine.notice("modules")) == [Work.APPLY]


def test_back_off_is_1_2_4_8_and_at_most_10_minutes() -> None:
    assert [back_off(failures) for failures in (1, 2, 3, 4, 5, 50)] == [60, 120, 240, 480, 600, 600]


def test_who_disarmed_by_hand_is_left_in_peace() -> None:
    machine = Machine()
    machine.settle()
    machine.change(loaded=False, disarmed=True)
    actions = machine.notice("state")
    assert started(actions) == [Work.STATUS]
    actions = machine.not_armed("disarmed by hand")
    assert started(actions) == []
    for _ in range(30):
        assert started(machine.wake()) == []
    machine.change(loaded=True, disarmed=False)
    assert started(machine.notice("state")) == [Work.APPLY]


def test_a_child_that_hangs_is_asked_to_end_and_then_killed() -> None:
    machine = Machine()
    machine.settle()
    machine.change(policy=(9, 120, 2, 2))
    machine.notice("policy")
    begun = machine.now
    while not of(Kill, machine.actions):
        machine.wake()
    assert of(Kill, machine.actions) == [Kill(Work.APPLY, hard=False)]
    assert machine.now == begun + DEADLINES[Work.APPLY]
    machine.wake()
    assert of(Kill, machine.actions)[-1] == Kill(Work.APPLY, hard=True)
    machine.end(Work.APPLY, -9)
    machine.not_armed()
    assert Tell("apply-failed", "apply: not done in time and stopped") in machine.actions


def test_a_child_that_no_kill_ends_costs_no_wake_up_of_its_own() -> None:
    machine = Machine()
    machine.settle()
    machine.change(policy=(9, 120, 2, 2))
    machine.notice("policy")
    while Kill(Work.APPLY, hard=True) not in machine.wake():
        pass
    machine.actions.clear()
    begun = machine.now
    for _ in range(30):
        machine.wake()
    assert machine.now - begun >= 29 * POLL
    assert of(Kill, machine.actions) == [Kill(Work.APPLY, hard=True)] * len(of(Kill, machine.actions))
    assert len(of(Kill, machine.actions)) >= 29


def test_a_large_dump_on_a_slow_disk_is_read_to_its_end_and_nothing_waits_for_that() -> None:
    machine = Machine()
    machine.start()
    machine.end(Work.APPLY)
    machine.armed()
    begun = machine.now
    while machine.now < begun + 400e9 / 10e6:  # 400 GB at 10 MB/s
        last, actions = machine.now, machine.wake()
        assert machine.now - last <= POLL
        assert Notify("WATCHDOG=1") in actions
        if Work.APPLY in started(actions):
            machine.end(Work.APPLY)
            machine.armed()
    assert of(Kill, machine.actions) == []
    assert Kill(Work.AFTERMATH, hard=False) in machine.step(Stopped())


def test_a_change_during_work_is_looked_at_after_it() -> None:
    machine = Machine()
    machine.settle()
    machine.change(policy=(9, 120, 2, 2))
    machine.notice("policy")
    machine.change(policy=(9, 130, 3, 3))
    assert started(machine.notice("policy")) == []
    machine.end(Work.APPLY)
    machine.change(policy=(9, 140, 4, 4))
    assert started(machine.armed()) == [Work.APPLY]


def test_a_reload_applies_whatever_it_finds() -> None:
    machine = Machine()
    machine.settle()
    assert machine.step(Asked()) == [Reload()]
    assert started(machine.wake()) == [Work.APPLY]
    machine.end(Work.APPLY)
    machine.armed()
    assert started(machine.wake()) == []


def test_a_clean_stop_ends_children_and_leaves_the_crash_kernel_loaded() -> None:
    machine = Machine()
    machine.settle()
    machine.change(policy=(9, 120, 2, 2))
    machine.notice("policy")
    actions = machine.step(Stopped())
    assert actions == [Notify("STOPPING=1"), Kill(Work.APPLY, hard=False), Forget(kept=True)]
