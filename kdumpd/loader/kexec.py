"""The crash kernel loaded by kexec: argv (pure), the two system calls in turn, and the proof that it is loaded.

Called by `plan.carry`; `rehearse` renders the same argv for its guest. May import `host`, `steps` and `errors`.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from kdumpd.errors import HostError, LoadError
from kdumpd.host import facts, program
from kdumpd.steps.load import LoadCrashKernel

DEADLINE = 300.0  # seconds for one call: kexec reads and copies some 30 MB


class Call(enum.Enum):
    """The system call that loads: kexec_file_load (the kernel checks signatures) or the older kexec_load."""

    FILE = "-s"
    MEMORY = "-c"


class Loaded(NamedTuple):
    """How it was loaded; `refusal` says why kexec_file_load was not taken, empty when it was."""

    call: Call
    refusal: str


#: kexec-tools prints strerror; what each means here (kexec_file_load(2), Linux kernel/kexec_file.c).
_REFUSALS = (
    ("Function not implemented", "this kernel has no kexec_file_load"),
    ("not supported on this", "this kernel has no kexec_file_load"),
    ("Operation not permitted", "forbidden: lockdown, a sysctl (kernel.kexec_load_disabled) or no privilege"),
    ("Required key not available", "the kernel is not signed by a key that this kernel knows (Secure Boot)"),
    ("Key was rejected", "the kernel's signature was rejected (Secure Boot)"),
    ("Bad message", "the kernel is not signed, and this kernel wants a signature"),
    ("No data available", "the kernel is not signed, and this kernel wants a signature"),
    ("Exec format error", "this kernel does not take that format of kernel image"),
    ("Cannot determine the file type", "kexec-tools does not know that format of kernel image"),
    ("Cannot allocate memory", "the reservation is too small for kernel and image"),
    ("Cannot assign requested address", "no room for kernel and image in the reservation"),
    ("not enough memory", "the reservation is too small for kernel and image"),
    ("Could not find a free area", "no room for kernel and image in the reservation"),
    ("Device or resource busy", "another kexec is at work"),
)


def load_arguments(kexec: str, step: LoadCrashKernel, call: Call) -> tuple[str, ...]:
    """The argv that loads a crash kernel."""
    return (
        kexec,
        "-p",
        call.value,
        f"--initrd={step.image}",
        f"--command-line={step.command_line}",
        str(step.vmlinuz),
    )


def reason(complaint: str) -> str:
    """What kexec's last words mean; its own words when they are not known."""
    for words, meaning in _REFUSALS:
        if words.lower() in complaint.lower():
            return f"{meaning} ({complaint})"
    return complaint or "it gave no reason"


def load(
    step: LoadCrashKernel, kexec: str | None = None, sys: Path = Path("/sys"), deadline: float = DEADLINE
) -> Loaded:
    """The crash kernel is loaded, which the kernel itself confirms; a kernel that was loaded before is replaced.

    `kexec` is the program's path when it is not the installed one. Raises LoadError with both system calls' refusals,
    or with the one call that was not done within `deadline` seconds, after which another would only find the kernel
    busy; and with whether a crash kernel is loaded still: both calls free the one that was (Linux kernel/kexec.c,
    do_kexec_load, and kernel/kexec_file.c) before they know whether they can load another.
    """
    kexec = kexec or program.require("kexec", "kexec-tools")
    refusals: list[str] = []
    for call in Call:
        outcome = _run(load_arguments(kexec, step, call), f"{step.vmlinuz}: not loaded", sys, deadline)
        if outcome.code == 0:
            if not facts.crash_state(sys)[1]:
                raise LoadError("kexec: succeeded, but the kernel says that no crash kernel is loaded; see dmesg")
            return Loaded(call, refusals[0] if refusals else "")
        refusals.append(reason(outcome.errors.strip().replace("\n", "; ")[-300:] or outcome.complaint))
    raise LoadError(
        f"{step.vmlinuz}: not loaded; kexec_file_load: {refusals[0]}; kexec_load: {refusals[1]}; "
        f"{_left(sys)}; see dmesg for the kernel's own words"
    )


def unload(kexec: str | None = None, sys: Path = Path("/sys"), deadline: float = DEADLINE) -> None:
    """No crash kernel is loaded, which the kernel itself confirms; LoadError as `load` raises it."""
    kexec = kexec or program.require("kexec", "kexec-tools")
    refusals: list[str] = []
    for call in Call:
        outcome = _run((kexec, "-p", call.value, "-u"), "the crash kernel cannot be unloaded", sys, deadline)
        if outcome.code == 0 and not facts.crash_state(sys)[1]:
            return
        refusals.append(reason(outcome.errors.strip().replace("\n", "; ")[-300:] or outcome.complaint))
    raise LoadError(
        f"the crash kernel is still loaded; kexec_file_load: {refusals[0]}; kexec_load: {refusals[1]}; "
        "see dmesg for the kernel's own words"
    )


def _run(arguments: Sequence[str], failed: str, sys: Path, deadline: float) -> program.Outcome:
    """The outcome of kexec; LoadError where it has none."""
    try:
        return program.run(arguments, deadline=deadline)
    except HostError as error:
        raise LoadError(
            f"{failed}: {error}; {_left(sys)}; see dmesg for what kexec waits for, mend that or restart, "
            "then run kdumpd apply"
        ) from error


def _left(sys: Path) -> str:
    """What a call that failed has left."""
    if facts.crash_state(sys)[1]:
        return "the crash kernel that was loaded before still is"
    return "no crash kernel is loaded now"
