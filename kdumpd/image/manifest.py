"""The manifest of a capture image: what it was made from and what is in it, so that a stale, cut or swapped one shows.

It lies in the image (/etc/kdumpd/manifest.json; the runner checks it at start) and, with the hash of the packed image,
beside it on the running system (`plan` compares it). Pure. May import `errors` and the rest of `image`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields

from kdumpd.errors import ImageError
from kdumpd.image.archive import Entry
from kdumpd.image.interpreter import EXECUTABLE, HOME, LIBRARY

MANIFEST = "etc/kdumpd/manifest.json"
PAGE = 4096

#: systemd fills it in as it starts: what is in the image is not what the runner finds.
WRITTEN_AT_BOOT = ("etc/machine-id",)

_PARTS = (
    (EXECUTABLE, "interpreter"),
    ("usr/lib/libpython", "interpreter"),
    (f"{LIBRARY}/kdumpd/", "kdumpd"),
    (f"{LIBRARY}/zstandard/", "zstandard"),
    (f"{LIBRARY}/", "standard library"),
    (f"{HOME}/", "kdumpd"),
    ("etc/kdumpd/", "kdumpd"),
    ("usr/lib/modules/", "kernel modules"),
    ("usr/lib/firmware/", "firmware"),
)


@dataclass(frozen=True)
class Inputs:
    """What an image is made from; two images of equal inputs are equal byte for byte.

    `scan` says who will scan, and with which module or why without (`image.scan_module`), which is no driver.
    `sources` are the files of `image.sources`: known beside an image, empty inside it.
    """

    kdumpd: str
    kernel: str
    policy_sha256: str
    boot: str
    scan: str
    drivers: tuple[str, ...]
    targets_sha256: str
    python: str
    zstandard: str
    dracut: str
    sources: Mapping[str, str]


_TEXTS = tuple(field.name for field in fields(Inputs) if field.name not in ("drivers", "sources"))


@dataclass(frozen=True)
class Manifest:
    """An image's inputs, its bytes by part, its unpacked size in whole pages, and (size, SHA-256) of each file.

    `image_sha256` is of the packed image: known beside it, empty inside it.
    """

    inputs: Inputs
    parts: Mapping[str, int]
    unpacked: int
    files: Mapping[str, tuple[int, str]]
    image_sha256: str = ""


def sha256(data: bytes) -> str:
    """A digest in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def part_of(path: str) -> str:
    """The part of the image that a file belongs to."""
    for prefix, part in _PARTS:
        if path == prefix or (path.startswith(prefix) and prefix != EXECUTABLE):
            return part
    return "libraries" if ".so" in path.rpartition("/")[2] else "dracut"


def describe(inputs: Inputs, entries: Iterable[Entry]) -> Manifest:
    """The manifest of these files; it does not list itself."""
    files = {entry.name: entry.data for entry in entries if entry.is_file and entry.name != MANIFEST}
    parts: dict[str, int] = {}
    for path, data in files.items():
        parts[part_of(path)] = parts.get(part_of(path), 0) + len(data)
    listed = {
        f"/{path}": (len(files[path]), sha256(files[path])) for path in sorted(files) if path not in WRITTEN_AT_BOOT
    }
    unpacked = sum(-(-len(data) // PAGE) * PAGE for data in files.values())
    return Manifest(inputs, {part: parts[part] for part in sorted(parts)}, unpacked, listed)


def to_json(manifest: Manifest) -> str:
    """Canonical JSON, one line."""
    document: dict[str, object] = {
        **asdict(manifest.inputs),
        "parts": dict(manifest.parts),
        "unpacked": manifest.unpacked,
        # Sizes alone are what the runner has time to check.
        "files": {path: size for path, (size, _) in manifest.files.items()},
        "sha256": {path: digest for path, (_, digest) in manifest.files.items()},
    }
    if manifest.image_sha256:
        document["image_sha256"] = manifest.image_sha256
    return json.dumps(document, sort_keys=True, separators=(",", ":")) + "\n"


def from_json(text: str, name: str) -> Manifest:
    """The manifest that `to_json` wrote; ImageError when it is not one."""
    try:
        document = json.loads(text)
        texts = {name: str(document[name]) for name in _TEXTS}
        drivers = tuple(str(driver) for driver in document["drivers"])
        sources = {str(path): str(digest) for path, digest in document["sources"].items()}
        inputs = Inputs(**texts, drivers=drivers, sources=sources)
        digests = document["sha256"]
        files = {str(path): (int(size), str(digests[path])) for path, size in document["files"].items()}
        parts = {str(part): int(size) for part, size in document["parts"].items()}
        return Manifest(inputs, parts, int(document["unpacked"]), files, str(document.get("image_sha256", "")))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ImageError(f"{name}: not a manifest of a capture image; run `kdumpd apply` to build it again") from error
