"""A target that several machines share: each tells of its own crashes, and takes away its own dumps alone."""

from __future__ import annotations

import pytest

from kdumpd.dumps.folder import shelf
from kdumpd.dumps.owner import owns, this_host
from kdumpd.policy.model import Retention
from tests.unit.dumps.targets import Rig

KEEP_ONE = Retention(keep=1, max_size=None, min_free=0)


def test_keep_counts_this_host_s_dumps_and_takes_no_other_away(rig: Rig) -> None:
    others = [rig.of(host, number) for number, host in enumerate(("web", "web1-1", "web1-20261124", "db"), 1)]
    first, second = rig.dump(11), rig.dump(12)
    newer = rig.of("db", 13)
    events = rig.run(KEEP_ONE)
    assert [event.event for event in events] == ["crash-found", "crash-found", "pruned"]
    assert rig.names() == sorted(path.name for path in (*others, second, newer))
    assert not first.exists()


def test_a_host_s_only_dump_stays_though_another_host_has_newer_ones(rig: Rig) -> None:
    own = rig.dump(1)
    rig.of("db", 2), rig.of("db", 3)
    rig.run(Retention(keep=1, max_size=1, min_free=0))
    assert own.exists()
    assert len(rig.names()) == 3


def test_room_is_made_of_this_host_s_dumps_alone(rig: Rig) -> None:
    rig.of("db", 1)
    rig.dump(2)
    rig.dump(3)
    rig.run(Retention(keep=None, max_size=1, min_free=0))
    assert sorted(name.partition("-")[0] for name in rig.names()) == ["db", "web1"]


def test_another_host_s_crash_is_not_told_as_this_one_s(rig: Rig) -> None:
    rig.of("web1-1", 1)
    rig.running()
    (event,) = rig.run()
    assert event.event == "crash-without-dump"
    assert event.reason.startswith("the boot before")


def test_a_crash_under_the_name_that_the_machine_had_then_is_its_own(rig: Rig) -> None:
    dump = rig.dump(1)
    rig.named("localhost")
    rig.running(host="web1")
    (event,) = rig.run(KEEP_ONE)
    assert event.crash is not None
    assert event.crash.path == str(dump)


@pytest.mark.parametrize("name", ["web1-20261124-100001", "web1-20261124-100001-2"])
def test_the_name_of_a_directory_without_a_record_tells_the_host_whole(rig: Rig, name: str) -> None:
    (rig.targets[0] / name).mkdir(mode=0o700)
    found = shelf(str(rig.targets[0]))
    assert found is not None
    (folder,) = found.folders
    assert owns(("web1",), folder)
    assert not any(owns((host,), folder) for host in ("web", "web1-20261124", "web1-2", ""))


def test_a_host_with_characters_that_no_name_has_is_found(rig: Rig) -> None:
    (rig.targets[0] / "web_1-20261124-100001").mkdir(mode=0o700)
    found = shelf(str(rig.targets[0]))
    assert found is not None
    assert owns(("web/1",), found.folders[0])


def test_this_host_is_what_the_kernel_calls_it(rig: Rig) -> None:
    assert this_host(str(rig.proc)) == "web1"
    assert this_host(str(rig.proc / "none")) == ""
