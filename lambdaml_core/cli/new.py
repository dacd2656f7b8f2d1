"""``lambdaml plugins new``: a complete plugin to start from, which passes its conformance suite as it is."""

from __future__ import annotations

import importlib.util
import keyword
import os
import re
import secrets
import shlex
import shutil
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from string import Template
from typing import NamedTuple

import click

from lambdaml_core.cli.output import json_option, print_json
from lambdaml_core.discovery import OFFICIAL
from lambdaml_core.errors import OutputExists, PluginConflict, PluginNotInstalled, UnknownPlugin, UsageError
from lambdaml_core.options import nearest
from lambdaml_core.registry import default_registry

_TEMPLATES = Path(__file__).with_name("templates")
_ENDING = ".tmpl"  # so that no tool takes a template for what it becomes
_NAME = re.compile(r"[a-z][a-z0-9]*([_-][a-z0-9]+)*")
_LONGEST = 24  # so that no line of a template becomes longer than the formatter lets it be


class _Kind(NamedTuple):
    """What is to be told of a kind besides its templates.

    Attributes:
        summary: of what is written; one line.
        uses: what it imports besides the core.
        checked: what ``lambdaml plugins check`` is best given.
    """

    summary: str
    uses: tuple[str, ...] = ("numpy>=1.26",)
    checked: str = "$name"


KINDS: Mapping[str, _Kind] = {
    "storage": _Kind("values as files of one folder, for processes of one machine", (), "$name:///tmp/$name"),
    "optimizer": _Kind("AdaGrad: every parameter has a step size of its own, which falls by what it has seen"),
    "pattern": _Kind("all-reduce in two steps: owners fold, and everybody gets the result", ()),
    "model": _Kind("Huber regression: linear, and not drawn away by a few rows that are far off"),
    "data-format": _Kind("a JSON object on each line, of a label and a list of numbers"),
    "provider": _Kind("a process of this machine for each worker", ()),
}


@click.command()
@click.argument("kind")
@click.argument("name")
@click.option("--into", default=".", show_default=True, type=click.Path(path_type=Path), help="Where its folder goes.")
@json_option
@click.pass_context
def new(ctx: click.Context, kind: str, name: str, into: Path, as_json: bool) -> None:
    """Write a plugin: KIND is storage, optimizer, pattern, model, data-format or provider; NAME chooses it in a job.

    It is a complete distribution of its own, lambdaml-NAME, with tests that it passes as it is.
    """
    if kind not in KINDS:
        raise UsageError(f"there is no kind of plugin {kind!r}", hint=nearest(kind, KINDS))
    _check_name(kind, name)
    words = _words(kind, name)
    folder = into / words["distribution"]
    files = _files(kind, words)
    _write(folder, files)
    commands = _next(folder, words["checked"])
    if as_json or (ctx.parent and ctx.parent.params["as_json"]):
        print_json({"kind": kind, "name": name, "folder": str(folder), "files": sorted(files), "next": commands})
        return
    click.echo(f"{folder} is a plugin that works. What comes next:\n")
    for command in commands:
        click.echo(f"  {command}")


def _check_name(kind: str, name: str) -> None:
    """Refuse a name that could not be that of a plugin, or is another's.

    Raises:
        UsageError: it is malformed.
        PluginConflict: it is taken.
    """
    if not _NAME.fullmatch(name) or len(name) > _LONGEST or keyword.iskeyword(name):
        raise UsageError(
            f"{name!r} cannot be the name of a plugin",
            hint=f"a word of up to {_LONGEST} small letters and digits, and - between them, such as acme-kv",
        )
    if name.startswith(("lambdaml-", "lambdaml_")):
        raise UsageError(f"the distribution is called lambdaml-{name}", hint=f"leave lambdaml out: {name[9:]}")
    if kind == "storage" and "_" in name:
        raise UsageError(f"{name} cannot be the scheme of a URL", hint=f"write it {name.replace('_', '-')}")
    words = _words(kind, name)
    taken = _owner(name) or _has(words["distribution"], words["module"])
    if taken:
        raise PluginConflict(f"the name {name} is taken: {taken}", hint="choose another name")


def _owner(name: str) -> str | None:
    """Who has a plugin of this name, of any kind: two of one name would be told apart by nobody."""
    try:
        info, _ = default_registry().search(name)[0]
    except PluginNotInstalled as e:
        return e.message
    except UnknownPlugin:
        return None
    return f"it is the {info.kind} of {info.distribution}"


def _has(distribution: str, module: str) -> str | None:
    """Who has the distribution's name, or that of its package."""
    if distribution in OFFICIAL:
        return f"{distribution} is a plugin of this project"
    if any(metadata.distributions(name=distribution)):
        return f"{distribution} is installed"
    return f"there is a package {module}" if importlib.util.find_spec(module) else None


def _words(kind: str, name: str) -> dict[str, str]:
    """What the placeholders of templates stand for."""
    distribution = f"lambdaml-{name.replace('_', '-')}"
    dependencies = ("lambdaml>=0.1,<1", *KINDS[kind].uses)
    return {
        "name": name,
        "distribution": distribution,
        "module": distribution.replace("-", "_"),
        "Class": "".join(word.capitalize() for word in re.split("[-_]", name)),
        "file": f"{kind.replace('-', '_')}.py",
        "summary": KINDS[kind].summary,
        "checked": Template(KINDS[kind].checked).substitute(name=name),
        "dependencies": ", ".join(f'"{dependency}"' for dependency in dependencies),
    }


def _files(kind: str, words: Mapping[str, str]) -> dict[str, str]:
    """What is to be written, by path in the new folder: what all kinds have, and what is this kind's."""

    def filled(template: Path) -> str:
        return Template(template.read_text(encoding="utf-8")).substitute(words)

    words = {**words, "use": filled(_TEMPLATES / kind / "use.md").strip()}
    files = {}
    for root in (_TEMPLATES / "common", _TEMPLATES / kind):
        for template in root.rglob(f"*{_ENDING}"):
            path = str(template.relative_to(root)).removesuffix(_ENDING)
            for mark in ("module", "name"):
                path = path.replace(mark.upper(), words[mark].replace("-", "_"))
            files[path] = filled(template)
    return files


def _write(folder: Path, files: Mapping[str, str]) -> None:
    """Make the folder, whole or not at all.

    Raises:
        OutputExists: there is something of this name.
        UsageError: it cannot be written.
    """
    if os.path.lexists(folder):
        raise OutputExists(f"{folder} exists already", hint="choose another name, or another place with --into")
    beside = folder.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        beside.mkdir()
        for path, text in files.items():
            file = beside / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        beside.rename(folder)
    except OSError as e:
        raise UsageError(f"{folder} cannot be written: {e.strerror}", hint="choose another place with --into") from e
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _next(folder: Path, checked: str) -> list[str]:
    """What to type next, from where this was called."""
    path = folder if folder.is_absolute() else f"./{folder}"  # without a slash pip takes it for the name of a package
    return [
        shlex.join(["pip", "install", "-e", f"{path}[testing]"]),
        shlex.join(["pytest", str(path)]),
        shlex.join(["lambdaml", "plugins", "check", checked]),
    ]
