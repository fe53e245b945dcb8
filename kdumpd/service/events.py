"""The journal: every event with KDUMPD_EVENT and KDUMPD_REASON, so that a fleet can ask for them.

Called by `service.daemon`. May import `service.actions` and systemd-python.
"""

from __future__ import annotations

import re

from kdumpd.service.actions import Tell

_ERROR, _WARNING, _NOTICE, _INFO = 3, 4, 5, 6  # syslog(3)

_PRIORITIES = {
    "not-armed": _ERROR,
    "apply-failed": _ERROR,
    "crash-without-dump": _ERROR,
    "target-failed": _ERROR,
    "service-failed": _ERROR,
    "policy-invalid": _WARNING,
    "aftermath-failed": _WARNING,
    "crash-found": _WARNING,
    "record-failed": _WARNING,
    "record-damaged": _WARNING,
    "prune-failed": _WARNING,
    "retention-unmet": _WARNING,
    "building": _INFO,
    "built": _INFO,
    "loaded": _INFO,
}


def fields(tell: Tell) -> dict[str, str]:
    """The fields of one entry; what an event brings beside its reason is named KDUMPD_ as well, but for `message`."""
    more = {f"KDUMPD_{re.sub('[^A-Z0-9]', '_', name.upper())}": value for name, value in tell.fields}
    return {
        "MESSAGE": more.pop("KDUMPD_MESSAGE", f"{tell.event}: {tell.reason}"),
        **more,
        "PRIORITY": str(_PRIORITIES.get(tell.event, _NOTICE)),
        "SYSLOG_IDENTIFIER": "kdumpd",
        "KDUMPD_EVENT": tell.event,
        "KDUMPD_REASON": tell.reason,
    }
