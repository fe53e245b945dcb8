"""What `kdumpd check` says about policies that are wrong: every error, at its place, with what would be right."""

from __future__ import annotations

import re
import time

import pytest
import yaml

from kdumpd.policy.check import check
from kdumpd.policy.document import parse
from kdumpd.policy.load import parse as parse_policy
from kdumpd.policy.text import LARGEST_FILE

LINE = re.compile(r"[^:]+:[1-9][0-9]*:[1-9][0-9]*: \S+: [^\n]+; [^\n]+")


def problems(text: str | bytes) -> list[str]:
    """The problems of a policy as they are printed, without the file's name."""
    data = text.encode() if isinstance(text, str) else text
    return [problem.render("f").removeprefix("f:") for problem in check(data).problems]


def only(text: str | bytes) -> str:
    """The one problem of a policy."""
    found = problems(text)
    assert len(found) == 1, found
    return found[0]


@pytest.mark.parametrize("text", ["", "\n", "# nothing but a comment\n", "---\n", "---\n...\n", "{}", "null", "\ufeff"])
def test_a_file_that_says_nothing_is_valid(text: str) -> None:
    assert problems(text) == []


def test_every_error_of_a_file_is_reported_in_one_run_and_in_its_order() -> None:
    text = """\
version: 2
dmup: {level: 31}
dump:
  levle: 3
  compression: zstd:99
  jobs: 0
targets:
  - path: var/crash
  - {path: /a, ssh: b}
on_success: restart
"""
    assert problems(text) == [
        "1:10: version: the number 2 is not allowed here; write the number 1",
        "2:1: dmup: unknown key; did you mean dump?",
        "4:3: dump.levle: unknown key; did you mean level?",
        '5:16: dump.compression: the text "zstd:99" is not allowed here; write zstd, zlib or none, with a level where '
        "one is wanted: zstd:1 to zstd:22, zlib:1 to zlib:9",
        "6:9: dump.jobs: the number 0 is not allowed here; write auto, or a whole number from 1 to 256",
        '8:11: targets[0].path: the text "var/crash" is not allowed here; write the absolute path of a directory, '
        "such as /var/crash",
        "9:16: targets[1].ssh: unknown key; known here: path",
        '10:13: on_success: the text "restart" is not allowed here; write one of reboot, poweroff, halt',
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("dump: {level: 32}", "1:15: dump.level: the number 32 is not allowed here; write a whole number from 0 to 31"),
        ("dump: {level: -1}", "1:15: dump.level: the number -1 is not allowed"),
        ('dump: {level: "31"}', '1:15: dump.level: the text "31" is not allowed here; write 31'),
        ("dump: {level: [zero, chache]}", '1:22: dump.level[1]: the text "chache" is not allowed here; write cache'),
        ("dump: {level: [free, free]}", '1:22: dump.level[1]: the text "free" stands here twice; remove one'),
        ("dump: {dmesg: 1}", "1:15: dump.dmesg: the number 1 is not allowed here; write true or false"),
        ("dump: {compression: ztsd}", '1:21: dump.compression: the text "ztsd" is not allowed here; write zstd'),
        ("dump: {jobs: 257}", "1:14: dump.jobs: the number 257 is not allowed"),
        ("dump: {jobs: atuo}", '1:14: dump.jobs: the text "atuo" is not allowed here; write auto'),
        ("dump: 31", "1:7: dump: the number 31 is not allowed here; write a mapping with the keys"),
        ("dump:", "1:6: dump: nothing is not allowed here; write a mapping"),
        ("level: 31", "1:1: level: unknown key; did you mean dump.level?"),
        ("min-free: 2G", "1:1: min-free: unknown key; did you mean retention.min_free?"),
        ("capture-kernel: {}", "1:1: capture-kernel: unknown key; did you mean capture_kernel?"),
        ("qqq: 1", "1:1: qqq: unknown key; known here: version, dump, scan, mapping, targets"),
        ("? ''\n: 1", '1:3: "": unknown key; known here'),
        ("targets: []", "1:10: targets: an empty list is not allowed here; write a list of targets"),
        ("targets: [/var/crash]", '1:11: targets[0]: the text "/var/crash" is not allowed here; write a mapping with'),
        ("targets: [{}]", "1:11: targets[0]: the key path is missing; write path: the absolute path of a directory"),
        ("targets: [{path: /a/../b}]", '1:18: targets[0].path: "/a/../b" goes upwards; write the path without ..'),
        ("targets: [{path: /proc/x}]", "1:18: targets[0].path: /proc is not on a disk; write a directory"),
        ("targets: [{path: /a}, {path: /a/}]", '1:30: targets[1].path: "/a" is a target already (number 0); name ano'),
        ("on_failure: reboot", '1:13: on_failure: the text "reboot" is not allowed here; write a list of next-target'),
        ("on_failure: [next-target]", "1:14: on_failure[0]: the list ends in next-target, which ends nothing; end the"),
        ("on_failure: [reboot, halt]", "1:14: on_failure[0]: nothing runs after reboot; make reboot the last action"),
        ("on_failure: [dmesg-only, dmesg-only, halt]", "1:26: on_failure[1]: dmesg-only stands here twice; remove one"),
        ("on_failure: [dmesg-only, next-target, halt]", "1:26: on_failure[1]: next-target comes after dmesg-only"),
        ("on_failure: [shell, halt]", '1:14: on_failure[0]: the text "shell" is not allowed here; write one of next-'),
        ("on_success: next-target", '1:13: on_success: the text "next-target" is not allowed here; write one of'),
        ("time_budget: 900", "1:14: time_budget: the number 900 is not allowed here; write a time with its unit"),
        ("time_budget: 15 minutes", '1:14: time_budget: the text "15 minutes" is not allowed here; write 15min'),
        ("time_budget: 0s", '1:14: time_budget: the text "0s" is out of bounds; write a time from 1s to 168h'),
        ("time_budget: 999999999999h", '1:14: time_budget: the text "999999999999h" is out of bounds'),
        ('time_budget: "15min\\n"', "1:14: time_budget: the text holds a line break; write it on one line"),
        (
            "retention: {keep: 0}",
            "1:19: retention.keep: the number 0 is not allowed here; write all, or a whole number",
        ),
        ("retention: {keep: none}", '1:19: retention.keep: the text "none" is not allowed here; write all, or'),
        ("retention: {max_size: 20GiB}", '1:23: retention.max_size: the text "20GiB" is not allowed here; write 20G'),
        (
            "retention: {max_size: 0G}",
            '1:23: retention.max_size: the text "0G" is out of bounds; write a size from 1 to',
        ),
        (
            "retention: {max_size: unlimitd}",
            '1:23: retention.max_size: the text "unlimitd" is not allowed here; write unli',
        ),
        (
            "retention: {min_free: unlimited}",
            '1:23: retention.min_free: the text "unlimited" is not allowed here; write',
        ),
        ("retention: {min_free: 2}", "1:23: retention.min_free: the number 2 is not allowed here; write 0, or a size"),
        ("retention: {min_free: 2GiB}", '1:23: retention.min_free: the text "2GiB" is not allowed here; write 2G'),
        ("retention: {min_free: 99999999999T}", '1:23: retention.min_free: the text "99999999999T" is out of bounds'),
        ("capture_kernel: {boot: drcut}", '1:24: capture_kernel.boot: the text "drcut" is not allowed here; write dra'),
        ("capture_kernel: {cpus: 0}", "1:24: capture_kernel.cpus: the number 0 is not allowed here; write auto, or a"),
        ("capture_kernel: {append: quiet}", "1:26: capture_kernel.append: the text"),
        ("capture_kernel: {append: [a b]}", '1:27: capture_kernel.append[0]: "a b" holds " "; write each parameter as'),
        ("capture_kernel: {append: [é]}", '1:27: capture_kernel.append[0]: "\\u00e9" holds "\\u00e9"; write printabl'),
        ("capture_kernel: {remove: ['a\"b']}", '1:27: capture_kernel.remove[0]: "a\\"b" holds'),
        ("capture_kernel: {append: ['']}", '1:27: capture_kernel.append[0]: the text "" is not allowed here; write o'),
        ("capture_kernel: {append: [a, a]}", '1:30: capture_kernel.append[1]: "a" stands here twice; remove one'),
        (
            "capture_kernel: {append: [12]}",
            '1:27: capture_kernel.append[0]: the number 12 is not allowed here; write "',
        ),
        (
            "capture_kernel: {append: [memmap=1G$2G]}",
            '1:27: capture_kernel.append[0]: "memmap=1G$2G" is not for this l',
        ),
        (
            "capture_kernel: {append: [nr_cpus=4]}",
            '1:27: capture_kernel.append[0]: "nr_cpus=4" is not for this list; u',
        ),
        (
            "capture_kernel: {append: [kdumpd_scan.map=1G-2G]}",
            '1:27: capture_kernel.append[0]: "kdumpd_scan.map=1G-2G" is not for this list; use memmap hints of kind ma',
        ),
        ("capture_kernel: {append: [--]}", '1:27: capture_kernel.append[0]: "--" ends the parameters'),
        ("scan: {engine: module}", '1:16: scan.engine: the text "module" is not allowed here; write one of auto, ker'),
        ("scan: {strategy: page}", "1:8: scan.strategy: unknown key; did you mean mapping.strategy?"),
        ("mapping: {strategy: lineal}", '1:21: mapping.strategy: the text "lineal" is not allowed here; write linear'),
        ("mapping: {page_size: 1g}", '1:22: mapping.page_size: the text "1g" is not allowed here; write 1G'),
        ("mapping: {page_size: 4096}", "1:22: mapping.page_size: the number 4096 is not allowed here; write one of"),
        (
            "memmap: [{kind: map, range: x}]\nscan: {engine: user}",
            "1:17: memmap[0].kind: map has no effect beside scan.engine: user, which leaves kdumpd_scan out; remove "
            "the hint, or write scan.engine: auto",
        ),
        (
            "memmap: [{kind: map, start: 0, size: 1M}, {kind: reserved, start: 64K, size: 4K}]",
            "1:43: memmap[1]: overlaps memmap[0], which is map; keep the ranges of different kinds apart",
        ),
        ("memmap: [{kind: mapp, range: x}]", '1:17: memmap[0].kind: the text "mapp" is not allowed here; write map'),
        ("memmap: [{kind: ram}]", "1:10: memmap[0]: the hint does not say which memory; add range, or start and size"),
        ("memmap: [{kind: ram, start: 1M}]", "1:10: memmap[0]: the hint does not say which memory; add size"),
        (
            "memmap: [{range: x}]",
            "1:10: memmap[0]: the key kind is missing; write kind: one of ram, acpi, reserved, map",
        ),
        (
            "memmap: [{kind: ram, range: x, size: 1M}]",
            "1:32: memmap[0].size: size stands beside range; write range, or",
        ),
        ("memmap: [{kind: ram, start: 0, size: 0}]", "1:38: memmap[0].size: the number 0 is not allowed here; write a"),
        ("memmap: [{kind: ram, start: 0, size: 0K}]", '1:38: memmap[0].size: the text "0K" is out of bounds; write a'),
        (
            "memmap: [{kind: ram, start: 0, size: 64k}]",
            '1:38: memmap[0].size: the text "64k" is not allowed here; write',
        ),
        (
            "memmap: [{kind: ram, start: 4095T, size: 4095T}]",
            "1:10: memmap[0]: the range ends above 2^52; write a smalle",
        ),
        ("memmap: [{kind: ram, start: 99999T, size: 1K}]", '1:29: memmap[0].start: the text "99999T" is out of bounds'),
        (
            "memmap:\n- {kind: acpi, start: 0, size: 8K}\n- {kind: reserved, start: 4K, size: 4K}",
            "3:3: memmap[1]: overlaps memmap[0], which is acpi; keep the ranges of different kinds apart",
        ),
        ("- 1", "1:1: policy: a list is not allowed here; write a mapping of keys"),
        ("text", '1:1: policy: the text "text" is not allowed here; write a mapping of keys'),
    ],
)
def test_one_error_is_named_with_its_place_and_what_would_be_right(text: str, said: str) -> None:
    assert only(text).startswith(said)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("dump: {level: yes}", "dump.level: YAML reads yes as the truth value true; write a whole number from 0 to 31"),
        ("dump: {level: 0o17}", "dump.level: YAML reads 0o17 as text (base 8 is YAML 1.2); write 15"),
        ("dump: {level: 017}", "dump.level: YAML reads 017 as the number 15 (base 8); write 15 or 17"),
        ("dump: {level: 0b101}", "dump.level: YAML reads 0b101 as the number 5 (base 2); write 5"),
        ("dump: {level: 3_1}", "dump.level: YAML reads 3_1 as the number 31; write 31"),
        ("dump: {level: 31.0}", "dump.level: YAML reads 31.0 as a decimal fraction; write 31"),
        ("dump: {level: 3e1}", "dump.level: YAML reads 3e1 as text; write 30"),
        ("dump: {level: .inf}", "dump.level: YAML reads .inf as a decimal fraction; write a whole number"),
        ("dump: {dmesg: yes}", "dump.dmesg: YAML reads yes as the truth value true; write true"),
        ("dump: {dmesg: Off}", "dump.dmesg: YAML reads Off as the truth value false; write false"),
        ("dump: {dmesg: n}", "dump.dmesg: YAML reads n as text; write false"),
        ("time_budget: 1:30", "time_budget: YAML reads 1:30 as the number 90 (base 60); write a time with its unit"),
        ("time_budget: 1:30.5", "time_budget: YAML reads 1:30.5 as a decimal fraction; write a time with its unit"),
        ("time_budget: 2001-01-01", "time_budget: YAML reads 2001-01-01 as a date; write a time with its unit"),
        (
            "capture_kernel: {append: [on]}",
            'capture_kernel.append[0]: YAML reads on as the truth value true; write "on',
        ),
        ("memmap: [{kind: ram, range: NO}]", 'memmap[0].range: YAML reads NO as the truth value false; write "NO"'),
        ("memmap: [{kind: ram, start: 0x1_0, size: 4K}]", "memmap[0].start: YAML reads 0x1_0 as the number 16; write"),
        ("dump: {jobs: 0777777777777777777777777777777777777777777}", "dump.jobs: YAML reads "),
        ("dump: {jobs: " + "9" * 5000 + "}", "dump.jobs: YAML reads "),
    ],
)
def test_a_word_that_yaml_reads_unexpectedly_is_refused_with_what_to_write(text: str, said: str) -> None:
    assert only(text).split(": ", 1)[1].startswith(said)


