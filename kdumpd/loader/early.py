"""The crash kernel loaded at boot before the file systems are mounted: what was loaded last for this kernel, again.

`python3 -m kdumpd.loader.early` is what kdumpd-early.service runs. It decides nothing: `plan` has put a record of the
load beside the image (load.json), and where that still fits, the same files are loaded with the same command line and
loaded.json says so, by which `plan` finds nothing to do. What does not fit is told in one line and left to
kdumpd.service. Every import here is time in which a crash is lost: `errors`, `host.hardware` and the standard library,
without pathlib, subprocess, dataclasses and typing.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import sys
import time

from kdumpd.errors import LoadError
from kdumpd.host import hardware

#: What the initramfs leaves when it has loaded already: the record that it carries.
LOADED_BEFORE = "run/kdumpd/early.json"
#: What is there from `kdumpd disarm` until `kdumpd apply`, as `plan.state.disarmed_file`.
DISARMED = "run/kdumpd/disarmed"

_PROGRAMS = ("usr/sbin/kexec", "sbin/kexec", "usr/bin/kexec")
#: kexec_file_load, then kexec_load, as `loader.kexec.Call`.
_CALLS = ("-s", "-c")
#: Parameters that name physical addresses, which another boot may have otherwise.
_ADDRESSES = ("memmap=", "kdumpd_scan.map=")
#: What a record has to have, and of which type.
_FIELDS = {"vmlinuz": str, "vmlinuz_sha256": str, "command_line": str, "image_sha256": str, "reservation": int}

Record = dict[str, object]


def arm(root: str = "/", release: str = "") -> str:
    """What was done, in one line: loaded, or found to be loaded already. LoadError says what does not fit."""
    state = os.path.join(root, "var/lib/kdumpd")
    loaded, reservation = _crash_state(root)
    lock = _lock(os.path.join(state, "lock"))
    try:
        if os.path.exists(os.path.join(root, DISARMED)):
            raise LoadError("`kdumpd disarm` was the last word in this boot")
        if loaded:
            known = _read(os.path.join(state, "loaded.json"))
            if known is not None and known.get("boot_id") == _boot_id(root):
                # This was started again: what the initramfs did is on record, and may not be what is loaded now.
                return "a crash kernel is loaded already, and on record; kdumpd.service looks at it"
            carried = _read(os.path.join(root, LOADED_BEFORE))
            if carried is None:
                return "a crash kernel is loaded already; kdumpd.service looks at it"
            _write(os.path.join(state, "loaded.json"), carried, root)
            return f"the initramfs has loaded {carried['vmlinuz']}; that is on record now"
        release = release or os.uname().release
        folder = os.path.join(state, release)
        record = _read(os.path.join(folder, "load.json"))
        if record is None:
            raise LoadError(f"{folder}/load.json: there is no record of a load for kernel {release}")
        image = os.path.join(folder, "capture.img")
        _check(record, root, image, reservation)
        _load(root, image, record)
        if not _crash_state(root)[0]:
            raise LoadError("kexec succeeded, but the kernel says that no crash kernel is loaded")
        _write(os.path.join(state, "loaded.json"), record, root)
        return f"loaded {record['vmlinuz']} with {image}"
    finally:
        os.close(lock)


def main() -> int:
    """One line, and always 0: what is not done here is kdumpd.service's to do, and to complain about."""
    # The journal takes the priority from the head of the line.
    warning, note = ("<4>", "<6>") if "JOURNAL_STREAM" in os.environ else ("", "")
    try:
        print(f"{note}{arm()}", flush=True)
    except LoadError as error:
        print(f"{warning}{error}; left to kdumpd.service", flush=True)
    except OSError as error:
        print(f"{warning}{error.filename or 'kexec'}: {error.strerror}; left to kdumpd.service", flush=True)
    except ValueError as error:  # a path or a word of the record that no file and no program can have
        print(f"{warning}load.json is damaged: {error}; left to kdumpd.service", flush=True)
    return 0


