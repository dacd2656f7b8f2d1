"""Line charts in SVG, with their legends, and with their points for the page's script to show under the pointer."""

from __future__ import annotations

import itertools
import json
import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple
from xml.etree.ElementTree import Element

from lambdaml_core.cli.page.html import node
from lambdaml_core.cli.page.text import apart, count, figure

MOST_POINTS = 1000
"""Of a curve: about as many as there are pixels to see them by."""

_WIDTH, _HEIGHT = 520, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 26, 10, 40
_MARKED = 40  # a curve of at most so many points shows each
_WIDE = 50.0  # where the greatest value is so many times the median, the scale is logarithmic
_FAR = 1e6  # down from the top: below every floor, and a number that browsers can draw to
_NOTHING = 1e-100  # what is less is not told from 0
_COLOURS = 8  # after so many curves the colours come again, in lines of another pattern
_PATTERNS = ("", " dashed", " dotted")

Point = tuple[float, float | None]


class Series(NamedTuple):
    """A curve.

    Attributes:
        points: by rising x; None where there is no value, and the curve is interrupted.
        look: classes of its line, as page.css has them: ``c0`` to ``c7``, ``soft`` or ``faint``, and perhaps
            ``dashed`` or ``dotted``.
    """

    name: str
    points: Sequence[Point]
    look: str


