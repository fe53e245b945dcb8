"""docs/json.md: what the verbs print with --json, from the schemas in config/json, which tests hold their output to.

`python -m kdumpd.cli.jsonpage FOLDER PAGE` writes it; a test fails when the page is stale. Standard library only.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Schema = dict[str, Any]

_HEAD = """\
# What the verbs print with --json

One document on standard output. Keys are added in a version, never taken away, and `version` rises when one changes its
meaning. The schemas lie in `config/json` (installed: `/usr/share/kdumpd/json`); this page is made from them.
"""


def _type(part: Schema) -> str:
    if "const" in part:
        return f"`{json.dumps(part['const'])}`"
    if "enum" in part:
        return ", ".join(f"`{value}`" if value else '`""`' for value in part["enum"])
    kind = part.get("type", "")
    return " or ".join(kind) if isinstance(kind, list) else str(kind)


def _below(part: Schema, path: str) -> Iterator[tuple[str, Schema]]:
    for key, below in part.get("properties", {}).items():
        yield f"{path}{key}", below
        yield from _below(below, f"{path}{key}.")
        items = below.get("items", {})
        for branch in items.get("oneOf", (items,)):
            yield from _below(branch, f"{path}{key}[].")


def page(folder: Path) -> str:
    """The whole page, for the schemas in a folder."""
    out = [_HEAD]
    for file in sorted(folder.glob("*.schema.json")):
        schema = json.loads(file.read_text())
        out += [f"## {schema['title']}\n", f"{schema['description']}\n", "| key | type | what it is |", "|---|---|---|"]
        rows = dict.fromkeys(
            f"| `{key}` | {_type(part)} | {part.get('description', '')} |" for key, part in _below(schema, "")
        )
        out += [*rows, ""]
    return "\n".join(out)


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(page(Path(sys.argv[1])))
