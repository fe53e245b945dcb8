"""The image checked against its manifest: a root file system that is too large boots truncated after one log line.

`/etc/kdumpd/manifest.json` names every file and its size; a later initrd that replaces some brings `overlay.json`,
which names its own. Called by `capture.runner`. May import `errors`.
"""

from __future__ import annotations

import json
import os

from kdumpd.errors import ImageError

_SHOWN = 3  # names of bad files in the message


def check(directory: str, root: str = "") -> str:
    """Says what was checked; ImageError names what is missing or cut, or a kernel of another release."""
    files, kernel = _read(f"{directory}/manifest.json")
    overlay = f"{directory}/overlay.json"
    if os.path.exists(overlay):
        files |= _read(overlay)[0]
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
    return f"{len(files)} files are as the manifest says"


def _read(path: str) -> tuple[dict[str, int], str]:
    try:
        with open(path, encoding="utf-8") as stream:
            document = json.load(stream)
        files = {str(name): int(size) for name, size in document["files"].items()}
        return files, str(document.get("kernel", ""))
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
