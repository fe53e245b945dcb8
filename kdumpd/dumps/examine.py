"""A dump directory judged: its dump is read whole, every page of it, and what became of the crash is one value.

Damaged is a dump whose bytes disagree; what could not be read at this moment says nothing of them.

Called by `dumps.aftermath`. May import `dumps.told`, `dumps.folder`, `dumpfile` and `errors`.
"""

from __future__ import annotations

from kdumpd.dumpfile.info import panic_message
from kdumpd.dumpfile.reader import Dump
from kdumpd.dumpfile.verify import verify
from kdumpd.dumps import told
from kdumpd.dumps.crashes import Crash, State
from kdumpd.dumps.folder import DUMP, Folder, opened
from kdumpd.errors import KdumpdError
from kdumpd.target.local import INCOMPLETE


def examine(folder: Folder) -> Crash:
    """What the directory holds of its crash; takes as long as reading the dump does."""
    return _crash(folder, *(_dump(folder) if folder.final else (State.INCOMPLETE, why_none(folder), "")))


def at_sight(folder: Folder) -> Crash:
    """The same, as far as it is known before its dump is read."""
    if not folder.final:
        return examine(folder)
    return _crash(
        folder, State.UNREAD, f"{folder.path}/{DUMP}: is read by this or the next start of kdumpd.service", ""
    )


def _crash(folder: Folder, state: State, why: str, panic: str) -> Crash:
    if not panic:
        try:
            with opened(folder.path, follow=False) as here:
                panic = told.panic(here)
        except OSError:
            panic = ""
    tells = folder.told
    return Crash(
        time=tells.time or 0.0,
        path=folder.path,
        state=state,
        why=why,
        panic=panic,
        host=tells.host,
        release=tells.release,
        size=folder.size,
        identity=folder.identity,
    )


def _dump(folder: Folder) -> tuple[State, str, str]:
    """State, reason and panic of a file that has the dump's final name."""
    path = f"{folder.path}/{DUMP}"
    panic = ""
    try:
        with Dump.open(path) as dump:
            try:
                panic = told.printable(panic_message(dump.dmesg()) or "")
            except KdumpdError:
                panic = ""  # the log beside the dump may tell; whether the dump is whole, its pages do
            result = verify(dump)
    except KdumpdError as error:
        return State.DAMAGED, str(error), panic
    except (OSError, MemoryError) as error:
        why = error.strerror if isinstance(error, OSError) else "there is no memory for it"
        return State.UNREAD, f"{path}: could not be read: {why}; it is read again at kdumpd.service's next start", panic
    if result.verdict == "good":
        return State.VERIFIED, "", panic
    if result.verdict == "incomplete":
        return State.INCOMPLETE, "its header says that it was not written to its end", panic
    if result.verdict == "unchecked":
        return State.DAMAGED, f"{result.unreadable} pages are compressed by what kdumpd cannot read", panic
    others = f" (and {result.problem_count - 1} more; see kdumpd verify)" if result.problem_count > 1 else ""
    return State.DAMAGED, f"{result.problems[0]}{others}", panic


def why_none(folder: Folder) -> str:
    """Why there is no dump, as far as what is there tells, and what is there instead."""
    if folder.told.complete:
        why = f"the capture saved a whole dump, and {DUMP} is not there any more"
    elif folder.told.failure:
        why = folder.told.failure
    elif folder.stage:
        why = f"the capture kernel did not report; last stage {folder.stage}"
    else:
        problem = f" ({folder.told.problem})" if folder.told.problem else ""
        why = f"the capture kernel did not report{problem}"
    return f"{why}; {what_is_there(folder)}"


def what_is_there(folder: Folder) -> str:
    """What a directory without a whole dump holds."""
    parts = []
    if folder.log:
        parts.append(told.LOG)
    if folder.partial:
        parts.append(f"{folder.partial >> 20} MiB of {DUMP}{INCOMPLETE}")
    return f"{' and '.join(parts)} {'is' if len(parts) == 1 else 'are'} there" if parts else "nothing was saved"
