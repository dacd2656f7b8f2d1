"""Options of plugins: frozen dataclasses whose fields carry help and unit, used alike for TOML, URL query and listings.

A field is an ``int``, ``float``, ``bool`` or ``str``, several words (``tuple[str, ...]``), numbers by name
(``dict[str, float]``), or a union of these, possibly with None. Unknown names, wrong types and values out of range are
refused with the dotted path of the option and the nearest name.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from lambdaml_core.errors import OptionError

T = TypeVar("T")
_MOST_NAMED = 30


def option(
    default: Any = dataclasses.MISSING,
    *,
    help: str,
    unit: str = "",
    minimum: float | None = None,
    above: float | None = None,
    maximum: float | None = None,
    choices: Sequence[str] | None = None,
) -> Any:
    """A dataclass field with what users need to know about it.

    Args:
        default: the default; left out, the option must be given.
        help: one line.
        unit: unit of the number, such as ``s`` or ``bytes``.
        minimum, above, maximum: bounds; ``above`` is exclusive.
        choices: the words allowed.
    """
    metadata = {"help": help, "unit": unit, "minimum": minimum, "above": above, "maximum": maximum, "choices": choices}
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class NoOptions:
    """For a plugin that has none."""


class OptionInfo(NamedTuple):
    """One option as shown by ``lambdaml plugins show``.

    ``default`` is None where ``required``; ``allowed`` has the bounds or the words in one line, if there are any.
    """

    name: str
    type: str
    default: Any
    required: bool
    unit: str
    help: str
    allowed: str


def describe(cls: type) -> list[OptionInfo]:
    """The options of a dataclass, in order."""
    hints = typing.get_type_hints(cls)
    rows = []
    for field in _fields(cls):
        required = field.default is dataclasses.MISSING
        rows.append(
            OptionInfo(
                field.name,
                _type_name(hints[field.name]),
                None if required else field.default,
                required,
                field.metadata.get("unit", ""),
                field.metadata.get("help", ""),
                _allowed(field.metadata),
            )
        )
    return rows


def parse(cls: type[T], values: Mapping[str, Any], *, where: str = "") -> T:
    """Build a frozen options dataclass from a mapping, checking every name, type and bound.

    Args:
        values: from TOML, JSON or keywords (typed) or from a URL query (strings, which are converted).
        where: dotted path put before names in messages, such as ``optimizer``.

    Raises:
        OptionError: names the path; the hint has the nearest name or the allowed values.
    """
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in _fields(cls)}
    given: dict[str, Any] = {}
    for name, value in values.items():
        path = join_path(where, name)
        if name not in fields:
            raise OptionError(f"unknown option {path}", hint=nearest(name, fields))
        given[name] = _check(path, hints[name], fields[name], value)
    for name, field in fields.items():
        if name not in given and field.default is dataclasses.MISSING:
            raise OptionError(f"option {join_path(where, name)} must be given", hint=field.metadata.get("help"))
    return cls(**given)


def check_options(cls: Any) -> None:
    """Refuse a class that cannot be options: what a plugin's author must get right.

    Raises:
        TypeError: not a frozen dataclass at the top of its module, or a field of another type than the supported ones,
            without help, or with a default that its own bounds refuse.
    """
    if not (isinstance(cls, type) and dataclasses.is_dataclass(cls)):
        raise TypeError(f"options must be a frozen dataclass, not {cls!r}")
    if not cls.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise TypeError(f"the dataclass {cls.__qualname__} must be frozen")
    if "." in cls.__qualname__:
        raise TypeError(f"{cls.__qualname__} must stand at the top of its module, where a worker can import it")
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        path = f"{cls.__qualname__}.{field.name}"
        if not field.metadata.get("help"):
            raise TypeError(f"{path} has no help: make it with option(..., help=...)")
        if not set(_alternatives(hints[field.name])) <= {*_CONVERT, type(None)}:
            raise TypeError(f"{path} must be of {', '.join(map(_kind_name, _CONVERT))}, or a union of them")
        if field.default is not dataclasses.MISSING:
            try:
                _check(path, hints[field.name], field, field.default)
            except OptionError as e:
                raise TypeError(f"the default is refused: {e.message}") from e


def join_path(where: str, name: str) -> str:
    """``where.name``, or ``name`` at the top."""
    return f"{where}.{name}" if where else name


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for a misspelt name: the nearest one, or all of them."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        return f"did you mean {close[0]}?"
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return f"known: {', '.join(names[:_MOST_NAMED])}{more}" if names else "there are none"


def _fields(cls: type) -> tuple[dataclasses.Field[Any], ...]:
    if not dataclasses.is_dataclass(cls):
        raise TypeError(f"options must be a dataclass, not {cls!r}")
    return dataclasses.fields(cls)


def _type_name(hint: Any) -> str:
    return " | ".join("none" if t is type(None) else _kind_name(t) for t in _alternatives(hint))


def _kind_name(kind: Any) -> str:
    return {_WORDS: "words", _NUMBERS: "numbers by name"}.get(kind) or kind.__name__


def _allowed(metadata: Mapping[str, Any]) -> str:
    if metadata.get("choices") is not None:
        return " | ".join(metadata["choices"])
    signs = {"minimum": ">=", "above": ">", "maximum": "<="}
    return ", ".join(f"{sign} {metadata[key]}" for key, sign in signs.items() if metadata.get(key) is not None)


def _alternatives(hint: Any) -> tuple[Any, ...]:
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return typing.get_args(hint)
    return (hint,)


def _check(path: str, hint: Any, field: dataclasses.Field[Any], value: Any) -> Any:
    converted = _convert(path, hint, value, field.metadata.get("help"))
    _check_bounds(path, converted, field.metadata)
    return converted


def _convert(path: str, hint: Any, value: Any, help: str | None) -> Any:
    kinds = _alternatives(hint)
    if value is None and type(None) in kinds:
        return None
    for kind in kinds:
        if kind is not type(None):
            converted = _CONVERT[kind](value)
            if converted is not None:
                return converted
    raise OptionError(f"option {path} must be {_type_name(hint)}, not {value!r}", hint=help)


def _to_bool(value: Any) -> bool | None:
    if isinstance(value, str):
        return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}.get(value.lower())
    return value if isinstance(value, bool) else None


def _to_int(value: Any) -> int | None:
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            return None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _to_float(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):  # an integer too large for a float
        return None
    return number if math.isfinite(number) else None


def _to_str(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _to_words(value: Any) -> tuple[str, ...] | None:
    """From a list of TOML, or from the words of a URL's query between commas."""
    if isinstance(value, str):
        return tuple(filter(None, value.split(",")))
    if isinstance(value, list | tuple) and all(isinstance(v, str) for v in value):
        return tuple(value)
    return None


