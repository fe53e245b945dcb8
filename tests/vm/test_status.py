"""What `kdumpd status`, `plan` and `disarm` say on a real kernel, and what they see of what others did to it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import Draft7Validator

from tests.vm.installed import REPOSITORY
from tests.vm.life import PLAIN, Life, Plot, live

pytestmark = pytest.mark.timeout(900)

#: No crash at the end: what others tests see of one is enough.
SCRIPT = """\
kdumpd apply
kdumpd status
echo 'dump: {levl: 17}' > /etc/kdumpd.yaml
kdumpd status
kexec -p -u
kdumpd apply
echo > /etc/kdumpd.yaml
head -c 5000000 /dev/urandom > /tmp/initrd
kexec -p -s --initrd=/tmp/initrd --command-line=other /boot/vmlinuz-*
kdumpd status
kdumpd apply
kdumpd disarm
kdumpd status --json
kdumpd apply --json
kdumpd plan --json
echo o > /proc/sysrq-trigger
sleep 60
"""


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Life:
    return live(tmp_path_factory.mktemp("status"), PLAIN, Plot(SCRIPT))


def document(verb: str, said: list[str]) -> dict[str, Any]:
    """What a verb printed with --json, by its schema; the kernel's own lines are none of it."""
    whole = "\n".join(line for line in said[:-1] if not line.startswith("["))
    found: dict[str, Any] = json.loads(whole)
    schema = json.loads((REPOSITORY / f"config/json/{verb}.schema.json").read_text())
    Draft7Validator(schema).validate(found)
    return found


def test_armed_is_said_in_the_first_line_and_what_proves_it_below(life: Life) -> None:
    said = life.said("status")
    release = life.kernel.release
    assert said[0] == f"armed: kernel {release} is loaded with the image that this policy and this hardware call for"
    assert any(line.endswith("seen in the reserved memory") for line in said)
    assert any(line.startswith("target       /var/crash (ext4 on /dev/") and ": good, " in line for line in said)
    assert said[-1] == "== exit 0"


def test_a_broken_policy_leaves_the_last_good_one_armed(life: Life) -> None:
    said = life.said("status", 1)
    assert said[0].startswith("armed: kernel ")
    assert said[0].endswith("that the last good policy and this hardware call for")
    assert "             /etc/kdumpd.yaml:1:8: dump.levl: unknown key; did you mean level?" in said
    assert said[-1] == "== exit 0"


def test_what_was_unloaded_under_a_broken_policy_is_loaded_again_by_the_last_good_one(life: Life) -> None:
    applied = life.said("apply", 1)
    assert "/etc/kdumpd.yaml:1:8: dump.levl: unknown key; did you mean level?" in applied
    assert applied[-2].endswith("what the last good one calls for was not loaded any more, and is loaded again")
    assert applied[-1] == "== exit 1"


def test_a_crash_kernel_that_another_program_loaded_is_seen_and_replaced(life: Life) -> None:
    said, applied = life.said("status", 2), life.said("apply", 2)
    replaced = "another program replaced the crash kernel, or its memory is damaged: it is not what kdumpd loaded"
    assert said[0] == f"not armed: {replaced}"
    assert said[-1] == "== exit 3"
    assert f"    because {replaced}" in applied
    assert applied[-1] == "== exit 0"


def test_disarm_unloads_until_apply(life: Life) -> None:
    assert life.said("disarm")[0].startswith("unloaded: no crash kernel is loaded")
    said = life.said("status --json")
    status = document("status", said)
    assert (status["armed"], status["reason"]) == (False, "`kdumpd disarm` unloaded the crash kernel")
    assert said[-1] == "== exit 3"


def test_apply_prints_a_document_and_after_it_nothing_is_to_do(life: Life) -> None:
    applied = document("apply", life.said("apply --json"))
    assert applied["result"] == "armed"
    (step,) = applied["steps"]
    assert [cause["cause"] for cause in step["causes"]] == ["disarmed"]
    planned = life.said("plan --json")
    assert document("plan", planned)["steps"] == []
    assert planned[-1] == "== exit 0"
