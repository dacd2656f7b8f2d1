"""Secrets in options of a URL: named in a specification, read where the storage is built."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import pytest

from lambdaml_core.builtin import FaultOptions
from lambdaml_core.errors import URLError
from lambdaml_core.options import option
from lambdaml_core.specs import Reference, StorageLayerSpec, StorageSpec
from lambdaml_core.storage import StorageURL, build_storage
from lambdaml_core.storage.base import StorageCaps
from lambdaml_core.storage.layers import Complete

URL = "keeps://host/path?token={env:LAW_TOKEN}&servers=a,{env:LAW_SERVER}&tries=3"


@dataclass(frozen=True)
class KeepsOptions:
    """With a secret."""

    token: str = option("", help="a secret")
    servers: tuple[str, ...] = option((), help="words")
    tries: int = option(1, help="a number")


class Keeps:
    """Keeps what it was built with."""

    caps = StorageCaps(scope="process")

    def __init__(self, url: StorageURL, options: KeepsOptions) -> None:
        self.url, self.options = url, options


class Around:
    """A layer, which builds what is within."""

    def __init__(self, url: StorageURL, options: FaultOptions, inner: Reference) -> None:
        self.inner = Complete(inner.build(url.inner()))._inner


def reference() -> Reference:
    spec = StorageSpec(name="keeps", schemes=("keeps",), factory=f"{__name__}:Keeps", options=KeepsOptions)
    return Reference.of(spec, StorageURL.parse(URL).query)


@pytest.fixture(params=["alone", "in a layer"])
def opened(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Reference]:
    """The storage, and its reference as a specification has it."""
    monkeypatch.setenv("LAW_TOKEN", "hunter2")
    monkeypatch.setenv("LAW_SERVER", "b")
    plain = reference()
    if request.param == "alone":
        return build_storage(URL, plain), plain
    layer = Reference.of(StorageLayerSpec(name="fault", factory=f"{__name__}:Around", options=FaultOptions), {})
    layered = Reference(**asdict(layer) | {"inner": asdict(plain)})
    around: Any = build_storage(f"fault+{URL}", layered)
    return around.inner, layered


def test_variables_in_options_are_read_where_the_storage_is_built(opened: tuple[Any, Reference]) -> None:
    assert opened[0].options == KeepsOptions(token="hunter2", servers=("a", "b"), tries=3)  # noqa: S106
    assert "hunter2" not in str(opened[0].url)


def test_a_specification_names_the_variable_only(opened: tuple[Any, Reference]) -> None:
    written = json.dumps(asdict(opened[1]))
    assert "{env:LAW_TOKEN}" in written
    assert "hunter2" not in written


def test_a_variable_of_an_option_that_is_not_set_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAW_SERVER", "b")
    monkeypatch.delenv("LAW_TOKEN", raising=False)
    with pytest.raises(URLError, match="LAW_TOKEN is not set"):
        build_storage(URL, reference())
