"""What plan, apply, status and disarm print with --json is what their schemas in config/json say."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from kdumpd.cli import disarm, jsonpage
from kdumpd.cli.main import main
from kdumpd.errors import LoadError
from kdumpd.host import facts
from kdumpd.loader import kexec
from kdumpd.loader.contents import Found
from kdumpd.plan import carry, render, state
from kdumpd.plan.decide import decide
from kdumpd.plan.situation import Situation
from kdumpd.status import render as status_render
from kdumpd.status.assess import assess, from_outside, without_policy
from kdumpd.status.records import Records
from kdumpd.status.value import PolicyState
from kdumpd.steps.reason import Cause
from tests.unit.image.kerneltree import tree
from tests.unit.plan.test_decide import ARMED, FACTS, upgraded, with_inputs, with_state
from tests.unit.status.test_render import STATUS

REPOSITORY = Path(__file__).parents[3]
FOLDER = REPOSITORY / "config" / "json"
VERBS = ("plan", "apply", "status", "disarm")

SITUATIONS = {
    "armed": ARMED,
    "new": replace(with_state(manifest=None, image_sha256="", loaded=None), facts=replace(FACTS, loaded=False)),
    "stale": with_inputs(boot="dracut", policy_sha256="p2", drivers=("nvme",)),
    "replaced": replace(ARMED, memory=Found.OTHER),
    "upgraded": upgraded(),
    "blocked": replace(ARMED, blocked=("reservation: none",), step=None, inputs=None),
}


def schema(verb: str) -> Draft7Validator:
    return Draft7Validator(json.loads((FOLDER / f"{verb}.schema.json").read_text()))


def valid(verb: str, text: str) -> Any:
    """The document, which its schema allows."""
    document = json.loads(text)
    schema(verb).validate(document)
    return document


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Another system, in which a kernel is installed."""
    tree(tmp_path)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/kdumpd.yaml").write_text("")
    return tmp_path


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.json")), ids=lambda file: file.name)
def test_a_schema_is_one_and_describes_every_key(file: Path) -> None:
    document = json.loads(file.read_text())
    Draft7Validator.check_schema(document)
    assert document["title"] == f"kdumpd {file.name.partition('.')[0]} --json"
    assert document["properties"]["version"]["const"] == 1


def test_the_page_is_what_the_schemas_say() -> None:
    page = (REPOSITORY / "docs" / "json.md").read_text()
    assert page == jsonpage.page(FOLDER), "run make docs"


def test_every_cause_is_in_the_schema_and_no_other() -> None:
    text = (FOLDER / "plan.schema.json").read_text()
    branch = json.loads(text)["properties"]["steps"]["items"]["oneOf"][0]
    assert branch["properties"]["causes"]["items"]["properties"]["cause"]["enum"] == [cause.value for cause in Cause]


@pytest.mark.parametrize("situation", SITUATIONS.values(), ids=SITUATIONS)
def test_every_plan_is_allowed(situation: Situation) -> None:
    schema("plan").validate(json.loads(json.dumps(render.document(decide(situation), situation))))


@pytest.mark.parametrize("situation", SITUATIONS.values(), ids=SITUATIONS)
def test_every_status_is_allowed(situation: Situation) -> None:
    policy = PolicyState("/etc/kdumpd.yaml", ("wrong",), last_good=True)
    found = assess(decide(situation), situation, policy, Records())
    for status in (found, STATUS, from_outside(FACTS, policy, Records()), without_policy(FACTS, policy, Records())):
        schema("status").validate(json.loads(json.dumps(status_render.document(status))))


def test_plan_prints_it(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--root", str(root), "--json"]) == 3
    (step,) = valid("plan", capsys.readouterr().out)["steps"]
    assert [cause["cause"] for cause in step["causes"]] == ["image-missing"]


def test_plan_and_apply_print_it_for_a_policy_that_is_not_valid(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "etc/kdumpd.yaml").write_text("dump: {levl: 31}\n")
    for verb in ("plan", "apply"):
        assert main([verb, "--root", str(root), "--json"]) == 1
        printed = capsys.readouterr()
        document = valid(verb, printed.out)
        assert document["blocked"][0].endswith("etc/kdumpd.yaml:1:8: dump.levl: unknown key; did you mean level?")
        assert printed.err.splitlines()[-1].startswith(f"kdumpd {verb}: the policy is not valid; nothing was changed")
    assert document["result"] == "refused"


def test_apply_prints_it_when_something_stands_in_the_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/kdumpd.yaml").write_text("")
    assert main(["apply", "--root", str(tmp_path), "--json"]) == 1
    document = valid("apply", capsys.readouterr().out)
    assert (document["result"], document["done"]) == ("refused", [])
    assert document["error"].startswith("kernel: no kernel is installed there")


def test_apply_names_a_kernel_that_is_not_installed(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["apply", "--root", str(root), "--kernel", "9.9", "--json"]) == 1
    printed = capsys.readouterr()
    assert valid("apply", printed.out)["result"] == "failed"
    assert printed.err == "kdumpd apply: --kernel 9.9: there is no lib/modules/9.9; name an installed kernel\n"


def test_status_prints_it_on_any_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy = tmp_path / "kdumpd.yaml"
    policy.write_text("")
    code = main(["status", "--policy", str(policy), "--json"])
    assert code == (0 if valid("status", capsys.readouterr().out)["armed"] else 3)


@pytest.fixture
def armed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root that stands for this machine, with a crash kernel loaded."""
    monkeypatch.setattr(disarm, "ROOT", tmp_path)
    monkeypatch.setattr(state, "disarmed_file", lambda: tmp_path / "run/kdumpd/disarmed")
    monkeypatch.setattr(facts, "crash_state", lambda sys: (True, True, 1))
    return tmp_path


def test_disarm_unloads_and_says_so(
    armed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[str] = []
    monkeypatch.setattr(kexec, "unload", lambda: calls.append("unload"))
    monkeypatch.setattr(carry, "forget", lambda root: calls.append(str(root)))
    assert main(["disarm", "--json"]) == 0
    assert valid("disarm", capsys.readouterr().out)["unloaded"] is True
    assert (state.disarmed_file().exists(), calls) == (True, ["unload", str(armed)])


def test_a_machine_that_cannot_be_disarmed_is_not_called_so(armed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused() -> None:
        raise LoadError("the crash kernel is still loaded")

    monkeypatch.setattr(kexec, "unload", refused)
    assert main(["disarm"]) == 1
    assert not state.disarmed_file().exists()
