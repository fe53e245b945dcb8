"""Why a step is to be done: a cause that programs go by, and the words for a person. Standard library only."""

from __future__ import annotations

import enum
from typing import NamedTuple


class Cause(enum.StrEnum):
    """What can call for a build or a load; the values are part of `plan --json`."""

    IMAGE_MISSING = "image-missing"
    IMAGE_UNKNOWN = "image-unknown"
    IMAGE_DAMAGED = "image-damaged"
    POLICY = "policy-changed"
    TARGET = "target-changed"
    DRIVERS = "drivers-changed"
    BOOT = "boot-changed"
    SCAN = "scan-changed"
    MODULE = "module-rebuilt"
    FILES = "files-changed"
    SOFTWARE = "software-changed"
    UPGRADE = "kernel-upgraded"
    NOT_LOADED = "not-loaded"
    UNLOADED = "unloaded"
    DISARMED = "disarmed"
    FOREIGN = "loaded-by-another"
    REPLACED = "replaced"
    BUILT = "image-built"
    IMAGE = "image-changed"
    KERNEL = "kernel-changed"
    COMMAND_LINE = "command-line-changed"
    RESERVATION = "reservation-resized"
    HARDWARE = "hardware-changed"


class Reason(NamedTuple):
    """One reason for a step; where one thing became another, the text has `old to new`."""

    cause: Cause
    text: str
    old: str = ""
    new: str = ""
