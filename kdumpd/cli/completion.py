"""The completions of bash, zsh and fish, made by shtab from the parser, which is made from the verb table.

`python -m kdumpd.cli.completion DIR` writes them all; `packaging/completions` is what it wrote, and a test fails when
it is stale. Run where kdumpd is developed (extra `dev`): an installed kdumpd needs no shtab.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import shtab

from kdumpd.cli.main import parser

#: What the name of a value is completed by.
COMPLETED_BY = {
    "FILE": shtab.FILE,
    "VMCORE": shtab.FILE,
    "DUMP": shtab.FILE,
    "VMCORE/DUMP": shtab.FILE,
    "OUT": shtab.FILE,
    "DIR": shtab.DIRECTORY,
    "KERNEL": shtab.FILE,
    "RELEASE": shtab.cmd("ls /lib/modules 2>/dev/null"),
}
#: The file of each shell, under the name by which the shell finds it.
FILES = {"bash": "kdumpd", "zsh": "_kdumpd", "fish": "kdumpd.fish"}


def scripts() -> dict[str, str]:
    """Each shell's completion by its file's name."""
    top = parser()
    for action in _actions(top):
        if isinstance(action.metavar, str) and action.metavar in COMPLETED_BY:
            vars(action)["complete"] = COMPLETED_BY[action.metavar]
    return {file: f"{shtab.complete(top, shell).rstrip()}\n" for shell, file in FILES.items()}


def main(arguments: Sequence[str]) -> int:
    """Write every script into the directory named."""
    folder = Path(arguments[0])
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in scripts().items():
        (folder / name).write_text(text, encoding="utf-8")
    return 0


def _actions(top: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Every argument of the parser and of the parsers of its verbs."""
    for action in top._actions:
        yield action
        if isinstance(action.choices, dict):
            for below in action.choices.values():
                yield from _actions(below)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
