"""Which results `make matrix` has again after which change."""

from __future__ import annotations

import pytest

from tests.depends import holds_for, imported

FILES = dict.fromkeys(
    (
        *("kdumpd/scan/user.py", "kdumpd/service/loop.py", "kdumpd/dumps/prune.py", "kmod/walk.c", "units/a.service"),
        *("tests/vm/test_terabyte.py", "tests/vm/test_healing.py", "tests/vm/watching.py"),
        *("tests/fault/test_retention.py", "tests/unit/scan/sinks.py", "tests/unit/scan/test_user.py"),
        "tests/lab/programs/hostile.py",
    ),
    "1",
)


def changed(test: str, path: str) -> bool:
    """Whether the results of a file of tests are had again when that file changes."""
    return holds_for(test, FILES) != holds_for(test, FILES | {path: "2"})


@pytest.mark.parametrize("path", ["kdumpd/scan/user.py", "kmod/walk.c", "tests/vm/watching.py"])
def test_all_depend_on_what_reaches_the_capture_kernel_and_on_what_tests_share(path: str) -> None:
    assert changed("tests/vm/test_terabyte.py", path)
    assert changed("tests/vm/test_healing.py", path)


@pytest.mark.parametrize("path", ["kdumpd/service/loop.py", "kdumpd/dumps/prune.py", "units/a.service"])
def test_what_serves_a_running_machine_counts_where_one_runs(path: str) -> None:
    assert changed("tests/vm/test_healing.py", path)
    assert not changed("tests/vm/test_terabyte.py", path)


def test_what_a_test_imports_counts() -> None:
    assert changed("tests/fault/test_retention.py", "kdumpd/dumps/prune.py")
    assert not changed("tests/fault/test_retention.py", "kdumpd/service/loop.py")


def test_of_programs_for_the_capture_kernel_and_of_unit_tests_those_count_that_are_used() -> None:
    assert changed("tests/vm/test_hostile_requests.py", "tests/lab/programs/hostile.py")
    assert changed("tests/vm/test_kernel_scan.py", "tests/unit/scan/sinks.py")
    assert not changed("tests/vm/test_kernel_scan.py", "tests/lab/programs/hostile.py")
    assert not changed("tests/vm/test_kernel_scan.py", "tests/unit/scan/test_user.py")


def test_another_file_of_tests_does_not_count() -> None:
    assert changed("tests/vm/test_healing.py", "tests/vm/test_healing.py")
    assert not changed("tests/vm/test_healing.py", "tests/vm/test_terabyte.py")


def test_no_file_of_tests_imports_another() -> None:
    closure = imported("tests/vm/test_stressed_guests.py")
    assert "tests/vm/same.py" in closure
    assert "kdumpd/scan/user.py" in closure
    assert "tests/vm/test_kernel_scan.py" not in closure
