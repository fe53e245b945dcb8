"""Loads the drivers that the targets need, in the order that the image names, with the command line's parameters.

Without udev and modprobe a parameter such as `nvme_core.io_timeout=60` reaches a module only through us. A driver
whose start hangs is left behind and the next one is loaded. Called by `capture.runner`.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence

from kdumpd.capture.child import Tell
from kdumpd.capture.door import Result
from kdumpd.capture.mark import Mark
from kdumpd.capture.step import Steps

_SECONDS = 60.0


def load(steps: Steps, load_module: Callable[[str, str], None], modules: Sequence[str], command_line: str) -> None:
    """Each module is loaded, or was before, or a line says why not."""
    given = parameters(command_line)
    rest = list(modules)
    mark = Mark()
    while rest:
        mark.set(0)
        outcome = steps.run("drivers", _SECONDS, _loading(rest, given, load_module, mark), floor=_SECONDS)
        if outcome.failure is None:
            return
        done = mark.get()
        steps.incident("drivers", f"{rest[done]}: left behind, loading goes on with the next")
        rest = rest[done + 1 :]


def _loading(
    modules: Sequence[str], given: dict[str, str], load_module: Callable[[str, str], None], mark: Mark
) -> Callable[[Tell], Result]:
    def work(tell: Tell) -> Result:
        loaded = 0
        for done, path in enumerate(modules):
            mark.set(done)
            try:
                load_module(path, given.get(name_of(path), ""))
            except OSError as error:
                if error.errno != errno.EEXIST:  # udev was faster
                    harmless = " (harmless)" if error.errno == errno.ENODEV else ""  # for hardware that is not here
                    tell("drivers", f"{name_of(path)}: not loaded: {error.strerror}{harmless}")
                    continue
            loaded += 1
        tell("drivers", f"{loaded} of {len(modules)} modules loaded")
        return {"loaded": loaded}

    return work


def name_of(path: str) -> str:
    """The kernel's name of the module in a file."""
    return path.rpartition("/")[2].partition(".ko")[0].replace("-", "_")


def parameters(command_line: str) -> dict[str, str]:
    """The parameters of each module on a kernel's command line, as finit_module takes them."""
    given: dict[str, list[str]] = {}
    for word in _words(command_line):
        module, dot, _ = word.lstrip('"').partition(".")
        if dot and "=" not in module:
            given.setdefault(module.replace("-", "_"), []).append(word.replace(f"{module}.", "", 1))
    return {module: " ".join(words) for module, words in given.items()}


def _words(command_line: str) -> list[str]:
    """The words of a command line; spaces inside double quotes belong to the word (lib/cmdline.c, next_arg)."""
    words, word, quoted = [], "", False
    for character in command_line + " ":
        if character == '"':
            quoted = not quoted
        if character.isspace() and not quoted:
            if word:
                words.append(word)
            word = ""
        else:
            word += character
    return words