@pytest.mark.parametrize("text", ["dump: {dmesg: True}", "dump: {level: 0x1F}", "dump: {level: +5}"])
def test_a_word_that_all_yaml_reads_alike_is_allowed(text: str) -> None:
    assert problems(text) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("dump: {}\ndump: {}\n", "2:1: dump: given twice (first on line 1); keep one of the two"),
        ("dump:\n\tlevel: 31\n", "2:1: policy: a tab in the indentation; indent with spaces"),
        ("dump: !!python/object/apply:os.system [ls]", '1:7: dump: the tag "!!python/object/apply:os.system" is not a'),
        ("dump: {level: !!str 31}", '1:15: dump.level: the tag "!!str" is not allowed; remove the tag'),
        ("dump: {level: ! 31}", '1:15: dump.level: the tag "!" is not allowed; remove the tag'),
        ("!x dump: {}", '1:1: policy: the tag "!x" on a key; remove the tag'),
        ("<<: {level: 1}", "1:1: policy: merge keys (<<) are not read; write the keys out"),
        ("? [a]\n: 1", "1:3: policy: a list or mapping as a key; a key is one word"),
        ("a: &a 1\n*a : 2", ""),
        ("version: 1\n---\nversion: 1\n", "2:1: policy: a second document starts here; a policy is one document"),
        ("version: 1\x00", "1:11: policy: the character U+0000 is not text; a policy is a text file"),
        ("version: 1\n# \x07", "2:3: policy: the character U+0007 is not text"),
        (b"version: 1\n# caf\xe9\n", "2:6: policy: the byte 0xe9 is not UTF-8; save the file as UTF-8"),
        ("version: 1".encode("utf-16"), "1:1: policy: the file is UTF-16; save it as UTF-8"),
        ('targets: [{path: "/a\\0b"}]', "1:18: targets[0].path: the text holds the control character U+0000; write it"),
        ("dump:\n  level: 31\n   dmesg: true\n", "2:10: dump.level: the text runs over several lines; write it on one"),
        ('on_success: "re\n  boot"', "1:13: on_success: the text runs over several lines; write it on one line, and"),
        ("on_success: |\n  reboot\n", "1:13: on_success: the text holds a line break; write it on one line"),
        ("dump: *nothing", '1:7: dump: the alias "nothing" names no anchor; write the value out'),
        ("dump: &a {level: *a}", '1:18: dump.level: the alias "a" holds itself; write the value out'),
        ("[" * 60, "1:51: policy: nested deeper than 50 levels; a policy needs 4: write it flat"),
        ("dump: {level: 31", ": dump: not YAML: "),
        ("dump: {level: 'x", "not YAML: "),
        ("dump: level: 31", "1:12: policy: not YAML: mapping values are not allowed in this context; check the quotes"),
        ("%YAML 3.0\n---\n", "not YAML: "),
        ("version: @1", "not YAML: "),
        (b"\xff\xfe\xfa", "1:1: policy: the file is UTF-16"),
    ],
)
def test_what_is_wrong_as_yaml_is_named_with_its_place(text: str | bytes, said: str) -> None:
    found = problems(text)
    assert any(said in problem for problem in found), found
    assert all(LINE.fullmatch(f"f:{problem}") for problem in found)


