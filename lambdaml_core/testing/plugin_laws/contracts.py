"""Whether what a record names has the methods that its contract asks for, taking what core gives them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from lambdaml_core.data.formats import RowFormat, SupportsUnlabelled, TableFormat
from lambdaml_core.errors import PluginBroken
from lambdaml_core.findings import SupportsChecks
from lambdaml_core.models.base import Model, SupportsProbabilities
from lambdaml_core.optim.base import Optimizer
from lambdaml_core.provider.base import Provider, SupportsKill
from lambdaml_core.specs import Kind, PluginSpec, Reference
from lambdaml_core.storage.base import Storage, SupportsList, SupportsMany, SupportsViews

_ARGUMENTS: Mapping[Kind, tuple[str, ...]] = {
    "storage": ("url", "options"),
    "storage_layer": ("url", "options", "inner"),
    "communicator": ("call",),  # a pattern is no factory: it is named itself
}

_STORAGE = (Storage, SupportsList, SupportsMany, SupportsViews, SupportsChecks)
_CONTRACTS: Mapping[Kind, tuple[type, ...]] = {  # the first must be there whole, each of the others whole or not at all
    "storage": _STORAGE,
    "storage_layer": _STORAGE,
    "communicator": (),
    "optimizer": (Optimizer,),
    "provider": (Provider, SupportsKill, SupportsChecks),
    "model": (Model, SupportsProbabilities),
    "data_format": (RowFormat, SupportsUnlabelled),
}


def problems(spec: PluginSpec) -> Iterator[str]:
    """What is missing or cannot be called as the contract says. Nothing is built and nothing called."""
    try:
        factory = Reference(spec.kind, spec.name, spec.factory, "").load()
    except PluginBroken as e:
        yield e.message
        return
    arguments = _ARGUMENTS.get(spec.kind, ("options",))
    if not callable(factory) or not _takes(factory, *arguments):
        yield f"{spec.factory} cannot be called with ({', '.join(arguments)})"
        return
    contracts = _CONTRACTS[spec.kind]
    made = _made_by(factory) if contracts else None
    if contracts and made is None:
        yield f"{spec.factory} is a function: its return annotation must name the class of what it returns"
    if made is None:
        return
    if hasattr(made, "schema") and spec.kind == "data_format":
        contracts = (TableFormat,)
    for n, contract in enumerate(contracts):
        yield from _against(made, contract, optional=n > 0)


def _made_by(factory: Callable[..., Any]) -> type | None:
    if isinstance(factory, type):
        return factory
    try:
        returned = inspect.signature(factory, eval_str=True).return_annotation
    except NameError:  # it is imported for type checkers only
        return None
    return returned if isinstance(returned, type) and returned is not inspect.Signature.empty else None


def _against(made: type, contract: type, *, optional: bool) -> Iterator[str]:
    asked = _methods(contract)
    there = [name for name in asked if callable(getattr(made, name, None))]
    if optional and not there:
        return
    for name, method in asked.items():
        if name not in there:
            yield f"{made.__name__} has no method {name}, which {contract.__name__} asks for"
        elif not _takes_all(_bound(made, name), method):
            yield f"{made.__name__}.{name} cannot be called as {name}{inspect.signature(method)} of {contract.__name__}"


def _methods(contract: type) -> dict[str, Callable[..., Any]]:
    return {name: each for name, each in vars(contract).items() if inspect.isfunction(each) and name[0] != "_"}


def _bound(made: type, name: str) -> Callable[..., Any]:
    """The method as an instance has it, without there being one."""
    held = inspect.getattr_static(made, name)
    method: Callable[..., Any] = held.__get__(object(), made) if inspect.isfunction(held) else getattr(made, name)
    return method


def _takes_all(method: Callable[..., Any], asked: Callable[..., Any]) -> bool:
    """Whether it can be called in every way that the contract's can: options left out, by place and by name."""
    _self, *parameters = inspect.signature(asked).parameters.values()
    keywords = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
    placed = [p for p in parameters if p.name not in keywords]
    needed = [p.name for p in placed if p.default is p.empty]
    optional = {p.name for p in placed if p.default is not p.empty}
    return (
        _takes(method, *needed)
        and _takes(method, *(p.name for p in placed), **dict.fromkeys(keywords))
        and _takes(method, *needed, **dict.fromkeys(optional | keywords))
    )


def _takes(function: Callable[..., Any], *arguments: Any, **keywords: Any) -> bool:
    try:
        signature = inspect.signature(function)
    except ValueError:  # of C code that does not say
        return True
    try:
        signature.bind(*arguments, **keywords)
    except TypeError:
        return False
    return True
