"""The man pages, made from the verb table and the policy's schema.

`python -m kdumpd.cli.manual DIR` writes them all; `docs/man` is what it wrote, and a test fails when it is stale. May
import the verb table, `cli.pages` and `policy`.
"""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from kdumpd import __version__
from kdumpd.cli import pages
from kdumpd.cli.pages import Example, Page
from kdumpd.cli.verbs import ERROR, USAGE, VERBS, Argument, Exit, Verb
from kdumpd.policy import reference, schema

#: When this version was made; a page's date is no matter of when it was generated.
DATE = "2026-11-24"

_SECTION_OF_COMMANDS, _SECTION_OF_FILES = "8", "5"
_WIDTH = 78


def pages_by_name() -> dict[str, str]:
    """Every page by its file's name."""
    found = {"kdumpd.8": _top(), "kdumpd.yaml.5": _policy()}
    return found | {f"kdumpd-{verb.name}.8": _verb(verb) for verb in VERBS}


def main(arguments: Sequence[str]) -> int:
    """Write every page into the directory named; what lies there of a verb that is gone is removed."""
    folder = Path(arguments[0])
    folder.mkdir(parents=True, exist_ok=True)
    made = pages_by_name()
    for stale in {path for path in folder.iterdir() if path.name not in made}:
        stale.unlink()
    for name, text in made.items():
        (folder / name).write_text(text, encoding="utf-8")
    return 0


def escape(text: str) -> str:
    """Text as roff takes it: nothing in it is a request; `words` in backticks are bold."""
    text = (
        text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("^", "\\(ha").replace("~", "\\(ti")
    )
    text = re.sub(r"`([^`]*)`", r"\\fB\1\\fR", text)
    return f"\\&{text}" if text.startswith(".") else text


def _lines(text: str) -> str:
    """Text as lines of roff: short ones, and none that is a request."""
    lines = textwrap.wrap(escape(text), _WIDTH, break_long_words=False, break_on_hyphens=False)
    return "".join(f"\\&{line}\n" if line.startswith(".") else f"{line}\n" for line in lines)


def _sentence(text: str) -> str:
    """A phrase of the tables as a sentence."""
    return f"{text[0].upper()}{text[1:]}{'' if text.endswith(('.', '?')) else '.'}"


def _title(name: str, section: str, purpose: str) -> str:
    return (
        f'.\\" Made by `make docs` from the verb table and the schema: do not edit.\n'
        f'.TH {name.upper()} {section} {DATE} "kdumpd {__version__}" kdumpd\n'
        f".SH NAME\n{_lines(f'{name} - {purpose}')}"
    )


def _paragraphs(text: str) -> str:
    return ".PP\n".join(_lines(part) for part in text.split("\n\n"))


def _section(title: str, body: str) -> str:
    return f".SH {title}\n{body}" if body else ""


def _terms(rows: Iterable[tuple[str, str]]) -> str:
    """A list of terms, which are roff already, and what each means."""
    return "".join(f".TP\n{term}\n{_lines(_sentence(meaning))}" for term, meaning in rows)


def _bold(text: str) -> str:
    return f"\\fB{escape(text)}\\fR"


def _exits(codes: Iterable[Exit]) -> str:
    return _section("EXIT STATUS", _terms((_bold(str(code)), meaning) for code, meaning in codes))


def _files(paths: Iterable[str]) -> str:
    return _section("FILES", _terms((f"\\fI{escape(path)}\\fR", pages.FILES[path]) for path in paths))


def _examples(examples: Iterable[Example]) -> str:
    return _section("EXAMPLES", _terms((_bold(example.command), example.does) for example in examples))


def _see(names: Iterable[str]) -> str:
    parts = [re.sub(r"^(.*)(\(\d\))$", lambda name: f".BR {escape(name[1])} {name[2]}", name) for name in sorted(names)]
    return _section("SEE ALSO", " ,\n".join(parts) + "\n")


