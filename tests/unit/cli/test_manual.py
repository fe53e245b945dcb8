"""The man pages are those of the verb table and the schema, and both formatters of the world take them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from kdumpd.cli import manual, pages
from kdumpd.cli.verbs import VERBS, Verb
from kdumpd.policy import reference

FOLDER = Path(__file__).parents[3] / "docs/man"
PAGES = manual.pages_by_name()
EACH = pytest.mark.parametrize("page", sorted(PAGES))


def test_the_files_are_not_stale() -> None:
    assert {path.name: path.read_text() for path in FOLDER.iterdir()} == PAGES, "run make docs"


@EACH
def test_mandoc_has_nothing_to_say(page: str) -> None:
    run = subprocess.run(["mandoc", "-Tlint", str(FOLDER / page)], capture_output=True, text=True, check=False)
    assert (run.stdout, run.stderr, run.returncode) == ("", "", 0)


@EACH
def test_groff_has_nothing_to_say(page: str) -> None:
    command = ["groff", "-man", "-Tutf8", "-ww", "-z", str(FOLDER / page)]
    run = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C.UTF-8"})
    assert (run.stdout, run.stderr, run.returncode) == ("", "", 0)


@pytest.mark.parametrize("verb", VERBS, ids=[verb.name for verb in VERBS])
def test_each_verb_says_more_than_its_help(verb: Verb) -> None:
    assert len(verb.description) > len(verb.help)
    assert verb.description.endswith(".")
    assert verb.exits, "what do its exit codes mean?"
    assert verb.name in pages.PAGES
    text = PAGES[f"kdumpd-{verb.name}.8"]
    for section in ("NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "SEE ALSO"):
        assert f"\n.SH {section}\n" in text


def test_each_key_of_the_policy_has_its_place() -> None:
    text = PAGES["kdumpd.yaml.5"]
    for path, _ in reference.all_keys():
        assert f"\n.SS {manual.escape(reference.name(path))}\n" in text


def test_a_line_that_would_be_a_request_is_text() -> None:
    assert manual.escape(".TH") == "\\&.TH"
    assert manual.escape("a-b 'c' \\d `e`") == "a\\-b \\(aqc\\(aq \\ed \\fBe\\fR"
