"""`make matrix`: every test on real crashes, resumable; writes docs/matrix.md when all have passed.

What passed is not run again while all it depends on is the same (`tests.depends`).
A tree with uncommitted changes is refused: its result could not be named.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Mapping

import pytest

from tests.depends import FOLDERS, ROOT, SUBJECT, holds_for, is_test

RESULTS = ROOT / "build" / "matrix.jsonl"
WORKERS = 2  # guests that crash at the same time


def _deadline(item: pytest.Item) -> float:
    """The seconds that a test says it may take."""
    mark = item.get_closest_marker("timeout")
    return float(mark.args[0]) if mark is not None else 0


class Recorder:
    """A pytest plugin: appends each test's outcome to a file as soon as it is known, with what it holds for."""

    def __init__(self, holds_for: Mapping[str, str]) -> None:
        self.holds_for = holds_for
        self.collected: list[str] = []

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.collected = [item.nodeid for item in sorted(session.items, key=_deadline, reverse=True)]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "call" and report.passed:
            return
        one = {"id": report.nodeid, "outcome": report.outcome, "seconds": report.duration}
        one["holds_for"] = self.holds_for[report.nodeid.partition("::")[0]]
        with RESULTS.open("a") as out:
            out.write(json.dumps(one) + "\n")


def git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def subjects() -> dict[str, str]:
    """By file of tests: what changes when its results have to be had again."""
    listed = git("ls-tree", "-r", "HEAD", "--", *SUBJECT)
    files = {path: about.split()[2] for about, _, path in (line.partition("\t") for line in listed.splitlines())}
    return {path: holds_for(path, files) for path in files if is_test(path)}


def passed(now: Mapping[str, str]) -> dict[str, float]:
    """Seconds by test, of those whose last outcome for what they depend on now is that they passed."""
    outcomes: dict[str, float] = {}
    for line in RESULTS.read_text().splitlines() if RESULTS.exists() else ():
        one = json.loads(line)
        if one["holds_for"] != now.get(one["id"].partition("::")[0]):
            continue
        outcomes.pop(one["id"], None)
        if one["outcome"] == "passed":
            outcomes[one["id"]] = one["seconds"]
    return outcomes


def page(commit: str, done: dict[str, float]) -> str:
    """docs/matrix.md: a row a test, its cases beside it."""
    rows: dict[str, list[tuple[str, float]]] = defaultdict(list)
    for name, seconds in sorted(done.items()):
        test, _, case = name.partition("[")
        rows[test].append((case.rstrip("]"), seconds))
    lines = [
        "# The matrix",
        "",
        f"The last whole result of `make matrix`: {len(done)} tests passed, none failed.",
        f"Commit {commit}, {time.strftime('%Y-%m-%d', time.gmtime())}.",
        "",
        "| test | cases | seconds in all |",
        "|---|---|---|",
    ]
    for test, cases in rows.items():
        named = ", ".join(case for case, _ in cases if case) or "1"
        lines.append(f"| `{test}` | {named} | {sum(seconds for _, seconds in cases):.0f} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    if git("status", "--porcelain", "--untracked-files=no"):
        print("make matrix: commit first; a result must name the commit it holds for", file=sys.stderr)
        return 1
    commit = git("rev-parse", "--short=12", "HEAD")
    now = subjects()
    RESULTS.parent.mkdir(exist_ok=True)
    listing = Recorder(now)
    if pytest.main(["--collect-only", "-qq", *FOLDERS], plugins=[listing]):
        return 1
    pending = [name for name in listing.collected if name not in passed(now)]
    print(f"matrix of {commit}: {len(listing.collected)} tests, {len(pending)} to run")
    # Each worker has a row of its own, and takes from the end of the other's when it is done: the longest tests are
    # first in one row and never run at the same time (a machine of a terabyte takes 17 GiB); a file's tests share
    # what they made.
    wide = ["-n", str(WORKERS), "--dist", "worksteal"]
    code = pytest.main(["-v", "--timeout", "1800", *wide, *pending], plugins=[Recorder(now)]) if pending else 0
    done = passed(now)
    if code == 0 and set(listing.collected) <= set(done):
        (ROOT / "docs" / "matrix.md").write_text(page(commit, {name: done[name] for name in listing.collected}))
        print("written: docs/matrix.md")
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
