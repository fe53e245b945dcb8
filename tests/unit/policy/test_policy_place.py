"""Where a value stands in a policy file."""

from __future__ import annotations

from kdumpd.policy.place import lines


def test_scalars_and_lists_have_the_line_of_their_key() -> None:
    data = (
        b"version: 1\ndump:\n  level: 17\n  compression: zstd:3\ntargets:\n  - {path: /a}\nretention: {min_free: 2G}\n"
    )
    assert lines(data) == {
        "version": 1,
        "dump.level": 3,
        "dump.compression": 4,
        "targets": 5,
        "retention.min_free": 7,
    }


def test_an_empty_file_and_one_that_is_no_mapping_have_none() -> None:
    assert lines(b"") == lines(b"[1, 2]") == lines(b"{") == {}
