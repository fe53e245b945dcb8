"""A machine for the runner that is made of files: settings, a vmcore with a log, disks, and endings that are noted.

Mounting a disk makes the mount point a link to the disk's folder, so that two disks are told apart.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kdumpd.capture.machine import Machine
from kdumpd.capture.settings import DEFAULT_POLICY
from kdumpd.policy.compiled import from_json, to_json
from kdumpd.target.device import Places
from tests.builders.printk import Record, put_log
from tests.builders.vmcore import VmcoreBuilder

LOG = tuple(Record(f"line {number}".encode(), number * 1_000_000) for number in range(64))


def crashed(path: Path, *, log: bool = True, **changes: Any) -> str:
    """A vmcore of 256 MiB with 64 lines of log, 2048 of its pages free."""
    builder = VmcoreBuilder(**changes)
    builder.free_block(0x8000, 10)
    builder.free_block(0x8400, 10)
    builder.free_pages(2048)
    if log:
        put_log(builder, LOG)
    return builder.save(path)


class Disks:
    """A rig: `machine` is handed to the runner, `ended` is how it ended, `folders` what the disks hold."""

    def __init__(self, root: Path, vmcore: str, policy: Mapping[str, Any] | None = None, disks: int = 1) -> None:
        self.root = root
        self.ended: list[str] = []
        self.broken: dict[str, int] = {}
        self.settings = root / "etc"
        self.folders = [root / f"disk{number}" for number in range(disks)]
        point = root / "run" / "targets"
        for folder in (self.settings, root / "sys", root / "dev", *self.folders):
            folder.mkdir()
        for number in range(disks):
            self._add_disk(f"vd{'abc'[number]}", number)
        places = [
            {"device": f"LABEL=disk{number}", "fstype": "ext4", "directory": "/var/crash", "path": "/var/crash"}
            for number in range(disks)
        ]
        document = json.loads(to_json(DEFAULT_POLICY))
        document["retention"]["min_free"] = 0
        for key, value in (policy or {}).items():
            document[key] = document[key] | value if key == "retention" else value
        self.write("policy.json", to_json(from_json(json.dumps(document))))
        self.write("targets.json", json.dumps({"targets": places, "hostname": "known", "hands_off": []}))
        self.write("modules.json", json.dumps({"modules": []}))
        self.write("manifest.json", json.dumps({"kernel": os.uname().release, "files": {}}))
        self.machine = Machine(
            settings=str(self.settings),
            vmcore=vmcore,
            command_line=str(root / "cmdline"),
            mount_point=str(point),
            devices=Places(str(root / "sys"), str(root / "dev"), patience=0.5),
            mount=self._mount,
            unmount=lambda directory: None,
            detach=lambda directory: None,
            load_module=lambda path, parameters: None,
            sync=lambda directory: None,
            restart=self._note("reboot"),
            power_off=self._note("poweroff"),
            halt=self._note("halt"),
        )

    def write(self, name: str, text: str) -> None:
        (self.settings / name).write_text(text)

    def crash_folders(self, disk: int = 0) -> list[Path]:
        """What the runner made on a disk."""
        return sorted((self.folders[disk] / "var" / "crash").glob("*"))

    def report(self, disk: int = 0) -> Any:
        """kdumpd.json of the only crash on a disk."""
        (folder,) = self.crash_folders(disk)
        return json.loads((folder / "kdumpd.json").read_text())

    def break_disk(self, number: int, error: int = errno.EROFS) -> None:
        """Mounting this disk fails."""
        self.broken[f"vd{'abc'[number]}"] = error

    def silence_disk(self, number: int) -> None:
        """Reading this disk waits for ever."""
        path = self.root / "dev" / f"vd{'abc'[number]}"
        path.unlink()
        os.mkfifo(path)

    def _add_disk(self, name: str, number: int) -> None:
        (self.root / "sys" / name).mkdir()
        (self.root / "sys" / name / "size").write_text("2048\n")
        superblock = bytearray(8192)
        superblock[1024 + 56 : 1024 + 58] = b"\x53\xef"
        superblock[1024 + 120 : 1024 + 125] = b"disk" + str(number).encode()
        (self.root / "dev" / name).write_bytes(superblock)

    def _mount(self, device: str, directory: str, kind: str, options: str) -> None:
        name = Path(device).name
        if name in self.broken:
            raise OSError(self.broken[name], os.strerror(self.broken[name]), device)
        point = Path(directory)
        if point.is_symlink():
            point.unlink()
        else:
            point.rmdir()
        point.symlink_to(self.root / f"disk{'abc'.index(name[-1])}")

    def _note(self, ending: str) -> Callable[[], None]:
        return lambda: self.ended.append(ending)
