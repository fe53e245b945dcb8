"""The compiled policy: canonical, read back as it was, changed by each key and by nothing else."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from kdumpd.errors import PolicyError
from kdumpd.policy import schema
from kdumpd.policy.compiled import from_json, to_json
from kdumpd.policy.load import default, parse

Path = tuple[str | int, ...]

# For each key a policy that changes that key alone, and the places of the compiled JSON that it changes.
CHANGES: dict[str, tuple[str, set[Path]]] = {
    "dump.level": ("dump: {level: 17}", {("dump", "level")}),
    "dump.compression": (
        "dump: {compression: zlib:9}",
        {("dump", "compression", "kind"), ("dump", "compression", "level")},
    ),
    "dump.dmesg": ("dump: {dmesg: false}", {("dump", "dmesg")}),
    "dump.jobs": ("dump: {jobs: 4}", {("dump", "jobs")}),
    "scan.engine": ("scan: {engine: user}", {("scan", "engine")}),
    "mapping.strategy": ("mapping: {strategy: chunk}", {("mapping", "strategy")}),
    "mapping.page_size": ("mapping: {page_size: 2M}", {("mapping", "page_size")}),
    "targets[].path": ("targets: [{path: /srv/crash}]", {("targets", 0, "path")}),
    "on_failure": ("on_failure: [halt]", {("on_failure",)}),
    "on_success": ("on_success: poweroff", {("on_success",)}),
    "time_budget": ("time_budget: 90s", {("time_budget",)}),
    "capture_kernel.boot": ("capture_kernel: {boot: direct}", {("capture_kernel", "boot")}),
    "capture_kernel.cpus": ("capture_kernel: {cpus: 2}", {("capture_kernel", "cpus")}),
    "capture_kernel.append": ("capture_kernel: {append: [nomodeset]}", {("capture_kernel", "append")}),
    "capture_kernel.remove": ("capture_kernel: {remove: [quiet]}", {("capture_kernel", "remove")}),
    "early": ("early: initramfs", {("early",)}),
    "memmap[].kind": ("memmap: [{kind: acpi, range: x}]", {("memmap",)}),
    "memmap[].range": ("memmap: [{kind: ram, range: y}]", {("memmap",)}),
    "memmap[].start": ("memmap: [{kind: ram, start: 2M, size: 1M}]", {("memmap",)}),
    "memmap[].size": ("memmap: [{kind: ram, start: 1M, size: 2M}]", {("memmap",)}),
    "retention.keep": ("retention: {keep: 3}", {("retention", "keep")}),
    "retention.max_size": ("retention: {max_size: 1G}", {("retention", "max_size")}),
    "retention.min_free": ("retention: {min_free: 512M}", {("retention", "min_free")}),
}


def compiled(text: str) -> object:
    return json.loads(to_json(parse(text.encode())))


def differences(one: object, other: object, path: Path = ()) -> set[Path]:
    """The paths at which two JSON values differ."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return {found for key in one for found in differences(one[key], other[key], (*path, key))}
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pairs = zip(one, other, strict=True)
        return {found for index, (a, b) in enumerate(pairs) for found in differences(a, b, (*path, index))}
    return set() if one == other else {path}


def test_there_is_a_change_for_every_key() -> None:
    keys = {
        ".".join("[]" if step == 0 else str(step) for step in path).replace(".[]", "[]")
        for path in schema.paths()
        if path[-1] != 0 and "properties" not in (schema.at(path) or {})
    }
    assert keys - {"version", "targets", "memmap"} == set(CHANGES)


@pytest.mark.parametrize("key", CHANGES)
def test_changing_a_key_changes_its_place_in_the_compiled_policy_and_nothing_else(key: str) -> None:
    text, places = CHANGES[key]
    assert differences(compiled(""), compiled(text)) == places


@pytest.mark.parametrize("key", ["kind", "range", "start", "size"])
def test_each_key_of_a_hint_changes_that_key_alone(key: str) -> None:
    first = (
        "memmap: [{kind: ram, range: x}]" if key in ("kind", "range") else "memmap: [{kind: ram, start: 1M, size: 1M}]"
    )
    assert differences(compiled(first), compiled(CHANGES[f"memmap[].{key}"][0])) == {("memmap", 0, key)}


@pytest.mark.parametrize("text", ["", *(text for text, _ in CHANGES.values())])
def test_a_policy_comes_back_from_json_as_it_was(text: str) -> None:
    policy = parse(text.encode())
    assert from_json(to_json(policy)) == policy
    assert to_json(from_json(to_json(policy))) == to_json(policy)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("", "version: 1"),
        ("dump: {level: 25}", "dump: {level: [free, user, zero]}"),
        ("dump: {compression: zstd}", "dump: {compression: zstd:1}"),
        ("time_budget: 60s", "time_budget: 1min"),
        ("targets: [{path: /a/b}]", "targets: [{path: //a/./b/}]"),
        ("retention: {min_free: 1G}", "retention: {min_free: 1024M}"),
        ("memmap: [{kind: ram, start: 1M, size: 64K}]", "memmap: [{size: 0x10000, start: '0x100000', kind: ram}]"),
        ("on_success: halt\ntime_budget: 1h", "time_budget: 1h\non_success: halt"),
    ],
)
def test_policies_that_mean_the_same_compile_to_the_same_bytes(one: str, other: str) -> None:
    assert to_json(parse(one.encode())) == to_json(parse(other.encode()))


def test_the_json_is_canonical() -> None:
    text = to_json(default())
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))
    assert text.isascii()


@pytest.mark.parametrize(
    "text",
    ["", "{", "null", "[]", "{}", '{"version":2}', "[" * 100_000, '{"version":1,"dump":{"level":"x"}}', "NaN", "\x00"],
)
def test_damaged_json_is_one_clear_error(text: str) -> None:
    with pytest.raises(PolicyError, match=r"the compiled policy is damaged: .*; build the image again"):
        from_json(text)


def test_every_missing_or_mistyped_member_is_an_error_that_names_it() -> None:
    hint = "memmap: [{kind: ram, start: 1M, size: 1M}]"

    def spoil(value: object, path: Path) -> None:
        if isinstance(value, dict):
            for key in list(value):
                kept = value.pop(key)
                refuse(f"{key} is missing")
                value[key] = object_of_wrong_type(kept)
                refuse("wrong type|not an object|not a valid")
                value[key] = kept
                spoil(kept, (*path, key))
        elif isinstance(value, list):
            for index, item in enumerate(value):
                spoil(item, (*path, index))

    def object_of_wrong_type(value: object) -> object:
        return 1.5 if not isinstance(value, float) else "x"

    def refuse(said: str) -> None:
        with pytest.raises(PolicyError, match=said):
            from_json(json.dumps(whole))

    whole = compiled(hint)
    spoil(whole, ())
    assert from_json(json.dumps(whole)) == parse(hint.encode())


def test_reading_a_compiled_policy_imports_nothing_that_the_capture_image_lacks() -> None:
    program = (
        "import sys, kdumpd.policy.compiled; print(*sorted(name for name in sys.modules if name[:6] == 'kdumpd'))\n"
    )
    program += "print(*{'yaml', 'jsonschema', 'argparse', 'logging', 'pathlib', 'subprocess'} & sys.modules.keys())"
    result = subprocess.run([sys.executable, "-S", "-c", program], capture_output=True, text=True, check=True)
    ours, foreign = result.stdout.split("\n")[:2]
    assert ours.split() == ["kdumpd", "kdumpd.errors", "kdumpd.policy", "kdumpd.policy.compiled", "kdumpd.policy.model"]
    assert foreign == ""
