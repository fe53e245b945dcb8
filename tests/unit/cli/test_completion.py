"""The completions are those of the verb table, and each shell completes by them."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import time
from pathlib import Path

import pytest

from kdumpd.cli import completion
from kdumpd.cli.verbs import VERBS

REPOSITORY = Path(__file__).parents[3]
FOLDER = REPOSITORY / "packaging/completions"

BASH = """\
source "$1/kdumpd"
COMP_WORDS=("${@:2}") COMP_CWORD=$(($# - 2)) COMPREPLY=()
function=$(complete -p kdumpd | sed 's/.*-F \\([^ ]*\\).*/\\1/')
"$function" kdumpd "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""
FISH = "source $argv[1]/kdumpd.fish; complete -C (string join ' ' -- $argv[2..])"


def test_the_files_are_not_stale() -> None:
    made = completion.scripts()
    assert {path.name: path.read_text() for path in FOLDER.iterdir()} == made, "run make docs"


def bash(*words: str) -> set[str]:
    command = ["bash", "--norc", "-c", BASH, "bash", str(FOLDER), *words]
    return set(subprocess.run(command, capture_output=True, text=True, check=True, cwd=REPOSITORY).stdout.split())


def fish(*words: str, home: Path) -> set[str]:
    command = ["fish", "--no-config", "-c", FISH, str(FOLDER), *words]
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "LC_ALL": "C.UTF-8"}
    run = subprocess.run(command, capture_output=True, text=True, check=True, cwd=REPOSITORY, env=environment)
    return {line.partition("\t")[0] for line in run.stdout.splitlines()}


CASES = pytest.mark.parametrize(
    ("words", "found"),
    [
        (("kdumpd", ""), sorted(verb.name for verb in VERBS)),
        (("kdumpd", "ver"), ["verify"]),
        (("kdumpd", "apply", "--ro"), ["--root"]),
        (("kdumpd", "rehearse", "--panic", ""), ["nmi", "oom", "oops", "sysrq"]),
        (("kdumpd", "check", "config/kdumpd.y"), ["config/kdumpd.yaml"]),
        (("kdumpd", "dump", "README.m"), ["README.md"]),
    ],
    ids=" ".join,
)


@CASES
def test_bash_completes(words: tuple[str, ...], found: list[str]) -> None:
    assert bash(*words) == set(found)


@CASES
def test_fish_completes(words: tuple[str, ...], found: list[str], tmp_path: Path) -> None:
    assert fish(*words, home=tmp_path) == set(found)


def zsh(typed: str, wanted: str, home: Path) -> str:
    """What a terminal shows when this is typed; it waits for what is wanted, ten seconds at most."""
    (home / ".zshrc").write_text(f"fpath=({FOLDER} $fpath)\nautoload -U compinit && compinit -u -D\nPS1='ready> '\n")
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "TERM": "dumb", "LC_ALL": "C.UTF-8"}
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(REPOSITORY)
        os.execvpe("zsh", ["zsh", "-i"], environment)
    shown = ""
    try:
        for text, until in (("", "ready> "), (typed, wanted)):
            os.write(terminal, text.encode())
            end = time.monotonic() + 10
            while until not in shown and time.monotonic() < end:
                if select.select([terminal], [], [], 0.2)[0]:
                    shown += os.read(terminal, 4096).decode(errors="replace")
    finally:
        os.close(terminal)
        os.kill(process, 9)
        os.waitpid(process, 0)
    return shown


@pytest.mark.parametrize(
    ("typed", "wanted"),
    [
        ("kdumpd ver\t", "kdumpd verify "),
        ("kdumpd apply --ro\t", "kdumpd apply --root "),
        ("kdumpd check config/kdumpd.y\t", "kdumpd check config/kdumpd.yaml "),
        ("kdumpd rehearse --panic o\t\t", "oops"),
    ],
)
def test_zsh_completes(typed: str, wanted: str, tmp_path: Path) -> None:
    assert wanted in zsh(typed, wanted, tmp_path)
