"""``lambdaml compare``: figures of runs side by side, and their curves over one another in a real browser."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, cast

import pytest
from browser import Browser, boxes, colour, pixels
from cli_help import everything_in, lambdaml, printed
from report_help import HOSTILE, changed

from lambdaml_core.cli.page.compare import columns, compare_page, compare_runs
from lambdaml_core.run.records.history import CLASSES, RunHistory, read_history

pytest_plugins = ["page_fixtures"]

TARGET = 0.3
NOTHING: Any = {"round": [], "loss": [], "seconds": [], "figures": {}, "used": {}}


@pytest.fixture(scope="module")
def second(home: Path, history: RunHistory) -> RunHistory:
    """Another run in the same store: one worker less, and another learning rate."""
    settings = ("--set", "name=second", "--set", "optimizer.learning_rate=0.2", "--set", "epochs=20")
    run = printed(lambdaml(home, "train", "job.toml", "--json", *settings))["run"]
    return read_history(history["record"]["store"], run)


@pytest.fixture
def both(history: RunHistory, second: RunHistory) -> list[RunHistory]:
    return [history, second]


def names(histories: list[RunHistory]) -> list[str]:
    return [h["record"]["run"] for h in histories]


# --- figures ------------------------------------------------------------------------------------------------


def test_json_has_the_figures_of_each_run(home: Path, both: list[RunHistory]) -> None:
    before = everything_in(home)
    told = printed(lambdaml(home, "compare", *names(both), "--json", "--target-loss", str(TARGET)))
    assert (told["schema"], told["target_loss"], told["store"]) == (1, TARGET, both[0]["record"]["store"])
    assert told["loss"] == "validation"
    for figures, history in zip(told["runs"], both, strict=True):
        r = history["record"]
        for name in ("run", "status", "model", "optimizer", "workers", "aggregators", "rounds", "epochs", "train_loss"):
            assert figures[name] == dict(r)[name]
        assert figures["figures"] == r["metrics"]
        assert figures["seconds"] == r["seconds"]
        assert figures["channel"] == r["bytes"]["sent"] + r["bytes"]["received"] > 0
        assert figures["bytes"] - figures["channel"] == sum(
            c["count"] for c in history["costs"] if c["place"] == "store" and c["charge"] in ("sent", "received")
        )
        curve, looks = figures["curve"], history["looks"]
        assert curve["round"] == [look["round"] for look in looks]
        assert curve["loss"] == [look["figures"]["loss"] for look in looks]
        assert curve["seconds"] == [look["seconds"] for look in looks]
        assert curve["bytes"] == sorted(curve["bytes"])
        assert figures["requests"] == sum(
            c["count"] for c in history["costs"] if c["place"] == "channel" and c["charge"] in CLASSES
        )
        assert (figures["cost_usd"], figures["exact"]) == (0.0, True)
    assert everything_in(home) == before


def test_what_it_took_to_get_to_a_loss(home: Path, both: list[RunHistory]) -> None:
    """The first look at or below it: one before was above."""
    told = printed(lambdaml(home, "compare", *names(both), "--json", "--target-loss", str(TARGET)))["runs"]
    for figures, history in zip(told, both, strict=True):
        looks = history["looks"]
        losses = [cast(float, look["figures"]["loss"]) for look in looks]
        at = next(i for i, loss in enumerate(losses) if loss <= TARGET)
        reached = figures["reached"]
        assert (reached["round"], reached["loss"], reached["seconds"]) == (
            *(looks[at]["round"], losses[at], looks[at]["seconds"]),
        )
        assert reached["bytes"] == figures["curve"]["bytes"][at]
        assert reached["channel"] == pytest.approx(figures["channel"] * reached["round"] / figures["rounds"], rel=0.1)
        assert reached["cost_usd"] == 0
    assert told[0]["reached"]["round"] < told[1]["reached"]["round"]  # the larger step


def test_a_loss_that_no_run_got_to(home: Path, both: list[RunHistory]) -> None:
    words = ["compare", *names(both), "--target-loss", "1e-9"]
    assert [f["reached"] for f in printed(lambdaml(home, *words, "--json"))["runs"]] == [None, None]
    said = [line.split("  ") for line in lambdaml(home, *words).stdout.splitlines() if "to target" in line]
    assert [[cell.strip() for cell in line if cell] for line in said] == [["rounds to target", "-", "-"]]


def test_without_a_target_it_is_the_lowest_loss_that_all_runs_got_to(home: Path, both: list[RunHistory]) -> None:
    told = printed(lambdaml(home, "compare", *names(both), "--json"))
    least = [min(cast(float, look["figures"]["loss"]) for look in history["looks"]) for history in both]
    assert told["target_loss"] == max(least)
    slower = told["runs"][least.index(max(least))]["reached"]
    assert slower["loss"] == max(least)
    assert all(f["reached"]["loss"] <= max(least) for f in told["runs"])
    alone = printed(lambdaml(home, "compare", names(both)[0], "--json"))
    assert (alone["target_loss"], alone["runs"][0]["reached"]) == (None, None)


def priced(history: RunHistory) -> RunHistory:
    """300 rounds, which cost 3 dollars and moved 3,000 and 1,000 bytes, with looks after the first two and one more."""
    copy = changed(history, record={"cost_usd": 3.0, "rounds": 300})
    for cost in copy["costs"]:
        cost["count"] = {"channel": 1500, "store": 500, "worker": 1}[cost["place"]]
    copy["looks"] = [{**copy["looks"][0], "round": n, "figures": {"loss": 1 / n}} for n in (1, 2, 100)]
    return copy


def test_bytes_and_dollars_until_a_round_are_in_the_proportions_of_rank_0(history: RunHistory) -> None:
    told = priced(history)
    first: Any = told["workers"][0]
    first |= {"channel": {"sent": 40, "received": 60}, "store": {"sent": 0, "received": 10}, "cost_usd": 1.0}
    told["rounds"]["used"] = {"channel": [5.0, 10.0], "store": [9.0, 9.0], "usd": [0.25, 0.5]}
    reached = compare_runs([told], 0.5).runs[0]["reached"]
    assert reached is not None
    assert (reached["round"], reached["channel"], reached["cost_usd"]) == (2, 300, 1.5)
    assert reached["bytes"] == pytest.approx(300 + 900)


def test_where_rank_0_has_not_told_they_are_in_proportion_to_the_rounds(history: RunHistory) -> None:
    """As in runs of older versions, whose events have no such columns."""
    told = priced(history)
    told["rounds"]["used"] = {}
    reached = compare_runs([told], 0.5).runs[0]["reached"]
    assert reached is not None
    assert reached["round"] == 2
    assert reached["channel"] == pytest.approx(20)
    assert reached["bytes"] == pytest.approx(80 / 3)
    assert reached["cost_usd"] == pytest.approx(0.02)


def test_where_a_run_has_no_validation_rows_it_is_the_loss_of_the_rounds(both: list[RunHistory]) -> None:
    blind = changed(both[1])
    for look in blind["looks"]:
        look["figures"] = {}
    compared = compare_runs([both[0], blind], 0.5)
    assert compared.loss == "training"
    for figures, history in zip(compared.runs, both, strict=True):
        assert figures["curve"]["loss"] == history["rounds"]["loss"]
    assert "rows of each round" in compare_page(compared).decode()
    failed = changed(both[1], looks=[], rounds=NOTHING)
    assert compare_runs([both[0], failed]).loss == "validation"


def test_what_is_not_known_before_the_end(history: RunHistory) -> None:
    going_on = changed(history, record={"status": "running"})
    going_on["workers"][1]["ended"] = False
    compared = compare_runs([going_on], 10.0)
    (figures,) = compared.runs
    assert (figures["bytes"], figures["channel"], figures["requests"], figures["cost_usd"]) == (None,) * 4
    reached = figures["reached"]
    assert reached is not None
    assert (reached["bytes"], reached["cost_usd"]) == (None, None)
    assert reached["seconds"] is not None
    assert "cost" not in [row[0] for row in columns(compared)]


# --- the table ------------------------------------------------------------------------------------------------


def test_the_table_has_what_differs_and_what_came_of_it(home: Path, both: list[RunHistory]) -> None:
    done = lambdaml(home, "compare", *names(both), "--target-loss", str(TARGET))
    assert (done.returncode, done.stderr) == (0, "")
    header, *lines = done.stdout.splitlines()
    assert header.split() == names(both)
    rows = {cells[0]: cells[1:] for cells in (re.split(r"  +", line) for line in lines)}
    assert rows["status"] == ["succeeded", "succeeded"]
    assert rows["workers"] == ["3", "2"]
    assert rows["optimizer.learning_rate"] == ["1.0", "0.2"]
    assert rows["rounds"] == ["150", "100"]
    assert rows["epochs"] == ["30", "20"]
    assert rows["validation loss"] == [f"{h['record']['loss']:.4g}" for h in both]
    assert rows["AUC"] == [f"{h['record']['auc']:.4g}" for h in both]
    assert "R²" not in rows
    for same in ("seed", "batch_size", "optimizer.momentum", "data.source"):
        assert same not in rows
    assert {"rounds to target", "time to target", "bytes to target", "cost to target"} <= set(rows)
    assert rows["target of validation loss"] == ["0.3", "0.3"]
    assert "name" not in rows


def test_a_run_named_twice_is_shown_once(home: Path, both: list[RunHistory]) -> None:
    first, other = names(both)
    told = printed(lambdaml(home, "compare", other, first, other, "--json"))
    assert [f["run"] for f in told["runs"]] == [other, first]


def test_settings_that_only_one_run_has(history: RunHistory) -> None:
    other = changed(history)
    other["job"]["stop"] = {"loss": 0.25}
    rows = {row[0]: row[1:] for row in columns(compare_runs([history, other]))}
    assert rows["stop.loss"] == ["-", "0.25"]


# --- the page -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def page(home: Path, history: RunHistory, second: RunHistory) -> Path:
    words = [*names([history, second]), "--target-loss", str(TARGET), "--out", "compared.html"]
    done = lambdaml(home, "compare", *words)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("\nwrote compared.html\n")
    return home / "compared.html"


def test_the_curves_of_all_runs_are_drawn(browser: Browser, page: Path, both: list[RunHistory]) -> None:
    browser.open(page)
    picture = browser.picture()
    (chart,) = (box for box in boxes(browser, "svg.chart") if box[2] > box[0])
    assert min(len(pixels(picture, chart, colour(browser, name))) for name in ("c0", "c1")) > 50
    legends = browser.evaluate("[...document.querySelectorAll('.legend')].map(e => e.textContent)")
    assert legends == ["".join([*names(both), "target"])] * 8  # two scales, and nothing cost anything
    text = browser.evaluate("document.body.innerText")
    assert "in the proportions of rank 0" in text
    assert "The target is a validation loss of 0.3." in text
    for row in ("optimizer.learning_rate", "rounds to target", "bytes moved"):
        assert row in text
    assert (browser.complaints, browser.requests) == ([], [page.as_uri()])


def test_what_the_loss_is_drawn_over_can_be_chosen(browser: Browser, page: Path) -> None:
    browser.open(page)
    seen = "[...document.querySelectorAll('.chosen figure')].filter(e => e.offsetWidth).map(e => e.innerText)"
    axes = ("rounds", "seconds", "bytes", "channel", "dollars")
    for axis in axes:
        browser.evaluate(f"document.querySelector('label[for=over-{axis}]').click()")
        for scale in ("linear", "logarithmic"):
            browser.evaluate(f"document.querySelector('label[for=scale-{scale}]').click()")
            (shown,) = browser.evaluate(seen)
            word = "bytes of the channel" if axis == "channel" else axis
            assert shown.startswith(f"Validation loss over {word}")
            assert ("there are no dollars to tell of" in shown) is (axis == "dollars")
    assert browser.complaints == []


@pytest.mark.parametrize("width", [1280, 400])
def test_nothing_hangs_over(browser: Browser, page: Path, width: int) -> None:
    browser.open(page, width=width)
    assert browser.evaluate("document.documentElement.scrollWidth") == width


def test_twenty_runs_can_be_told_apart(browser: Browser, history: RunHistory, tmp_path: Path) -> None:
    many = [changed(history, record={"run": f"run-{i}"}) for i in range(20)]
    path = tmp_path / "many.html"
    path.write_bytes(compare_page(compare_runs(many)))
    browser.open(path, width=400)
    assert browser.evaluate("document.documentElement.scrollWidth") == 400
    looks = browser.evaluate(
        "[...document.querySelectorAll('.chosen figure')[0].querySelectorAll('.swatch .line')].slice(0, 20)"
        ".map(e => getComputedStyle(e)).map(s => s.stroke + s.strokeDasharray)"
    )
    assert len(looks) == len(set(looks)) == 20


def test_text_from_others_is_text(browser: Browser, history: RunHistory, tmp_path: Path) -> None:
    bad = changed(history, record={"run": HOSTILE, "model": HOSTILE})
    bad["job"]["data"]["source"] = HOSTILE
    path = tmp_path / "bad.html"
    path.write_bytes(compare_page(compare_runs([history, bad])))
    browser.open(path)
    assert browser.evaluate("document.body.innerText").count(HOSTILE) >= 4
    assert (browser.complaints, len(browser.requests)) == ([], 1)


def test_runs_without_anything_to_draw(browser: Browser, history: RunHistory, tmp_path: Path) -> None:
    empty = changed(history, looks=[], rounds=NOTHING, record={"metrics": {}, "status": "failed"})
    path = tmp_path / "empty.html"
    path.write_bytes(compare_page(compare_runs([empty], TARGET)))
    browser.open(path)
    assert browser.evaluate("document.body.textContent").count("to tell of") == 10


# --- refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["compare"], r"Missing argument 'RUN...'"),
        (["compare", "RUN", "nobody", "--out", "x.html"], r"there is no run nobody in the store"),
        (["compare", "RUN", "--out", "-", "--json"], r"cannot both go to standard output"),
        (["compare", "RUN", "--target-loss", "nan"], r"--target-loss cannot be nan"),
        (["compare", "RUN", "--target-loss", "low"], r"'low' is not a valid float"),
    ],
)
def test_what_is_refused(home: Path, history: RunHistory, words: list[str], message: str) -> None:
    before = everything_in(home)
    done = lambdaml(home, *(history["record"]["run"] if word == "RUN" else word for word in words))
    assert done.returncode == 2
    said: Any = json.loads(done.stdout)["error"]["message"] if "--json" in words else done.stderr.splitlines()[0]
    assert re.search(message, said)
    assert everything_in(home) == before
