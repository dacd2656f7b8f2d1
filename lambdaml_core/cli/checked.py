"""What ``lambdaml plugins check`` finds and prints: capabilities, what became of each law, and the verdict."""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias

import click

from lambdaml_core.cli.output import print_json, print_table
from lambdaml_core.errors import NotChecked

Event: TypeAlias = dict[str, Any]
"""What the process that runs the laws tells; ``event`` says what it is about."""

_REQUESTS = 12_000  # that the laws of a storage make; one that takes many keys at once gets by with far fewer
_COLOURS = {"ok": "green", "failed": "red", "not declared": "yellow"}


@dataclass
class Law:
    """What became of one law, all its parameters together: ``ok``, ``failed`` or ``not declared``."""

    suite: str
    law: str
    says: str
    outcome: str = "ok"
    seconds: float = 0.0
    reason: str | None = None
    failures: list[dict[str, Any]] = field(default_factory=list)


class Checked:
    """Takes the events of a check, and prints them as they come unless it is to be one JSON object in the end.

    Args:
        about: what is checked, without secrets.
        prefix: of a storage: what all keys begin with.
        hidden: secrets, which are taken out of whatever was said.
        advice: what else can be done.
    """

    def __init__(
        self,
        about: str,
        kind: str,
        name: str,
        *,
        as_json: bool,
        prefix: str = "",
        hidden: Collection[str] = (),
        capabilities: Mapping[str, Any] | None = None,
        advice: str = "",
    ) -> None:
        self._about, self._kind, self._name, self._advice = about, kind, name, advice
        self._as_json, self._prefix, self._capabilities = as_json, prefix, capabilities
        self._hidden = sorted(hidden, key=len, reverse=True)
        self._live = not as_json and sys.stdout.isatty()
        self._laws: dict[tuple[str, str], Law] = {}
        self._printed = self._collected = 0
        self._latency_s: float | None = None
        self._running: Law | None = None
        self._untried: NotChecked | None = None
        self._left: list[str] = []
        self._problem: str | None = None
        if not as_json:
            click.secho(about, bold=True)
            self._print_capabilities()

    def on_event(self, event: Event) -> None:
        """One event of the process that runs the laws."""
        event = self._without_secrets(event)
        getattr(self, f"_on_{event['event']}")(event)

    def verdict(self) -> bool:
        """Print what is left to print; whether all laws are kept.

        Raises:
            NotChecked: they could not be tried.
        """
        self._print_laws()
        if self._untried is not None:
            raise self._untried
        broken = [law for law in self._laws.values() if law.outcome == "failed"]
        if self._as_json:
            print_json(self._json(kept=not broken))
        else:
            self._print_verdict(broken)
        return not broken

    def left_behind(self) -> str:
        """What could not be cleaned up, and where; empty where nothing is."""
        if not (self._left or self._problem):
            return ""
        why = self._problem or f"{len(self._left)} are still listed, the first is {self._left[0]}"
        return f"keys that begin with {self._prefix}/ may be left: {why}"

    # --- what is told

    def _on_place(self, event: Event) -> None:
        self._capabilities = event["capabilities"]
        if not self._as_json:
            self._print_capabilities()

    def _on_answered(self, event: Event) -> None:
        self._latency_s = event["latency_s"]

    def _on_refused(self, event: Event) -> None:
        self._untried = self._unusable(event["message"], event["hint"])

    def _on_collected(self, event: Event) -> None:
        self._collected = event["laws"]
        if self._as_json or not self._collected:
            return
        long = ""
        if self._latency_s is not None:
            seconds = 20 + _REQUESTS * self._latency_s
            long = f"; at {1e3 * self._latency_s:.3g} ms a request up to about {_minutes(seconds)}"
        click.echo(f"{self._collected} laws{long}\n")

    def _on_began(self, event: Event) -> None:
        which = event["suite"], event["law"]
        if which not in self._laws:
            self._print_laws()
            self._laws[which] = Law(*which, event["says"])
        self._running = law = self._laws[which]
        if self._live:
            click.echo(f"\r\033[K{len(self._laws)}/{self._collected}  {_words(law.law)}", nl=False)

    def _on_law(self, event: Event) -> None:
        law = self._laws[event["suite"], event["law"]]
        law.seconds += event["seconds"]
        if event["outcome"] == "failed":
            law.failures.append({key: event[key] for key in ("parameters", "said", "at")})
        elif event["outcome"] == "not declared":
            law.reason = event["reason"]
        law.outcome = max(law.outcome, event["outcome"], key=["ok", "not declared", "failed"].index)

    def _on_ended(self, event: Event) -> None:
        self._running = None

    def _on_died(self, event: Event) -> None:
        """The law that was running took its process with it, or kept it for ever."""
        if self._running is None:
            self._untried = self._unusable(event["said"].partition("\n")[0], None)
            return
        self._running.outcome = "failed"
        self._running.failures.append({"parameters": "", "said": event["said"], "at": []})

    def _on_swept(self, event: Event) -> None:
        self._left, self._problem = event["left"], event["problem"]

    def _unusable(self, why: str, hint: str | None) -> NotChecked:
        where = " --channel URL" if self._prefix else ""
        hint = hint or f"lambdaml doctor{where} looks at what is wrong"
        return NotChecked(f"{self._about} cannot be checked: {why}", hint=hint)

    def _without_secrets(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self._without_secrets(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._without_secrets(item) for item in value]
        if isinstance(value, str):
            for word in self._hidden:
                value = value.replace(word, "***")
        return value

    # --- what is printed

    def _print_capabilities(self) -> None:
        if self._capabilities:
            print_table(["capability", "value"], self._capabilities.items())
            click.echo()

    def _print_laws(self) -> None:
        """Those that are over and not printed yet."""
        if self._live:
            click.echo("\r\033[K", nl=False)
        laws = list(self._laws.values())
        for law in laws[self._printed :] if not self._as_json else []:
            reason = f"  ({law.reason})" if law.outcome == "not declared" else ""
            click.echo(click.style(f"{law.outcome:<14}", fg=_COLOURS[law.outcome]) + _words(law.law) + reason)
        self._printed = len(laws)

    def _print_verdict(self, broken: list[Law]) -> None:
        for law in broken:
            click.echo()
            click.secho(f"{law.law} of {law.suite}", bold=True)
            for line in _told(law):
                click.echo(f"  {line}".rstrip())
        click.echo()
        for line in filter(None, [self._advice, self.left_behind()]):
            click.echo(line)
        tried = sum(law.outcome != "not declared" for law in self._laws.values())
        untold = len(self._laws) - tried
        said = f"breaks {len(broken)} of {tried} laws" if broken else f"keeps all {tried} laws"
        said += f", {untold} not declared" if untold else ""
        said += f", {self._collected - len(self._laws)} not tried" if self._collected > len(self._laws) else ""
        click.secho(f"{self._about}: {said}", fg="red" if broken else "green", bold=True)

    def _json(self, kept: bool) -> dict[str, Any]:
        return {
            "checked": self._about,
            "kind": self._kind,
            "name": self._name,
            "capabilities": self._capabilities,
            "latency_s": self._latency_s,
            "laws": [asdict(law) for law in self._laws.values()],
            "not_tried": self._collected - len(self._laws),
            "verdict": "keeps" if kept else "breaks",
            "left": self.left_behind() or None,
            "advice": self._advice or None,
        }


_MOST_FAILURES = 2  # of the parameters of one law: the others are like them
_MOST_LINES, _WIDTH = 30, 160


def _told(law: Law) -> Iterator[str]:
    """What the law says, and how it was broken."""
    yield from law.says.splitlines()
    for failure in law.failures[:_MOST_FAILURES]:
        yield ""
        if failure["parameters"]:
            yield f"with {failure['parameters']}:"
        lines = list(_summary(failure["said"].splitlines()))
        yield from (line if len(line) <= _WIDTH else f"{line[:_WIDTH]} ..." for line in lines[:_MOST_LINES])
        if len(lines) > _MOST_LINES:
            yield f"... and {len(lines) - _MOST_LINES} more lines"
        if failure["at"]:
            yield "at " + ", then ".join(failure["at"])
    if len(law.failures) > _MOST_FAILURES:
        yield f"... and {len(law.failures) - _MOST_FAILURES} more"


_CALL = re.compile(r'\s*File "(?P<file>[^"]+)", line \d+')
_MACHINERY = re.compile(
    r"<frozen|/lib/python3[^/]*/(?!site-packages)|/site-packages/(_pytest|pluggy|pytest|hypothesis)"
    r"|/lambdaml_core/(testing/|storage/(layers|retry)\.py)"
)


def _summary(lines: Iterable[str]) -> Iterator[str]:
    """Without those calls of stacks that are not the plugin's."""
    dropped = False
    for line in lines:
        call = _CALL.match(line)
        if call is not None:
            dropped = _MACHINERY.search(call["file"]) is not None
        elif not line.startswith("    "):
            dropped = False
        if not dropped:
            yield line


def _words(law: str) -> str:
    return law.removeprefix("test_").replace("_", " ")


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
