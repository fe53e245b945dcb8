"""The policy as canonical JSON, which is what the capture image carries: equal policies give equal bytes.

Written when the image is built, read in the capture kernel, so nothing but json, `model` and `errors` is imported.
"""

from __future__ import annotations

import json
from dataclasses import replace

from kdumpd.errors import PolicyError
from kdumpd.policy.model import (
    Action,
    Boot,
    CaptureKernel,
    Compression,
    CompressionKind,
    DumpPolicy,
    Early,
    EngineChoice,
    HintKind,
    LocalTarget,
    MappingPageSize,
    MappingPolicy,
    MappingStrategy,
    MemmapHint,
    PageKind,
    Policy,
    Retention,
    ScanPolicy,
)

VERSION = 1

#: What a capture kernel has no use for: it removes no dump, and of the retention only min_free binds it.
NOT_CARRIED = ("retention.keep", "retention.max_size")

Json = dict[str, object]


def to_json(policy: Policy) -> str:
    """Canonical JSON: keys sorted, no spaces, ASCII; sizes in bytes, times in seconds, the level as a number."""
    dump, kernel = policy.dump, policy.capture_kernel
    value = {
        "version": VERSION,
        "dump": {
            "level": int(dump.level),
            "compression": {"kind": dump.compression.kind, "level": dump.compression.level},
            "dmesg": dump.dmesg,
            "jobs": dump.jobs,
        },
        "scan": {"engine": policy.scan.engine},
        "mapping": {"strategy": policy.mapping.strategy, "page_size": policy.mapping.page_size},
        "targets": [{"path": target.path} for target in policy.targets],
        "on_failure": policy.on_failure,
        "on_success": policy.on_success,
        "time_budget": policy.time_budget,
        "capture_kernel": {
            "boot": kernel.boot,
            "cpus": kernel.cpus,
            "append": kernel.append,
            "remove": kernel.remove,
        },
        "early": policy.early,
        "memmap": [
            {"kind": hint.kind, "range": hint.range, "start": hint.start, "size": hint.size} for hint in policy.memmap
        ],
        "retention": {
            "keep": policy.retention.keep,
            "max_size": policy.retention.max_size,
            "min_free": policy.retention.min_free,
        },
    }
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def carried(policy: Policy) -> str:
    """The policy as an image carries it: those that differ in `NOT_CARRIED` alone give equal bytes."""
    return to_json(replace(policy, retention=replace(policy.retention, keep=None, max_size=None)))


def carries(text: str | None, policy: Policy) -> bool:
    """Whether an image that was built with this JSON is one for the policy."""
    try:
        return text is not None and carried(from_json(text)) == carried(policy)
    except PolicyError:
        return False


def from_json(text: str) -> Policy:
    """The policy that `to_json` wrote. PolicyError for anything else."""
    try:
        value = json.loads(text)
        return _policy(_Reader(value, "policy"))
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise PolicyError((f"the compiled policy is damaged: {reason}; build the image again",)) from None


class _Reader:
    """A JSON object whose members are taken by name and type; a ValueError names what is missing or wrong."""

    def __init__(self, value: object, name: str) -> None:
        if not isinstance(value, dict):
            raise ValueError(f"{name} is not an object")
        self.value: Json = value
        self.name = name

    def _member(self, key: str) -> object:
        if key not in self.value:
            raise ValueError(f"{self.name}.{key} is missing")
        return self.value[key]

    def _wrong(self, key: str) -> ValueError:
        return ValueError(f"{self.name}.{key} has the wrong type")

    def object(self, key: str) -> _Reader:
        return _Reader(self._member(key), f"{self.name}.{key}")

    def objects(self, key: str) -> list[_Reader]:
        items = self._member(key)
        if not isinstance(items, list):
            raise self._wrong(key)
        return [_Reader(item, f"{self.name}.{key}[{index}]") for index, item in enumerate(items)]

    def text(self, key: str) -> str:
        value = self._member(key)
        if not isinstance(value, str):
            raise self._wrong(key)
        return value

    def text_or_none(self, key: str) -> str | None:
        return None if self._member(key) is None else self.text(key)

    def texts(self, key: str) -> tuple[str, ...]:
        items = self._member(key)
        if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
            raise self._wrong(key)
        return tuple(items)

    def number(self, key: str) -> int:
        value = self._member(key)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 63:
            raise self._wrong(key)
        return value

    def number_or_none(self, key: str) -> int | None:
        return None if self._member(key) is None else self.number(key)

    def truth(self, key: str) -> bool:
        value = self._member(key)
        if not isinstance(value, bool):
            raise self._wrong(key)
        return value


def _policy(value: _Reader) -> Policy:
    if value.number("version") != VERSION:
        raise ValueError(f"policy.version is {value.number('version')}, not {VERSION}")
    dump, kernel, mapping = value.object("dump"), value.object("capture_kernel"), value.object("mapping")
    compression, level, retention = dump.object("compression"), dump.number("level"), value.object("retention")
    if level > 31:
        raise ValueError("policy.dump.level is above 31")
    return Policy(
        dump=DumpPolicy(
            level=PageKind(level),
            compression=Compression(CompressionKind(compression.text("kind")), compression.number("level")),
            dmesg=dump.truth("dmesg"),
            jobs=dump.number_or_none("jobs"),
        ),
        scan=ScanPolicy(EngineChoice(value.object("scan").text("engine"))),
        mapping=MappingPolicy(MappingStrategy(mapping.text("strategy")), MappingPageSize(mapping.text("page_size"))),
        targets=tuple(LocalTarget(target.text("path")) for target in value.objects("targets")),
        on_failure=tuple(map(Action, value.texts("on_failure"))),
        on_success=Action(value.text("on_success")),
        time_budget=value.number("time_budget"),
        capture_kernel=CaptureKernel(
            boot=Boot(kernel.text("boot")),
            cpus=kernel.number_or_none("cpus"),
            append=kernel.texts("append"),
            remove=kernel.texts("remove"),
        ),
        early=Early(value.text("early")),
        memmap=tuple(
            MemmapHint(
                HintKind(hint.text("kind")),
                hint.text_or_none("range"),
                hint.number_or_none("start"),
                hint.number_or_none("size"),
            )
            for hint in value.objects("memmap")
        ),
        retention=Retention(
            keep=retention.number_or_none("keep"),
            max_size=retention.number_or_none("max_size"),
            min_free=retention.number("min_free"),
        ),
    )
