"""The page-scan module, loaded after all drivers: the log needs it not, and what it does the user engine can do too.

Why it cannot be loaded is one line: a note where the policy leaves the engine to us, an incident where it names the
module. Called by `capture.runner`. May import `policy.model`, `capture.drivers` and `capture.step`.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable

from kdumpd.capture import drivers
from kdumpd.capture.child import Tell
from kdumpd.capture.door import Result
from kdumpd.capture.step import Steps
from kdumpd.policy.model import EngineChoice

MODULE = "kdumpd_scan"

_SECONDS = 60.0  # mapping what a memmap hint names may take a while
# What loading a module is refused for: kernel/module/signing.c, kernel/module/main.c; ENODEV is our own module's.
_REASONS = {
    errno.EKEYREJECTED: "it is not signed by a key that this kernel trusts",
    errno.ENOKEY: "it is not signed by a key that this kernel trusts",
    errno.EPERM: "this kernel is locked down and takes signed modules alone",
    errno.EBADMSG: "its signature is damaged",
    errno.ENOEXEC: "it was made for another kernel",
    errno.EINVAL: "it was made for another kernel, or a parameter is wrong",
    errno.ENOENT: "it needs what this kernel does not have",
    errno.ENODEV: "it refuses this kernel; its line in the kernel's log says why",
    errno.ENOMEM: "there is no memory for it",
}


def is_scanner(path: str) -> bool:
    """Whether a module's file is that of the page-scan module."""
    return drivers.name_of(path) == MODULE


def load(
    steps: Steps,
    load_module: Callable[[str, str], None],
    paths: Iterable[str],
    command_line: str,
    engine: EngineChoice,
) -> None:
    """The module is loaded if one of these files is it and the policy wants it; a line says why it could not be."""
    path = next(filter(is_scanner, paths), "")
    if not path or engine is EngineChoice.USER:
        return
    parameters = drivers.parameters(command_line).get(MODULE, "")

    def work(tell: Tell) -> Result:
        try:
            load_module(path, parameters)
        except OSError as error:
            if error.errno != errno.EEXIST:
                return {"refused": reason(error)}
        tell("drivers", f"{MODULE} loaded{f' with {parameters}' if parameters else ''}")
        return {}

    refused = steps.run("drivers", _SECONDS, work, floor=_SECONDS).result.get("refused")
    if refused:
        say = steps.incident if engine is EngineChoice.KERNEL else steps.note
        say("drivers", f"{MODULE} not loaded: {refused}; the user engine chooses the pages")


def reason(error: OSError) -> str:
    """Why the module is refused, in words and with the kernel's own."""
    number = error.errno or 0
    return f"{_REASONS.get(number, error.strerror)} ({errno.errorcode.get(number, number)})"