@pytest.mark.parametrize("actions", ["halt", "next-target, poweroff", "dmesg-only, reboot"])
def test_a_list_of_actions_that_comes_to_an_end_is_valid(actions: str) -> None:
    assert problems(f"on_failure: [{actions}]") == []


def test_errors_before_a_syntax_error_are_reported_with_it() -> None:
    found = problems("dmup: 1\ntargets:\n  - pth: /a\ndump: {level: 32}\non_success: @\n")
    assert [problem.split(": ")[1] for problem in found] == ["dmup", "targets[0].pth", "dump.level", "on_success"]


def test_a_syntax_error_far_from_a_tab_is_reported_with_it() -> None:
    found = problems("# 1\n \ta: 1\n")
    assert [problem.split(":")[0] for problem in found] == ["2"]
    found = problems("targets: [\n\t{path: /a}]\n\n\n\ndump: @\n")
    assert [problem.split(":")[0] for problem in found] == ["2", "6"]


def test_both_values_of_a_key_given_twice_are_checked() -> None:
    found = problems("dump: {level: 32}\ndump: {level: 33}\n")
    assert [problem.split(":")[0] for problem in found] == ["1", "2", "2"]


def test_an_alias_is_the_value_it_names() -> None:
    text = b"targets: [&one {path: /a}, {path: /b}]\ncapture_kernel: {append: &words [x], remove: *words}\n"
    assert parse_policy(text).capture_kernel.remove == ("x",)