class _Scale(NamedTuple):
    """Values from ``low`` to ``high``, drawn from ``begin`` to ``end``."""

    low: float
    high: float
    begin: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high = self.low, self.high
        if self.log:
            value, low, high = math.log10(value), math.log10(low), math.log10(high)
        return self.begin + (value - low) / (high - low) * (self.end - self.begin)

    def ticks(self) -> list[float]:
        if self.log and self.high / self.low >= 10:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            every = max(1, len(powers) // 6)
            factors = (1, 2, 5) if self.high / self.low < 1000 else (1,)
            values = [factor * 10.0**power for power in powers if power % every == 0 for factor in factors]
        else:
            values = nice_ticks(self.low, self.high)
        return [v for v in values if self.low <= v <= self.high]


def line_chart(
    title: str,
    series: Sequence[Series],
    *,
    x_label: str,
    y_label: str,
    x_text: Callable[[float], str] = count,
    floor: float = -math.inf,
    log: bool = False,
    x_log: bool = False,
    empty: str = "nothing to draw yet",
) -> Element:
    """A figure with all curves that have a value.

    Args:
        x_text: writes the numbers along x.
        floor: values below are cut off.
        log: the scale of values that are all above 0 is logarithmic even if they do not lie far apart.
        x_log: so is the scale of x, whose values are all above 0.
        empty: said where no curve has a value.
    """
    series = [s._replace(points=decimated(s.points)) for s in series if any(y is not None for _, y in s.points)]
    if not series:
        return node("figure", node("figcaption", title), node("p", empty, class_="empty"))
    xs = [x for s in series for x, _ in s.points]
    ys = [y for s in series for _, y in s.points if y is not None]
    x_scale = _Scale(*_spread(min(xs) if x_log else min(0.0, *xs), max(xs)), _LEFT, _WIDTH - _RIGHT, x_log)
    log = min(ys) > _NOTHING and (log or max(ys) > _WIDE * statistics.median(ys))
    y_scale = _y_scale(max(min(ys), floor), max(*ys, floor), log=log)
    curves = [curve for s in series for curve in _curve(s, x_scale, y_scale)]
    svg = node(
        "svg",
        node("title", title),
        node("desc", ". ".join(f"{s.name}: {_summary(s)}" for s in series)),
        *_axes(x_scale, y_scale, x_text),
        node("svg", *curves, **_frame(), viewBox=" ".join(str(v) for v in _frame().values())),
        node("text", x_label, x=(_LEFT + _WIDTH - _RIGHT) / 2, y=_HEIGHT - 4, text_anchor="middle"),
        node("line", class_="guide", y1=_TOP, y2=_HEIGHT - _BOTTOM),
        class_="chart",
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="img",
        data_chart=_data(series, x_label, x_scale),
    )
    label = f"{y_label}, logarithmic" if y_scale.log else y_label
    return node("figure", node("figcaption", title, node("small", label)), legend(series), svg)


def curve_look(i: int) -> str:
    """The look of curve number ``i``, from 0, in a chart of several; 24 of them can be told apart."""
    return f"c{i % _COLOURS}{_PATTERNS[i // _COLOURS % len(_PATTERNS)]}"


def legend(series: Sequence[Series]) -> Element:
    """What each line is."""

    def swatch(look: str) -> Element:
        line = node("line", x1=0, x2=22, y1=5, y2=5, class_=f"line {look}")
        return node("svg", line, viewBox="0 0 22 10", class_="swatch", aria_hidden="true")

    return node("ul", *(node("li", swatch(s.look), s.name) for s in series), class_="legend")


def decimated(points: Sequence[Point], most: int = MOST_POINTS) -> Sequence[Point]:
    """At most about so many of the points: the first, the last, and of each stretch between its least and greatest.

    A stretch with a gap keeps one.
    """
    if len(points) <= most:
        return points
    stretch = math.ceil(len(points) / (most // 2 - 1))
    kept = {0, len(points) - 1}
    for begin in range(0, len(points), stretch):
        here = range(begin, min(begin + stretch, len(points)))
        by_value = [(y, i) for i in here if (y := points[i][1]) is not None]
        if by_value:
            kept |= {min(by_value)[1], max(by_value)[1]}
        if len(by_value) < len(here):
            kept.add(next(i for i in here if points[i][1] is None))
    return [points[i] for i in sorted(kept)]


def nice_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten from low to high, at most so many."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10, 20) if factor * power >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _y_scale(low: float, high: float, *, log: bool) -> _Scale:
    begin, end = _HEIGHT - _BOTTOM, _TOP
    low, high = _spread(low, high)
    if log:
        room = (high / low) ** 0.03
        return _Scale(low / room, high * room, begin, end, log=True)
    room = 0.04 * (high - low)
    return _Scale(low - room, high + room, begin, end)


def _spread(low: float, high: float) -> tuple[float, float]:
    """The two, apart enough that something can be drawn between them."""
    greatest = max(abs(low), abs(high))
    if greatest < _NOTHING:
        return 0.0, 1.0
    return (low, high) if high - low > 1e-9 * greatest else (low - greatest / 2, high + greatest / 2)


def _frame() -> dict[str, int]:
    """The plot area."""
    return {"x": _LEFT, "y": _TOP, "width": _WIDTH - _LEFT - _RIGHT, "height": _HEIGHT - _TOP - _BOTTOM}


def _axes(x_scale: _Scale, y_scale: _Scale, x_text: Callable[[float], str]) -> Iterator[Element]:
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    ticks = y_scale.ticks()
    for value, text in zip(ticks, apart(ticks), strict=True):
        y = round(y_scale(value), 1)
        yield node("line", x1=_LEFT, x2=right, y1=y, y2=y, class_="grid")
        yield node("text", text, x=_LEFT - 6, y=y + 4, text_anchor="end")
    for value in x_scale.ticks():
        x = round(x_scale(value), 1)
        yield node("line", x1=x, x2=x, y1=bottom, y2=bottom + 4, class_="axis")
        yield node("text", x_text(value), x=x, y=bottom + 17, text_anchor="middle")
    yield node("line", x1=_LEFT, x2=right, y1=bottom, y2=bottom, class_="axis")


def _curve(series: Series, x_scale: _Scale, y_scale: _Scale) -> Iterator[Element]:
    """Its line, and a mark at each point where there are few, or where a line cannot show one that is alone."""
    places = [None if y is None else (round(x_scale(x), 1), round(min(y_scale(y), _FAR), 1)) for x, y in series.points]
    words = []
    for before, here in itertools.pairwise([None, *places]):
        if here is not None:
            words.append(f"{'M' if before is None else 'L'}{here[0]:g} {here[1]:g}")
    yield node("path", d="".join(words), class_=f"line {series.look}")
    alone = [
        here
        for before, here, after in zip([None, *places], places, [*places[1:], None], strict=False)
        if here is not None and (len(places) <= _MARKED or before is after is None)
    ]
    if " " not in series.look:  # its line has no pattern
        for x, y in alone:
            yield node("circle", cx=x, cy=y, r=2.5, class_=f"mark {series.look}")


def _summary(series: Series) -> str:
    values = [y for _, y in series.points if y is not None]
    return f"from {figure(values[0])} to {figure(values[-1])}, least {figure(min(values))}, most {figure(max(values))}"


def _data(series: Sequence[Series], x_label: str, x_scale: _Scale) -> str:
    """For page.js: the points as they are, and where x begins and ends."""

    def short(value: float) -> float:
        return float(f"{value:.6g}")

    curves = [{"name": s.name, "points": [[short(x), short(y)] for x, y in s.points if y is not None]} for s in series]
    return json.dumps(
        {
            "label": x_label,
            "x": [x_scale.low, x_scale.high],
            "log": x_scale.log,
            "at": [x_scale.begin, x_scale.end, _WIDTH],
            "series": curves,
        },
        separators=(",", ":"),
    )
