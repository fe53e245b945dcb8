"""`plan` and `apply` on a system in another root: what is printed is done, and done once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from jsonschema import Draft7Validator

from tests.unit.image.kerneltree import RELEASE, tree
from tests.vm.installed import REPOSITORY


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("root")
    tree(folder)
    (folder / "etc").mkdir()
    (folder / "etc/kdumpd.yaml").write_text("dump: {level: 31}\n")
    return folder


def kdumpd(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "kdumpd", arguments[0], "--root", str(root), *arguments[1:]]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_apply_does_what_plan_prints_and_then_there_is_nothing_to_do(root: Path) -> None:
    image = root / "var/lib/kdumpd" / RELEASE / "capture.img"
    planned = kdumpd(root, "plan")
    assert (planned.returncode, planned.stderr) == (3, "")
    assert planned.stdout.splitlines() == [
        f"build {image} (direct: every target is a plain local disk)",
        "    page scan by the user engine: this kernel has no kdumpd_scan module; install kdumpd-dkms",
        f"    because there is no image for kernel {RELEASE}",
    ]
    assert not image.parent.exists()
    applied = kdumpd(root, "apply")
    assert (applied.returncode, applied.stderr) == (0, "")
    assert applied.stdout.startswith(planned.stdout)
    assert f"built {image}: " in applied.stdout
    again = kdumpd(root, "plan")
    assert (again.returncode, again.stdout) == (
        0,
        f"nothing to do: the image for kernel {RELEASE} is up to date and in place\n",
    )
    written = image.stat().st_mtime_ns
    whole = kdumpd(root, "apply", "--json")
    assert (whole.returncode, whole.stderr) == (0, "")
    document = json.loads(whole.stdout)
    Draft7Validator(json.loads((REPOSITORY / "config/json/apply.schema.json").read_text())).validate(document)
    assert (document["result"], document["steps"]) == ("built", [])
    assert image.stat().st_mtime_ns == written


def test_a_changed_policy_is_seen_by_its_keys(root: Path) -> None:
    kdumpd(root, "apply")
    policy = root / "etc/kdumpd.yaml"
    before = policy.read_text()
    policy.write_text("dump: {level: 17}\ntime_budget: 5min\n")
    planned = kdumpd(root, "plan", "--json")
    policy.write_text(before)
    assert planned.returncode == 3
    (step,) = json.loads(planned.stdout)["steps"]
    assert step["reasons"] == [
        f"the policy changed: dump.level 31 to 17 ({policy}, line 1)",
        f"the policy changed: time_budget 15min to 5min ({policy}, line 2)",
    ]
    assert [cause["cause"] for cause in step["causes"]] == ["policy-changed", "policy-changed"]


def test_a_damaged_image_is_seen(root: Path) -> None:
    kdumpd(root, "apply")
    image = root / "var/lib/kdumpd" / RELEASE / "capture.img"
    whole = image.read_bytes()
    image.write_bytes(whole[: len(whole) // 2])
    planned = kdumpd(root, "plan")
    image.write_bytes(whole)
    assert planned.returncode == 3
    cut = f"changed or damaged (cut: {len(whole) // 2} of {len(whole)} bytes)"
    assert f"because the image is not the one that its manifest describes: {cut}" in planned.stdout


def test_a_policy_with_an_error_is_refused_as_check_does(root: Path) -> None:
    bad = root / "bad.yaml"
    bad.write_text("dump: {levl: 31}\n")
    applied = kdumpd(root, "apply", "--policy", str(bad))
    assert applied.returncode == 1
    assert f"{bad}:1:8: " in applied.stderr
    assert "Traceback" not in applied.stderr


def test_a_root_without_a_kernel_says_so(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/kdumpd.yaml").write_text("")
    applied = kdumpd(tmp_path, "apply")
    assert applied.returncode == 1
    assert "kernel: no kernel is installed there" in applied.stderr
    assert not (tmp_path / "var").exists()
