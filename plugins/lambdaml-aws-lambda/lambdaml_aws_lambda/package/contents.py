"""What goes into a package: of ours, the packages that the job's plugins are in; of others', what those require.

Both are taken from this environment, with its versions, so that a function computes what a local run computes.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from lambdaml_aws_lambda.package.target import HERE, Target
from lambdaml_core.discovery import OFFICIAL
from lambdaml_core.errors import NotSupported, OptionError
from lambdaml_core.hookspecs import GROUP

CLIENT: Mapping[str, str] = {"awslambdaric": "4.2.2", "simplejson": "4.3.0", "snapshot-restore-py": "1.0.0"}
"""AWS's client that fetches invocations, and what it requires: for a runtime that does not bring it."""

# What the command line, the plugin manager and the building of packages need: no worker imports it. Left out where
# only these distributions require it.
_NOT_IN_WORKERS: Mapping[str, frozenset[str]] = {
    "lambdaml": frozenset({"click", "pluggy", "rich"}),
    "lambdaml-aws-lambda": frozenset({"packaging", "pip"}),
}

_OURS = frozenset({"lambdaml", *OFFICIAL})

_SERVICES: Mapping[str, tuple[str, ...]] = {
    "lambdaml-aws-lambda": ("lambda", "secretsmanager", "sts"),
    "lambdaml-s3": ("s3",),
    "lambdaml-dynamodb": ("dynamodb",),
}
"""The services of AWS that workers of our distributions ask through boto3."""

_Root = tuple[metadata.Distribution, tuple[str, ...]]  # with its extras

_OF_BOTO3 = frozenset({"boto3", "botocore", "s3transfer"})


@dataclass(frozen=True)
class Contents:
    """What goes into a package.

    Attributes:
        sources: packages and modules that are copied from where they lie, by import name.
        named: name of the distribution that each of ``sources`` is of; itself where it is of none.
        distributions: name and version of everything, what is copied included.
        wheels: of those, what is fetched as wheels, plugins with compiled files included.
        asked: of those, what the job or somebody else's plugin asks for: no part is cut out of it.
        services: of AWS, the only ones whose descriptions botocore keeps; None = all of them.
    """

    sources: Mapping[str, Path]
    named: Mapping[str, str]
    distributions: Mapping[str, str]
    wheels: Mapping[str, str]
    asked: frozenset[str]
    services: tuple[str, ...] | None


def contents(
    modules: Sequence[str],
    requirements: Sequence[str] = (),
    *,
    runtime: str = f"python{HERE}",
    architecture: str = "x86_64",
) -> Contents:
    """Find out what a worker needs that imports these packages. Reads this environment and nothing else.

    Args:
        modules: top-level packages, ``lambdaml_core`` among them.
        requirements: more, such as ``pandas==2.2.3``: each must be installed here in that version.
        runtime, architecture: where it is to run: some requirements hold for some of them only.

    Raises:
        NotSupported: a package, or what it requires, is not installed here.
        OptionError: a requirement that is none, or that what is installed here does not meet.
    """
    target = Target(runtime, architecture)
    places = {module: _place(module) for module in dict.fromkeys(modules)}
    owners = {module: _owner(module) for module in places}
    named = {module: canonicalize_name(dist.name) if dist else module for module, dist in owners.items()}
    plugins = {named[module]: dist for module, dist in owners.items() if dist}
    copied = {module: place for module, place in places.items() if not _is_compiled(place)}
    wanted: list[_Root] = [(_installed(r, ""), tuple(sorted(r.extras))) for r in map(_asked, requirements)]
    foreign: list[_Root] = [(dist, ()) for name, dist in plugins.items() if name not in _OURS]
    found = _closure([*((dist, ()) for dist in plugins.values()), *wanted], target)
    versions = {name: dist.version for name, dist in sorted(found.items())}
    wheels = {name: version for name, version in versions.items() if name not in {named[module] for module in copied}}
    asked = frozenset(wheels.keys() & _closure([*foreign, *wanted], target, stop=_OURS).keys())
    services = sorted({service for name in plugins for service in _SERVICES.get(name, ())})
    return Contents(
        sources=copied,
        named=named,
        distributions=versions,
        wheels=wheels,
        asked=asked,
        services=None if asked & _OF_BOTO3 else tuple(services),
    )


def _closure(roots: Iterable[_Root], target: Target, *, stop: Collection[str] = ()) -> dict[str, metadata.Distribution]:
    """These distributions and all that they require on the target, by name; not by way of those in ``stop``."""
    found: dict[str, metadata.Distribution] = {}
    seen: set[tuple[str, tuple[str, ...]]] = set()
    todo = list(roots)
    while todo:
        dist, extras = todo.pop()
        name = canonicalize_name(dist.name)
        if name not in stop and (name, extras) not in seen:
            seen.add((name, extras))
            found[name] = dist
            todo += [(_installed(r, dist.name), tuple(sorted(r.extras))) for r in _required(dist, extras, target)]
    return found


def _required(dist: metadata.Distribution, extras: Sequence[str], target: Target) -> Iterator[Requirement]:
    left_out = _NOT_IN_WORKERS.get(canonicalize_name(dist.name), frozenset())
    for text in dist.requires or ():
        requirement = Requirement(text)
        marker = requirement.marker
        holds = marker is None or any(marker.evaluate(target.markers | {"extra": e}) for e in ("", *extras))
        if holds and canonicalize_name(requirement.name) not in left_out:
            yield requirement


def _asked(text: str) -> Requirement:
    try:
        requirement = Requirement(text)
    except InvalidRequirement as e:
        raise OptionError(
            f"provider.requirements: {text!r} is not a requirement", hint='write it like "pandas==2.2.3"'
        ) from e
    version = _installed(requirement, "").version
    if not requirement.specifier.contains(version, prereleases=True):
        raise OptionError(
            f"provider.requirements: {text} is asked for, and {requirement.name} {version} is installed here",
            hint=f"pip install '{text}': functions get the versions of the environment that launches them",
        )
    return requirement


def _installed(requirement: Requirement, by: str) -> metadata.Distribution:
    try:
        return metadata.distribution(requirement.name)
    except metadata.PackageNotFoundError as e:
        raise NotSupported(
            f"{requirement.name}, which {by or 'provider.requirements'} asks for, is not installed here",
            hint=f"pip install '{requirement.name}{requirement.specifier}': "
            "functions get the versions of the environment that launches them",
        ) from e


def _owner(module: str) -> metadata.Distribution | None:
    """The distribution that a package is of; None where it was not installed, as a module beside a script."""
    if module == "lambdaml_core":
        return metadata.distribution("lambdaml")
    for entry in metadata.entry_points(group=GROUP):  # an editable installation lists no files
        if entry.value.partition(":")[0].partition(".")[0] == module and entry.dist is not None:
            return entry.dist
    names = metadata.packages_distributions().get(module)
    return metadata.distribution(names[0]) if names else None


def _place(module: str) -> Path:
    """The folder of a package, or the file of a module."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        raise NotSupported(
            f"the package {module} cannot be copied for functions: it is not installed here as files of Python",
            hint="install it as a wheel or an editable one, with an __init__.py",
        )
    file = Path(spec.origin)
    return file.parent if spec.submodule_search_locations else file


def _is_compiled(place: Path) -> bool:
    """Whether it has files that are of this machine's kind only."""
    return place.is_dir() and any(place.rglob("*.so"))
