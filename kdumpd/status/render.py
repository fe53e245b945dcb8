"""A status as text that is read in ten seconds, and as JSON. Pure: `now` is given, in seconds since 1970.

Called by the verb `status`. May import `plan.line`, `policy.units` and `status.value`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime

from kdumpd.plan.line import Line, Span, Style, plain, printable
from kdumpd.policy.units import render_size
from kdumpd.status.value import Crash, Image, Kernel, PolicyState, Rehearsal, Service, Status, Target

VERSION = 1
_NAME_WIDTH = 13
_UNITS = ((86400 * 7, "week"), (86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))


def document(status: Status) -> dict[str, object]:
    """The status for `--json`; version 1. Times in seconds since 1970 (0: never), sizes in bytes."""
    return {
        "version": VERSION,
        "armed": status.verdict.armed,
        "reason": status.verdict.reason,
        "pending": list(status.pending),
        "policy_problems": list(status.policy.problems),
        "kernel": asdict(status.kernel),
        "reservation": status.reservation,
        "loaded": status.loaded,
        "policy": {**asdict(status.policy), "valid": status.policy.valid, "problems": list(status.policy.problems)},
        "image": asdict(status.image) if status.image else None,
        "targets": [asdict(target) for target in status.targets],
        "crash": asdict(status.crash) if status.crash else None,
        "crashes": status.crashes,
        "rehearsal": asdict(status.rehearsal) if status.rehearsal else None,
        "service": asdict(status.service) if status.service else None,
        "working": status.working,
        "notes": list(status.notes),
        "unread": list(status.unread),
    }


def age(time: float, now: float) -> str:
    """How long ago, by the largest unit: `3 hours ago`."""
    seconds = int(now - time)
    if seconds < 0:
        return "in the future: a clock was wrong"
    for size, name in _UNITS:
        if seconds >= size:
            count = seconds // size
            return f"{count} {name}{'s' if count > 1 else ''} ago"
    return "just now"


def moment(time: float) -> str:
    """A time as people write it, UTC."""
    try:
        return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (ValueError, OverflowError, OSError):
        return f"{time:.0f} seconds after 1970"


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"


def lines(status: Status, now: float) -> tuple[Line, ...]:
    """The verdict in one line, then a row for each thing that is known."""
    head = Span("armed", Style.GOOD_HEAD) if status.verdict.armed else Span("not armed", Style.BAD_HEAD)
    rows: list[Line] = [(head, Span(f": {status.verdict.reason}"))]
    if status.unread:
        rows.append(plain(f"not root: could not read {', '.join(status.unread)}", Style.CARE))
    rows += [_row("to do" if not place else "", reason, Style.CARE) for place, reason in enumerate(status.pending[:8])]
    if status.working:
        rows.append(_row("at work", f"kdumpd, process {status.working}, holds the lock", Style.CARE))
    rows += [*_kernel(status.kernel)]
    # Who may not read the records is not told that there are none.
    blind = bool(status.unread)
    rows += [*_image(status.image, now)] if status.image or not blind else []
    rows.append(_row("reservation", render_size(status.reservation) if status.reservation else "none"))
    rows += [*_policy(status.policy)]
    for target in status.targets:
        rows.append(_target(target, now))
    rows += [_crash(status.crash, status.crashes, now)] if status.crash or not blind else []
    rows += [_rehearsal(status.rehearsal, now)] if status.rehearsal or not blind else []
    rows += [_service(status.service, now)] if status.service or not blind else []
    rows += [_row("note", note, Style.CARE) for note in status.notes]
    return tuple(rows)


def _row(name: str, said: str, style: Style = Style.PLAIN) -> Line:
    return (Span(name.ljust(_NAME_WIDTH), Style.HEAD), Span(said, style))


def _kernel(kernel: Kernel) -> Iterator[Line]:
    yield _row("kernel", kernel.release)
    if kernel.newer:
        ready = "its image is ready" if kernel.newer_ready else "its image is not built yet"
        style = Style.PLAIN if kernel.newer_ready else Style.CARE
        yield _row("", f"{kernel.newer} is installed and newer; {ready}", style)


def _image(image: Image | None, now: float) -> Iterator[Line]:
    if image is None:
        yield _row("image", "none that can be used", Style.BAD)
        return
    yield _row("image", f"built {age(image.built, now)}, {_mib(image.size)} ({_mib(image.unpacked)} unpacked)")
    why = f" ({image.boot_reason})" if image.boot_reason else ""
    yield _row("", f"boots {image.boot}{why}")
    if image.loaded:
        seen = {True: ", seen in the reserved memory", False: "", None: ""}[image.held]
        yield _row("", f"loaded {age(image.loaded, now)}{seen}")
    yield _row("page scan", image.scan)


def _policy(policy: PolicyState) -> Iterator[Line]:
    if policy.valid:
        yield _row("policy", f"{policy.path}, valid")
        return
    rules = "the last good one rules" if policy.last_good else "and there is no other"
    yield _row("policy", f"NOT VALID; {rules}:", Style.BAD)
    for problem in policy.problems[:3]:
        yield _row("", problem, Style.BAD)
    if len(policy.problems) > 3:
        yield _row("", f"and {len(policy.problems) - 3} more: kdumpd check {policy.path}", Style.BAD)


def _target(target: Target, now: float) -> Line:
    place = " on ".join(filter(None, (target.fstype, target.node)))
    where = f" ({place})" if place else ""
    if target.ok is None:
        return _row("target", f"{target.path}{where}: not proved yet", Style.CARE)
    when = f"proved {age(target.proved, now)}"
    if not target.ok:
        return _row("target", f"{target.path}{where}: FAILED: {target.why}; {when}", Style.BAD)
    free = f", {target.free / 2**30:.1f} GiB free" if target.free is not None else ""
    care = f"; but {target.why}" if target.why else ""
    return _row("target", f"{target.path}{where}: good{free}, {when}{care}", Style.CARE if target.why else Style.PLAIN)


def _crash(crash: Crash | None, count: int, now: float) -> Line:
    if crash is None:
        return _row("last crash", "none on record")
    when = f"{moment(crash.time)}, {age(crash.time, now)}" if crash.time else "at an unknown time"
    dump = f"dump {'not read yet' if crash.state == 'unread' else crash.state}"
    dump += f": {printable(crash.path)}" if crash.path else ""
    if crash.state == "missing":
        dump = "NO DUMP"
    why = f" ({crash.why})" if crash.why else ""
    panic = f"; {crash.panic}" if crash.panic else ""
    more = f"; {count} on record" if count > 1 else ""
    style = Style.CARE if crash.state in ("verified", "gone") else Style.BAD
    return _row("last crash", f"{when}: {dump}{why}{panic}{more}", style)


def _rehearsal(rehearsal: Rehearsal | None, now: float) -> Line:
    if rehearsal is None:
        return _row("rehearsal", "never: nobody knows whether this image saves a dump; kdumpd rehearse", Style.CARE)
    result = "verified" if rehearsal.verified else f"FAILED ({rehearsal.why})"
    said = f"{result} {age(rehearsal.time, now)}"
    if rehearsal.same_kernel and rehearsal.same_image:
        return _row(
            "rehearsal", f"{said}, with this kernel and image", Style.PLAIN if rehearsal.verified else Style.BAD
        )
    other = "another image" if rehearsal.same_kernel else f"kernel {rehearsal.release}"
    return _row("rehearsal", f"this kernel and image never; the last one, of {other}, {said}", Style.CARE)


def _service(service: Service | None, now: float) -> Line:
    if service is None or not service.running:
        return _row("service", "kdumpd.service does not run: nobody watches this machine", Style.BAD)
    verdict = "armed" if service.armed else f"not armed: {service.reason}"
    busy = f"; {service.busy} now" if service.busy else ""
    since = f" since {moment(service.since)} ({age(service.since, now)})" if service.since else ""
    return _row("service", f"watches; it says {verdict}{since}{busy}")
