"""What only ``memcached://`` knows to look at in a server, for ``lambdaml doctor``; workers do not import this.

Whether what is put can be got, and how quickly, doctor looks at itself.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

from lambdaml_core.findings import Finding
from lambdaml_memcached.options import MemcachedOptions

_SMALL_BYTES = 512 << 20  # a few workers, each with 16 MiB on its way, and what stays until the next checkpoint
_CLOCKS_S = 60


def checks(figures: Mapping[str, str], settings: Mapping[str, str], options: MemcachedOptions) -> Iterator[Finding]:
    """From what ``stats`` and ``stats settings`` say; services that do not say all of it leave findings out."""
    uptime_s = int(figures.get("uptime", 0))
    yield Finding(
        what="server",
        state="ok",
        said=f"memcached {figures.get('version', 'of an unknown version')}, up for {uptime_s} s",
        values={"uptime_s": uptime_s},
    )
    if "item_size_max" in settings:
        yield _items(int(settings["item_size_max"]), options.item_bytes)
    if "limit_maxbytes" in figures:
        yield _memory(int(figures["limit_maxbytes"]), settings.get("evictions", "on") == "on")
    if "evictions" in figures:
        yield _evictions(int(figures["evictions"]))
    if "time" in figures:
        yield _clock(int(figures["time"]) - time.time())


def _items(largest: int, used: int) -> Finding:
    values = {"item_size_max_bytes": largest}
    if largest < used:
        return Finding(
            what="item size",
            state="problem",
            said=f"the server takes items of {largest} bytes, and values are cut for {used}",
            remedy=f"give ?item_bytes={largest} in the URL, or start memcached with -I {used}",
            values=values,
        )
    return Finding(what="item size", state="ok", said=f"items of {used} bytes fit", values=values)


def _memory(limit: int, evicts: bool) -> Finding:
    full = "old values go when it is full" if evicts else "new values are refused when it is full"
    said, values = f"{limit >> 20} MiB for values; {full}", {"limit_bytes": limit}
    if limit < _SMALL_BYTES:
        return Finding(
            what="memory",
            state="warning",
            said=said,
            remedy="start memcached with -m 1024 or more; a message that goes before it is read ends a round",
            values=values,
        )
    return Finding(what="memory", state="ok", said=said, values=values)


def _evictions(count: int) -> Finding:
    values = {"evictions": count}
    if count:
        return Finding(
            what="evictions",
            state="warning",
            said=f"{count} values went before their time since the server started",
            remedy="give memcached more memory (-m), or a server of its own to training",
            values=values,
        )
    return Finding(what="evictions", state="ok", said="no value went before its time", values=values)


def _clock(ahead_s: float) -> Finding:
    values = {"ahead_s": round(ahead_s)}
    if abs(ahead_s) > _CLOCKS_S:
        return Finding(
            what="clock",
            state="warning",
            said=f"the server's clock is {ahead_s:.0f} s ahead of this machine's",
            remedy="set both by NTP: values that are to stay for more than 30 days go by the clock",
            values=values,
        )
    return Finding(what="clock", state="ok", said="the clocks of the server and of this machine agree", values=values)
