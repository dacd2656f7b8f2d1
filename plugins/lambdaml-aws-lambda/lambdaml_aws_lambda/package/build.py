"""Building a package: wheels first, the slow part, and on top of them what changes more often, our own packages."""

from __future__ import annotations

import hashlib
import sys
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path, PurePosixPath

from packaging.utils import canonicalize_name

from lambdaml_aws_lambda.package.archive import Member, Package, by_weight, cache, found, key, make
from lambdaml_aws_lambda.package.bytecode import compiled
from lambdaml_aws_lambda.package.contents import CLIENT, Contents
from lambdaml_aws_lambda.package.target import HERE, Target
from lambdaml_aws_lambda.package.trim import imported_tests, kept, kept_of_ours
from lambdaml_aws_lambda.package.wheels import install
from lambdaml_core.errors import LambdaMLError, NotSupported

DIRECT_BYTES = 50 * 2**20
"""The largest zip file that can be sent with the request that makes a function; larger ones go through S3."""

UNZIPPED_BYTES = 250 * 2**20
"""The most that a zip file may hold."""

_BOOTSTRAP = b"""#!/bin/sh
export PYTHONPATH="$LAMBDA_TASK_ROOT"
exec python3 -m awslambdaric "$_HANDLER"
"""
_SURELY = 1.5  # other wheels than those installed here may be smaller, but not by that much
_ZIPPED = {".so": 0.32, ".py": 0.28, ".pyc": 0.40, ".gz": 1.0}  # of a file, as measured for linear models
_ZIPPED_ELSE = 0.35


def build(contents: Contents, *, runtime: str, architecture: str) -> Package:
    """Build the package, or find the one that was built of the same before.

    Args:
        runtime: such as ``python3.12``; ``provided.al2023`` gets AWS's client and a bootstrap.
        architecture: ``x86_64`` or ``arm64``.

    Raises:
        NotSupported: it is too large, or there is no wheel of something for this runtime, or no pip.
        LambdaMLError: the package index cannot be reached, or there is no room for it in the cache.
    """
    target = Target(runtime, architecture)
    ours = list(_ours(contents, target))
    expected = _expected(contents, target, ours)
    if expected.sha256:
        return expected
    try:
        package = make(expected.path, _with_bytecode(ours, target), _wheels(contents, target))
    except OSError as e:
        raise LambdaMLError(
            f"the package cannot be written to {cache()}: {e.strerror or e}",
            hint="make room there, or set XDG_CACHE_HOME to a folder of yours with 500 MB of room",
        ) from e
    if package.unzipped_bytes > UNZIPPED_BYTES:
        raise _too_large(package)
    return package


def about(contents: Contents, *, runtime: str, architecture: str) -> Package:
    """What :func:`build` would give, and no request to anybody: the sizes are those of a package that was built of the
    same before, else near those of what is installed here. ``sha256`` is empty where it was not built yet.

    Raises:
        NotSupported: it is too large, or will surely be.
    """
    target = Target(runtime, architecture)
    return _expected(contents, target, list(_ours(contents, target)))


def _expected(contents: Contents, target: Target, ours: Sequence[Member]) -> Package:
    place = _place(contents, target, ours)
    package = found(place) or _estimate(place, contents, target, ours)
    if package.unzipped_bytes > (1 if package.sha256 else _SURELY) * UNZIPPED_BYTES:
        raise _too_large(package)
    return package


def _place(contents: Contents, target: Target, ours: Iterable[Member]) -> Path:
    digests = sorted((member.path, hashlib.sha256(member.data).hexdigest()) for member in ours)
    return cache() / f"package-{_key_of_wheels(contents, target)}-{key(digests)}.zip"


# --- what others have written --------------------------------------------------------------------------------


