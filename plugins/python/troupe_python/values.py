"""Turns a program's result into JSON, and says where it cannot."""

import dataclasses
import datetime
import decimal
import enum
import json
import math
import pathlib
import re
import uuid

# Deeper values cannot be read by the host.
DEPTH_MAX = 120
# Integers beyond this lose digits in the programs that read the result: in the workflow, and in most others.
INTEGER_MIN, INTEGER_MAX = -(2**63), 2**64 - 1
# A longer text by which Python shows a value is cut.
TEXT_CHARS_MAX = 20_000
# Only a number of so many digits can be beyond; digits after a point are none of an integer.
_LONG_NUMBER = re.compile(r"(?<![\d.])\d{19}")


def to_json(value):
    """The JSON text of a result. Raises TypeError or ValueError that names the place that does not fit."""
    try:
        text = _ENCODER.encode(value)
        text.encode()  # A lone surrogate is a character that no UTF-8 text can hold.
    except (TypeError, ValueError, RecursionError) as error:
        problem = error
    else:
        if _LONG_NUMBER.search(text):
            _explain(value, "result", [])
        return text
    _explain(value, "result", [])
    raise problem


def text_of(value):
    """A value that has a JSON form, or the text by which Python shows it. Of the last expression of a program in a session
    nobody said that it is a result."""
    try:
        to_json(value)
    except (TypeError, ValueError, RecursionError):
        text = repr(value)
        shown = text if len(text) <= TEXT_CHARS_MAX else f"{text[:TEXT_CHARS_MAX]}[… {len(text) - TEXT_CHARS_MAX} characters left out]"
        return shown.encode("utf-8", "replace").decode()
    return value


def _plain(value):
    """What stands for a value that JSON does not know."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, (decimal.Decimal, uuid.UUID, pathlib.PurePath)):
        return str(value)
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, (set, frozenset)):
        try:
            return sorted(value)
        except TypeError:
            return list(value)
    if isinstance(value, (type({}.keys()), type({}.values()), type({}.items()), range)):
        return list(value)
    raise TypeError


_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain)


def _explain(value, path, around):
    """Finds the first place in a value that does not fit into JSON, and raises what is wrong with it."""
    if len(around) > DEPTH_MAX:
        raise ValueError(f"{path[:80]}… is nested more than {DEPTH_MAX} levels deep")
    if any(value is outer for outer in around):
        raise ValueError(f"{path} contains itself")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{path} is {value}, which JSON cannot express")
    if isinstance(value, str):
        _explain_text(value, path)
    elif isinstance(value, int):
        _explain_number(value, path)
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, (str, int, float, bool, type(None))):
                raise TypeError(f"{path} has a key of the type {type(key).__name__}; keys must be strings")
            if isinstance(key, str):
                _explain_text(key, f"a key of {path}")
            named = isinstance(key, str) and key.isidentifier()
            _explain(item, f"{path}.{key}" if named else f"{path}[{key!r}]", [*around, value])
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            _explain(item, f"{path}[{index}]", [*around, value])
    elif not isinstance(value, (float, type(None))):
        _explain(_plain_or_raise(value, path), path, [*around, value])


def _explain_text(text, path):
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{path} holds half a character (a lone surrogate), which no text can") from None


def _explain_number(number, path):
    try:
        int.__repr__(number)
    except ValueError as error:
        raise ValueError(f"{path} is a number of too many digits: {error}") from None
    if not INTEGER_MIN <= number <= INTEGER_MAX:
        raise ValueError(f"{path} is an integer of more than 64 bits, which would lose digits; use str()")


def _plain_or_raise(value, path):
    try:
        return _plain(value)
    except TypeError:
        kind = type(value).__name__
        hint = "; decode it, or encode it with base64" if isinstance(value, (bytes, bytearray, memoryview)) else ""
        raise TypeError(f"{path} is of the type {kind}, which has no JSON form{hint}") from None
