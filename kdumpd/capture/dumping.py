"""A target's dump, rung by rung: each in a child with a deadline of its own, until one holds or none is left.

Which rungs there are, and which failure leads on, is `capture.rungs`' to say. A child that hangs in the kernel is left
behind at its deadline, and the next rung goes on without it. Called by `capture.attempt`. May import `capture.save`
and what that may.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress

from kdumpd.capture.child import Tell
from kdumpd.capture.door import Outcome, Result
from kdumpd.capture.mark import Mark
from kdumpd.capture.rungs import INSTEAD, Phase, Rung, leads_on, rungs, scan_share
from kdumpd.capture.save import (
    Chosen,
    SaveOptions,
    Watch,
    as_json,
    require_room_unfiltered,
    save_dump,
)
from kdumpd.capture.settings import Settings
from kdumpd.capture.step import Steps
from kdumpd.dumpfile.writer import Progress
from kdumpd.policy.model import EngineChoice
from kdumpd.scan.engine import ScanOptions
from kdumpd.target.local import INCOMPLETE
from kdumpd.vmcore.vmcore import Vmcore

_PROGRESS = 5.0  # seconds between two lines about a dump that goes on


class Dumping:
    """The dump called `final` of the vmcore, under a policy, by the page-scan module where its device is there."""

    def __init__(self, vmcore: str, final: str, device: str, steps: Steps, settings: Settings) -> None:
        self._vmcore = vmcore
        self._final = final
        self._device = device
        self._steps = steps
        self._settings = settings

    def run(self, allowed: float) -> Outcome:
        """What came of it within so many seconds: the report of `save.as_json`, or the last rung's failure."""
        clock = self._steps.console.clock
        start = clock()
        end = start + allowed
        all_rungs = rungs(self._settings.policy.scan.engine, os.path.exists(self._device))
        rest, reason = all_rungs, ""
        while True:
            rung, rest = rest[0], rest[1:]
            mark = Mark()
            scanned_by = start + allowed * scan_share(all_rungs.index(rung), len(all_rungs))
            outcome = self._try(rung, reason, mark, scanned_by, end)
            failure = outcome.failure
            if failure is None or not rest or clock() >= end or not leads_on(failure, Phase(mark.get())):
                return outcome
            reason = f"{rest[0]}: {rung} before it failed: {failure.text}"
            self._steps.incident("dump", INSTEAD[rest[0]])

    def _try(self, rung: Rung, reason: str, mark: Mark, scanned_by: float, end: float) -> Outcome:
        """One rung in a child, until `end` and with its scan until `scanned_by` on the clock."""

        def sooner() -> float:
            return scanned_by if mark.get() == Phase.SCANNING else end

        left = max(0.0, end - self._steps.console.clock())
        return self._steps.run("dump", left, self._dumping(rung, reason, mark), sooner=sooner)

    def _options(self, rung: Rung) -> SaveOptions:
        policy, scan = self._settings.policy, None
        if rung is not Rung.UNFILTERED:
            scan = ScanOptions(EngineChoice(rung), policy.mapping.strategy, policy.mapping.page_size)
        dump = policy.dump
        return SaveOptions(
            dump.level, dump.compression, dump.jobs, self._settings.hands_off, scan, policy.retention.min_free
        )

    def _dumping(self, rung: Rung, reason: str, mark: Mark) -> Callable[[Tell], Result]:
        final, options, clock = self._final, self._options(rung), self._steps.console.clock

        def work(tell: Tell) -> Result:
            said = clock()

            def scanned(chosen: Chosen) -> None:
                mark.set(Phase.WRITING if chosen.pages is None else Phase.GATHERING)
                how = reason if reason and chosen.scan else chosen.describe()
                self._steps.stage.leave("dump", f"{chosen.counts.kept} of {chosen.counts.total} pages chosen")
                tell("scan", f"{chosen.counts.kept} of {chosen.counts.total} pages chosen ({how})")

            def progress(now: Progress) -> None:
                nonlocal said
                if clock() - said >= _PROGRESS:
                    said = clock()
                    text = f"{now.pages} of {now.total} pages, {now.size >> 20} MiB"
                    self._steps.stage.leave("dump", text)
                    tell("dump", text)

            with Vmcore.open(self._vmcore) as core:
                if reason:  # the rung before may have begun a file
                    with suppress(FileNotFoundError):
                        os.unlink(final + INCOMPLETE)
                if rung is Rung.UNFILTERED:
                    require_room_unfiltered(core, final, options.min_free)
                saved = as_json(save_dump(core, final, options, Watch(scanned, progress)))
            if reason and saved["scan"]:
                saved["scan"]["why"] = reason
            tell("dump", f"saved: {saved['pages']['written']} pages, {saved['size']} bytes, checked and synced")
            return saved

        return work
