"""What systemd is told in an image that it boots: the targets' devices to wait for. Pure.

Called by `image.build` for the dracut way. May import `steps` alone.
"""

from __future__ import annotations

from collections.abc import Iterable

from kdumpd.steps.build import CaptureTarget

DROP_IN = "etc/systemd/system/kdumpd-capture.service.d/targets.conf"

#: Seconds that the runner's start waits for a device; then it starts anyway, saves what it can, and tries each target.
PATIENCE = 60

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:_.")
_BY_TAG = {"UUID": "by-uuid", "LABEL": "by-label", "PARTUUID": "by-partuuid"}


def escaped(path: str) -> str:
    """A path as a unit's name says it (systemd.unit(5), "String escaping for inclusion in unit names")."""

    def one(position: int, letter: str) -> str:
        if letter == "/":
            return "-"
        if letter in _PLAIN and not (letter == "." and position == 0):
            return letter
        return "".join(f"\\x{byte:02x}" for byte in letter.encode())

    return "".join(one(position, letter) for position, letter in enumerate(path.strip("/"))) or "-"


def _device_unit(device: str) -> str:
    tag, equals, value = device.partition("=")
    return f"{escaped(f'/dev/disk/{_BY_TAG[tag]}/{value}' if equals and tag in _BY_TAG else device)}.device"


def drop_ins(targets: Iterable[CaptureTarget]) -> dict[str, str]:
    """Drop-in files by path: the runner's unit comes after every target's device, for `PATIENCE` seconds."""
    units = tuple(dict.fromkeys(_device_unit(target.device) for target in targets))
    if not units:
        return {}
    lines = ["[Unit]", *(f"{key}={unit}" for unit in units for key in ("Wants", "After"))]
    files = {DROP_IN: "\n".join(lines) + "\n"}
    for unit in units:
        files[f"etc/systemd/system/{unit}.d/patience.conf"] = f"[Unit]\nJobRunningTimeoutSec={PATIENCE}s\n"
    return files
