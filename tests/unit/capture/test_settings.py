"""What the image says, and what takes its place where it says nothing."""

from __future__ import annotations

import json
from pathlib import Path

from kdumpd.capture import settings
from kdumpd.capture.settings import DEFAULT_POLICY
from kdumpd.policy.compiled import to_json
from kdumpd.policy.load import load
from kdumpd.target.local import Place


def test_the_built_in_default_is_what_an_empty_policy_means(tmp_path: Path) -> None:
    empty = tmp_path / "kdumpd.yaml"
    empty.write_text("")
    assert load(str(empty)) == DEFAULT_POLICY


def test_settings_are_read_as_the_image_writes_them(tmp_path: Path) -> None:
    (tmp_path / "policy.json").write_text(to_json(DEFAULT_POLICY))
    target = {
        "device": "UUID=1",
        "fstype": "btrfs",
        "directory": "/d",
        "path": "/p",
        "options": "subvol=x",
        "assembled": True,
    }
    document = {"targets": [target], "hostname": "h", "hands_off": [[1, 2]]}
    (tmp_path / "targets.json").write_text(json.dumps(document))
    (tmp_path / "modules.json").write_text(json.dumps({"modules": ["/m.ko"]}))
    known = settings.read(str(tmp_path))
    assert known.problems == ()
    assert known.places == (Place("UUID=1", "btrfs", "/d", "/p", "subvol=x", True),)
    assert (known.hostname, known.hands_off, known.modules) == ("h", ((1, 2),), ("/m.ko",))


def test_each_broken_file_is_a_line_and_a_default(tmp_path: Path) -> None:
    (tmp_path / "policy.json").write_bytes(b"\xff\x00")
    (tmp_path / "targets.json").write_text('{"targets": [{"device": 1}]}')
    known = settings.read(str(tmp_path))
    assert known.policy == DEFAULT_POLICY
    assert (known.places, known.modules) == ((), ())
    assert len(known.problems) == 3
    for name, problem in zip(("policy.json", "targets.json", "modules.json"), known.problems, strict=True):
        assert problem.startswith(f"{tmp_path}/{name}: "), problem
