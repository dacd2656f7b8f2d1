"""HTML as a tree, so that all text is escaped by the one writer that turns it into bytes."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Container, Iterable, Sequence
from importlib.resources import files
from typing import Any
from xml.etree.ElementTree import Element, tostring

Child = Element | str | int | float


def node(tag: str, *children: Child, **attributes: Any) -> Element:
    """An element. A name of an attribute may end in ``_`` (``class_``), and has ``-`` for other ``_``; None leaves one
    out. Style comes from classes alone: the page forbids ``style`` attributes."""
    given = {name.rstrip("_").replace("_", "-"): str(v) for name, v in attributes.items() if v is not None}
    element = Element(tag, given)
    for child in children:
        if isinstance(child, Element):
            element.append(child)
        elif len(element):
            element[-1].tail = (element[-1].tail or "") + str(child)
        else:
            element.text = (element.text or "") + str(child)
    return element


def table(
    headers: Sequence[str], rows: Iterable[Sequence[Child]], *, caption: str, words: Container[int] = (0,)
) -> Element:
    """A table that scrolls by itself where it is too wide; those of the columns that are ``words`` start left."""

    def cells(tag: str, row: Sequence[Child]) -> list[Element]:
        return [node(tag, cell, class_="word" if i in words else None) for i, cell in enumerate(row)]

    body = [node("tr", *cells("td", row)) for row in rows]
    head = node("thead", node("tr", *cells("th", headers)))
    inner = node("table", node("caption", caption), head, node("tbody", *body))
    return node("div", inner, class_="scroll", tabindex=0, role="region", aria_label=caption)


def page(title: str, body: Iterable[Element]) -> bytes:
    """A whole page, UTF-8. Its own policy keeps a browser from loading anything or running any script but ours."""
    style, script = _text("page.css"), _text("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    head = node(
        "head",
        node("meta", charset="utf-8"),
        node("meta", **{"http-equiv": "Content-Security-Policy"}, content=policy),
        node("meta", name="viewport", content="width=device-width, initial-scale=1"),
        node("title", title),
        node("style", style),
    )
    root = node("html", head, node("body", node("main", *body), node("script", script)), lang="en")
    text = tostring(root, encoding="unicode", method="html")
    return b"<!doctype html>\n" + text.encode("utf-8", "xmlcharrefreplace") + b"\n"


def _text(name: str) -> str:
    return files(__package__).joinpath(name).read_text("utf-8")