def alias_bomb(width: int, depth: int) -> str:
    text = "a0: &a0 [x]\n"
    for level in range(1, depth):
        text += f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * width)}]\n"
    return text


HOSTILE = {
    "alias bomb": alias_bomb(9, 30),
    "deep alias chain": alias_bomb(1, 200),
    "256 KiB of unknown keys": "".join(f"key{number}: 1\n" for number in range(20_000))[: LARGEST_FILE - 10],
    "256 KiB of targets": "targets:\n" + "- 1\n" * 60_000,
    "many wrong targets": "targets:\n" + "- {pth: 1, path: 2}\n" * 390,
    "many overlapping hints": "memmap:\n" + "- {kind: ram, start: 0, size: 9K}\n" * 280,
    "many words": "capture_kernel:\n  append:\n" + "  - memmap\n" * 1_990,
    "many repeated kinds": "dump:\n  level:\n" + "  - zero\n" * 1_990,
    "many repeated keys": "dump: {level: 99}\n" * 490,
    "many unknown keys": "".join(f"key{number}: 1\n" for number in range(990)),
    "256 KiB of brackets": "[" * LARGEST_FILE,
    "256 KiB of braces": "{" * LARGEST_FILE,
    "256 KiB of dashes": "- " * (LARGEST_FILE // 2),
    "256 KiB of question marks": "? " * (LARGEST_FILE // 2),
    "256 KiB of anchors": "&a " * (LARGEST_FILE // 3),
    "256 KiB of one word": "a" * LARGEST_FILE,
    "256 KiB of quotes": '"' + "\\n" * (LARGEST_FILE // 2 - 1) + '"',
    "256 KiB of tabs": "\t" * LARGEST_FILE,
    "256 KiB of spaces": " " * LARGEST_FILE,
    "256 KiB of lines": "\n" * LARGEST_FILE,
    "256 KiB of tab lines": "\ta\n" * (LARGEST_FILE // 3),
    "256 KiB of comments": "#\n" * (LARGEST_FILE // 2),
    "256 KiB of digits": "version: " + "9" * (LARGEST_FILE - 9),
    "256 KiB of base 60": "version: 1" + ":1" * (LARGEST_FILE // 2 - 5),
    "more than 256 KiB": "#" * (LARGEST_FILE + 1),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_answered_within_a_second(name: str) -> None:
    data = HOSTILE[name].encode()
    begun = time.process_time()
    found = check(data).problems
    assert time.process_time() - begun < 1
    assert all(LINE.fullmatch(problem.render("f")) for problem in found)
    assert found or name in {"256 KiB of spaces", "256 KiB of lines", "256 KiB of comments", "256 KiB of tabs"}


def test_a_thousand_problems_are_enough() -> None:
    found = problems("\ta\n" * 1500)
    assert len(found) == 1001
    assert found[-1] == "1001:1: policy: 500 more problems from here on; correct those above first"


def test_a_file_over_256_kib_and_one_nested_too_deep_are_refused_as_such() -> None:
    assert "larger than 256 KiB" in only("#" * (LARGEST_FILE + 1))
    assert problems("#" * LARGEST_FILE) == []
    assert "nested deeper than 50 levels" in problems("[" * 51 + "]" * 51)[-1]
    assert "nested deeper" not in "".join(problems("[" * 50 + "]" * 50))


@pytest.mark.parametrize(
    "text",
    ["dump: {level: yes, levle: 1}", "a: 'b\n", "- &a [1, *a]", "dump:\n  level: 017\n\n  é: 1\n", "x: !y z", "\ta: 1"],
)
def test_both_of_pyyaml_s_parsers_give_the_same_tree_and_places(text: str) -> None:
    fast, slow = parse(text.encode()), parse(text.encode(), yaml.SafeLoader)
    assert (fast.root and fast.root.plain()) == (slow.root and slow.root.plain())
    assert [problem[:3] for problem in fast.problems] == [problem[:3] for problem in slow.problems]
