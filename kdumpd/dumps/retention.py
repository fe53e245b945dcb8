"""What retention takes away, and why: a pure function of the dumps, the free space and the policy.

Called by `dumps.prune`. May import `policy`.
"""

from __future__ import annotations

from typing import NamedTuple

from kdumpd.policy.model import Retention
from kdumpd.policy.units import shown_size


class Held(NamedTuple):
    """A dump as retention sees it; the newest has the largest `order`.

    `verified`: whole, and read to its end. `told`: looked at and reported; one that was not never goes.
    """

    path: str
    order: int
    size: int
    verified: bool
    told: bool


class Target(NamedTuple):
    """A target with its dumps; targets of one `device` share what is free."""

    path: str
    device: int
    free: int
    dumps: tuple[Held, ...]


class Removal(NamedTuple):
    """A dump that goes."""

    path: str
    size: int
    reason: str


class Decision(NamedTuple):
    """What goes, the oldest of each target first, and what the policy asks for and cannot have."""

    removals: tuple[Removal, ...]
    remarks: tuple[str, ...]


def decide(targets: tuple[Target, ...], retention: Retention) -> Decision:
    """What goes under this policy; never a target's newest verified dump, nor one that was not looked at yet."""
    going: dict[str, Removal] = {}
    remarks: list[str] = []
    for target in targets:
        unread = sum(not dump.told for dump in target.dumps)
        if unread:
            remarks.append(
                f"{target.path}: dumps that kdumpd.service has not read yet stay: {unread}; it reads them at its start"
            )
        _by_number(target, retention.keep, going)
        _by_size(target, retention.max_size, going, remarks)
    for device in dict.fromkeys(target.device for target in targets):
        _by_room([target for target in targets if target.device == device], retention.min_free, going, remarks)
    return Decision(tuple(going.values()), tuple(remarks))


def _may_go(target: Target, going: dict[str, Removal]) -> list[Held]:
    """The dumps that may go and do not yet, the oldest first."""
    ordered = sorted(target.dumps, key=lambda dump: dump.order)
    newest = next((dump.path for dump in reversed(ordered) if dump.verified), None)
    return [dump for dump in ordered if dump.told and dump.path != newest and dump.path not in going]


def _by_number(target: Target, keep: int | None, going: dict[str, Removal]) -> None:
    if keep is None:
        return
    newer = sorted((dump.order for dump in target.dumps), reverse=True)
    for dump in _may_go(target, going):
        after = newer.index(dump.order)
        if after >= keep:
            going[dump.path] = Removal(
                dump.path,
                dump.size,
                f"retention.keep: {keep}: {after} newer {'one is' if after == 1 else 'ones are'} there",
            )


def _by_size(target: Target, limit: int | None, going: dict[str, Removal], remarks: list[str]) -> None:
    if limit is None:
        return
    total = sum(dump.size for dump in target.dumps if dump.path not in going)
    for dump in _may_go(target, going):
        if total <= limit:
            return
        reason = f"retention.max_size: {shown_size(limit)}: the dumps here take {shown_size(total)}"
        going[dump.path] = Removal(dump.path, dump.size, reason)
        total -= dump.size
    if total > limit:
        remarks.append(
            f"{target.path}: the dumps that have to stay take {shown_size(total)}, "
            f"retention.max_size is {shown_size(limit)}"
        )


def _by_room(targets: list[Target], least: int, going: dict[str, Removal], remarks: list[str]) -> None:
    """A dump as large as the newest could be saved and would leave `least` free; or nothing goes for that.

    Nothing goes in vain: where all that may go is not enough, the next dump could not be saved all the same.
    """
    if not least:
        return
    another = max(map(_newest, targets))
    here = {dump.path for target in targets for dump in target.dumps}
    free = min(target.free for target in targets) + sum(going[path].size for path in going if path in here)
    missing = least + another - free
    candidates = sorted((dump for target in targets for dump in _may_go(target, going)), key=lambda dump: dump.order)
    like = f"another dump like the newest ({shown_size(another)})" if another else "the next dump"
    if sum(dump.size for dump in candidates) < missing:
        names = " and ".join(target.path for target in targets)
        remarks.append(
            f"{names}: {shown_size(free)} are free: {like} would not leave retention.min_free, {shown_size(least)}, "
            "and the dumps that may go would not make up for it: none goes for that; make room there"
        )
        return
    for dump in candidates:
        if missing <= 0:
            return
        left = max(0, least - missing)
        reason = f"retention.min_free: {shown_size(least)}: {like} would leave {shown_size(left)}"
        going[dump.path] = Removal(dump.path, dump.size, reason)
        missing -= dump.size


def _newest(target: Target) -> int:
    """Bytes of the newest verified dump, 0 where there is none."""
    return max(((dump.order, dump.size) for dump in target.dumps if dump.verified), default=(0, 0))[1]
