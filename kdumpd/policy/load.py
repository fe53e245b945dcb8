"""A policy file as a typed `Policy`, or every problem in it as one `PolicyError`.

Called by the verbs. Needs jsonschema and PyYAML; the capture kernel reads `compiled` instead.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import Any

from kdumpd.errors import PolicyError
from kdumpd.policy import schema
from kdumpd.policy.check import check
from kdumpd.policy.model import (
    Action,
    Boot,
    CaptureKernel,
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
from kdumpd.policy.problem import Problem
from kdumpd.policy.rules import normal_path
from kdumpd.policy.text import LARGEST_FILE
from kdumpd.policy.units import UNLIMITED, parse_compression, parse_size, parse_time


def load(path: str) -> Policy:
    """The policy in a file. PolicyError with every problem when it is not valid or cannot be read."""
    return parse(read(path), path)


def default() -> Policy:
    """The policy of an empty file."""
    return parse(b"")


def parse(data: bytes, name: str = "policy") -> Policy:
    """The policy in a file's bytes; `name` stands before the line and column of each problem."""
    checked = check(data)
    if checked.problems:
        raise PolicyError(tuple(problem.render(_printable(name)) for problem in checked.problems))
    return _policy(schema.with_defaults(checked.value))


def read(path: str) -> bytes:
    """The bytes of a policy file, never more than one past the largest that is allowed, never waiting for any."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except ValueError:
        raise _unreadable(path, "the name holds a NUL character", "name a file") from None
    except OSError as error:
        right = {
            errno.ENOENT: "write one (an empty file takes every default) or name another",
            errno.EACCES: "run this as root, or make the file readable",
        }.get(error.errno or 0, "name a file that can be read")
        raise _unreadable(path, f"cannot be opened: {os.strerror(error.errno or 0)}", right) from None
    try:
        kind = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(kind):
            raise _unreadable(path, "is a directory", "name the file in it")
        if not stat.S_ISREG(kind) and not stat.S_ISCHR(kind):
            raise _unreadable(path, "is not a file but a pipe, socket or device", "write the policy to a file")
        data = b""
        while len(data) <= LARGEST_FILE and (piece := os.read(descriptor, LARGEST_FILE + 1 - len(data))):
            data += piece
        return data
    except OSError as error:
        wrong = f"cannot be read: {os.strerror(error.errno or 0)}"
        raise _unreadable(path, wrong, "name a file that can be read") from None
    finally:
        os.close(descriptor)


def _unreadable(path: str, wrong: str, right: str) -> PolicyError:
    return PolicyError((Problem(1, 1, (), wrong, right).render(_printable(path)),))


def _printable(name: str) -> str:
    """A file name on one line, whatever characters it holds."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in name)


def _policy(value: dict[str, Any]) -> Policy:
    """The typed policy of a valid value in which every default is filled in."""
    dump, mapping, kernel, retention = value["dump"], value["mapping"], value["capture_kernel"], value["retention"]
    return Policy(
        dump=DumpPolicy(
            level=_level(dump["level"]),
            compression=parse_compression(dump["compression"]),
            dmesg=dump["dmesg"],
            jobs=_count(dump["jobs"]),
        ),
        scan=ScanPolicy(EngineChoice(value["scan"]["engine"])),
        mapping=MappingPolicy(MappingStrategy(mapping["strategy"]), MappingPageSize(mapping["page_size"])),
        targets=tuple(LocalTarget(normal_path(target["path"])) for target in value["targets"]),
        on_failure=tuple(map(Action, value["on_failure"])),
        on_success=Action(value["on_success"]),
        time_budget=parse_time(value["time_budget"]),
        capture_kernel=CaptureKernel(
            boot=Boot(kernel["boot"]),
            cpus=_count(kernel["cpus"]),
            append=tuple(kernel["append"]),
            remove=tuple(kernel["remove"]),
        ),
        early=Early(value["early"]),
        memmap=tuple(
            MemmapHint(HintKind(hint["kind"]), hint.get("range"), _bytes(hint.get("start")), _bytes(hint.get("size")))
            for hint in value["memmap"]
        ),
        retention=Retention(
            keep=_count(retention["keep"]),
            max_size=None if retention["max_size"] == UNLIMITED else _bytes(retention["max_size"]),
            min_free=_bytes(retention["min_free"]) or 0,
        ),
    )


def _level(value: int | list[str]) -> PageKind:
    if isinstance(value, int):
        return PageKind(value)
    level = PageKind(0)
    for name in value:
        level |= PageKind[name.upper().replace("-", "_")]
    return level


def _count(value: int | str) -> int | None:
    return value if isinstance(value, int) else None


def _bytes(value: int | str | None) -> int | None:
    return parse_size(value) if isinstance(value, str) else value
