"""Whatever bytes stand in a policy, the answer is a policy or a list of lines, never a crash or a hang."""

from __future__ import annotations

import json
import re
import string

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdumpd.errors import PolicyError
from kdumpd.policy import schema
from kdumpd.policy.check import check
from kdumpd.policy.compiled import from_json, to_json
from kdumpd.policy.document import parse as parse_document
from kdumpd.policy.load import default, parse
from kdumpd.policy.memmap import resolve
from kdumpd.policy.model import HintKind, MemmapHint, Policy
from kdumpd.policy.ranges import without

LINE = re.compile(r"policy:[1-9][0-9]*:[1-9][0-9]*: [ -~]+: [ -~]+; [ -~]+")

fuzz = settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow], database=None
)

KEYS = sorted({str(path[-1]) for path in schema.paths() if path[-1] != 0})
WORDS = ["yes", "017", "0o17", "1:30", "1_0", "~", "2001-01-01", "1.5", ".nan", "=", "<<", "auto", "64K", "15min", "/a"]
SYNTAX = [
    "\n",
    "  ",
    "\t",
    ": ",
    "- ",
    "[",
    "]",
    "{",
    "}",
    "'",
    '"',
    "&a ",
    "*a",
    "!!str ",
    "---",
    "|",
    ">",
    "# ",
    "?",
    "%",
]

words = st.sampled_from(KEYS + WORDS) | st.text(string.printable, max_size=5)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-10, 1 << 60)
    | st.floats()
    | st.sampled_from(KEYS + WORDS)
    | st.text(max_size=8)
)
values = st.recursive(
    scalars,
    lambda below: st.lists(below, max_size=4) | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=4), below),
    max_leaves=25,
)


def answer(data: bytes) -> Policy | None:
    """The policy, or None after every line of the refusal has been looked at."""
    try:
        return parse(data)
    except PolicyError as error:
        assert error.problems
        assert all(LINE.fullmatch(problem) for problem in error.problems), error.problems
        places = [tuple(map(int, problem.split(":")[1:3])) for problem in error.problems]
        assert places == sorted(places)
        return None


def sized(minimum: int, maximum: int) -> st.SearchStrategy[str]:
    units = {"K": 10, "M": 20, "G": 30, "T": 40}
    return st.builds(
        lambda unit, number: f"{max(minimum, number % max(1, maximum >> units[unit]))}{unit}",
        st.sampled_from("KMG"),
        st.integers(0, 1 << 40),
    )


paths = st.text(string.ascii_letters + "-_ .", min_size=1, max_size=9).map(lambda name: "/srv/x" + name)
plain_words = st.text(string.ascii_letters + string.digits + "-_=,.", min_size=3, max_size=12).map("x".__add__)
hints = st.fixed_dictionaries({"kind": st.sampled_from(["ram", "acpi", "reserved"]), "range": plain_words})
policies = st.fixed_dictionaries(
    {},
    optional={
        "version": st.just(1),
        "dump": st.fixed_dictionaries(
            {},
            optional={
                "level": st.integers(0, 31) | st.lists(st.sampled_from(["zero", "cache", "user", "free"]), unique=True),
                "compression": st.sampled_from(["zstd", "zstd:22", "zlib", "zlib:9", "none"]),
                "dmesg": st.booleans(),
                "jobs": st.just("auto") | st.integers(1, 256),
            },
        ),
        "targets": st.lists(st.fixed_dictionaries({"path": paths}), min_size=1, max_size=1),
        "on_failure": st.sampled_from([["halt"], ["next-target", "reboot"], ["dmesg-only", "poweroff"]]),
        "on_success": st.sampled_from(["reboot", "halt", "poweroff"]),
        "time_budget": st.integers(1, 9999).map("{}s".format) | st.integers(1, 168).map("{}h".format),
        "capture_kernel": st.fixed_dictionaries(
            {},
            optional={
                "boot": st.sampled_from(["auto", "direct", "dracut"]),
                "cpus": st.just("auto") | st.integers(1, 1024),
                "append": st.lists(plain_words, unique=True, max_size=4),
                "remove": st.lists(plain_words, unique=True, max_size=4),
            },
        ),
        "early": st.sampled_from(["auto", "service", "initramfs"]),
        "memmap": st.lists(hints, max_size=3),
        "retention": st.fixed_dictionaries(
            {},
            optional={
                "keep": st.just("all") | st.integers(1, 1000),
                "max_size": st.just("unlimited") | sized(1, 1 << 50),
                "min_free": st.just(0) | sized(0, 1 << 50),
            },
        ),
    },
)


@fuzz
@given(st.binary(max_size=400))
def test_any_bytes_are_answered(data: bytes) -> None:
    answer(data)


