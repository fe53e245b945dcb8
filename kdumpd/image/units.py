"""What systemd and dracut are told in an image that they boot: what to assemble, and which devices to wait for. Pure.

Called by `image.build` for the dracut way. May import `steps` alone.
"""

from __future__ import annotations

from collections.abc import Iterable

from kdumpd.steps.build import CaptureTarget

DROP_IN = "etc/systemd/system/kdumpd-capture.service.d/targets.conf"

#: A hook for dracut's initqueue, which runs what assembles devices until this succeeds; module-setup.sh installs it.
FINISHED = "etc/kdumpd/initqueue-finished.sh"

#: Words of the command line that dracut reads inside the image.
COMMAND_LINE = "etc/cmdline.d/kdumpd.conf"

#: How systemd is told to restart the machine when it dies itself, where it would stand still for ever, and to ignore
#: control-alt-delete however often it is pressed.
MANAGER = "etc/systemd/system.conf.d/kdumpd.conf"
MANAGER_TEXT = "[Manager]\nCrashReboot=yes\nCtrlAltDelBurstAction=none\n"

#: Seconds that the runner's start waits for a device; then it starts anyway, saves what it can, and tries each target.
PATIENCE = 120

#: dracut's own count of seconds: when two thirds of it are over, it puts together what is incomplete.
_RETRY = 60

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:_.")


def escaped(path: str) -> str:
    """A path as a unit's name says it (systemd.unit(5), "String escaping for inclusion in unit names")."""

    def one(position: int, letter: str) -> str:
        if letter == "/":
            return "-"
        if letter in _PLAIN and not (letter == "." and position == 0):
            return letter
        return "".join(f"\\x{byte:02x}" for byte in letter.encode())

    return "".join(one(position, letter) for position, letter in enumerate(path.strip("/"))) or "-"


def _device_path(device: str) -> str:
    return f"/dev/disk/by-uuid/{device.removeprefix('UUID=')}" if device.startswith("UUID=") else device


def _finished(paths: Iterable[str]) -> str:
    tests = " && ".join(f"[ -e '{path}' ]" for path in paths)
    return (
        "# Every target's device is there, or has been waited for long enough.\n"
        "read -r uptime _ < /proc/uptime\n"
        f'[ "${{uptime%%.*}}" -ge {PATIENCE} ] || {{ {tests}; }}\n'
    )


def command_line(assembling: bool) -> str:
    """What dracut is told (dracut.cmdline(7)): no shell, which would wait for ever, and a restart as the last resort.

    `assembling`: every array and volume group is put together, an incomplete one too, well before `PATIENCE` is over;
    else dracut takes only what a command line names.
    """
    words = ["rd.shell=0", "rd.emergency=reboot"]
    if assembling:
        words += ["rd.auto", f"rd.retry={_RETRY}"]
    return " ".join(words) + "\n"


def waiting(targets: Iterable[CaptureTarget]) -> dict[str, str]:
    """Files by path: the runner's unit comes after every target's device, for `PATIENCE` seconds."""
    paths = tuple(dict.fromkeys(_device_path(target.device) for target in targets))
    units = tuple(f"{escaped(path)}.device" for path in paths)
    if not units:
        return {}
    lines = ["[Unit]", *(f"{key}={unit}" for unit in units for key in ("Wants", "After"))]
    files = {DROP_IN: "\n".join(lines) + "\n", FINISHED: _finished(paths)}
    for unit in units:
        files[f"etc/systemd/system/{unit}.d/patience.conf"] = f"[Unit]\nJobRunningTimeoutSec={PATIENCE}s\n"
    return files
