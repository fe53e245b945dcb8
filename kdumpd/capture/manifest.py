"""The image checked against its manifest: a root file system that is too large boots truncated after one log line.

`/etc/kdumpd/manifest.json` names every file and its size; a later initrd that replaces some brings `overlay.json`,
which names its own. The policy is checked by its hash too. Called by `capture.runner`. May import `errors`.
"""

from __future__ import annotations

import json
import os
from typing import NamedTuple

from kdumpd.errors import ImageError

try:  # hashlib would load OpenSSL, megabytes of it
    from _sha2 import sha256
except ImportError:  # Python 3.11
    from _sha256 import sha256

_SHOWN = 3  # names of bad files in the message


class _Manifest(NamedTuple):
    files: dict[str, int]
    kernel: str
    policy_sha256: str


def check(directory: str, root: str = "") -> str:
    """Says what was checked; ImageError names what is missing or cut, a kernel of another release, another policy."""
    files, kernel, policy_sha256 = _read(f"{directory}/manifest.json")
    overlay = f"{directory}/overlay.json"
    policy = f"{directory}/policy.json"
    if os.path.exists(overlay):
        brought = _read(overlay).files
        files |= brought
        if policy in brought:
            policy_sha256 = ""
    bad = [f"{path} ({problem})" for path, size in files.items() if (problem := _problem(root + path, size))]
    if bad:
        more = f" and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
        raise ImageError(
            f"the image is not whole: {', '.join(bad[:_SHOWN])}{more}; a root file system that is too small for it is "
            "filled and cut: raise crashkernel= or make the image smaller"
        )
    running = os.uname().release
    if kernel not in ("", running):
        raise ImageError(f"the image was made for kernel {kernel}, this is {running}; drivers may not load")
    if policy_sha256 not in ("", _hash(policy)):
        raise ImageError(f"{policy}: is not the policy that the image was made for; build the image anew")
    return f"{len(files)} files are as the manifest says"


def _hash(path: str) -> str:
    try:
        with open(path, "rb") as stream:
            digest: str = sha256(stream.read()).hexdigest()
    except OSError as error:
        raise ImageError(f"{path}: {error.strerror}; whether it is the image's policy is not known") from error
    return digest


def _read(path: str) -> _Manifest:
    try:
        with open(path, encoding="utf-8") as stream:
            document = json.load(stream)
        files = {str(name): int(size) for name, size in document["files"].items()}
        return _Manifest(files, str(document.get("kernel", "")), str(document.get("policy_sha256", "")))
    except OSError as error:
        raise ImageError(f"{path}: {error.strerror}; whether the image is whole is not known") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ImageError(f"{path}: is no manifest ({error!r}); whether the image is whole is not known") from error


def _problem(path: str, size: int) -> str:
    try:
        found = os.lstat(path).st_size
    except OSError as error:
        return error.strerror or "cannot be read"
    # What is larger was not cut: systemd writes its /etc/machine-id.
    return "" if found >= size else f"{found} bytes, want {size}"
