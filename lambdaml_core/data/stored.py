"""Checks of JSON that comes from a store or a user's disk: nothing in it is believed."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from lambdaml_core.storage.base import Buffer


def parse_json(data: Buffer) -> Any:
    """What JSON says, all its numbers finite.

    Raises:
        ValueError: it is malformed, or nested too deeply.
    """
    try:
        return json.loads(bytes(data), parse_constant=_finite, parse_float=_finite)
    except RecursionError as e:
        raise ValueError("it is nested too deeply") from e


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is not finite")
    return number


def check_fields(cls: type, fields: Mapping[str, Any]) -> None:
    """Hold a mapping of JSON, where lists are tuples and mappings dataclasses, against a dataclass.

    Raises:
        ValueError: a field is missing, unknown or of another type.
    """
    hints = get_type_hints(cls)
    if unknown := sorted(fields.keys() - hints.keys()):
        raise ValueError(f"{unknown[0]!r:.60} is not known")
    for name, hint in hints.items():
        if not _fits(fields.get(name), hint):
            raise ValueError(f"{name} is {fields.get(name)!r:.60}")


def _fits(value: Any, hint: Any) -> bool:
    kinds = get_args(hint)
    if isinstance(hint, type) and is_dataclass(hint):
        check_fields(hint, value if isinstance(value, dict) else {})
        return True
    if get_origin(hint) is tuple:
        return isinstance(value, list) and all(_fits(v, kinds[0]) for v in value)
    if get_origin(hint) is Mapping:
        return isinstance(value, dict) and all(_fits(v, kinds[1]) for v in value.values())
    if hint is Any:  # options of a format and the like: they are checked where they are used
        return True
    if get_origin(hint) is Literal:
        return value in kinds
    if get_origin(hint) is UnionType:
        return any(_fits(value, kind) for kind in kinds)
    if hint is float:
        return type(value) in (int, float) and abs(value) <= sys.float_info.max
    return type(value) is hint  # True is no int


def can_be_labels(labels: Sequence[Any]) -> bool:
    """Whether labels are all numbers, or all words, and distinct."""
    words = all(isinstance(v, str) for v in labels)
    numbers = all(isinstance(v, bool | int | float) for v in labels)
    return (words or numbers) and len(set(labels)) == len(labels)
