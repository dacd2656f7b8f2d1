"""``lambdaml plugins check``: does a live storage, or an installed plugin, keep the laws that others rely on?"""

from __future__ import annotations

import dataclasses
import importlib.util
import secrets
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from lambdaml_core.cli.checked import Checked
from lambdaml_core.cli.output import capabilities_of, json_option
from lambdaml_core.errors import Interrupted, NotChecked, UsageError
from lambdaml_core.registry import PluginInfo, default_registry
from lambdaml_core.specs import Kind, PluginSpec, Reference

_PROBE_S = 30.0  # a storage that has not answered by then hangs
_LIMIT_S = 120.0  # so does a law, unless the storage is slow
_NEEDED = {"pytest": "pytest", "hypothesis": "hypothesis", "pytest_timeout": "pytest-timeout", "packaging": "packaging"}
"""What the extra lambdaml[testing] installs: modules and distributions."""

_SUITES: Mapping[str, str] = {
    "communicator": "TestPattern",
    "model": "TestModel",
    "optimizer": "TestOptimizer",
    "provider": "TestProviderPlan",
}
"""Of what is built from its options alone. A storage needs a place, and a data format somebody who writes it."""

_ADVICE: Mapping[str, str] = {
    "storage": "this looked at the distribution: lambdaml plugins check {name}://... tries the storage where it is",
    "storage_layer": "this looked at the distribution: lambdaml plugins check {name}+file:///... tries the layer",
    "data_format": "this looked at the distribution: what files of this format hold is proven by its author's tests",
    "provider": "nothing was started: --launch has it start workers, which may cost money",
}


@click.command()
@click.argument("what", metavar="URL|NAME")
@click.option("--kind", type=click.Choice(typing.get_args(Kind)), help="What NAME is, where several kinds have it.")
@click.option("--set", "settings", multiple=True, metavar="OPTION=VALUE", help="An option of NAME; may be repeated.")
@click.option("--launch", is_flag=True, help="Of a provider: start workers too, which may cost money.")
@json_option
@click.pass_context
def check(
    ctx: click.Context, what: str, kind: Kind | None, settings: tuple[str, ...], launch: bool, as_json: bool
) -> None:
    """Run the laws against the live storage at a URL, or an installed plugin.

    A storage is used under a random prefix, and nothing is left there. The exit code is 0 if all laws are kept, 1 if
    one is broken, and 2 if they could not be tried.
    """
    for module, distribution in _NEEDED.items():
        if importlib.util.find_spec(module) is None:
            raise NotChecked(
                f"the laws need {distribution}, which is not installed",
                hint="in a LambdaML checkout: pip install '.[testing]'",
            )
    as_json = as_json or bool(ctx.parent and ctx.parent.params["as_json"])
    if "://" in what:
        if kind or settings or launch:
            raise UsageError("--kind, --set and --launch are for names", hint="options of a URL stand in its query")
        checked, asked, folder = _live(what, as_json)
    else:
        checked, asked = _installed(what, kind, settings, launch, as_json)
        folder = None
    from lambdaml_core.cli.checking import run_suites
    from lambdaml_core.run.doctor.space import left_as_it_was

    try:
        with left_as_it_was(folder):
            run_suites(asked, checked.on_event)
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted; {checked.left_behind() or 'nothing is left behind'}") from None
    ctx.exit(0 if checked.verdict() else 1)


def _live(text: str, as_json: bool) -> tuple[Checked, dict[str, Any], Path | None]:
    """A storage, where it is; its folder, if it has one."""
    from lambdaml_core.run.doctor.space import folder_of
    from lambdaml_core.run.job import storage_url
    from lambdaml_core.storage import StorageURL, storage_reference

    text = storage_url(text, "the check")
    reference, url = storage_reference(text), StorageURL.parse(text)
    read = url.resolved()
    prefix = f"lambdaml-check-{secrets.token_hex(4)}"
    asked = {
        "suites": ["TestStorage"],
        "url": text,
        "reference": dataclasses.asdict(reference),
        "prefix": prefix,
        "probe_s": _PROBE_S,
        "limit_s": _LIMIT_S,
    }
    hidden = {form for word in read.secrets for form in (word, quote(word, safe=""), repr(word)[1:-1])}
    checked = Checked(str(url), reference.kind, reference.name, as_json=as_json, prefix=prefix, hidden=hidden)
    return checked, asked, folder_of(read)


def _installed(
    name: str, kind: Kind | None, settings: Iterable[str], launch: bool, as_json: bool
) -> tuple[Checked, dict[str, Any]]:
    """A plugin of this environment: its distribution, and what its options build."""
    info, spec = _found(name, kind)
    if launch and info.kind != "provider":
        raise UsageError(f"--launch is for providers, and {name} is of the kind {info.kind}", hint="leave it out")
    suites, asked = ["TestPlugin"], dict[str, Any](distribution=info.distribution)
    values = dict(map(_setting, settings))
    suite = "TestProvider" if launch else _SUITES.get(info.kind)
    if spec is not None and suite is not None:
        suites.append(suite)
        asked["reference"] = dataclasses.asdict(default_registry().resolve(spec.kind, name, values))
        asked["target"] = getattr(spec, "target", None)
    elif values:
        raise UsageError(f"--set is of no use here: this builds nothing of the kind {info.kind}", hint="leave it out")
    capabilities = None
    if spec is not None and spec.kind == "storage":
        capabilities = capabilities_of(Reference(spec.kind, spec.name, spec.factory, "").load())
    advice = "" if launch else _ADVICE.get(info.kind, "").format(name=info.name)
    about = f"{info.kind} {info.name} of {info.distribution} {info.version}"
    checked = Checked(about, info.kind, info.name, as_json=as_json, capabilities=capabilities, advice=advice)
    return checked, asked | {"suites": suites}


def _found(name: str, kind: Kind | None) -> tuple[PluginInfo, PluginSpec | None]:
    """The one plugin of this name, if it works."""
    rows = default_registry().search(name)
    if kind is not None and not any(info.kind == kind for info, _ in rows):
        default_registry().find(kind, name)  # says what is wrong with that
    rows = [(info, spec) for info, spec in rows if kind in (None, info.kind)]
    kinds = sorted({info.kind for info, _ in rows})
    if len(kinds) > 1:
        raise UsageError(f"{name} is the name of several: {', '.join(kinds)}", hint=f"say which: --kind {kinds[0]}")
    info, spec = rows[0]
    if info.state != "ok":
        raise NotChecked(f"{info.kind} {info.name} cannot be checked: {info.problem}", hint=info.remedy)
    return info, spec


def _setting(words: str) -> tuple[str, str]:
    name, equals, value = words.partition("=")
    if not (name and equals):
        raise UsageError(f"--set {words!r} is no option with a value", hint="write it as --set learning_rate=0.1")
    return name, value
