"""What YAML reads an unquoted word as, and where that is not what people mean.

PyYAML follows YAML 1.1, editors mostly YAML 1.2: words on which the two differ (`yes`, `017`, `1:30`, `1_000`, dates)
are surprises, and a policy that holds one is refused instead of guessed at. Called by `document`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from yaml.nodes import ScalarNode
from yaml.resolver import Resolver

Scalar = str | int | float | bool | None

# Typed here because PyYAML's stubs leave it untyped.
_resolve: Callable[[type[ScalarNode], str, tuple[bool, bool]], str] = Resolver().resolve
_PREFIX = "tag:yaml.org,2002:"
_TRUE_WORDS = frozenset({"yes", "on", "true"})
_DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_HEXADECIMAL = re.compile(r"[-+]?0x[0-9a-fA-F]+")
_YAML_1_2_OCTAL = re.compile(r"0o[0-7]+")
_EXPONENT = re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]{1,2}")
_ONE_LETTER = {"y": True, "Y": True, "n": False, "N": False}
_LONGEST_NUMBER = 40


class Surprise(NamedTuple):
    """A word, what YAML made of it and what was perhaps meant.

    `certain`: a surprise wherever it stands; otherwise only where the value is not allowed as it was read.
    """

    word: str
    read: str
    meant: tuple[Scalar, ...]
    certain: bool = True


class Reading(NamedTuple):
    """A scalar's value, and the surprise in it if there is one."""

    value: Scalar
    surprise: Surprise | None = None


def read(text: str, plain: bool) -> Reading:
    """What a scalar stands for; only plain (unquoted) ones are anything but text."""
    if not plain:
        return Reading(text)
    tag = _resolve(ScalarNode, text, (True, False)).removeprefix(_PREFIX)
    if tag == "null":
        return Reading(None)
    if tag == "bool":
        return _boolean(text)
    if tag == "int":
        return _integer(text)
    if tag == "float":
        return _fraction(text)
    if tag == "timestamp":
        return Reading(text, Surprise(text, "a date", (text,)))
    return _text(text)


def _boolean(text: str) -> Reading:
    value = text.lower() in _TRUE_WORDS
    if text.lower() in ("true", "false"):
        return Reading(value)
    return Reading(value, Surprise(text, f"the truth value {'true' if value else 'false'}", (value, text)))


def _integer(text: str) -> Reading:
    if len(text) > _LONGEST_NUMBER:
        return Reading(text, Surprise(text, "a number of very many digits", ()))
    if _DECIMAL.fullmatch(text):
        return Reading(int(text))
    if _HEXADECIMAL.fullmatch(text):
        return Reading(int(text, 16))
    digits = text.replace("_", "").lstrip("+-")
    sign = -1 if text.startswith("-") else 1
    if ":" in digits:
        value = 0
        for part in digits.split(":"):
            value = value * 60 + int(part)
        return Reading(sign * value, Surprise(text, f"the number {sign * value} (base 60)", (sign * value, text)))
    if digits.lower().startswith("0b"):
        value = sign * int(digits, 2)
        return Reading(value, Surprise(text, f"the number {value} (base 2)", (value, text)))
    if digits.lower().startswith("0x"):
        value = sign * int(digits, 16)
        return Reading(value, Surprise(text, f"the number {value}", (text.replace("_", ""),)))
    if digits.startswith("0") and len(digits) > 1:
        value = sign * int(digits, 8)
        return Reading(value, Surprise(text, f"the number {value} (base 8)", (value, sign * int(digits), text)))
    value = sign * int(digits or "0")
    return Reading(value, Surprise(text, f"the number {value}", (value, text)))


def _fraction(text: str) -> Reading:
    number = re.fullmatch(r"([-+]?[0-9]{1,15})\.0*", text)
    whole: tuple[Scalar, ...] = (int(number[1]),) if number else ()
    return Reading(text, Surprise(text, "a decimal fraction", (*whole, text)))


def _text(text: str) -> Reading:
    if _YAML_1_2_OCTAL.fullmatch(text) and len(text) <= _LONGEST_NUMBER:
        return Reading(text, Surprise(text, "text (base 8 is YAML 1.2)", (int(text[2:], 8),), certain=False))
    if _EXPONENT.fullmatch(text) and len(text) <= _LONGEST_NUMBER:
        value = float(text)
        return Reading(text, Surprise(text, "text", (int(value),) if value.is_integer() else (), certain=False))
    if text in _ONE_LETTER:
        return Reading(text, Surprise(text, "text", (_ONE_LETTER[text],), certain=False))
    return Reading(text)
