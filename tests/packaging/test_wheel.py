"""The wheel is what people get: its content, its metadata, and that no other road makes another one."""

from __future__ import annotations

import email.message
import email.parser
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from wheels import ROOT, build, contents

import lambdaml_core


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel as CI makes it: from the source archive."""
    return build(ROOT, tmp_path_factory.mktemp("from_sdist"))


@pytest.fixture(scope="module")
def files(wheel: Path) -> Mapping[str, bytes]:
    return contents(wheel)


@pytest.fixture(scope="module")
def metadata(files: Mapping[str, bytes]) -> email.message.Message:
    (name,) = (n for n in files if n.endswith(".dist-info/METADATA"))
    return email.parser.BytesParser().parsebytes(files[name])


def test_wheel_holds_the_package_and_nothing_else(files: Mapping[str, bytes]) -> None:
    package = ROOT / "lambdaml_core"
    sources = [p for p in package.rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    in_wheel = {name for name in files if ".dist-info/" not in name}
    assert in_wheel == {str(p.relative_to(ROOT)) for p in sources}


def test_wheel_is_typed_and_licensed(files: Mapping[str, bytes]) -> None:
    assert "lambdaml_core/py.typed" in files
    (licence,) = (data for name, data in files.items() if name.endswith(".dist-info/licenses/LICENSE"))
    assert licence == (ROOT / "LICENSE").read_bytes()


def test_bundled_data_is_small(files: Mapping[str, bytes]) -> None:
    data = {n: len(d) for n, d in files.items() if ".dist-info/" not in n and not n.endswith((".py", "py.typed"))}
    assert 0 < sum(data.values()) <= 1_000_000, data


def test_metadata(metadata: email.message.Message) -> None:
    assert metadata["Name"] == "lambdaml"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata.get_payload(decode=True) == (ROOT / "README.md").read_bytes()


def test_core_depends_on_no_sdk(metadata: email.message.Message) -> None:
    requirements = [Requirement(text) for text in metadata.get_all("Requires-Dist", [])]
    always = {r.name for r in requirements if r.marker is None}
    assert always == {"click", "numpy", "pluggy", "rich", "safetensors", "scipy", "xxhash"}


def test_entry_points(files: Mapping[str, bytes]) -> None:
    """The command, and what pytest does with laws: built-in plugins need no metadata, as in a bare checkout."""
    (text,) = (data.decode() for name, data in files.items() if name.endswith(".dist-info/entry_points.txt"))
    assert [line for line in text.splitlines() if line] == [
        "[console_scripts]",
        "lambdaml = lambdaml_core.cli:main",
        "[pytest11]",
        "lambdaml = lambdaml_core.testing.pytest_plugin",
    ]


def test_version_has_one_place(metadata: email.message.Message) -> None:
    assert metadata["Version"] == lambdaml_core.__version__
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert "version" not in project
    assert project["dynamic"] == ["version"]


def test_checkout_and_source_archive_make_the_same_wheel(files: Mapping[str, bytes], tmp_path: Path) -> None:
    assert contents(build(ROOT, tmp_path, "--wheel")) == files
