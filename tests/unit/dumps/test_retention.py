"""What goes and why: the pure function."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kdumpd.dumps.retention import Held, Removal, Target, decide
from kdumpd.policy.model import Retention
from kdumpd.policy.units import shown_size

GIB = 1 << 30
KEEP_ALL = Retention(keep=None, max_size=None, min_free=0)


def held(order: int, size: int = GIB, *, verified: bool = True, told: bool = True) -> Held:
    return Held(f"/t/{order}", order, size, verified, told)


def target(*dumps: Held, free: int = 100 * GIB, path: str = "/t", device: int = 1) -> Target:
    return Target(path, device, free, dumps)


def gone(*targets: Target, keep: int | None = None, max_size: int | None = None, min_free: int = 0) -> list[str]:
    return [removal.path for removal in decide(targets, Retention(keep, max_size, min_free)).removals]


def test_nothing_goes_where_there_is_no_limit() -> None:
    assert gone(target(*(held(number) for number in range(100)), free=0)) == []


def test_the_oldest_go_until_so_many_are_left() -> None:
    decision = decide((target(*(held(number) for number in range(4))),), Retention(2, None, 0))
    assert decision.removals == (
        Removal("/t/0", GIB, "retention.keep: 2: 3 newer ones are there"),
        Removal("/t/1", GIB, "retention.keep: 2: 2 newer ones are there"),
    )


def test_the_newest_complete_dump_stays_though_failed_ones_came_after_it() -> None:
    dumps = [held(0), held(1), *(held(number, verified=False) for number in range(2, 6))]
    assert gone(target(*dumps), keep=1) == ["/t/0", "/t/2", "/t/3", "/t/4"]


def test_a_dump_that_was_not_looked_at_yet_never_goes() -> None:
    dumps = [held(number, told=False, verified=False) for number in range(5)]
    decision = decide((target(*dumps, free=0),), Retention(1, 1, 5 * GIB))
    assert decision.removals == ()
    assert decision.remarks[0] == "/t: dumps that kdumpd.service has not read yet stay: 5; it reads them at its start"


def test_the_dump_just_saved_stays_though_it_is_larger_than_all_limits() -> None:
    decision = decide((target(held(0), held(1, 50 * GIB), free=0),), Retention(1, GIB, 2 * GIB))
    assert [removal.path for removal in decision.removals] == ["/t/0"]
    assert len(decision.remarks) == 2
    assert "the dumps that have to stay take 50.0 GiB" in decision.remarks[0]


def test_the_oldest_go_until_the_others_fit() -> None:
    dumps = [held(number, 3 * GIB) for number in range(4)]
    decision = decide((target(*dumps),), Retention(None, 7 * GIB, 0))
    assert [removal.reason for removal in decision.removals] == [
        "retention.max_size: 7.0 GiB: the dumps here take 12.0 GiB",
        "retention.max_size: 7.0 GiB: the dumps here take 9.0 GiB",
    ]


def test_as_many_go_as_leave_room_for_another_like_the_newest() -> None:
    dumps = [held(number) for number in range(4)]
    decision = decide((target(*dumps, free=2 * GIB),), Retention(None, None, 2 * GIB))
    reason = "retention.min_free: 2.0 GiB: another dump like the newest (1.0 GiB) would leave 1.0 GiB"
    assert decision.removals == (Removal("/t/0", GIB, reason),)
    assert gone(target(*dumps, free=GIB), min_free=2 * GIB) == ["/t/0", "/t/1"]
    assert gone(target(*dumps, free=3 * GIB), min_free=2 * GIB) == []


def test_where_no_whole_dump_is_there_min_free_alone_is_made_up_for() -> None:
    dumps = [held(number, verified=False) for number in range(4)]
    assert gone(target(*dumps, free=GIB), min_free=2 * GIB) == ["/t/0"]
    assert gone(target(*dumps, free=2 * GIB), min_free=2 * GIB) == []


def test_what_goes_for_another_reason_counts_as_free() -> None:
    assert gone(target(*(held(number) for number in range(3)), free=2 * GIB), keep=2, min_free=2 * GIB) == ["/t/0"]


def test_nothing_goes_in_vain() -> None:
    decision = decide((target(held(0), held(1), held(2), free=0),), Retention(None, None, 9 * GIB))
    assert decision.removals == ()
    assert "none goes for that; make room there" in decision.remarks[0]


def test_targets_of_one_file_system_make_room_together_the_oldest_first() -> None:
    one = target(held(1), held(3), free=0, path="/a")
    other = target(held(0), held(2), free=0, path="/b")
    assert gone(one, other, min_free=1) == ["/t/0", "/t/1"]
    apart = (one._replace(free=GIB), other._replace(device=2))
    assert gone(*apart, min_free=GIB) == ["/t/1"]


def test_sizes_are_told_as_people_read_them() -> None:
    assert [shown_size(size) for size in (0, 1023, 1024, 3 << 29, 1 << 50)] == [
        "0 bytes",
        "1023 bytes",
        "1.0 KiB",
        "1.5 GiB",
        "1024.0 TiB",
    ]


dumps = st.lists(st.tuples(st.integers(0, 40), st.booleans(), st.booleans()), max_size=12)


@given(dumps, st.integers(1, 5), st.integers(1, 100), st.integers(0, 100), st.integers(0, 100))
def test_whatever_the_policy_the_newest_complete_and_the_unread_stay(
    found: list[tuple[int, bool, bool]], keep: int, max_size: int, min_free: int, free: int
) -> None:
    all_held = [
        held(number, size, verified=verified and told, told=told) for number, (size, verified, told) in enumerate(found)
    ]
    removed = set(gone(target(*all_held, free=free), keep=keep, max_size=max_size, min_free=min_free))
    verified = [dump.path for dump in all_held if dump.verified]
    assert not removed & {dump.path for dump in all_held if not dump.told}
    assert not verified or verified[-1] not in removed
    left = [dump for dump in all_held if dump.path not in removed]
    may_go = [dump for dump in left if dump.told and dump.path not in verified[-1:]]
    assert not may_go or sum(dump.size for dump in left) <= max_size
    assert not may_go or [dump.path for dump in all_held].index(may_go[0].path) >= len(all_held) - keep
