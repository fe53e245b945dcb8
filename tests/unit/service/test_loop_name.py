"""The loop, where the host gets its name after the service has started: from DHCP, or from a cloud's first boot."""

from __future__ import annotations

import pytest

from kdumpd.service.actions import Forget, Keep, Stopped, Tell, Woken, Work
from tests.unit.service.machine import QUIET_MACHINE, Machine, of, started


def unnamed() -> Machine:
    """Armed, the search after a crash done, all of it under a name that is not the host's."""
    machine = Machine(QUIET_MACHINE._replace(hostname="localhost"))
    machine.settle()
    return machine


def test_a_name_that_comes_late_is_on_record_at_once_and_what_the_last_boot_left_is_searched_for_under_it() -> None:
    machine = unnamed()
    machine.change(hostname="web1")
    actions = machine.wake()
    assert of(Keep, actions) == [Keep(True)]
    assert Work.AFTERMATH in started(actions)
    machine.end(Work.APPLY)
    machine.armed()
    assert machine.end(Work.AFTERMATH) == [Keep(True)]
    for _ in range(30):
        actions = machine.wake()
        assert (started(actions), of(Keep, actions)) == ([], [])


def test_a_name_that_comes_while_apply_works_is_acted_on_as_well() -> None:
    machine = unnamed()
    machine.change(policy=(9, 120, 2, 2))
    machine.notice("policy")
    machine.change(hostname="web1")
    actions = machine.notice("state")
    assert (started(actions), of(Keep, actions)) == ([Work.AFTERMATH], [Keep(True)])


def test_a_name_that_comes_during_the_search_begins_it_again_before_the_last_boot_s_record_goes() -> None:
    machine = Machine(QUIET_MACHINE._replace(hostname="localhost"))
    machine.start()
    machine.end(Work.APPLY)
    assert Work.AFTERMATH in started(machine.armed())
    machine.change(hostname="web1")
    actions = machine.end(Work.AFTERMATH)
    assert (started(actions), of(Keep, actions)) == ([Work.AFTERMATH], [])
    assert of(Keep, machine.end(Work.AFTERMATH)) == [Keep(True)]


def test_a_name_that_comes_between_two_failures_ends_the_waiting() -> None:
    machine = Machine(QUIET_MACHINE._replace(hostname="localhost"))
    machine.start()
    machine.end(Work.APPLY)
    machine.armed()
    for _ in range(5):
        machine.end(Work.AFTERMATH, 1, errors="no policy\n")
        machine.now += 601
        assert Work.AFTERMATH in started(machine.wake())
    machine.end(Work.AFTERMATH, 1, errors="no policy\n")
    machine.change(hostname="web1")
    assert Work.AFTERMATH in started(machine.step(Woken(machine.look)))


@pytest.mark.parametrize("code", [0, 1])
def test_while_it_is_searched_again_this_boot_stays_on_record_and_a_stop_is_a_clean_one(code: int) -> None:
    machine = unnamed()
    machine.change(hostname="web1")
    machine.wake()
    machine.change(loaded=False)
    assert Keep(False) in machine.wake()
    machine.end(Work.AFTERMATH, code, errors="killed\n")
    assert len([tell for tell in of(Tell, machine.actions) if tell.event == "aftermath-failed"]) == code
    assert machine.step(Stopped())[-1] == Forget(kept=True)
