"""An image put in place: an interruption at any moment leaves nothing that describes another image."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from kdumpd.image import build, manifest
from kdumpd.target.local import sync_directory
from tests.unit.image.test_parts import INPUTS


class _InterruptedError(Exception):
    pass


def placed(image: Path, content: bytes, policy: str) -> None:
    described = manifest.Manifest(INPUTS, {}, 0, {}, manifest.sha256(content))
    build.place(image, content, described, policy)


def interrupted_after(calls: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The step after so many renames, removals and syncs of folders does not happen."""
    left = itertools.count(calls, -1)

    def counted(real: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **options: object) -> object:
            if next(left) == 0:
                raise _InterruptedError
            return real(*arguments, **options)

        return call

    monkeypatch.setattr(Path, "replace", counted(Path.replace))
    monkeypatch.setattr(build, "sync_directory", counted(sync_directory))


@pytest.mark.parametrize("calls", range(5))
def test_an_old_image_never_lies_beside_what_describes_a_new_one(
    tmp_path: Path, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = tmp_path / "capture.img"
    placed(image, b"old", "old policy")
    with monkeypatch.context() as patch:
        interrupted_after(calls, patch)
        with pytest.raises(_InterruptedError):
            placed(image, b"new", "new policy")
    beside = build.manifest_beside(image)
    described = manifest.from_json(beside.read_text(), "m").image_sha256 if beside.exists() else None
    assert described in (None, manifest.sha256(image.read_bytes()))
    if image.read_bytes() == b"old":
        assert build.policy_beside(image).read_text() == "old policy"
    assert not list(tmp_path.glob("*.new"))


def test_a_placed_image_is_the_owners_alone_with_its_manifest_and_policy(tmp_path: Path) -> None:
    image = tmp_path / "capture.img"
    placed(image, b"new", "policy")
    assert {path.name for path in tmp_path.iterdir()} == {
        "capture.img",
        "capture.manifest.json",
        "capture.policy.json",
    }
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in tmp_path.iterdir())
