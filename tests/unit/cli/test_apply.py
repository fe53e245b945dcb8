"""`apply` refuses a policy that is not valid, and sees to it that the last good one stays armed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kdumpd.cli import apply
from kdumpd.cli.main import main
from kdumpd.errors import LoadError
from kdumpd.plan import source, state
from kdumpd.plan.decide import Plan
from kdumpd.plan.situation import Situation
from kdumpd.policy.load import default
from tests.unit.plan.test_decide import ARMED, FACTS


class Rig:
    """The running system with a broken policy; `carried` are the plans that were carried out."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.policy = folder / "kdumpd.yaml"
        self.policy.write_text("dump: {levl: 31}\n")
        self.flag = folder / "disarmed"
        self.situation = ARMED
        self.carried: list[Plan] = []
        self.failure = ""
        real = state.locked
        monkeypatch.setattr(state, "locked", lambda root, waiting: real(folder, waiting))
        monkeypatch.setattr(state, "disarmed_file", lambda: self.flag)
        monkeypatch.setattr(source, "last_good", lambda root, release: default())
        monkeypatch.setattr(apply, "gather", lambda policy: self.situation)
        monkeypatch.setattr(apply, "carry_out", self._carry)

    def _carry(self, plan: Plan, situation: Situation, root: Path, say: object) -> None:
        self.carried.append(plan)
        if self.failure:
            raise LoadError(self.failure)

    def apply(self) -> int:
        return main(["apply", "--policy", str(self.policy)])


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    return Rig(tmp_path, monkeypatch)


def last(capsys: pytest.CaptureFixture[str]) -> str:
    problem, said = capsys.readouterr().err.splitlines()
    assert problem.endswith(":1:8: dump.levl: unknown key; did you mean level?")
    return said.removeprefix("kdumpd apply: the policy is not valid; ")


def test_what_is_armed_stays_and_is_not_touched(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    assert rig.apply() == 1
    assert rig.carried == []
    assert last(capsys).startswith("nothing was changed by it: what was armed with the last good policy stays armed")


def test_what_was_unloaded_meanwhile_is_loaded_again(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    rig.situation = replace(ARMED, facts=replace(FACTS, loaded=False))
    assert rig.apply() == 1
    assert len(rig.carried) == 1
    assert last(capsys) == "what the last good one calls for was not loaded any more, and is loaded again"


def test_what_was_disarmed_on_purpose_stays_so(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    rig.situation = replace(ARMED, facts=replace(FACTS, loaded=False))
    rig.flag.touch()
    assert rig.apply() == 1
    assert rig.carried == []


def test_a_failure_to_load_again_is_said_beside_the_problem(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    rig.situation = replace(ARMED, facts=replace(FACTS, loaded=False))
    rig.failure = "no room"
    assert rig.apply() == 1
    assert last(capsys) == "the last good one could not be armed again: no room"


def test_what_stands_in_the_way_of_the_last_good_one_is_said(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    rig.situation = replace(ARMED, blocked=("reservation: none",))
    assert rig.apply() == 1
    assert last(capsys) == "nothing can be loaded by the last good one either: reservation: none"


@pytest.mark.parametrize("release", ["", "..", "6.1/../6.2", "no such"])
def test_a_release_that_names_no_kernel_is_refused(
    release: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "lib/modules/6.1").mkdir(parents=True)
    assert main(["apply", "--root", str(tmp_path), "--kernel", release]) == 1
    assert capsys.readouterr().err.startswith(f"kdumpd apply: --kernel {release}: there is no lib/modules/{release};")
