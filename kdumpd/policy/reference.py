"""The reference of the policy as Markdown, generated from the schema.

`python -m kdumpd.policy.reference FILE` writes it; `docs/policy.md` is that file, and a test fails when it is stale.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path as FilePath

from kdumpd.policy import schema
from kdumpd.policy.problem import Path

#: What holds for the whole file, paragraphs apart by an empty line; the man page says it too.
RULES = """\
The file is `/etc/kdumpd.yaml`, one YAML mapping. Sizes take K, M, G or T (powers of 1024), times s, min or h.
`kdumpd check` reports every error with its line and column; an unknown key is an error.

Words that YAML 1.1 and 1.2 read differently are refused where they would be guessed at: `yes`, `no`, `on`, `off`
(write `true` or `false`), `017` and `0o17` (write `15`), `1:30`, `1_000`, dates and decimal fractions. Tags (`!!...`),
merge keys (`<<`), tabs, several documents, files over 256 KiB and nesting deeper than 50 levels are refused as well."""

_HEAD = """\
# The policy

<!-- Generated from config/kdumpd.schema.json by `python -m kdumpd.policy.reference docs/policy.md`: do not edit. -->

{description}

{rules}
Editors with a YAML language server complete and check the file from the schema when its first line is

    # yaml-language-server: $schema=/usr/share/kdumpd/kdumpd.schema.json

| key | value | default |
|---|---|---|
"""


def reference() -> str:
    """The whole document."""
    text = _HEAD.format(description=schema.schema()["description"], rules=RULES)
    for path, part in all_keys():
        text += f"| [`{name(path)}`](#{_anchor(path)}) | {part['title']} | {_default(part)} |\n"
    for path, part in all_keys():
        text += f"\n## {name(path)}\n\n{part['description']}\n\nValue: {part['title']}.\n"
        if "default" in part and "properties" not in part:
            text += f"Default: {_default(part)}.\n"
        if part.get("examples"):
            text += "\n" + "".join(f"    {path[-1]}: {yaml(example)}\n" for example in part["examples"])
    return text


def main(arguments: Sequence[str]) -> int:
    """Write the reference to the one file named, or to standard output."""
    if arguments:
        FilePath(arguments[0]).write_text(reference(), encoding="utf-8")
    else:
        sys.stdout.write(reference())
    return 0


def all_keys() -> Iterator[tuple[Path, schema.Schema]]:
    """Every key with what the schema says of it."""
    for path in schema.paths():
        part = schema.at(path)
        if part is not None and path[-1] != 0:
            yield path, part


def name(path: Path) -> str:
    """A key's path, with [] for the items of a list."""
    return ".".join("[]" if isinstance(step, int) else step for step in path).replace(".[]", "[]")


def _anchor(path: Path) -> str:
    """The anchor that Markdown makes of the heading."""
    return "".join(char for char in name(path) if char.isalnum() or char in "_-")


def _default(part: schema.Schema) -> str:
    if "properties" in part:
        return "the defaults below"
    return f"`{yaml(part['default'])}`" if "default" in part else "none"


def yaml(value: object) -> str:
    """A value in YAML's flow style, words without quotes."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {yaml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(yaml, value)) + "]"
    return value if isinstance(value, str) else json.dumps(value)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