def _value(argument: Argument) -> str:
    """What an option's value or a position is called, "" for a flag."""
    options = argument.options
    if "action" in options:
        return ""
    if "metavar" in options:
        return f"\\fI{escape(options['metavar'])}\\fR"
    return "|".join(_bold(choice) for choice in options.get("choices", ()))


def _term(argument: Argument) -> str:
    value = _value(argument)
    if not argument.name.startswith("-"):
        return value
    return f"{_bold(argument.name)} {value}".rstrip()


def _synopsis(verb: Verb) -> str:
    parts = []
    for argument in sorted(verb.arguments, key=lambda argument: not argument.name.startswith("-")):
        needed = argument.options.get("nargs") != "?" and not argument.name.startswith("-")
        parts.append(_term(argument) if needed else f"[{_term(argument)}]")
    return " ".join((f"{_bold(f'kdumpd {verb.name}')}", *parts)) + "\n"


def _options(verb: Verb) -> Iterator[tuple[str, str]]:
    for argument in verb.arguments:
        text = argument.options["help"] % {"default": argument.options.get("default")}
        yield _term(argument), text
    yield _bold("--help"), "Print a short help."


def _verb(verb: Verb) -> str:
    page = pages.PAGES.get(verb.name, Page())
    return (
        _title(f"kdumpd-{verb.name}", _SECTION_OF_COMMANDS, verb.help)
        + _section("SYNOPSIS", _synopsis(verb))
        + _section("DESCRIPTION", _paragraphs(verb.description))
        + _section("OPTIONS", _terms(_options(verb)))
        + _exits(sorted({*verb.exits, USAGE}))
        + _files(page.files)
        + _examples(page.examples)
        + _see({*page.see, "kdumpd(8)", "kdumpd.yaml(5)"})
    )


def _top() -> str:
    verbs = ((f".BR {escape(f'kdumpd-{verb.name}')} (8)", verb.help) for verb in VERBS)
    return (
        _title("kdumpd", _SECTION_OF_COMMANDS, "one YAML policy from a kernel crash to a verified dump")
        + _section("SYNOPSIS", f"{_bold('kdumpd')} \\fIVERB\\fR [\\fIOPTION\\fR]...\n")
        + _section("DESCRIPTION", _paragraphs(pages.DESCRIPTION))
        + _section("VERBS", _terms(verbs))
        + _section(
            "OPTIONS", _terms(((_bold("--version"), "Print the version."), (_bold("--help"), "Print the verbs.")))
        )
        + _exits((Exit(0, "done; what each verb means by it is on its page"), ERROR, USAGE))
        + _section(
            "ENVIRONMENT",
            _terms(((_bold("KDUMPD_TRACEBACK"), "If set, an internal error is printed with its traceback."),)),
        )
        + _files(pages.FILES)
        + _examples(pages.EXAMPLES)
        + _see({*pages.SEE, "kdumpd.yaml(5)", *(f"kdumpd-{verb.name}(8)" for verb in VERBS)})
    )


def _policy() -> str:
    keys = ""
    for path, part in reference.all_keys():
        value = f"Value: {part['title']}."
        if "default" in part and "properties" not in part:
            value += f" Default: `{reference.yaml(part['default'])}`."
        keys += f".SS {escape(reference.name(path))}\n{_paragraphs(part['description'])}.PP\n{_lines(value)}"
        if part.get("examples"):
            lines = (escape(f"{path[-1]}: {reference.yaml(example)}") for example in part["examples"])
            keys += ".PP\n.nf\n.RS\n" + "\n".join(lines) + "\n.RE\n.fi\n"
    return (
        _title("kdumpd.yaml", _SECTION_OF_FILES, "what this machine saves when its kernel crashes, and where")
        + _section("DESCRIPTION", _paragraphs(f"{schema.schema()['description']}\n\n{reference.RULES}"))
        + _section("KEYS", f"In the names, [] stands for the items of a list.\n{keys}")
        + _files((pages.POLICY, pages.SCHEMA))
        + _see(("kdumpd(8)", "kdumpd-check(8)", "kdumpd-plan(8)", "kdumpd-apply(8)"))
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
