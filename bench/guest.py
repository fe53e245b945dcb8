"""In the guest: kdumpd's capture against Debian 12's stock kdump-tools, in the same virtual machine, crashes in turn.

2 GiB, two processors, the same kernel file, the same memory allocated by the same code, a crash by sysrq. kdumpd gets
crashkernel=128M and kdump-tools 256M, more than it needs. Takes a quarter of an hour.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import NamedTuple

from bench import captures
from bench.captures import OURS, Times
from bench.kdump_tools import capture, disk
from kdumpd.policy.model import Boot
from kdumpd.rehearse.outcome import Image
from kdumpd.rehearse.scenario import Scenario

ROUNDS = 3
DIRECT, PEER = "kdumpd, direct", "kdump-tools"
RESERVATIONS = {DIRECT: "128M", PEER: disk.CRASHKERNEL}


class Seen(NamedTuple):
    """One capture: its times, the dump's bytes, smallest MemAvailable in bytes where known, and kdumpd's image."""

    times: Times
    size: int
    memory: int | None
    image: Image | None


def ours(system: disk.Debian) -> Seen:
    """A rehearsal with the default policy."""
    with captures.rehearsed(
        Scenario(
            captures.policy(Boot.DIRECT),
            system.kernel,
            memory=disk.MEMORY << 20,
            crashkernel=RESERVATIONS[DIRECT],
        )
    ) as outcome:
        captures.must_be_verified(outcome)
        assert outcome.dump is not None
        record = outcome.dump.record
        return Seen(
            captures.times(captures.console_of(outcome), OURS),
            int(record["dump"]["size"]),
            int(record["memory"]["smallest_available"]),
            outcome.image,
        )


def theirs(system: disk.Debian) -> Seen:
    """A crash of the peer."""
    seen = capture.capture(system)
    return Seen(seen.times, seen.size, seen.memory, None)


def medians(rounds: list[Seen]) -> Times:
    """Each time's median."""
    return Times(*(statistics.median(column) for column in zip(*(seen.times for seen in rounds), strict=True)))


def table(seen: dict[str, list[Seen]], peer_memory: int) -> str:
    """Markdown: medians, and ratios to the peer round by round."""
    lines = ["| capture | crashkernel | /init | runner | dump begun | saved | begun, ratio | saved, ratio |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    for name, rounds in seen.items():
        times = medians(rounds)
        begun, saved = (
            statistics.median(
                getattr(one.times, field) / getattr(peer.times, field)
                for one, peer in zip(rounds, seen[PEER], strict=True)
            )
            for field in ("begun", "saved")
        )
        cells = [f"{seconds:.2f}" for seconds in times] + [f"{begun:.3f}", f"{saved:.3f}"]
        lines.append(f"| {name} | {RESERVATIONS[name]} | {' | '.join(cells)} |")
    lines += ["", "| capture | crashkernel | smallest MemAvailable, MB | dump, bytes |", "|---|---|---|---|"]
    for name, rounds in seen.items():
        least = peer_memory if name == PEER else min(one.memory or 0 for one in rounds)
        size = statistics.median(one.size for one in rounds)
        lines.append(f"| {name} | {RESERVATIONS[name]} | {least / 1e6:.1f} | {size:,.0f} |")
    return "\n".join(lines)


def image_table(title: str, packed: int, parts: dict[str, int]) -> str:
    """Markdown: an image's bytes by part."""
    rows = "".join(f"| {part} | {size:,} |\n" for part, size in sorted(parts.items(), key=lambda item: -item[1]))
    total = sum(parts.values())
    return f"{title}: {packed:,} bytes packed, {total:,} unpacked\n\n| part | bytes |\n|---|---|\n{rows}"


def main() -> None:
    """Rounds in turn, then one more of the peer with a watch on its memory, which would disturb its times."""
    system = disk.made(say=lambda line: print(line, flush=True))
    ways: dict[str, Callable[[], Seen]] = {
        DIRECT: lambda: ours(system),
        PEER: lambda: theirs(system),
    }
    seen: dict[str, list[Seen]] = {name: [] for name in ways}
    for number in range(ROUNDS):
        for name, way in ways.items():
            one = way()
            seen[name].append(one)
            spelled = ", ".join(f"{field} {seconds:.2f}" for field, seconds in one.times._asdict().items())
            print(f"round {number + 1}, {name}: {spelled} s", flush=True)
    watched = capture.capture(system, watch_memory=True).memory
    print(f"\n### Captures of {system.kernel.release}, medians of {ROUNDS} rounds, seconds\n")
    print(table(seen, watched or 0), end="\n\n")
    image = seen[DIRECT][-1].image
    assert image is not None
    print(image_table(f"Image of {DIRECT}", image.size, image.parts))
    print(image_table(f"Image of {PEER}", system.capture_initrd.stat().st_size, capture.parts(system.capture_initrd)))


if __name__ == "__main__":
    main()
