"""`kdumpd rehearse`: crash a throwaway VM with this policy, kernel and image, and judge the dump from outside."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from kdumpd.errors import RehearsalError, UsageError
from kdumpd.host import facts
from kdumpd.host.target import Places
from kdumpd.plan import state
from kdumpd.policy import load
from kdumpd.policy.compiled import to_json
from kdumpd.policy.model import Policy
from kdumpd.policy.units import parse_size
from kdumpd.rehearse import kernels, report, session
from kdumpd.rehearse.kernels import Kernel
from kdumpd.rehearse.outcome import Outcome
from kdumpd.rehearse.scenario import Panic, Patience, Scenario

DEFAULT_POLICY = "/etc/kdumpd.yaml"
LEAST_MEMORY = 512 << 20
SECONDS_PER_GIB = 30.0  # that filling and dumping a larger machine may take on top


def run(options: argparse.Namespace) -> int:
    """Show the rehearsal; 0 only where its dump was verified."""
    if options.keep_memory and options.output is None:
        raise UsageError("--keep-memory: where to? name a directory with --output as well")
    policy = read_policy(options.policy)
    console = Console(stderr=options.json, highlight=False)
    teller = report.Teller(console)
    try:
        scenario = _scenario(options, policy, teller)
        with _folder(options.output) as folder:
            outcome = session.rehearse(scenario, folder, teller.tell)
            teller.close()
            return _show(outcome, options, console, folder)
    finally:
        teller.close()


def read_policy(path: str) -> Policy:
    """The policy in the file; the default one where /etc/kdumpd.yaml is not there."""
    if path == DEFAULT_POLICY and not Path(path).exists():
        return load.default()
    return load.load(path)


def _scenario(options: argparse.Namespace, policy: Policy, teller: report.Teller) -> Scenario:
    memory = _size("--memory", options.memory)
    if memory < LEAST_MEMORY:
        raise UsageError(
            f"--memory {options.memory}: less than {LEAST_MEMORY >> 20}M does not boot a distribution kernel"
        )
    if not re.fullmatch(r"[0-9A-Za-z:,@.-]+", options.crashkernel):
        raise UsageError(f"--crashkernel {options.crashkernel}: not what the kernel takes; 128M would be right")
    session.require_programs()  # before a kernel is fetched for nothing
    kernel = kernels.find(options.kernel or "", teller.note)
    return Scenario(
        policy=policy,
        kernel=kernel,
        panic=Panic(options.panic),
        memory=memory,
        crashkernel=options.crashkernel,
        image=armed_image(kernel, policy),
        keep_memory=options.keep_memory,
        patience=Patience(whole=Patience().whole + SECONDS_PER_GIB * (memory >> 30)),
    )


def armed_image(kernel: Kernel, policy: Policy, root: Path = Path("/"), places: Places | None = None) -> Path | None:
    """The image that this machine is armed with, where it is for this kernel and this policy.

    None too for one that was built and is not what is loaded now: it says nothing about the next crash.
    """
    image = state.image_of(root, kernel.release)
    machine = facts.read(root, places)
    found = state.read(root, kernel.release)
    if found.policy_json != to_json(policy) or found.manifest is None or not found.image_sha256:
        return None
    armed = machine.loaded and found.loaded is not None and found.loaded.boot_id == machine.boot_id
    same = found.loaded is not None and found.loaded.image_sha256 == found.image_sha256
    return image if armed and same and found.manifest.image_sha256 == found.image_sha256 else None


def _size(name: str, text: str) -> int:
    try:
        return parse_size(text)
    except ValueError as error:
        raise UsageError(f"{name} {text}: {error}") from error


@contextlib.contextmanager
def _folder(output: str | None) -> Iterator[Path]:
    """Where the rehearsal works: the output directory, which must be new or empty, or one that goes away."""
    if output is None:
        with tempfile.TemporaryDirectory(prefix="kdumpd-rehearsal-", dir=os.environ.get("TMPDIR", "/var/tmp")) as made:
            yield Path(made)
        return
    folder = Path(output)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RehearsalError(f"{output}: is not an empty directory; name a new one for --output")
    yield folder


def _show(outcome: Outcome, options: argparse.Namespace, console: Console, folder: Path) -> int:
    document = report.document(outcome)
    if options.output is not None:
        (folder / "rehearsal.json").write_text(json.dumps(document, indent=2) + "\n")
    if options.json:
        print(json.dumps(document, indent=2))
    else:
        report.verdict(console, outcome)
        if options.output is not None:
            console.print(f"kept in {folder}: the dump, console.log, rehearsal.json, the image", soft_wrap=True)
    return 0 if outcome.verified else RehearsalError.exit_code
