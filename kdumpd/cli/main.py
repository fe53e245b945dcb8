"""The outermost door of the command line: parses, calls the verb, and turns every error into one line and an exit code.

Called by the `kdumpd` console script and by `python -m kdumpd`.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Sequence

from kdumpd import __version__
from kdumpd.cli.verbs import USAGE, VERBS, Verb
from kdumpd.errors import KdumpdError, PolicyError


def parser() -> argparse.ArgumentParser:
    """The whole parser, made from the verb table."""
    top = argparse.ArgumentParser(
        prog="kdumpd", description="One YAML policy from a kernel crash to a verified dump.", allow_abbrev=False
    )
    top.add_argument("--version", action="version", version=f"kdumpd {__version__}")
    verbs = top.add_subparsers(dest="verb", metavar="VERB", required=True)
    for verb in VERBS:
        sub = verbs.add_parser(
            verb.name,
            help=verb.help,
            description=f"{verb.help[0].upper()}{verb.help[1:]}.",
            epilog=_exits(verb),
            allow_abbrev=False,
        )
        for argument in verb.arguments:
            sub.add_argument(argument.name, **argument.options)
        sub.set_defaults(declaration=verb)
    return top


def _exits(verb: Verb) -> str:
    """What its exit codes mean, in one sentence."""
    codes = "; ".join(f"{code} {meaning}" for code, meaning in (*verb.exits, USAGE))
    return f"Exit codes: {codes}." if verb.exits else ""


def function_of(verb: Verb) -> Callable[[argparse.Namespace], int]:
    """The verb's function, imported now."""
    module, _, name = verb.function.partition(":")
    function: Callable[[argparse.Namespace], int] = getattr(importlib.import_module(module), name)
    return function


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; the exit code of the process."""
    options = parser().parse_args(arguments)
    try:
        return function_of(options.declaration)(options)
    except PolicyError as error:
        print("\n".join(error.problems), file=sys.stderr)
        return error.exit_code
    except KdumpdError as error:
        print(f"kdumpd {options.verb}: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        # The reader has gone (a pager was closed); nothing is left to say, and the interpreter must not say it either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print(f"kdumpd {options.verb}: interrupted", file=sys.stderr)
        return 130
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"kdumpd {options.verb}: {where}{error.strerror or error}", file=sys.stderr)
        return 1
    except Exception as error:
        print(
            f"kdumpd {options.verb}: internal error: {type(error).__name__}: {error}; "
            "run with KDUMPD_TRACEBACK=1 for the traceback",
            file=sys.stderr,
        )
        if os.environ.get("KDUMPD_TRACEBACK"):
            raise
        return 1
