"""``lambdaml plugins``: what is installed, whether it works, what it can do and what can be set."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import click

from lambdaml_core.cli.check import check
from lambdaml_core.cli.new import new
from lambdaml_core.cli.output import capabilities_of, json_option, print_json, print_table
from lambdaml_core.errors import LambdaMLError
from lambdaml_core.options import OptionInfo, describe
from lambdaml_core.registry import PluginInfo, default_registry
from lambdaml_core.specs import PluginSpec, Reference


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def plugins(ctx: click.Context, as_json: bool) -> None:
    """List plugins; ``show`` says what one can do, ``check`` whether it keeps its laws, ``new`` begins one."""
    if ctx.invoked_subcommand:
        return
    rows = default_registry().plugins()
    if as_json:
        print_json({"plugins": [row._asdict() for row in rows]})
        return
    print_table(
        ["kind", "name", "distribution", "version", "state", "summary"],
        [[r.kind, r.name, r.distribution, r.version, r.state, r.summary] for r in rows],
    )
    for row in rows:
        if row.problem:
            click.echo(f"\n{row.kind} {row.name}: {row.problem}\n  remedy: {row.remedy}")


plugins.add_command(check)
plugins.add_command(new)


@plugins.command()
@click.argument("name")
@json_option
@click.pass_context
def show(ctx: click.Context, name: str, as_json: bool) -> None:
    """Show the capabilities and options of every plugin of this name, whatever its kind."""
    views = [_View.of(info, spec) for info, spec in default_registry().search(name)]
    if as_json or (ctx.parent and ctx.parent.params["as_json"]):
        print_json({"plugins": [view.to_json() for view in views]})
        return
    for n, view in enumerate(views):
        click.echo("\n" * bool(n), nl=False)
        view.print()


@dataclasses.dataclass(frozen=True)
class _View:
    """All there is to say about one plugin; ``capabilities`` is None where it states none."""

    info: PluginInfo
    spec: PluginSpec | None
    capabilities: Mapping[str, Any] | None
    options: list[OptionInfo]

    @classmethod
    def of(cls, info: PluginInfo, spec: PluginSpec | None) -> _View:
        if spec is None:
            return cls(info, None, None, [])
        capabilities = None
        if info.state == "ok":
            try:
                capabilities = capabilities_of(Reference(spec.kind, spec.name, spec.factory, "").load())
            except LambdaMLError as e:  # the light module works, what it names does not
                info = info._replace(state="broken", problem=e.message, remedy=e.hint)
        return cls(info, spec, capabilities, describe(spec.options))

    def to_json(self) -> dict[str, Any]:
        words = list(self.spec.words()[1:]) if self.spec else []
        return {
            **self.info._asdict(),
            "aliases": words,
            "factory": self.spec.factory if self.spec else None,
            "capabilities": self.capabilities,
            "options": [option._asdict() for option in self.options],
        }

    def print(self) -> None:
        info = self.info
        click.secho(f"{info.kind} {info.name}", bold=True)
        facts = {
            "summary": info.summary,
            "distribution": f"{info.distribution} {info.version}",
            "state": info.state,
            "problem": info.problem,
            "remedy": info.remedy,
            "also called": ", ".join(self.spec.words()[1:]) if self.spec else "",
            "factory": self.spec.factory if self.spec else "",
        }
        for name, fact in facts.items():
            if fact:
                click.echo(f"  {name:<12}  {fact}")
        if self.capabilities:
            click.echo()
            print_table(["capability", "value"], self.capabilities.items())
        if self.options:
            click.echo()
            print_table(
                ["option", "type", "default", "unit", "allowed", "help"],
                [[o.name, o.type, _default(o), o.unit, o.allowed, o.help] for o in self.options],
            )


def _default(option: OptionInfo) -> str:
    """As a job file would say it, but for words, which stand without quotes."""
    if option.required:
        return "(required)"
    if option.default is None or isinstance(option.default, str):
        return option.default or "none"
    return json.dumps(option.default)
