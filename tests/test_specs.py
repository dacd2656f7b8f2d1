"""Records that a plugin may and may not return."""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Any

import pytest

from lambdaml_core.builtin import FaultOptions, FileOptions
from lambdaml_core.errors import PluginBroken
from lambdaml_core.options import NoOptions, option
from lambdaml_core.specs import (
    CommunicatorSpec,
    DataFormatSpec,
    ModelSpec,
    Reference,
    StorageLayerSpec,
    StorageSpec,
    check_spec,
)


@dataclasses.dataclass(frozen=True)
class Good:
    c: float = option(help="must be given")
    a: int = option(1, help="a number", minimum=0)
    b: str | None = option(None, help="a word")


@dataclasses.dataclass
class Thawed:
    a: int = option(1, help="a number")


@dataclasses.dataclass(frozen=True)
class Helpless:
    a: int = 1


@dataclasses.dataclass(frozen=True)
class Listed:
    a: tuple[int, ...] = option(help="numbers")


@dataclasses.dataclass(frozen=True)
class OutOfBounds:
    a: int = option(0, help="a number", above=0)


@dataclasses.dataclass(frozen=True)
class WrongDefault:
    a: bool = option("maybe", help="a truth")


class Nested:
    @dataclasses.dataclass(frozen=True)
    class Inside:
        """No worker could import it by its module and name alone."""


@pytest.mark.parametrize("name", ["a", "ga_sgd", "aws-lambda", "l2", "lbfgs2_x-y"])
def test_lowercase_words_are_names(name: str) -> None:
    check_spec(ModelSpec(name=name, factory="pkg.mod:Class", options=Good, aliases=(name + "x",)))


@pytest.mark.parametrize("name", ["", "A", "a b", "1a", "_a", "a-", "a__b", "é", "a\n", None, 3])
@pytest.mark.parametrize("as_alias", [False, True])
def test_other_names_are_refused(name: Any, as_alias: bool) -> None:
    names: dict[str, Any] = {"name": "fine", "aliases": (name,)} if as_alias else {"name": name}
    with pytest.raises(ValueError, match=r"cannot be an? (name|alias) of 'pkg:Class'"):
        check_spec(ModelSpec(factory="pkg:Class", **names))


@pytest.mark.parametrize(
    "factory", ["", "pkg", "pkg:", ":Class", "pkg.:C", "pkg:C:D", "pkg:C()", "../pkg:C", None, NoOptions]
)
def test_factories_are_written_module_colon_class(factory: Any) -> None:
    with pytest.raises(ValueError, match="module:Class"):
        check_spec(ModelSpec(name="m", factory=factory))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (dict, "must be a frozen dataclass"),
        (Good(c=1.0), "must be a frozen dataclass"),
        (Thawed, "Thawed must be frozen"),
        (Helpless, r"Helpless\.a has no help"),
        (Listed, r"Listed\.a must be of bool, int, float, str, words"),
        (OutOfBounds, "default is refused: option OutOfBounds.a must be above 0"),
        (WrongDefault, "default is refused: option WrongDefault.a must be bool"),
        (Nested.Inside, r"Nested\.Inside must stand at the top of its module"),
    ],
)
def test_options_are_frozen_dataclasses_with_help(options: Any, reason: str) -> None:
    with pytest.raises(TypeError, match=reason):
        check_spec(ModelSpec(name="m", factory="pkg:C", options=options))


def test_a_storage_serves_the_scheme_of_its_name() -> None:
    check_spec(StorageSpec(name="s3", schemes=("s3", "s3.http", "s3+unix"), factory="p:C"))
    for scheme in ("s3+unix+x", "+s3", "s3+"):
        with pytest.raises(ValueError, match=f"'{re.escape(scheme)}' cannot be a URL scheme of"):
            check_spec(StorageSpec(name="s3", schemes=("s3", scheme), factory="p:C"))
    with pytest.raises(ValueError, match="must have its name among its URL schemes"):
        check_spec(StorageSpec(name="s3", schemes=("aws",), factory="p:C"))
    with pytest.raises(ValueError, match="'S3' cannot be a URL scheme of"):
        check_spec(StorageSpec(name="s3", schemes=("s3", "S3"), factory="p:C"))


def test_a_pattern_has_no_options() -> None:
    check_spec(CommunicatorSpec(name="ring", factory="p:ring"))
    with pytest.raises(ValueError, match="the communicator ring has options"):
        check_spec(CommunicatorSpec(name="ring", factory="p:ring", options=FileOptions))


def test_a_channel_has_the_options_of_its_storage() -> None:
    check_spec(StorageSpec(name="file", schemes=("file",), factory="p:C", options=FileOptions, channel={"sync": False}))
    with pytest.raises(ValueError, match="the storage s3 has no option sync"):
        check_spec(StorageSpec(name="s3", schemes=("s3",), factory="p:C", channel={"sync": False}))


def test_options_of_a_layer_start_with_its_name() -> None:
    check_spec(StorageLayerSpec(name="fault", factory="p:C", options=FaultOptions))
    check_spec(StorageLayerSpec(name="plain", factory="p:C"))
    with pytest.raises(ValueError, match="fault_bytes_per_s of the storage layer slow must start with slow_"):
        check_spec(StorageLayerSpec(name="slow", factory="p:C", options=FaultOptions))


def test_schemes_are_words_of_a_storage_once() -> None:
    spec = StorageSpec(name="redis", schemes=("redis", "rediss"), factory="p:C", aliases=("valkey",))
    assert spec.words() == ("redis", "valkey", "rediss")


def test_suffixes_start_with_a_dot() -> None:
    check_spec(DataFormatSpec(name="csv", factory="p:C", suffixes=(".csv", ".csv.gz")))
    for wrong in ("csv", ".", ".a b", None):
        with pytest.raises(ValueError, match="cannot be a suffix of 'p:C'"):
            check_spec(DataFormatSpec(name="csv", factory="p:C", suffixes=(wrong,)))  # type: ignore[arg-type]


@pytest.mark.parametrize("field", ["aliases", "schemes"])
def test_words_come_in_a_tuple(field: str) -> None:
    wrong: Any = "s"
    with pytest.raises(TypeError, match="'s' of s must be a tuple"):
        check_spec(dataclasses.replace(StorageSpec(name="s", schemes=("s",), factory="p:C"), **{field: wrong}))


def test_a_summary_is_text() -> None:
    with pytest.raises(TypeError, match="the summary of s must be a string"):
        check_spec(ModelSpec(name="s", factory="p:C", summary=["s"]))  # type: ignore[arg-type]


def test_a_reference_builds_what_it_names() -> None:
    spec = ModelSpec(name="m", factory="builtins:str", options=Good)
    reference = Reference.of(spec, {"c": 2, "a": "3"})
    assert reference == Reference("model", "m", "builtins:str", f"{__name__}:Good", {"a": 3, "b": None, "c": 2.0})
    assert reference.build() == str(Good(a=3, b=None, c=2.0))


@pytest.mark.parametrize("factory", ["lambdaml_core.no_such_module:C", "math:no_such_name"])
def test_a_reference_that_cannot_be_imported_is_a_broken_plugin(factory: str) -> None:
    with pytest.raises(PluginBroken, match="the model m cannot be imported") as e:
        Reference("model", "m", factory, "lambdaml_core.options:NoOptions").load()
    assert isinstance(e.value.__cause__, ImportError | AttributeError)


def test_a_reference_loads_functions_too() -> None:
    assert Reference("communicator", "c", "math:prod", "lambdaml_core.options:NoOptions").load() is math.prod
