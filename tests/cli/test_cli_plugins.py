"""``lambdaml plugins`` and ``lambdaml plugins show`` on the built-ins."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

import pytest

from lambdaml_core import __version__
from lambdaml_core.builtin import GASGDOptions
from lambdaml_core.cli import main
from lambdaml_core.storage.base import StorageCaps

pytestmark = pytest.mark.usefixtures("core_alone")


def output(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    assert main(words) == code
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def as_json(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(output(capsys, *words, "--json", code=code))
    assert result["schema"] == 1
    return result


def test_the_list_has_every_builtin_as_ok(capsys: pytest.CaptureFixture[str]) -> None:
    rows = {(r["kind"], r["name"]): r for r in as_json(capsys, "plugins")["plugins"]}
    assert {
        ("storage", "file"),
        ("storage", "memory"),
        ("communicator", "aggregate"),
        ("optimizer", "ga_sgd"),
        ("provider", "local"),
        ("provider", "inline"),
        ("model", "logistic_regression"),
        ("data_format", "libsvm"),
    } <= set(rows)
    for row in rows.values():
        assert {"kind", "name", "distribution", "version", "state", "remedy"} <= set(row)
        assert (row["distribution"], row["version"]) == ("lambdaml", __version__)
        assert (row["state"], row["remedy"]) == ("ok", None)


def test_the_plain_list_is_an_aligned_table_without_colour(capsys: pytest.CaptureFixture[str]) -> None:
    header, *lines = output(capsys, "plugins").splitlines()
    assert header.split() == ["kind", "name", "distribution", "version", "state", "summary"]
    for line in lines:
        assert line[header.index("state") :].startswith("ok ")
    assert any(line.startswith("storage ") and " file " in line for line in lines)


def _as_in_a_job(value: Any) -> str:
    return {"None": "none", "True": "true", "False": "false"}.get(str(value), str(value))


def test_show_prints_every_option_with_type_default_and_unit(capsys: pytest.CaptureFixture[str]) -> None:
    (shown,) = as_json(capsys, "plugins", "show", "ga_sgd")["plugins"]
    assert shown["aliases"] == ["grad_avg"]
    assert shown["capabilities"] is None
    options = {o["name"]: o for o in shown["options"]}
    assert {name: o["default"] for name, o in options.items()} == dataclasses.asdict(GASGDOptions())
    assert options["learning_rate"]["type"] == "float"
    assert options["learning_rate"]["allowed"] == "> 0"
    assert all(o["help"] and {"unit", "required"} <= set(o) for o in options.values())
    plain = output(capsys, "plugins", "show", "ga_sgd")
    assert "optimizer ga_sgd" in plain
    for name, o in options.items():
        (line,) = (line for line in plain.splitlines() if line.startswith(f"{name} "))
        assert re.split(" {2,}", line)[1:3] == [o["type"], _as_in_a_job(o["default"])]
        assert line.endswith(o["help"])


@pytest.mark.parametrize("name", ["file", "memory"])
def test_show_prints_a_storage_with_all_its_capabilities(capsys: pytest.CaptureFixture[str], name: str) -> None:
    (shown,) = as_json(capsys, "plugins", "show", name)["plugins"]
    assert set(shown["capabilities"]) == {f.name for f in dataclasses.fields(StorageCaps)}
    assert shown["capabilities"]["scope"] == {"file": "host", "memory": "process"}[name]
    assert shown["capabilities"]["latency_s"] > 0
    plain = output(capsys, "plugins", "show", name).splitlines()
    for capability in shown["capabilities"]:
        assert any(line.startswith(f"{capability} ") for line in plain)


def test_units_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    (shown,) = as_json(capsys, "plugins", "show", "file")["plugins"]
    assert {o["name"]: o["unit"] for o in shown["options"]}["recycle_bytes"] == "bytes"
    assert "recycle_bytes" in output(capsys, "plugins", "show", "file")


def test_show_takes_an_alias_and_json_in_either_place(capsys: pytest.CaptureFixture[str]) -> None:
    by_name = output(capsys, "plugins", "show", "logistic_regression", "--json")
    assert output(capsys, "plugins", "--json", "show", "lr") == by_name


def test_show_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    error = as_json(capsys, "plugins", "show", "ga_sdg", code=2)["error"]
    assert error == {"code": "plugin_unknown", "message": "unknown plugin ga_sdg", "hint": "did you mean ga_sgd?"}


def test_show_tells_what_to_install(capsys: pytest.CaptureFixture[str]) -> None:
    error = as_json(capsys, "plugins", "show", "redis", code=2)["error"]
    assert error["code"] == "plugin_not_installed"
    assert "pip install ./plugins/lambdaml-redis" in error["hint"]