def _wheels(contents: Contents, target: Target) -> Package:
    place = cache() / f"wheels-{_key_of_wheels(contents, target)}.zip"
    package = found(place)
    if package is None:
        with tempfile.TemporaryDirectory(prefix="lambdaml-wheels-") as folder:
            install(_pins(contents, target), target, Path(folder))
            package = make(place, _with_bytecode(_unpacked(Path(folder), contents), target))
    return package


def _pins(contents: Contents, target: Target) -> Mapping[str, str]:
    return contents.wheels if target.managed else {**contents.wheels, **CLIENT}


def _key_of_wheels(contents: Contents, target: Target) -> str:
    pins = dict(_pins(contents, target))
    return key(_recipe(), str(target), sys.version_info[:2], pins, sorted(contents.asked), contents.services)


def _recipe() -> str:
    """Hash of how packages are built: another version of this code finds nothing that this one has made."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()


def _unpacked(folder: Path, contents: Contents) -> Iterator[Member]:
    imported = imported_tests(folder)
    for dist in metadata.distributions(path=[str(folder)]):
        name = canonicalize_name(dist.name)
        whole = name in contents.asked
        for listed in dist.files or ():
            path = PurePosixPath(listed)
            if path in imported or kept(path, name, whole=whole, services=contents.services):
                yield Member(name, str(path), (folder / path).read_bytes())


# --- what we have written ------------------------------------------------------------------------------------


def _ours(contents: Contents, target: Target) -> Iterator[Member]:
    for module, place in contents.sources.items():
        owner = contents.named[module]
        if place.is_file():
            yield Member(owner, place.name, place.read_bytes())
            continue
        for file in place.rglob("*"):
            path = PurePosixPath(file.relative_to(place))
            if file.is_file() and kept_of_ours(path, module):
                yield Member(owner, f"{module}/{path}", file.read_bytes())
    if not target.managed:
        yield Member("awslambdaric", "bootstrap", _BOOTSTRAP)


def _with_bytecode(members: Iterable[Member], target: Target) -> Iterator[Member]:
    for member in members:
        yield member
        if _is_compiled(member.path, target):
            with warnings.catch_warnings(action="ignore"):  # about other people's sources
                code = compiled(member.data, member.path)
            if code is not None:
                path = PurePosixPath(member.path)
                name = f"{path.stem}.{sys.implementation.cache_tag}.pyc"
                yield Member(member.owner, str(path.parent / "__pycache__" / name), code)


def _is_compiled(path: str, target: Target) -> bool:
    """Bytecode is that of one Python: for another, functions have to compile at each cold start."""
    return path.endswith(".py") and target.python == HERE


# --- sizes ---------------------------------------------------------------------------------------------------


def _estimate(place: Path, contents: Contents, target: Target, ours: Iterable[Member]) -> Package:
    weights: dict[str, int] = {}
    zipped = 0.0
    for owner, path, size in _sizes(contents, ours):
        for suffix in (PurePosixPath(path).suffix, *([".pyc"] if _is_compiled(path, target) else [])):
            weights[owner] = weights.get(owner, 0) + size
            zipped += size * _ZIPPED.get(suffix, _ZIPPED_ELSE)
    return Package(place, "", round(zipped), sum(weights.values()), by_weight(weights))


def _sizes(contents: Contents, ours: Iterable[Member]) -> Iterator[tuple[str, str, int]]:
    """Owner, path and bytes of each file, bytecode aside."""
    for member in ours:
        yield member.owner, member.path, len(member.data)
    for name in contents.wheels:
        for path in metadata.distribution(name).files or ():
            if kept(PurePosixPath(path), name, whole=name in contents.asked, services=contents.services):
                yield name, str(path), path.size or 0


def _too_large(package: Package) -> NotSupported:
    return NotSupported(
        f"the package is {package.unzipped_bytes / 2**20:.0f} MB unzipped, and AWS Lambda takes "
        f"{UNZIPPED_BYTES // 2**20} MB: {package.heaviest()}",
        hint="torch and the like need a container image, which LambdaML does not make; otherwise ask for less in "
        "provider.requirements",
    )
