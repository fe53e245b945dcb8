"""A target with dumps on it as captures, dead captures, peers and enemies leave them; and the machine's own records."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from kdumpd.dumps.aftermath import Aftermath, Places
from kdumpd.dumps.crashes import Crashes, read
from kdumpd.dumps.telling import Event
from kdumpd.policy.load import default
from kdumpd.policy.model import LocalTarget, Policy, Retention
from kdumpd.vmcore.vmcore import Vmcore
from tests.unit.dumpfile import crash

PANIC = crash.PANIC.decode()
EVERYTHING = Retention(keep=None, max_size=None, min_free=0)
BOOT = "boot-2"
LOG = f"[    1.000000] sysrq: Trigger a crash\n[    1.000001] {PANIC}\n"


def save_dump(folder: Path) -> Path:
    """A good dump, made once."""
    dump = folder / "good"
    with Vmcore.open(crash.save_vmcore(folder / "core")) as core:
        crash.dump(core, dump)
    return dump


class Rig:
    """Targets, a state folder, pstore; `run` is one start of the service."""

    def __init__(self, root: Path, good: Path, targets: int = 1) -> None:
        self.good = good
        self.targets = [root / f"crash{number}" for number in range(targets)]
        self.state, self.kernel, self.archive = root / "state", root / "pstore", root / "archive"
        self.proc = root / "proc"
        for folder in (*self.targets, self.state, self.kernel, self.archive):
            folder.mkdir()
        random = self.proc / "sys" / "kernel" / "random"
        random.mkdir(parents=True)
        (random / "boot_id").write_text(f"{BOOT}\n")
        self.named("web1")
        self.places = Places(str(self.state), str(self.proc), (str(self.kernel), str(self.archive)))

    def policy(self, retention: Retention = EVERYTHING) -> Policy:
        return replace(
            default(), targets=tuple(LocalTarget(str(target)) for target in self.targets), retention=retention
        )

    def folder(self, number: int, target: int = 0, **changes: Any) -> Path:
        """The directory of crash `number`, with log and record, as a capture leaves it before its dump."""
        folder = self.targets[target] / f"web1-20261124-1000{number:02}"
        folder.mkdir(mode=0o700)
        (folder / "dmesg.txt").write_text(LOG)
        crash = {"host": "web1", "time": 1795514400.0 + number, "release": "6.1.0", "machine": "x86_64"}
        document = {"format": 1, "complete": False, "failure": "", "crash": crash} | changes
        (folder / "kdumpd.json").write_text(json.dumps(document))
        return folder

    def of(self, host: str, number: int, target: int = 0) -> Path:
        """A complete one of another machine that shares the target."""
        crash = {"host": host, "time": 1795514400.0 + number, "release": "6.1.0"}
        folder = self.dump(number, target, crash=crash)
        return folder.rename(folder.with_name(folder.name.replace("web1", host)))

    def dump(self, number: int, target: int = 0, size: int = 0, **changes: Any) -> Path:
        """A complete one; `size` bytes more of ballast."""
        folder = self.folder(number, target, **({"complete": True} | changes))
        shutil.copy(self.good, folder / "vmcore")
        if size:
            (folder / "capture.log").write_bytes(os.urandom(size))
        return folder

    def dead(self, number: int, stage: str = "dump: 10 of 20 pages, 300 MiB") -> Path:
        """One whose capture kernel died in a step."""
        folder = self.folder(number)
        (folder / "vmcore.incomplete").write_bytes(bytes(3 << 20))
        (folder / "stage.txt").write_bytes(f"kdumpd: +7.50 s mem=60 M {stage}".encode().ljust(511) + b"\n")
        return folder

    def running(
        self, boot: str = "boot-1", *, armed: bool = True, since: float = 1795510000.0, host: str = "web1"
    ) -> None:
        """The service was running when that boot ended."""
        document = {"boot_id": boot, "since": since, "armed": armed, "host": host}
        (self.state / "running.json").write_text(json.dumps(document))

    def boot(self, name: str) -> None:
        (self.proc / "sys" / "kernel" / "random" / "boot_id").write_text(f"{name}\n")

    def named(self, host: str) -> None:
        """This machine goes under that name."""
        (self.proc / "sys" / "kernel" / "hostname").write_text(f"{host}\n")

    def run(self, retention: Retention | None = None) -> list[Event]:
        events: list[Event] = []
        aftermath = Aftermath(self.policy(retention or EVERYTHING), self.places, events.append)
        aftermath.run(retain=retention is not None)
        return events

    def record(self) -> Crashes:
        found = read(str(self.state))
        assert found is not None
        return found

    def names(self, target: int = 0) -> list[str]:
        """What is on a target."""
        return sorted(path.name for path in self.targets[target].iterdir())
