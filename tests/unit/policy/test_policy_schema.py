"""The schema is the single source: the model, the example and the reference hold what it holds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft7Validator

from kdumpd.capture.settings import DEFAULT_POLICY
from kdumpd.policy import model, schema
from kdumpd.policy.load import default, load
from kdumpd.policy.reference import reference

ROOT = Path(__file__).parents[3]

# Where the schema's mappings are the model's classes.
SHAPES: dict[tuple[str | int, ...], type] = {
    (): model.Policy,
    ("dump",): model.DumpPolicy,
    ("scan",): model.ScanPolicy,
    ("mapping",): model.MappingPolicy,
    ("targets", 0): model.LocalTarget,
    ("capture_kernel",): model.CaptureKernel,
    ("memmap", 0): model.MemmapHint,
    ("retention",): model.Retention,
}


def mappings() -> set[tuple[str | int, ...]]:
    return {path[:-1] for path in schema.paths() if path[-1] != 0}


def test_the_schema_is_valid_by_its_own_standard() -> None:
    Draft7Validator.check_schema(schema.schema())


def test_the_schema_has_exactly_the_keys_of_the_model() -> None:
    assert mappings() == set(SHAPES)
    for path, shape in SHAPES.items():
        keys = {str(key[-1]) for key in schema.paths() if key[:-1] == path and key[-1] != 0}
        fields = set(shape.__annotations__)
        assert keys == fields | ({"version"} if path == () else set()), path


def test_the_schema_s_words_are_those_of_the_model() -> None:
    def words(*path: str | int) -> list[str]:
        part = schema.at(path)
        assert part is not None
        return sorted(schema.words(part))

    assert words("on_failure", 0) == sorted(model.Action)
    assert words("on_success") == sorted(set(model.Action) - {model.Action.NEXT_TARGET, model.Action.DMESG_ONLY})
    assert words("capture_kernel", "boot") == sorted(model.Boot)
    assert words("early") == sorted(model.Early)
    assert words("scan", "engine") == sorted(model.EngineChoice)
    assert words("mapping", "strategy") == sorted(model.MappingStrategy)
    assert words("mapping", "page_size") == sorted(model.MappingPageSize)
    assert words("memmap", 0, "kind") == sorted(model.HintKind)
    assert words("dump", "level", 0) == sorted(str(kind.name).lower().replace("_", "-") for kind in model.PageKind)


@pytest.mark.parametrize("path", schema.paths(), ids=str)
def test_every_key_says_what_editors_complete_from(path: tuple[str | int, ...]) -> None:
    part = schema.at(path)
    assert part is not None
    assert part["title"]
    if path[-1] == 0:
        return
    assert part["description"].endswith(".")
    assert part["examples"]
    assert all(schema.allows(part, example) for example in part["examples"])
    if 0 not in path:
        assert schema.allows(part, part["default"])


def test_the_example_is_valid_and_equals_the_defaults() -> None:
    assert load(str(ROOT / "config" / "kdumpd.yaml")) == default()


def test_the_example_shows_every_key_that_has_a_default() -> None:
    shown = yaml.safe_load((ROOT / "config" / "kdumpd.yaml").read_text())
    assert shown == schema.with_defaults({})


def test_every_default_is_the_one_that_the_design_names() -> None:
    policy = default()
    assert int(policy.dump.level) == 31
    assert policy.dump.compression.kind == "zstd"
    assert policy.scan.engine == "auto"
    assert (policy.mapping.strategy, policy.mapping.page_size) == ("auto", "auto")
    assert policy.targets == (model.LocalTarget("/var/crash"),)
    assert policy.on_failure == ("next-target", "dmesg-only", "reboot")
    assert policy.on_success == "reboot"
    assert policy.time_budget == 900
    assert policy.retention == model.Retention(keep=5, max_size=20 << 30, min_free=2 << 30)
    assert policy.memmap == ()


def test_the_runner_s_fallback_is_the_policy_of_an_empty_file() -> None:
    assert default() == DEFAULT_POLICY


def test_the_reference_is_fresh() -> None:
    written = (ROOT / "docs" / "policy.md").read_text(encoding="utf-8")
    assert written == reference(), "run `python -m kdumpd.policy.reference docs/policy.md`"


def test_the_reference_s_command_writes_it(tmp_path: Path) -> None:
    out = tmp_path / "policy.md"
    subprocess.run([sys.executable, "-m", "kdumpd.policy.reference", str(out)], check=True)
    assert out.read_text(encoding="utf-8") == reference()


def test_the_schema_is_written_as_plain_ascii_json() -> None:
    text = (ROOT / "config" / "kdumpd.schema.json").read_text()
    assert text.isascii()
    assert json.loads(text) == schema.schema()
