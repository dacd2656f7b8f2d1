"""What charts are made of: points that are left out, ticks, scales, and text that is never markup."""

from __future__ import annotations

import itertools
import json
import math
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambdaml_core.cli.page.chart import Point, Series, decimated, line_chart, nice_ticks
from lambdaml_core.cli.page.html import node, page
from lambdaml_core.cli.page.text import apart, bytes_, count, dollars, figure, moment, seconds, share

VALUES = st.one_of(st.none(), st.floats(-1e150, 1e150))


@given(st.lists(VALUES, max_size=400), st.integers(10, 60))
def test_a_curve_that_is_thinned_out_keeps_its_ends_and_extremes(values: list[float | None], most: int) -> None:
    points: list[Point] = list(enumerate(values))
    kept = decimated(points, most)
    assert set(kept) <= set(points)
    assert [x for x, _ in kept] == sorted({x for x, _ in kept})
    assert len(kept) <= max(most, 1.6 * most if None in values else 0)
    if points:
        assert (kept[0], kept[-1]) == (points[0], points[-1])
    finite = [y for y in values if y is not None]
    left = [y for _, y in kept if y is not None]
    assert (min(left, default=0), max(left, default=0)) == (min(finite, default=0), max(finite, default=0))
    assert (None in values) == (None in [y for _, y in kept])


def test_every_spike_is_seen() -> None:
    """One in each stretch, wherever it is, up and down."""
    points: list[Point] = [(i, math.sin(i / 50)) for i in range(100_000)]
    for at, value in ((777, 9.0), (50_001, -9.0), (99_998, 8.0)):
        points[at] = (at, value)
    kept = decimated(points)
    assert len(kept) <= 1000
    assert {(777, 9.0), (50_001, -9.0), (99_998, 8.0)} <= set(kept)


def test_a_long_gap_is_thinned_out_too() -> None:
    points: list[Point] = [(i, None if i > 100 else float(i)) for i in range(100_000)]
    kept = decimated(points)
    assert len(kept) <= 1000
    assert max(y for _, y in kept if y is not None) == 100


@given(st.floats(-1e3, 1e3), st.floats(1e-3, 1e6), st.integers(3, 10))
def test_ticks_are_few_even_and_round(low: float, span: float, most: int) -> None:
    high = low + span
    ticks = nice_ticks(low, high, most)
    assert 1 <= len(ticks) <= most + 1
    step = nice_ticks(0.0, high - low, most)[1]
    assert float(f"{step:.1e}") == pytest.approx(step, rel=1e-9)  # one digit
    slack = 1e-8 * (step + abs(low))
    assert all(low - slack <= t <= high + slack for t in ticks)
    assert all(b - a == pytest.approx(step, rel=1e-3) for a, b in itertools.pairwise(ticks))


@given(st.floats(-1e3, 1e3), st.floats(1e-6, 1e6))
def test_ticks_look_different(low: float, span: float) -> None:
    texts = apart(nice_ticks(low, low + span))
    assert len(set(texts)) == len(texts)
    assert apart([0.2, 0.4]) == ["0.2", "0.4"]


