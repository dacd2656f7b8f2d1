"""What an optimizer says of its rounds beside their loss, from the rounds to whoever looks at the run: with L-BFGS,
which tells of its objective, its gradient and its steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from browser import Browser
from cli_help import JOB, lambdaml, printed
from report_help import changed, show

from lambdaml_core import train
from lambdaml_core.run.records.history import RunHistory, read_history

pytest_plugins = ["page_fixtures"]

NAMES = {"objective", "gradient_norm", "step"}
LBFGS = JOB.replace("learning_rate = 1.0", 'name = "lbfgs"\nl2 = 0.01')


@pytest.fixture(scope="module")
def told(home: Path, history: RunHistory) -> RunHistory:
    """A run by L-BFGS, in the home where the fixtures of pages have one by GA-SGD."""
    (home / "lbfgs.toml").write_text(LBFGS)
    run = printed(lambdaml(home, "train", "lbfgs.toml", "--json", "--set", "epochs=30"))["run"]
    return read_history(history["record"]["store"], run)


def test_the_history_has_a_column_of_each_figure(home: Path, told: RunHistory) -> None:
    rounds, record = told["rounds"], told["record"]
    assert set(rounds["figures"]) == NAMES
    assert all(len(column) == record["rounds"] > 3 for column in rounds["figures"].values())
    norms = [norm for norm in rounds["figures"]["gradient_norm"] if norm is not None]
    assert norms[-1] < norms[0] / 100
    assert record["round_figures"] == {name: column[-1] for name, column in rounds["figures"].items()}
    assert printed(lambdaml(home, "show", record["run"], "--json"))["round_figures"] == record["round_figures"]
    assert printed(lambdaml(home, "report", record["run"], "--json"))["rounds"] == rounds


def test_they_are_printed(home: Path, told: RunHistory) -> None:
    figures = told["record"]["round_figures"]
    said = "  ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in figures.items() if value is not None)
    for words in (["show"], ["watch"]):
        done = lambdaml(home, *words, told["record"]["run"])
        assert f"last round  {said}\n" in done.stdout
    lines = lambdaml(home, "train", "lbfgs.toml").stdout.splitlines()
    looks = [line for line in lines if line.startswith("epoch ")]
    assert len(looks) == 3
    assert all("  objective 0." in line and "  gradient norm " in line for line in looks)


def test_a_run_without_them_says_nothing_of_them(home: Path, history: RunHistory) -> None:
    assert history["rounds"]["figures"] == {}
    assert history["record"]["round_figures"] == {}
    assert "last round" not in lambdaml(home, "show", history["record"]["run"]).stdout


@pytest.mark.parametrize(
    ("columns", "scale"),
    [
        ({}, "value, logarithmic"),
        ({"rho": [1.0, None, 1.0], "dual": [1.0, 0.0, 1e-90]}, "value, logarithmic"),  # 0 is a gap
        ({"rho": [1.0, 1.0, 1.0]}, "value, logarithmic"),
        ({"staleness": [0.0, 0.0, 0.0]}, "value"),
        ({"change": [-1.0, 2.0, -3.0], "rho": [None, None, -1.0]}, "value"),
    ],
)
def test_the_report_draws_them(
    browser: Browser, told: RunHistory, tmp_path: Path, columns: dict[str, list[float | None]], scale: str
) -> None:
    given = told
    if columns:
        few = {"round": [1, 2, 3], "loss": [1.0, 0.5, 0.4], "seconds": [0.1, 0.2, 0.3], "used": {}}
        given = changed(told, rounds={**few, "figures": columns})
    text = show(browser, given, tmp_path)
    assert f"Figures of the optimizer over rounds{scale}\n" in text
    chart = "[...document.querySelectorAll('.charts figure')].at(-1)"
    names = browser.evaluate(f"[...{chart}.querySelectorAll('.legend li')].map(e => e.innerText)")
    assert names == [name.replace("_", " ") for name in columns or told["rounds"]["figures"]]
    assert "NaN" not in browser.evaluate(f"{chart}.outerHTML")


def test_no_chart_where_there_are_none(browser: Browser, history: RunHistory, tmp_path: Path) -> None:
    assert "Figures of the optimizer" not in show(browser, history, tmp_path)


def test_from_python(home: Path, tmp_path: Path) -> None:
    """Callbacks and the run get the same."""
    seen: list[Any] = []
    optimizer = {"name": "lbfgs", "l2": 0.01}
    keys: dict[str, Any] = {"workers": 2, "rounds": 5, "provider": "inline", "store": str(tmp_path)}
    run = train(str(home / "rows.libsvm"), optimizer=optimizer, **keys, on_round=seen.append)
    assert [set(event["figures"]) for event in seen] == [NAMES] * 5
    for name in NAMES:
        assert run.rounds["figures"][name] == [event["figures"][name] for event in seen]
    history = read_history(run.record["store"], run.record["run"])
    assert run.rounds == history["rounds"]
