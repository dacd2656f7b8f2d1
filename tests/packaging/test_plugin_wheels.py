"""The plugins of this project as people get them. That they work from their wheels alone is tried by tests/run."""

from __future__ import annotations

import email.parser
import shutil
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from wheels import ROOT, build, contents

PLUGINS = sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))


def test_there_are_the_four_of_storages() -> None:
    assert {"lambdaml-dynamodb", "lambdaml-memcached", "lambdaml-redis", "lambdaml-s3"} <= {p.name for p in PLUGINS}


@pytest.mark.parametrize("project", PLUGINS, ids=lambda project: project.name)
def test_a_plugins_wheel(project: Path, tmp_path: Path) -> None:
    """Its package, typed, and nothing else; with its README, and within the versions of LambdaML that it is for."""
    copy = tmp_path / project.name  # nothing is written into the checkout
    shutil.copytree(project, copy, ignore=shutil.ignore_patterns("__pycache__"))
    files = contents(build(copy, tmp_path / "dist", "--wheel"))
    package = project.name.replace("-", "_")
    sources = {str(p.relative_to(copy)) for p in (copy / package).rglob("*") if p.is_file()}
    assert {name for name in files if ".dist-info/" not in name} == sources
    assert f"{package}/py.typed" in sources
    (metadata,) = (data for name, data in files.items() if name.endswith(".dist-info/METADATA"))
    message = email.parser.BytesParser().parsebytes(metadata)
    assert message["Name"] == project.name
    assert message["License-Expression"] == "Apache-2.0"
    assert message.get_payload(decode=True) == (project / "README.md").read_bytes()
    requirements = {r.name: r for r in map(Requirement, message.get_all("Requires-Dist", [])) if r.marker is None}
    assert str(requirements["lambdaml"].specifier) == "<1,>=0.1"
    (entry,) = (data.decode() for name, data in files.items() if name.endswith(".dist-info/entry_points.txt"))
    assert entry.split() == ["[lambdaml]", project.name.removeprefix("lambdaml-"), "=", f"{package}.plugin"]
