"""Prints the lowest versions that projects allow of what they need, as constraints for pip.

python .ci/lowest.py PYPROJECT... > constraints.txt
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

EXTRAS = ("testing",)


def lowest(pyproject: Path) -> list[str]:
    """``name==version`` for each requirement with a lower bound, those of the extras for testing included."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    optional = project.get("optional-dependencies", {})
    needed = [*project.get("dependencies", ()), *(one for extra in EXTRAS for one in optional.get(extra, ()))]
    return [
        f"{requirement.name}=={bound.version}"
        for requirement in map(Requirement, needed)
        for bound in requirement.specifier
        if bound.operator == ">=" and requirement.name != "lambdaml"
    ]


if __name__ == "__main__":
    print(*(line for path in sys.argv[1:] for line in lowest(Path(path))), sep="\n")
