"""What the page of a run shows in a real browser, to the pixel."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest
from browser import RGB, Box, Browser, boxes, colour, pixels
from report_help import changed, show

from lambdaml_core.run.records.history import PARTS, RunHistory

pytest_plugins = ["page_fixtures"]


def test_the_loss_is_drawn_where_its_axes_say(browser: Browser, report: Path, history: RunHistory) -> None:
    """The last look at the validation rows, placed by the labels of the ticks alone."""
    browser.open(report)
    chart = boxes(browser, "svg.chart")[0]
    script = (
        "[...document.querySelectorAll('svg.chart')[0].querySelectorAll(':scope > text')].map(t =>"
        "[t.textContent, t.getAttribute('text-anchor'), t.getBoundingClientRect()])"
        ".map(([s, a, b]) => [s, a, (b.left + b.right) / 2, (b.top + b.bottom) / 2 + scrollY])"
    )
    texts = browser.evaluate(script)
    levels = [(float(text), y) for text, anchor, _, y in texts if anchor == "end"]
    rounds = [(float(text), x) for text, anchor, x, _ in texts if re.fullmatch(r"\d+", text) and anchor == "middle"]
    last = history["looks"][-1]
    loss = last["figures"]["loss"]
    assert loss is not None
    x, y = line_through(rounds)(last["round"]), line_through(levels)(loss)
    blue = pixels(browser.picture(), chart, colour(browser, "c0"))
    assert len(blue) > 300
    assert min((px - x) ** 2 + (py - y) ** 2 for px, py in blue) < 3**2


def line_through(points: list[tuple[float, float]]) -> Any:
    (x0, y0), (x1, y1) = points[0], points[-1]
    return lambda x: y0 + (x - x0) * (y1 - y0) / (x1 - x0)


def test_the_scores_and_the_training_loss_are_drawn(browser: Browser, report: Path) -> None:
    browser.open(report)
    picture = browser.picture()
    charts = boxes(browser, "svg.chart")
    assert len(charts) == 4
    for chart in charts[:2]:
        assert len(pixels(picture, chart, colour(browser, "faint"))) > 300
    for chart in charts[2:]:
        for name in ("c0", "c1"):
            assert len(pixels(picture, chart, colour(browser, name))) > 100
    captions = browser.evaluate("[...document.querySelectorAll('.charts figcaption')].map(e => e.firstChild.data)")
    assert captions == [
        *("Loss over rounds", "Loss over seconds", "Accuracy and AUC over rounds", "Accuracy and AUC over seconds")
    ]


def test_a_row_of_the_timeline_has_each_part_in_its_colour(
    browser: Browser, history: RunHistory, tmp_path: Path
) -> None:
    """Worker 1 spends a fifth of its time on each part, one after another; worker 2 half and half all the time."""
    split = changed(history)
    for worker in split["workers"]:
        worker["began_s"] = 1000.0
        told: Any = {"until": [2.0, 4.0, 6.0, 8.0, 10.0], **{part: [0.0] * 5 for part in PARTS}}
        for i, part in enumerate(PARTS):
            told[part][i] = 2.0
        if worker["rank"] == 2:
            told |= {part: [1.0] * 5 if part in ("compute", "wait") else [0.0] * 5 for part in PARTS}
        worker["timeline"] = told
    show(browser, split, tmp_path)
    picture = browser.picture()
    rows = boxes(browser, "svg.timeline .row")
    assert len(rows) == 3
    counts = {p: [len(pixels(picture, row, colour(browser, p))) for row in rows] for p in PARTS}
    left, top, right, bottom = rows[1]
    area = (right - left) * (bottom - top)
    for part in PARTS:
        assert counts[part][1] == pytest.approx(area / 5, rel=0.15)
    assert counts["compute"][2] == pytest.approx(area / 2, rel=0.15)
    assert counts["wait"][2] == pytest.approx(area / 2, rel=0.15)
    assert counts["load"][2] == 0
    upper: Box = (left, rows[2][1], right, (rows[2][1] + rows[2][3]) / 2 - 1)
    assert pixels(picture, upper, colour(browser, "compute")) == []  # parts lie on each other from the bottom up
    orders = [min(x for x, _ in pixels(picture, rows[1], colour(browser, p))) for p in PARTS]
    assert orders == sorted(orders)


def test_the_bar_of_means_is_divided_as_the_seconds_are(browser: Browser, report: Path, history: RunHistory) -> None:
    browser.open(report)
    (bar,) = boxes(browser, "svg.means")
    picture = browser.picture()
    seconds: Mapping[str, Any] = history["record"]["seconds"]
    whole = sum(seconds[part] for part in PARTS)
    middle: Box = (bar[0], (bar[1] + bar[3]) / 2 - 1, bar[2], (bar[1] + bar[3]) / 2 + 1)
    for part in PARTS:
        share = len(pixels(picture, middle, colour(browser, part))) / (2 * (bar[2] - bar[0]))
        assert share == pytest.approx(seconds[part] / whole, abs=0.01)


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_hangs_over(browser: Browser, report: Path, width: int, scheme: str) -> None:
    browser.open(report, width=width, scheme=scheme)
    assert browser.evaluate("document.documentElement.scrollWidth") == width
    picture = browser.picture()
    assert picture.width == width
    (main,) = boxes(browser, "main")
    back = colour(browser, "back")
    assert (sum(back) < 150) == (scheme == "dark")
    for edge in ((0, 0, 10, picture.height), (width - 10, 0, width, picture.height)):
        colours = picture.crop(edge).getcolors() or []
        assert [(count, cast(RGB, seen)) for count, seen in colours] == [(10 * picture.height, back)]
    assert main[3] < picture.height + 1
    for chart in range(4):
        (outer,) = boxes(browser, f".charts figure:nth-child({chart + 1}) > svg.chart")
        for inner in boxes(browser, f".charts figure:nth-child({chart + 1}) > svg.chart text"):
            assert outer[0] - 1 <= inner[0] < inner[2] <= outer[2] + 1
            assert outer[1] - 1 <= inner[1] < inner[3] <= outer[3] + 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out(browser: Browser, report: Path, scheme: str) -> None:
    """The contrast that WCAG 2.1 asks of text, 4.5."""
    browser.open(report, scheme=scheme)

    def luminance(name: str) -> float:
        parts = [c / 255 for c in colour(browser, name)]
        r, g, b = (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    for text in ("ink", "soft", "good", "bad", "busy"):
        for ground in ("card", "back"):
            low, high = sorted((luminance(text), luminance(ground)))
            assert (high + 0.05) / (low + 0.05) >= 4.5, (text, ground)


def test_printed_it_is_dark_on_white(browser: Browser, report: Path) -> None:
    browser.open(report, width=800, scheme="dark", media="print")
    picture = browser.picture()
    assert picture.getpixel((0, picture.height - 1)) == (255, 255, 255)
    assert colour(browser, "ink") < (64, 64, 64)
    assert browser.evaluate("getComputedStyle(document.querySelector('summary')).display") == "none"


def test_the_values_under_the_pointer(browser: Browser, report: Path, history: RunHistory) -> None:
    browser.open(report)
    left, top, right, bottom = boxes(browser, "svg.chart")[0]
    browser.evaluate(f"scrollTo(0, {top - 100})")
    moved = browser.evaluate("scrollY")
    browser.hover(right - 26.5 / 520 * (right - left), (top + bottom) / 2 - moved)
    said = browser.evaluate("document.querySelector('#tip').innerText").splitlines()
    last = history["looks"][-1]
    assert said[0] == f"rounds {last['round']}"
    assert float(said[2].removeprefix("validation rows ")) == pytest.approx(last["figures"]["loss"], rel=1e-4)
    browser.hover(2, 2)
    assert browser.evaluate("document.querySelector('#tip').hidden") is True
    assert browser.complaints == []


# --- runs of every kind ---------------------------------------------------------------------------------------


def test_a_run_that_has_just_begun(browser: Browser, history: RunHistory, tmp_path: Path) -> None:
    silent = {"ended": False, "seconds": None, "timeline": None, "channel": None, "store": None, "cost_usd": None}
    young = changed(
        history,
        record={"status": "running", "loss": None, "train_loss": None, "metrics": {}, "stop_reason": None, "rounds": 0},
        looks=[],
        rounds={"round": [], "loss": [], "seconds": [], "figures": {}, "used": {}},
    )
    cast(Any, young)["workers"] = [{**w, **silent} for w in young["workers"]]
    text = show(browser, young, tmp_path)
    assert "running" in text
    assert text.count("nothing to draw yet") == 2
    assert text.count("none has yet") == 2  # where their time went, and what they asked for
    assert "$" not in text


@pytest.mark.parametrize("status", ["failed", "cancelled", "stalled"])
def test_a_run_that_did_not_get_to_its_end(browser: Browser, history: RunHistory, tmp_path: Path, status: str) -> None:
    text = show(browser, changed(history, record={"status": status, "stop_reason": "the reason"}), tmp_path, width=400)
    assert status in text
    assert text.count("the reason") == 2
    assert browser.evaluate("document.documentElement.scrollWidth") == 400


def test_what_was_lost_and_what_was_saved(browser: Browser, history: RunHistory, tmp_path: Path) -> None:
    quiet = show(browser, history, tmp_path)
    assert "restarts" not in quiet
    record = {"attempts": 9, "restarts": 4, "successions": 2, "generation": 1}
    changes = changed(history, record=record | {"checkpoints": {"count": 7, "bytes": 2_000_000, "seconds": 0.25}})
    for number, worker in enumerate(changes["workers"]):
        worker.update({"attempts": 3, "restarts": number, "successions": 5})
    text = show(browser, changes, tmp_path)
    assert "9; restarts 4, successions 2, generation 1" in text
    assert "7, 2 MB, training waited 0.250 s for them" in text
    rows = [row.split("\t") for row in text.splitlines() if row.split("\t")[1:2] == ["ended"]]
    assert [row[2:4] for row in rows] == [["0", "5"], ["1", "5"], ["2", "5"]]


def test_numbers_that_were_learnt_without_validation_rows(
    browser: Browser, history: RunHistory, tmp_path: Path
) -> None:
    blind = changed(history, record={"loss": None, "metrics": {}})
    for look in blind["looks"]:
        look["figures"] = {}
    text = show(browser, blind, tmp_path)
    assert "no figures of validation rows" in text
    assert len(boxes(browser, "svg.chart")) == 2
    numbers = changed(history, record={"metrics": {"loss": 0.5, "rmse": 1.0, "r2": 0.75}})
    for look in numbers["looks"]:
        look["figures"] = {"loss": 0.5, "rmse": 1.0, "r2": 0.75}
    text = show(browser, numbers, tmp_path)
    assert "R² over rounds" in text
    assert "Accuracy" not in text
    assert len(pixels(browser.picture(), boxes(browser, "svg.chart")[2], colour(browser, "c2"))) > 100


def test_hundreds_of_workers(browser: Browser, history: RunHistory, tmp_path: Path) -> None:
    """Each has a row that can be told from the next, and the page stays one that can be mailed."""
    many = changed(history, record={"workers": 300})
    first = many["workers"][1]
    steps = [i / 100 for i in range(1, 401)]
    told: Any = {"until": steps, **{part: [0.002] * 400 for part in PARTS}}
    cast(Any, many)["workers"] = [
        {**first, "rank": rank, "timeline": told, "began_s": 1000 + rank / 300} for rank in range(300)
    ]
    show(browser, many, tmp_path, width=400)
    assert browser.evaluate("document.documentElement.scrollWidth") == 400
    show(browser, many, tmp_path)
    rows = boxes(browser, "svg.timeline .row")
    assert len(rows) == 300
    assert all(b[3] - b[1] >= 3 for b in rows)
    assert all(a[3] <= b[1] + 0.5 for a, b in itertools.pairwise(rows))
    assert (tmp_path / "report.html").stat().st_size < 3_000_000
    labels = boxes(browser, "svg.timeline > text")
    assert all(a[3] <= b[1] + 3 for a, b in itertools.pairwise(labels) if a[0] < 100 > b[0])
