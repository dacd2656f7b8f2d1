"""Laws of options: what goes out comes back, and nothing unknown, mistyped or out of range gets in."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambdaml_core.errors import OptionError
from lambdaml_core.options import NoOptions, describe, join_path, nearest, option, parse


@dataclasses.dataclass(frozen=True)
class Options:
    number: int = option(help="a whole number", unit="rows")
    ratio: float = option(0.5, help="a number", unit="s")
    flag: bool = option(False, help="a truth")
    word: str = option("x", help="a word")
    limit: int | None = option(None, help="perhaps a whole number", minimum=1)
    share: float | None = option(None, help="perhaps a number", above=0, maximum=1)
    choice: str | None = option(None, help="perhaps a choice", choices=("red", "green"))


NAMES = {f.name for f in dataclasses.fields(Options)}
finite = st.floats(allow_nan=False, allow_infinity=False)
options = st.builds(
    Options,
    number=st.integers(),
    ratio=finite,
    flag=st.booleans(),
    word=st.text(),
    limit=st.none() | st.integers(1),
    share=st.none() | st.floats(0, 1, exclude_min=True),
    choice=st.sampled_from([None, "red", "green"]),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=3,
)


@given(options)
def test_what_goes_out_as_json_comes_back(value: Options) -> None:
    text = json.dumps(dataclasses.asdict(value))
    assert parse(Options, json.loads(text)) == value


@given(options)
def test_what_goes_out_as_a_url_query_comes_back(value: Options) -> None:
    query = {name: str(v) for name, v in dataclasses.asdict(value).items() if v is not None}
    assert parse(Options, query) == value


@given(options)
def test_parsing_is_idempotent_in_types_too(value: Options) -> None:
    again = parse(Options, dataclasses.asdict(value))
    assert [type(v) for v in dataclasses.astuple(again)] == [type(v) for v in dataclasses.astuple(value)]


@given(st.text().filter(lambda name: name not in NAMES), json_values, st.sampled_from(["", "job.optimizer"]))
def test_unknown_names_are_always_refused_with_their_path(name: str, value: Any, where: str) -> None:
    with pytest.raises(OptionError) as e:
        parse(Options, {"number": 1, name: value}, where=where)
    assert e.value.message == f"unknown option {join_path(where, name)}"
    assert e.value.hint


@given(st.sampled_from(sorted(NAMES)), json_values)
def test_a_value_is_taken_with_the_stated_type_or_refused(name: str, value: Any) -> None:
    types = {"number": int, "ratio": float, "flag": bool, "word": str, "limit": int, "share": float, "choice": str}
    try:
        taken = getattr(parse(Options, {"number": 1, name: value}), name)
    except OptionError:
        return  # any other exception fails the test
    if taken is None:
        assert value is None
        assert name in ("limit", "share", "choice")
    else:
        assert type(taken) is types[name]
        assert not (isinstance(taken, float) and not math.isfinite(taken))
        assert not isinstance(value, list | dict)


@given(st.integers(max_value=0))
def test_a_minimum_is_inclusive(value: int) -> None:
    assert parse(Options, {"number": 1, "limit": 1}).limit == 1
    with pytest.raises(OptionError, match="option limit must be at least 1"):
        parse(Options, {"number": 1, "limit": value})


@given(finite.filter(lambda x: not 0 < x <= 1))
def test_bounds_may_be_exclusive_below_and_inclusive_above(value: float) -> None:
    assert parse(Options, {"number": 1, "share": 1}).share == 1.0
    with pytest.raises(OptionError, match=r"option share must be (above 0|at most 1)"):
        parse(Options, {"number": 1, "share": value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("number", True),
        ("number", 1.0),
        ("number", "1.0"),
        ("number", None),
        ("ratio", False),
        ("ratio", "nan"),
        ("ratio", "inf"),
        ("ratio", math.nan),
        ("ratio", 10**400),  # does not fit a float
        ("flag", 1),
        ("flag", "maybe"),
        ("word", 1),
        ("choice", "blue"),
    ],
)
def test_mistyped_values_are_refused(name: str, value: Any) -> None:
    with pytest.raises(OptionError) as e:
        parse(Options, {"number": 1, name: value}, where="here")
    assert e.value.message.startswith(f"option here.{name} ")


def test_a_required_option_must_be_given() -> None:
    with pytest.raises(OptionError, match=r"option here\.number must be given") as e:
        parse(Options, {}, where="here")
    assert e.value.hint == "a whole number"


def test_misspelt_names_and_choices_get_the_nearest() -> None:
    with pytest.raises(OptionError) as name:
        parse(Options, {"numbr": 1})
    assert name.value.hint == "did you mean number?"
    with pytest.raises(OptionError) as choice:
        parse(Options, {"number": 1, "choice": "gren"})
    assert choice.value.hint == "did you mean green?"
    with pytest.raises(OptionError) as none:
        parse(NoOptions, {"a": 1})
    assert none.value.hint == "there are none"


def test_of_very_many_names_some_are_told() -> None:
    hint = nearest("zebra", [f"{i:03}" for i in range(1000)])
    assert hint.startswith("known: 000, 001, ")
    assert hint.endswith(" and 970 more")


def test_a_wrong_type_is_refused_with_what_the_option_is_for() -> None:
    with pytest.raises(OptionError) as caught:
        parse(Options, {"number": "many"})
    assert caught.value.hint == "a whole number"


@given(st.sets(st.text(min_size=1), min_size=1))
def test_a_name_is_nearest_to_itself(known: set[str]) -> None:
    for name in known:
        assert nearest(name, known) == f"did you mean {name}?"


def test_describe_says_all_there_is() -> None:
    rows = {row.name: row for row in describe(Options)}
    assert list(rows) == [f.name for f in dataclasses.fields(Options)]
    assert rows["number"]._asdict() == {
        "name": "number",
        "type": "int",
        "default": None,
        "required": True,
        "unit": "rows",
        "help": "a whole number",
        "allowed": "",
    }
    assert (rows["ratio"].default, rows["ratio"].required, rows["ratio"].unit) == (0.5, False, "s")
    assert (rows["limit"].type, rows["limit"].allowed) == ("int | none", ">= 1")
    assert rows["share"].allowed == "> 0, <= 1"
    assert rows["choice"].allowed == "red | green"


def test_options_must_be_a_dataclass() -> None:
    with pytest.raises(TypeError, match="options must be a dataclass"):
        parse(dict, {})


@dataclasses.dataclass(frozen=True)
class Many:
    words: tuple[str, ...] = option((), help="some words")
    weights: str | dict[str, float] | None = option(None, help="a word, or numbers by name")  # noqa: RUF009


words = st.lists(st.text(min_size=1)).map(tuple)
numbers = st.dictionaries(st.text(), finite)


@given(st.builds(Many, words=words, weights=st.none() | st.text() | numbers))
def test_words_and_numbers_by_name_come_back_from_json(value: Many) -> None:
    again = parse(Many, json.loads(json.dumps(dataclasses.asdict(value))))
    assert again == value
    assert type(again.words) is tuple


@given(st.lists(st.text(st.characters(exclude_characters=","), min_size=1)))
def test_words_of_a_url_stand_between_commas(some: list[str]) -> None:
    assert parse(Many, {"words": ",".join(some)}).words == tuple(some)


def test_names_of_numbers_may_be_given_as_numbers_from_python() -> None:
    assert parse(Many, {"weights": {0: 1, 1: 2.5}}).weights == {"0": 1.0, "1": 2.5}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("words", [1]),
        ("words", 1),
        ("words", None),
        ("weights", {"a": "many"}),
        ("weights", {"a": math.nan}),
        ("weights", {"a": True}),
        ("weights", [1.0]),
    ],
)
def test_other_lists_and_tables_are_refused(name: str, value: Any) -> None:
    with pytest.raises(OptionError, match=f"option {name} must be "):
        parse(Many, {name: value})


def test_words_and_numbers_by_name_are_described() -> None:
    assert [(o.name, o.type) for o in describe(Many)] == [
        ("words", "words"),
        ("weights", "str | numbers by name | none"),
    ]
