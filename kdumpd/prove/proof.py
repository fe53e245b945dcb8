"""Each target of a policy proved: found down to its disk's drivers, written to and read back, with room for a dump.

    proofs = prove(policy)             in a process apart for each target, within one deadline; changes nothing
    record(Path("/"), proofs)          /var/lib/kdumpd/targets.json, which `kdumpd status` reads
    for proof in proofs: proof.line()  what to tell

Whoever calls this under the lock of kdumpd's state keeps it: the processes apart let go of it. Called by the verb
`apply` before it says armed, and by `python3 -m kdumpd.prove`, which the service runs. May import `host` and `policy`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from kdumpd.errors import HostError, TargetError
from kdumpd.host import mounts, statefile
from kdumpd.host import target as host_target
from kdumpd.host.target import Places
from kdumpd.policy.model import Policy
from kdumpd.prove import apart, probe, room

NAME = "targets.json"
VERSION = 1


class Proof(NamedTuple):
    """What was found out about a target: `time` in seconds since 1970, `free` in bytes, None where it was not reached.

    `why` says what is wrong where it is not `ok`, and what to look at where it is; empty where there is nothing to say.
    """

    path: str
    time: int
    ok: bool
    free: int | None
    why: str

    def line(self) -> str:
        """One line for a person."""
        if not self.ok:
            return f"target {self.path}: {self.why}"
        free = f"written and read back, {(self.free or 0) / (1 << 30):.1f} GiB free"
        return f"target {self.path}: {free}" + (f"; but {self.why}" if self.why else "")


def prove(
    policy: Policy, root: Path = Path("/"), places: Places | None = None, deadline: float = apart.DEADLINE
) -> tuple[Proof, ...]:
    """A proof for each target of the policy, in its order; nothing is raised for what is wrong with one."""
    where = places or Places()
    paths = [target.path for target in policy.targets]
    works = [lambda path=path: _tried(path, root, where) for path in paths]
    questions = [f"proof below {root}: {path}" for path in paths]
    answers = apart.together(works, deadline, questions, where.run)
    need = _need(policy, where)
    now = int(time.time())
    return tuple(
        _proof(path, now, answer, policy.retention.min_free, need) for path, answer in zip(paths, answers, strict=True)
    )


def document(proofs: tuple[Proof, ...]) -> dict[str, object]:
    """The record of these proofs."""
    return {"version": VERSION, "targets": [proof._asdict() for proof in proofs]}


def record(root: Path, proofs: tuple[Proof, ...]) -> None:
    """The record is replaced by these proofs; HostError where it cannot be."""
    statefile.replace(statefile.folder(root) / NAME, document(proofs))


def _tried(path: str, root: Path, places: Places) -> Mapping[str, Any]:
    """In a process apart: the target is found, and its file system written to."""
    try:
        facts = host_target.locate(path, places, root)
        mounted = mounts.parse((places.proc / "self" / "mountinfo").read_text(errors="replace"))
        directory = probe.nearest(Path(host_target.resolve(path, root, mounted)))
        return {"free": probe.write_and_read(directory), "warnings": facts.warnings}
    except (HostError, TargetError) as error:
        return {"failure": str(error)}
    except OSError as error:
        return {"failure": f"cannot be looked at: {error.strerror}; see the kernel's log"}
    except (RuntimeError, ValueError) as error:
        return {"failure": apart.senseless(error)}


def _proof(path: str, now: int, answer: apart.Answer, min_free: int, need: int) -> Proof:
    failure = answer.failure or str(answer.result.get("failure", ""))
    if failure:
        return Proof(path, now, False, None, _without_name(failure, path))
    free = int(answer.result["free"])
    ok, why = room.judged(free, min_free, need)
    said = [why, *(_without_name(str(warning), path) for warning in answer.result["warnings"])]
    return Proof(path, now, ok, free, "; ".join(filter(None, said)))


def _without_name(line: str, path: str) -> str:
    return line.removeprefix(f"target {path}: ")


def _need(policy: Policy, places: Places) -> int:
    try:
        text = (places.proc / "meminfo").read_text()
    except OSError:
        return 0
    return room.rough_need(room.parse_meminfo(text), policy.dump)
