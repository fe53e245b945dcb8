"""What the image tells the runner: the policy, the targets and the drivers, each a JSON file under /etc/kdumpd.

A file that is missing or broken never stops a capture: what it would have said is replaced by a default, and a line in
`problems` says so. Called by `capture.runner`. May import `errors`, `policy.model`, `policy.compiled` and `target`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from kdumpd.capture.door import Result, guarded
from kdumpd.errors import ImageError
from kdumpd.policy.compiled import from_json
from kdumpd.policy.model import (
    Action,
    Boot,
    CaptureKernel,
    Compression,
    CompressionKind,
    DumpPolicy,
    Early,
    EngineChoice,
    LocalTarget,
    MappingPageSize,
    MappingPolicy,
    MappingStrategy,
    PageKind,
    Policy,
    Retention,
    ScanPolicy,
)
from kdumpd.target.local import Place

DIRECTORY = "/etc/kdumpd"
_LARGEST = 4 << 20  # bytes of a settings file
_T = TypeVar("_T")

# What an empty policy means (config/kdumpd.schema.json); a test holds the two together.
DEFAULT_POLICY = Policy(
    dump=DumpPolicy(PageKind(31), Compression(CompressionKind.ZSTD, 1), dmesg=True, jobs=None),
    scan=ScanPolicy(EngineChoice.AUTO),
    mapping=MappingPolicy(MappingStrategy.AUTO, MappingPageSize.AUTO),
    targets=(LocalTarget("/var/crash"),),
    on_failure=(Action.NEXT_TARGET, Action.DMESG_ONLY, Action.REBOOT),
    on_success=Action.REBOOT,
    time_budget=900,
    capture_kernel=CaptureKernel(Boot.AUTO, None, (), ()),
    early=Early.AUTO,
    memmap=(),
    retention=Retention(keep=5, max_size=20 << 30, min_free=2 << 30),
)


class Settings(NamedTuple):
    """All that the image says; `hands_off` are physical byte ranges, `modules` paths in the order of loading."""

    policy: Policy
    places: tuple[Place, ...]
    hostname: str
    hands_off: tuple[tuple[int, int], ...]
    modules: tuple[str, ...]
    problems: tuple[str, ...]


# Before anything is read.
NOTHING = Settings(DEFAULT_POLICY, places=(), hostname="", hands_off=(), modules=(), problems=())


class _Targets(NamedTuple):
    places: tuple[Place, ...]
    hostname: str
    hands_off: tuple[tuple[int, int], ...]


def read(directory: str = DIRECTORY) -> Settings:
    """The settings, with a default in the place of each file that cannot be used."""
    problems: list[str] = []

    def read_one(name: str, parse: Callable[[str], _T], default: _T, instead: str) -> _T:
        values: list[_T] = []

        def work() -> Result:
            values.append(parse(_text(f"{directory}/{name}")))
            return {}

        outcome = guarded(work)
        if outcome.failure is not None:
            text = outcome.failure.text
            where = "" if text.startswith(directory) else f"{directory}/{name}: "
            problems.append(f"{where}{text}; {instead}")
            return default
        return values[0]

    policy = read_one("policy.json", from_json, DEFAULT_POLICY, "the default policy is used instead")
    targets = read_one("targets.json", _targets, _Targets((), "", ()), "no target is known")
    no_modules: tuple[str, ...] = ()
    modules = read_one("modules.json", _modules, no_modules, "no driver is loaded")
    return Settings(policy, targets.places, targets.hostname, targets.hands_off, modules, tuple(problems))


def _text(path: str) -> str:
    with open(path, encoding="utf-8") as stream:
        return stream.read(_LARGEST)


def _object(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ImageError("is no JSON object")
    return value


def _targets(text: str) -> _Targets:
    document = _object(text)
    places = tuple(
        Place(
            str(entry["device"]),
            str(entry["fstype"]),
            str(entry["directory"]),
            str(entry["path"]),
            str(entry.get("options", "")),
            bool(entry.get("assembled", False)),
        )
        for entry in document["targets"]
    )
    hands_off = tuple((int(start), int(end)) for start, end in document.get("hands_off", ()))
    return _Targets(places, str(document.get("hostname", "")), hands_off)


def _modules(text: str) -> tuple[str, ...]:
    return tuple(str(path) for path in _object(text)["modules"])
