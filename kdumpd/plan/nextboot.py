"""What the next boot loads early, and who: kdumpd-early.service, or the host's initramfs before it.

Called by `plan.carry` once the image is in place. May import `host`, `loader`, `policy`, `plan.state` and
`plan.situation`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from kdumpd.errors import HostError
from kdumpd.host import statefile
from kdumpd.loader import initramfs
from kdumpd.loader.early import names_addresses
from kdumpd.plan import state
from kdumpd.plan.situation import LoadedRecord, Situation
from kdumpd.policy import compiled
from kdumpd.policy.model import Early


def record_beside(image: Path) -> Path:
    """Where `loader.early` finds what it loads."""
    return image.with_name("load.json")


def keep(situation: Situation, root: Path, say: Callable[[str], None], proc: Path = Path("/proc")) -> None:
    """The next boot of this situation's kernel finds what is loaded now, or would be if that kernel ran.

    What is done to the host's initramfs is told by `say`, and every failure: this boot is armed without it.
    """
    facts, image = situation.facts, situation.image
    image_sha256 = state.sha256_of(image)
    if situation.step is None or not image_sha256 or facts.kernel.vmlinuz is None:
        return
    record = LoadedRecord(
        boot_id=facts.boot_id if situation.load else "",
        image_sha256=image_sha256,
        vmlinuz=str(facts.kernel.vmlinuz),
        vmlinuz_sha256=situation.vmlinuz_sha256,
        command_line=situation.command_line,
        release=facts.kernel.release,
        reservation=facts.reservation,
        nodes=dict(situation.nodes),
    )
    document = {"version": state.VERSION, **asdict(record)}
    try:
        statefile.replace(record_beside(image), document)
    except HostError as error:
        # What lies there is of before, and loaded only where it still fits.
        say(f"early loading at the next boot: {error}")
        return
    early = compiled.from_json(situation.step.policy_json).early
    try:
        asked = wants_initramfs(early, statefile.folder(root), proc)
        if asked and not names_addresses(record.command_line):
            done = initramfs.carry(image, record.release, document)
        else:
            done = initramfs.drop(image, record.release)
    except HostError as error:
        done = f"early loading by the initramfs: {error}"
    except OSError as error:
        done = f"early loading by the initramfs: {error.filename or image.parent}: {error.strerror}; make room there"
    if done:
        say(done)


def wants_initramfs(early: Early, folder: Path, proc: Path) -> bool:
    """Whether the initramfs is to load: the policy says so, or this folder lies on another disk than the root."""
    if early is Early.AUTO:
        return initramfs.is_apart((proc / "self/mountinfo").read_text(errors="replace"), folder.resolve())
    return early is Early.INITRAMFS
