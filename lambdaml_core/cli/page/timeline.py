"""Where the time of each worker went: a row per worker over time, and the means of all as one bar."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple
from xml.etree.ElementTree import Element

from lambdaml_core.cli.page.chart import nice_ticks
from lambdaml_core.cli.page.html import node, table
from lambdaml_core.cli.page.text import count, seconds, share
from lambdaml_core.run.records.history import PARTS, WorkerHistory

_WIDTH, _LEFT, _RIGHT, _TOP, _BOTTOM = 1040, 58, 14, 4, 40
_ROOM = 1200.0  # what all rows together may take, before they get too thin
_THICK, _THIN = 26.0, 5.0  # a row with its gap
_SLICES = 8000  # drawn in all rows together, so that a page of hundreds of workers stays a page
_LABEL = 14.0  # a number needs so much

MEANING = {
    "start": "from the start of the process to the first round, without reading rows",
    "load": "reading rows",
    "compute": "in rounds and looks at the validation rows",
    "communicate": "moving messages, without waiting for them",
    "wait": "for what other workers had not sent yet",
}


class _Slice(NamedTuple):
    """From ``begin`` to ``end`` in seconds after the first worker's start; ``parts`` in seconds, as in PARTS."""

    begin: float
    end: float
    parts: list[float]


def timeline(workers: Sequence[WorkerHistory]) -> Element:
    """One row per worker that has told its last process's timeline, or a note that none has."""
    told = [w for w in workers if w["timeline"] and w["began_s"] is not None]
    if not told:
        return node("p", "A worker tells where its time went when it reaches its end; none has yet.", class_="empty")
    origin = min(w["began_s"] or 0.0 for w in told)
    rows = {w["rank"]: _slices(w, origin) for w in told}
    last = max(slices[-1].end for slices in rows.values())
    pitch = min(_THICK, max(_THIN, _ROOM / len(rows)))
    height = _TOP + pitch * len(rows) + _BOTTOM
    scale = (_WIDTH - _LEFT - _RIGHT) / last
    labelled = next(step for power in (1, 10, 100) for step in (power, 2 * power, 5 * power) if step * pitch >= _LABEL)
    drawn = [
        element
        for i, (rank, slices) in enumerate(rows.items())
        for element in _row(rank, _merged(slices, len(rows)), _TOP + i * pitch, pitch, scale, rank % labelled == 0)
    ]
    svg = node(
        "svg",
        node("title", "Timeline of the workers"),
        node("desc", f"{len(rows)} rows over {seconds(last)}: the share of {', '.join(PARTS)} from bottom to top"),
        *_axis(last, scale, height - _BOTTOM),
        *drawn,
        node("text", "seconds", x=(_LEFT + _WIDTH) / 2, y=height - 4, text_anchor="middle"),
        class_="timeline",
        viewBox=f"0 0 {_WIDTH} {height:g}",
        role="img",
    )
    return node("figure", node("figcaption", "Each worker over time"), legend(), node("div", svg, class_="scroll"))


def legend() -> Element:
    """The colours of the parts."""

    def swatch(part: str) -> Element:
        box = node("rect", width=12, height=12, class_=f"p-{part}")
        return node("svg", box, viewBox="0 0 12 12", class_="box", aria_hidden="true")

    return node("ul", *(node("li", swatch(part), part) for part in PARTS), class_="legend")


def mean_bar(means: Mapping[str, float], caption: str) -> Element:
    """Means over workers as one bar, with a table of them."""
    whole = sum(means[part] for part in PARTS)
    boxes, x = [], 0.0
    for part in PARTS:
        width = 100 * means[part] / whole if whole > 0 else 0.0
        hover = node("title", f"{part}: {seconds(means[part])}, {share(means[part], whole)}")
        boxes.append(node("rect", hover, x=f"{x:.3f}", width=f"{width:.3f}", height=10, class_=f"p-{part}"))
        x += width
    described = ", ".join(f"{part} {share(means[part], whole)}" for part in PARTS)
    svg = node(
        "svg",
        node("title", "Mean time of a worker by purpose"),
        node("desc", described),
        *boxes,
        class_="means",
        viewBox="0 0 100 10",
        preserveAspectRatio="none",
        role="img",
    )
    rows = [[part, seconds(means[part]), share(means[part], whole), MEANING[part]] for part in PARTS]
    return node(
        "figure",
        svg,
        table(["purpose", "mean", "share", "what it is"], rows, caption=caption, words=(0, 3)),
    )


def _slices(worker: WorkerHistory, origin: float) -> list[_Slice]:
    told = worker["timeline"]
    assert told is not None  # noqa: S101  (timeline has looked)
    moved = (worker["began_s"] or 0.0) - origin
    ends = [moved + until for until in told["until"]]
    parts = zip(*(told[part] for part in PARTS), strict=True)
    return [_Slice(b, e, list(p)) for b, e, p in zip([moved, *ends], ends, parts, strict=False)]


def _merged(slices: Sequence[_Slice], rows: int) -> list[_Slice]:
    """Neighbours become one until there are few enough to be drawn."""
    least = (slices[-1].end - slices[0].begin) / min(400, max(40, _SLICES // rows))
    merged = [slices[0]]
    for piece in slices[1:]:
        into = merged[-1]
        if into.end - into.begin < least:
            parts = [a + b for a, b in zip(into.parts, piece.parts, strict=True)]
            merged[-1] = _Slice(into.begin, piece.end, parts)
        else:
            merged.append(piece)
    return merged


def _row(
    rank: int, slices: Sequence[_Slice], top: float, pitch: float, scale: float, labelled: bool
) -> Iterator[Element]:
    """The row of a worker: the parts of each slice lie on one another. Each is drawn from the bottom up to its upper
    edge, the uppermost first, so that no gap shows between them."""
    if labelled:
        yield node("text", rank, x=_LEFT - 8, y=round(top + pitch / 2 + 3.5, 1), text_anchor="end")
    thick = pitch * 0.84
    sums = [sum(column) for column in zip(*(s.parts for s in slices), strict=True)]
    said = ", ".join(f"{part} {seconds(value)}" for part, value in zip(PARTS, sums, strict=True))
    areas = []
    for i in reversed(range(len(PARTS))):
        if sums[i] > 0:
            areas.append(node("path", d=_area(slices, i, top + thick, thick, scale), class_=f"p-{PARTS[i]}"))
    yield node("g", node("title", f"worker {rank}: {said}"), *areas, class_="row")


def _area(slices: Sequence[_Slice], part: int, bottom: float, thick: float, scale: float) -> str:
    """Steps along the upper edge of a part, and back along the bottom."""
    words = [f"M{_LEFT + slices[0].begin * scale:.1f} {bottom:.1f}"]
    for piece in slices:
        whole = max(piece.end - piece.begin, sum(piece.parts)) or 1.0
        y = bottom - thick * sum(piece.parts[: part + 1]) / whole
        words.append(f"V{y:.1f}H{_LEFT + piece.end * scale:.1f}")
    return "".join(words) + f"V{bottom:.1f}Z"


def _axis(last: float, scale: float, bottom: float) -> Iterator[Element]:
    for value in nice_ticks(0.0, last, 10):
        x = round(_LEFT + value * scale, 1)
        yield node("line", x1=x, x2=x, y1=_TOP, y2=bottom + 4, class_="grid")
        yield node("text", count(value), x=x, y=bottom + 17, text_anchor="middle")
