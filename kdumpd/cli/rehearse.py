"""`kdumpd rehearse`: crash a throwaway VM with this policy, kernel and image, and judge the dump from outside."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from kdumpd.errors import HostError, RehearsalError, UsageError
from kdumpd.host import facts
from kdumpd.host.target import Places
from kdumpd.plan import state
from kdumpd.policy import load
from kdumpd.policy.compiled import carries
from kdumpd.policy.model import Policy
from kdumpd.policy.units import parse_size
from kdumpd.rehearse import kernels, likeness, overlay, record, report, session
from kdumpd.rehearse.kernels import Kernel
from kdumpd.rehearse.outcome import Outcome
from kdumpd.rehearse.scenario import Disk, Panic, Patience, Scenario

DEFAULT_POLICY = "/etc/kdumpd.yaml"
DEFAULT_CRASHKERNEL = "128M"
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
            if scenario.armed:
                _keep(outcome)
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
    if options.crashkernel is not None and not re.fullmatch(r"[0-9A-Za-z:,@.-]+", options.crashkernel):
        raise UsageError(f"--crashkernel {options.crashkernel}: not what the kernel takes; 128M would be right")
    session.require_programs()  # before a kernel is fetched for nothing
    kernel = kernels.find(options.kernel or "", teller.note)
    image, why = armed_image(kernel, policy)
    if image is None:
        teller.note(f"an image is built now, the armed one is not rehearsed: {why}")
    return Scenario(
        policy=policy,
        kernel=kernel,
        panic=Panic(options.panic),
        memory=memory,
        crashkernel=options.crashkernel or (own_reservation(memory) if image else DEFAULT_CRASHKERNEL),
        disks=disks_like_the_hosts(image, policy) if image else None,
        image=image,
        armed=image is not None,
        keep_memory=options.keep_memory,
        patience=Patience(whole=Patience().whole + SECONDS_PER_GIB * (memory >> 30)),
    )


def own_reservation(memory: int, places: Places | None = None) -> str:
    """This machine's reservation as crashkernel= says it, as far as half of the VM's memory goes."""
    return f"{min(facts.read(places=places).reservation, memory // 2) >> 20}M"


def disks_like_the_hosts(image: Path, policy: Policy, places: Places | None = None) -> tuple[Disk, ...]:
    """The VM's disks for an armed image: each with the UUID, the file system and the controller that it expects."""
    targets, _ = overlay.targets_of(overlay.carried(image))
    return likeness.like(targets, likeness.host_disks(policy, places))


def _keep(outcome: Outcome) -> None:
    """The record that `kdumpd status` reads; where it cannot be written, that is said and the verdict stands."""
    try:
        record.write(Path("/"), outcome, time.time())
    except HostError as error:
        print(f"kdumpd rehearse: {error}", file=sys.stderr)


class Armed(NamedTuple):
    """The image that this machine is armed with, or why there is none for this kernel and policy."""

    image: Path | None
    why: str = ""


def armed_image(kernel: Kernel, policy: Policy, root: Path = Path("/"), places: Places | None = None) -> Armed:
    """The image that this machine is armed with, where it is for this kernel and this policy.

    Not one that was built and is not what is loaded now: it says nothing about the next crash.
    """
    image = state.image_of(root, kernel.release)
    machine = facts.read(root, places)
    found = state.read(root, kernel.release)
    if not found.image_sha256:
        return Armed(None, f"there is none for kernel {kernel.release}, or only root may read it")
    if found.manifest is None or found.manifest.image_sha256 != found.image_sha256:
        return Armed(None, f"{image} is not what its manifest describes: run kdumpd apply")
    if not carries(found.policy_json, policy):
        return Armed(None, f"{image} was built for another policy than this one")
    if not machine.loaded or found.loaded is None or found.loaded.boot_id != machine.boot_id:
        return Armed(None, f"{image} is not loaded: run kdumpd apply")
    if found.loaded.image_sha256 != found.image_sha256:
        return Armed(None, f"{image} was built anew and is not what is loaded: run kdumpd apply")
    return Armed(image)


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
