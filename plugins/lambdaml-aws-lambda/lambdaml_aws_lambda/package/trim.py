"""What of a distribution goes into a package: what may be imported, not what only people or compilers read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

_TESTS = frozenset({"test", "tests"})
_ENDINGS = frozenset({".a", ".c", ".cpp", ".f", ".f90", ".h", ".hpp", ".lib", ".o", ".pxd", ".pxi", ".pyc", ".pyx"})
_TYPES = frozenset({".pyi", ".typed"})

# Parts that neither we nor what we import imports. Somebody's own code may: then it names the distribution in
# provider.requirements, and all of it stays.
_PARTS: Mapping[str, tuple[str, ...]] = {
    "boto3": ("boto3/data", "boto3/examples"),
    "numpy": ("numpy/_core/_simd.", "numpy/_pyinstaller", "numpy/distutils", "numpy/f2py/src"),
    "scipy": (
        "scipy/cluster",
        "scipy/conftest.py",
        "scipy/datasets",
        "scipy/differentiate",
        "scipy/fftpack",
        "scipy/integrate",
        "scipy/interpolate",
        "scipy/io",
        "scipy/misc",
        "scipy/ndimage",
        "scipy/odr",
        "scipy/signal",
        "scipy/special/cython_special.",  # for compiled code of others
        "scipy/stats",
    ),
}

_OF_OURS: Mapping[str, tuple[str, ...]] = {
    "lambdaml_core": ("__main__.py", "cli", "data/samples", "estimators.py", "run/doctor", "testing"),
    "lambdaml_aws_lambda": ("package",),
}

_IMPORTS_TESTS = re.compile(rb"^[ \t]*(?:from|import)[ \t]+([.\w]*\.tests?(?:\.\w+)*)\b", re.MULTILINE)


def kept(path: PurePosixPath, distribution: str, *, whole: bool, services: tuple[str, ...] | None) -> bool:
    """Whether a file of a distribution goes into the package.

    Args:
        path: as installed, such as ``numpy/_core/fromnumeric.py``.
        whole: whether parts that we have no need of stay.
        services: of AWS, those whose descriptions stay; None = all.
    """
    if path.parts[0].endswith(".dist-info"):
        return path.name == "METADATA" or (whole and path.name == "entry_points.txt")
    if path.parts[0] in ("..", "bin") or path.suffix in _ENDINGS or _is_test(path):
        return False
    if not whole and (path.suffix in _TYPES or _within(path, _PARTS.get(distribution, ()))):
        return False
    described = path.parts[:2] == ("botocore", "data") and len(path.parts) > 3
    return not described or services is None or path.parts[2] in services


def kept_of_ours(path: PurePosixPath, module: str) -> bool:
    """Whether a file of one of our packages goes into the package; ``path`` is relative to its folder."""
    if any(part.startswith(".") for part in path.parts) or path.suffix in _ENDINGS | _TYPES or _is_test(path):
        return False
    return path.name != "testing.py" and not _within(path, _OF_OURS.get(module, ()))


def imported_tests(folder: Path) -> frozenset[PurePosixPath]:
    """Files in folders of tests that modules outside of such folders import, as ``numpy.testing`` does."""
    found: set[PurePosixPath] = set()
    for source in folder.rglob("*.py"):
        path = PurePosixPath(source.relative_to(folder))
        if not _is_test(path):
            for match in _IMPORTS_TESTS.finditer(source.read_bytes()):
                found.update(_modules(folder, _absolute(match[1].decode(), path.parent)))
    return frozenset(found)


def _absolute(name: str, package: PurePosixPath) -> PurePosixPath:
    """The path of a module, without an ending, that is named in a module of this package."""
    dots = len(name) - len(name.lstrip("."))
    start = PurePosixPath(*package.parts[: len(package.parts) - dots + 1]) if dots else PurePosixPath()
    return start.joinpath(*name.lstrip(".").split("."))


def _modules(folder: Path, module: PurePosixPath) -> Iterator[PurePosixPath]:
    """The files of a module and of the packages that it is in; of a package all those directly in it."""
    candidates = [*((folder / module).glob("*.py")), folder / f"{module}.py"]
    candidates += [folder / parent / "__init__.py" for parent in module.parents]
    yield from (PurePosixPath(file.relative_to(folder)) for file in candidates if file.is_file())


def _is_test(path: PurePosixPath) -> bool:
    return "__pycache__" in path.parts or not _TESTS.isdisjoint(path.parts[:-1])


def _within(path: PurePosixPath, parts: tuple[str, ...]) -> bool:
    """Whether it is one of these, or in one of these folders; a part that ends in a dot is any file of that stem."""
    return any(path.is_relative_to(part) or (part.endswith(".") and str(path).startswith(part)) for part in parts)