class Drawn(HTMLParser):
    """Elements by tag with their attributes, and the words of the text."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(markup)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def drawn(points: list[Point], **more: Any) -> Drawn:
    chart = line_chart("Loss", [Series("validation", points, "c0")], x_label="rounds", y_label="loss", **more)
    return Drawn(page("title", [chart]).decode())


def curve(chart: Drawn) -> str:
    return next(a["d"] or "" for tag, a in chart.found if tag == "path" and a["class"] == "line c0")


@given(st.lists(VALUES, min_size=1, max_size=60))
def test_any_curve_stays_inside_its_chart(values: list[float | None]) -> None:
    points: list[Point] = list(enumerate(values))
    chart = drawn(points)
    if all(y is None for y in values):
        assert "nothing to draw yet" in chart.words
        return
    words = curve(chart).replace("M", " ").replace("L", " ").split()
    assert len(words) == 2 * sum(y is not None for y in values)
    assert all(0 <= float(x) <= 520 for x in words[::2])
    assert all(0 <= float(y) <= 300 for y in words[1::2])
    (told,) = [json.loads(a["data-chart"] or "") for _, a in chart.found if "data-chart" in a]
    assert [x for x, _ in told["series"][0]["points"]] == [x for x, y in points if y is not None]


def test_a_value_that_is_missing_interrupts_the_curve() -> None:
    assert curve(drawn([(0, 1.0), (1, 2.0), (2, None), (3, 1.0), (4, 1.5)])).count("M") == 2


def test_a_point_alone_is_marked() -> None:
    long: list[Point] = [(i, 1.0) for i in range(100)]
    assert [tag for tag, _ in drawn(long).found].count("circle") == 0
    long[50:53] = [(50, None), (51, 2.0), (52, None)]
    assert [tag for tag, _ in drawn(long).found].count("circle") == 1


def test_a_loss_that_falls_by_orders_of_magnitude_is_drawn_by_them() -> None:
    falling = drawn([(i, 10.0 ** (4 - i / 10)) for i in range(100)])
    assert "loss, logarithmic" in falling.words
    assert {"1", "100", "0.01"} <= set(falling.words)
    levels = [float(y) for y in curve(falling).replace("M", "L").split("L")[1:] for y in [y.split()[1]]]
    steps = {round(b - a, 0) for a, b in itertools.pairwise(levels)}
    assert len(steps) <= 2  # even, to rounding
    assert "loss" in drawn([(0, 0.69), (1, 0.12), (2, 0.11)]).words


def test_what_is_far_below_the_floor_is_drawn_by_numbers_that_browsers_have() -> None:
    words = curve(drawn([(0, 0.2), (1, -1e62), (2, 0.9)], floor=-1.0)).replace("M", "L").split("L")[1:]
    assert 300 < float(words[1].split()[1]) < 2**24


def test_what_is_below_the_floor_does_not_flatten_the_rest() -> None:
    """A first R² of minus a million leaves the others apart."""
    words = curve(drawn([(0, -1e6), (1, 0.2), (2, 0.9)], floor=-1.0)).replace("M", "L").split("L")[1:]
    first, second, third = (float(word.split()[1]) for word in words)
    assert first > 300
    assert second - third > 50


@given(st.text(), st.text())
def test_text_is_never_markup(text: str, attribute: str) -> None:
    """Whatever it holds: the same elements, and the same text once a browser has read it."""
    made = page(text, [node("p", text, node("b", text), text, title=attribute, class_="probe")])
    assert made.decode("utf-8") == made.decode("utf-8", "strict")
    found = Drawn(made.decode())
    assert [tag for tag, _ in found.found] == [
        *("html", "head", "meta", "meta", "meta", "title", "style", "body", "main", "p", "b", "script")
    ]
    (probe,) = [a for tag, a in found.found if tag == "p"]
    assert (probe["title"] or "").replace("\r\n", "\n") == attribute.replace("\r\n", "\n")


def test_a_lone_surrogate_does_not_end_the_report() -> None:
    assert b"&#55296;" in page("\ud800", [node("p", "\ud800")])


def test_numbers_as_people_read_them() -> None:
    assert [figure(v) for v in (None, 0.123456, 2.0)] == ["-", "0.1235", "2"]
    assert [count(v) for v in (None, 1234567, 0.5, 12.5)] == ["-", "1,234,567", "0.5", "12.5"]
    assert [seconds(v) for v in (None, 0.0, 1.23456, 4321.0)] == ["-", "0.000 s", "1.235 s", "4,321 s"]
    assert [dollars(v) for v in (None, 0.0, 0.000123456, 12.0)] == ["-", "$0", "$0.0001235", "$12"]
    assert [bytes_(v) for v in (None, 999, 1500.4, 2e6)] == ["-", "999 B", "1.5 kB", "2 MB"]
    assert [share(1, 4), share(1, 0)] == ["25.0%", "-"]
    assert moment("2026-01-31T23:59:59+01:00") == "2026-01-31 22:59:59 UTC"
