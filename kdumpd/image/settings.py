"""The JSON files under /etc/kdumpd that tell the runner what to do in this image. Pure.

Called by `image.build`; `rehearse` writes its own with the same functions. `capture.settings` reads them. May import
`steps` and `errors`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from kdumpd.steps.build import CaptureTarget

POLICY = "etc/kdumpd/policy.json"
TARGETS = "etc/kdumpd/targets.json"
MODULES = "etc/kdumpd/modules.json"


def _canonical(document: object) -> str:
    return json.dumps(document, sort_keys=True, separators=(",", ":")) + "\n"


def targets_json(targets: Iterable[CaptureTarget], hostname: str, hands_off: Iterable[tuple[int, int]]) -> str:
    """targets.json: where to save, the host's name, and the physical byte ranges to leave alone."""
    listed = [
        {
            "device": target.device,
            "fstype": target.fstype,
            "directory": target.directory,
            "path": target.path,
            "options": target.options,
            "assembled": target.assembled,
        }
        for target in targets
    ]
    return _canonical({"targets": listed, "hostname": hostname, "hands_off": [list(range_) for range_ in hands_off]})


def modules_json(paths: Iterable[str]) -> str:
    """modules.json: absolute paths of plain .ko files in the order to load them."""
    return _canonical({"modules": list(paths)})