@fuzz
@given(st.lists(st.sampled_from(SYNTAX) | words, max_size=40).map("".join))
def test_any_mixture_of_yaml_s_syntax_and_our_words_is_answered(text: str) -> None:
    answer(text.encode(errors="replace"))


@fuzz
@given(st.lists(st.sampled_from(SYNTAX) | words, max_size=40).map("".join))
def test_both_of_pyyaml_s_parsers_agree_on_what_is_valid_for_both(text: str) -> None:
    data = text.encode(errors="replace")
    fast, slow = parse_document(data), parse_document(data, yaml.SafeLoader)
    if fast.complete and slow.complete:
        assert repr(fast.root and fast.root.plain()) == repr(slow.root and slow.root.plain())


@fuzz
@given(values)
def test_any_value_in_the_place_of_a_policy_is_answered(value: object) -> None:
    answer(yaml.safe_dump(value, allow_unicode=True).encode(errors="replace"))


@fuzz
@given(st.data())
def test_any_value_in_the_place_of_any_key_is_answered(data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(schema.paths()))
    value: object = data.draw(values)
    for step in reversed(path):
        value = [value] if step == 0 else {step: value}
    answer(yaml.safe_dump(value, allow_unicode=True).encode(errors="replace"))


@fuzz
@given(policies)
def test_every_valid_policy_is_accepted_and_comes_back_from_json(value: dict[str, object]) -> None:
    policy = answer(yaml.safe_dump(value).encode())
    assert policy is not None, check(yaml.safe_dump(value).encode()).problems
    assert from_json(to_json(policy)) == policy


@fuzz
@given(policies, st.data())
def test_a_valid_policy_cut_or_overwritten_anywhere_is_answered(value: dict[str, object], data: st.DataObject) -> None:
    text = bytearray(yaml.safe_dump(value).encode())
    at = data.draw(st.integers(0, len(text)))
    if data.draw(st.booleans()):
        del text[at:]
    else:
        text[at : at + 1] = data.draw(st.binary(min_size=1, max_size=2))
    answer(bytes(text))


@fuzz
@given(st.text(max_size=60) | values.map(lambda value: json.dumps(value, default=str)))
def test_any_text_as_a_compiled_policy_is_answered(text: str) -> None:
    try:
        from_json(text)
    except PolicyError as error:
        assert "\n" not in str(error)


@fuzz
@given(st.data())
def test_a_compiled_policy_with_one_value_changed_is_answered(data: st.DataObject) -> None:
    whole = json.loads(to_json(default()))
    place, key = whole, data.draw(st.sampled_from(sorted(whole)))
    while isinstance(place[key], dict) and data.draw(st.booleans()):
        place, key = place[key], data.draw(st.sampled_from(sorted(place[key])))
    place[key] = data.draw(values)
    try:
        policy = from_json(json.dumps(whole))
    except PolicyError:
        return
    assert from_json(to_json(policy)) == policy


numbers = st.integers(0, 1 << 40) | st.integers(0x2F000000, 0x37000000)


@fuzz
@given(
    st.lists(
        st.builds(MemmapHint, st.sampled_from(HintKind), st.none(), numbers, st.integers(1, 1 << 28))
        | st.builds(MemmapHint, st.sampled_from(HintKind), st.text(max_size=9), st.none(), st.none())
        | st.just(MemmapHint(HintKind.MAP, "system-ram", None, None)),
        max_size=5,
    ),
    st.text(max_size=60) | st.just("00100000-7ffddfff : System RAM\n  2f000000-36ffffff : Crash kernel\n"),
)
def test_resolved_hints_never_touch_the_wrong_side_of_the_reservation(hints: list[MemmapHint], iomem: str) -> None:
    low, high = 0x2F000000, 0x37000000
    try:
        resolved = resolve(tuple(hints), iomem, ((low, high),), "x86_64")
    except PolicyError as error:
        assert all(re.match(r"memmap\[\d+\]: .*; ", problem) for problem in error.problems)
        return
    assert all(end <= low or high <= start for start, end in resolved.hands_off)
    assert all(start % 4096 == end % 4096 == 0 for start, end in resolved.hands_off)
    assert all(1 << 20 <= start < end and (end <= low or high <= start) for start, end in resolved.mapped)
    assert without(resolved.mapped, resolved.hands_off) == resolved.mapped
    for argument in resolved.arguments[: len(resolved.arguments) - bool(resolved.mapped)]:
        match = re.fullmatch(r"memmap=[0-9]+[KMGT]?([@#$])0x([0-9a-f]+)", argument)
        assert match
        assert (low < int(match[2], 16) < high) == (match[1] == "@")
