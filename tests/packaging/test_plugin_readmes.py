"""What plugins' READMEs say of options, URLs, commands, rights and prices, beside the code."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import json
import re
import shlex
from collections.abc import Iterable

import click
import pytest
from wheels import ROOT

from lambdaml_core.cli import COMMANDS
from lambdaml_core.specs import PluginSpec, StorageSpec
from lambdaml_core.storage import StorageURL, build_storage

NAMES = sorted(path.parent.name for path in ROOT.glob("plugins/*/README.md"))
STORAGES = ["lambdaml-dynamodb", "lambdaml-memcached", "lambdaml-redis", "lambdaml-s3"]

every_plugin = pytest.mark.parametrize("name", NAMES)
every_storage = pytest.mark.parametrize("name", STORAGES)


def readme(name: str) -> str:
    return (ROOT / "plugins" / name / "README.md").read_text(encoding="utf-8")


def section(name: str, heading: str) -> str:
    (text,) = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", readme(name), re.MULTILINE | re.DOTALL)
    return " ".join(str(text).split())


def specs(name: str) -> list[PluginSpec]:
    """All that a plugin has."""
    module = importlib.import_module(f"{name.replace('-', '_')}.plugin")
    hooks = [hook for each, hook in vars(module).items() if each.startswith("lambdaml_")]
    return [spec for hook in hooks for spec in hook()]


def storage_of(name: str) -> StorageSpec:
    (found,) = specs(name)
    assert isinstance(found, StorageSpec)
    return found


def commands(text: str) -> list[list[str]]:
    """The words after ``lambdaml`` of each command in a block or between backticks, and those that install."""
    lines = [
        line for block in re.findall(r"^```\n(.*?)^```$", text, re.MULTILINE | re.DOTALL) for line in block.split("\n")
    ]
    spans = re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text)
    return [shlex.split(line, comments=True) for line in [*lines, *spans] if line.startswith(("lambdaml ", "pip "))]


@every_plugin
def test_every_option_is_described(name: str) -> None:
    fields = [field.name for spec in specs(name) for field in dataclasses.fields(spec.options)]
    assert fields
    assert [field for field in fields if f"`{field}`" not in readme(name)] == []


@every_storage
def test_every_url_is_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And each of the plugin's schemes is shown. Nobody is asked for anything."""
    schemes = "|".join(map(re.escape, storage_of(name).schemes))
    urls = re.findall(rf"(?<![\w+])(?:{schemes})://[^\s`'\")]+", readme(name))
    whole = [url for url in urls if not url.endswith("...")]
    assert {StorageURL.parse(url).scheme for url in whole} == set(storage_of(name).schemes)
    for url in whole:
        for variable in re.findall(r"\{env:(\w+)\}", url):
            monkeypatch.setenv(variable, "secret")
        with contextlib.closing(build_storage(url)):
            pass


@every_plugin
def test_every_command_exists(name: str) -> None:
    ours = [words[1:] for words in commands(readme(name)) if words[0] == "lambdaml"]
    assert {words[0] for words in ours} >= ({"train", "doctor"} if name in STORAGES else {"train"})
    for words in ours:
        unknown = [word for word in words if word.startswith("--") and word not in options_of(words)]
        assert unknown == [], f"lambdaml {' '.join(words)}"


def options_of(words: Iterable[str]) -> set[str]:
    """Those of the command that these words begin with."""
    first, *rest = words
    module, attribute, _ = COMMANDS[first]
    command: click.Command = getattr(importlib.import_module(module), attribute)
    if isinstance(command, click.Group) and rest:
        command = command.commands[rest[0]]
    return {option for parameter in command.params for option in parameter.opts}


@every_plugin
def test_it_is_installed_from_the_checkout(name: str) -> None:
    """Nothing of this project is at a registry, where others have its name: see the README of LambdaML."""
    installs = [words for words in commands(readme(name)) if words[:2] == ["pip", "install"]]
    assert installs[0] == ["pip", "install", ".", f"./plugins/{name}"]
    assert all(word == "." or "/" in word or "==" in word for words in installs for word in words[2:])


@every_storage
def test_prices_are_those_of_the_code(name: str) -> None:
    said = section(name, "Prices")
    assert "us-east-1" in said
    assert re.search(r"20\d\d", said), "when they were looked up"
    storage = build_storage(f"{storage_of(name).schemes[0]}://example")
    with contextlib.closing(storage):
        if not any(storage.caps.usd.values()):
            assert "equests" in said
            assert "cost nothing" in said
            assert len(re.findall(r"cache\.\w+\.\w+ \$0\.\d+", said)) == 3
    for price in PRICES.get(name, lambda: [])():
        assert price in said


def of_s3() -> list[str]:
    from lambdaml_s3.prices import EXPRESS, STANDARD

    def row(put: float, get: float) -> str:
        return (
            f"| ${1000 * put:.5f}".rstrip("0")
            + f" | ${1000 * put:.5f}".rstrip("0")
            + f" | ${1000 * get:.5f}".rstrip("0")
        )

    per_byte = f"${EXPRESS['sent'] * 2**30:g} per GB sent, ${EXPRESS['received'] * 2**30:g} per GB received"
    return [*STANDARD, *(row(*prices) for prices in STANDARD.values()), row(EXPRESS["put"], EXPRESS["get"]), per_byte]


def of_dynamodb() -> list[str]:
    from lambdaml_dynamodb.prices import USD_PER_READ_UNIT, USD_PER_WRITE_UNIT

    return [
        f"${1e6 * USD_PER_WRITE_UNIT:g} per million write units",
        f"${1e6 * USD_PER_READ_UNIT:g} per million read units",
    ]


PRICES = {"lambdaml-s3": of_s3, "lambdaml-dynamodb": of_dynamodb}
"""Prices of requests as a README must show them, of those plugins whose requests cost something."""


@every_storage
def test_rights_are_stated(name: str) -> None:
    """A policy where there are policies is one of JSON."""
    assert section(name, "Security")
    for policy in re.findall(r"^```json\n(.*?)^```$", readme(name), re.MULTILINE | re.DOTALL):
        statements = json.loads(policy)["Statement"]
        assert all(statement["Effect"] == "Allow" and "*" not in statement["Action"] for statement in statements)