def _text(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read().strip()
    except OSError:
        return None


def _crash_state(root: str) -> tuple[bool, int]:
    """(is a crash kernel loaded, bytes reserved for one), as `host.facts.crash_state`; Linux 6.19 has a folder too."""
    kernel = os.path.join(root, "sys/kernel")
    for prefix in ("kexec_crash_", "kexec/crash_"):
        loaded, size = _text(f"{kernel}/{prefix}loaded"), _text(f"{kernel}/{prefix}size")
        if loaded is not None and size is not None and size.isdigit():
            return loaded == "1", int(size)
    raise LoadError("this kernel cannot load a crash kernel: there is no /sys/kernel/kexec_crash_loaded")


def _lock(path: str) -> int:
    """kdumpd's one lock, held until the descriptor is closed."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise LoadError("another kdumpd is at work") from None
    return descriptor


def _boot_id(root: str) -> str:
    return _text(os.path.join(root, "proc/sys/kernel/random/boot_id")) or ""


def _read(path: str) -> Record | None:
    """A record that has what a load needs; None where there is none."""
    try:
        record = json.loads(_text(path) or "")
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or any(not isinstance(record.get(name), kind) for name, kind in _FIELDS.items()):
        return None
    return record


def _sha256(path: str) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _check(record: Record, root: str, image: str, reservation: int) -> None:
    """The record fits this boot."""
    line = str(record["command_line"])
    needed = record["reservation"]
    if not reservation:
        raise LoadError("no memory is reserved for a crash kernel")
    if isinstance(needed, int) and reservation < needed:
        raise LoadError(f"{reservation >> 20} MiB are reserved now, {needed >> 20} MiB when this image was loaded")
    if record.get("boot_id") != _boot_id(root) and names_addresses(line):
        raise LoadError("the command line names physical addresses (memmap in the policy), which are another boot's")
    for path, wanted in ((image, "image_sha256"), (_below(root, record["vmlinuz"]), "vmlinuz_sha256")):
        if _sha256(path) != record[wanted]:
            raise LoadError(f"{path}: is not the file that was loaded last")


def names_addresses(command_line: str) -> bool:
    """Whether it is good for one boot alone."""
    return any(word.startswith(_ADDRESSES) for word in command_line.split())


def _below(root: str, path: object) -> str:
    return os.path.join(root, str(path).lstrip("/"))


def _load(root: str, image: str, record: Record) -> None:
    """The crash kernel is loaded, by either system call."""
    kexec = next((path for path in (_below(root, name) for name in _PROGRAMS) if os.access(path, os.X_OK)), None)
    if kexec is None:
        raise LoadError("kexec: the program is not installed")
    said = ""
    for call in _CALLS:
        arguments = load_arguments(kexec, call, image, str(record["command_line"]), _below(root, record["vmlinuz"]))
        code, said = _run(arguments)
        if code == 0:
            return
    raise LoadError(f"{record['vmlinuz']}: not loaded: {said}")


def load_arguments(kexec: str, call: str, image: str, command_line: str, vmlinuz: str) -> tuple[str, ...]:
    """As `loader.kexec.load_arguments`."""
    return (kexec, "-p", call, f"--initrd={image}", f"--command-line={command_line}", vmlinuz)


def _run(arguments: tuple[str, ...]) -> tuple[int, str]:
    """(exit code, last words) of a program."""
    reading, writing = os.pipe()
    actions = [(os.POSIX_SPAWN_DUP2, writing, 1), (os.POSIX_SPAWN_DUP2, writing, 2)]
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
    with open(reading, encoding="utf-8", errors="replace") as stream:
        try:
            child = os.posix_spawn(arguments[0], arguments, environment, file_actions=actions)
        finally:
            os.close(writing)
        said = stream.read().strip()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code, said.rpartition("\n")[2] or f"it ended with {code}"


def _write(path: str, record: Record, root: str) -> None:
    """The record is the one of the last load, of this boot, replaced in one step."""
    hardware_now = {
        "cpus": _text(os.path.join(root, "sys", hardware.CPUS)) or "",
        "memory": hardware.memory(_text(os.path.join(root, "proc/iomem")) or ""),
    }
    document = json.dumps({**record, **hardware_now, "boot_id": _boot_id(root), "time": time.time()}, sort_keys=True)
    temporary = f"{path}.early"
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w") as stream:
            stream.write(document + "\n")
        os.replace(temporary, path)
    except OSError as error:
        raise LoadError(f"loaded, but {path} cannot be written: {error.strerror}") from error


if __name__ == "__main__":
    sys.exit(main())