def _to_numbers(value: Any) -> dict[str, float] | None:
    if not isinstance(value, Mapping):
        return None
    numbers = {str(name): _to_float(number) for name, number in value.items()}
    return None if None in numbers.values() else typing.cast(dict[str, float], numbers)


_WORDS: Any = tuple[str, ...]
_NUMBERS: Any = dict[str, float]
_CONVERT: dict[Any, Callable[[Any], Any]] = {
    bool: _to_bool,
    int: _to_int,
    float: _to_float,
    str: _to_str,
    _WORDS: _to_words,
    _NUMBERS: _to_numbers,
}


def _check_bounds(path: str, value: Any, metadata: Mapping[str, Any]) -> None:
    choices = metadata.get("choices")
    if choices is not None and value is not None and value not in choices:
        raise OptionError(f"option {path} cannot be {value!r}", hint=nearest(str(value), choices))
    if value is None or isinstance(value, str | bool | tuple | dict):
        return
    minimum, above, maximum = (metadata.get(k) for k in ("minimum", "above", "maximum"))
    if minimum is not None and value < minimum:
        raise OptionError(f"option {path} must be at least {minimum}, not {value}")
    if above is not None and value <= above:
        raise OptionError(f"option {path} must be above {above}, not {value}")
    if maximum is not None and value > maximum:
        raise OptionError(f"option {path} must be at most {maximum}, not {value}")
