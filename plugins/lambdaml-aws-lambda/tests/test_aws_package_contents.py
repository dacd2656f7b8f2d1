"""What is chosen for a package: which distributions, in which versions, for which runtime, and which files of them."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path, PurePosixPath

import pytest

from lambdaml_aws_lambda.package.contents import contents
from lambdaml_aws_lambda.package.target import CUSTOM, HERE, Target
from lambdaml_aws_lambda.package.trim import imported_tests, kept, kept_of_ours
from lambdaml_core.errors import LambdaMLError, NotSupported, OptionError

OURS = ["lambdaml_core", "lambdaml_aws_lambda"]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that distributions are installed in for a test."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    return folder


def installed(
    site: Path, name: str, *, requires: Sequence[str] = (), plugin: str | None = None, files: Sequence[str] = ()
) -> None:
    """A distribution of version 1.5 with a package of one module; ``plugin``: its entry point, and no list of files."""
    module = name.replace("-", "_")
    info = site / f"{module}-1.5.dist-info"
    info.mkdir()
    (site / module).mkdir()
    for file in ("__init__.py", *files):
        (site / module / file).write_text("")
    lines = ["Metadata-Version: 2.1", f"Name: {name}", "Version: 1.5", *(f"Requires-Dist: {each}" for each in requires)]
    (info / "METADATA").write_text("\n".join(lines) + "\n")
    if plugin is None:
        (info / "RECORD").write_text(f"{module}/__init__.py,,\n")
    else:
        (info / "entry_points.txt").write_text(f"[lambdaml]\n{plugin} = {module}.plugin\n")


def test_workers_get_the_versions_of_this_environment_and_nothing_of_the_command_line() -> None:
    chosen = contents(OURS)
    assert {"numpy", "scipy", "safetensors", "xxhash", "boto3", "botocore", "urllib3"} <= chosen.wheels.keys()
    assert not chosen.distributions.keys() & {"click", "rich", "pluggy", "pip", "packaging", "pygments", "pytest"}
    assert all(metadata.version(name) == version for name, version in chosen.distributions.items())
    assert chosen.distributions.keys() - chosen.wheels.keys() == {"lambdaml", "lambdaml-aws-lambda"}
    assert set(chosen.sources) == set(OURS)
    assert not chosen.asked
    assert chosen.services is not None
    assert {"lambda", "secretsmanager"} <= set(chosen.services)


def test_requirements_are_those_that_hold_where_the_function_runs(site: Path) -> None:
    for name in ("for-arm", "for-old", "for-new", "for-here", "for-windows", "for-extra"):
        installed(site, name)
    installed(
        site,
        "asks",
        requires=[
            'for-arm; platform_machine == "aarch64"',
            'for-old; python_version < "3.12"',
            'for-new; python_full_version >= "3.12.1"',
            f'for-here; python_full_version == "{platform.python_version()}"',
            'for-windows; sys_platform == "win32"',
            'for-extra; extra == "more"',
        ],
    )

    def found(requirement: str, runtime: str, architecture: str) -> set[str]:
        wheels = contents(["lambdaml_core"], [requirement], runtime=runtime, architecture=architecture).wheels
        return {name for name in wheels if name.startswith("for-")}

    assert found("asks", "python3.11", "arm64") == {"for-arm", "for-old"}
    assert found("asks", "python3.12", "x86_64") == {"for-new"}
    assert found("asks[more]==1.5", "python3.13", "x86_64") == {"for-new", "for-extra"}
    assert "for-here" in found("asks", "provided.al2023", "x86_64"), "a runtime without a Python has this one"


def test_a_plugin_is_copied_from_where_it_lies_and_brings_what_it_requires(site: Path) -> None:
    installed(site, "its-need", requires=["lambdaml>=0.1"])
    installed(site, "our-thing", requires=["lambdaml>=0.1", "its-need>1"], plugin="thing")
    chosen = contents([*OURS, "our_thing"])
    assert chosen.sources["our_thing"] == site / "our_thing"
    assert chosen.named["our_thing"] == "our-thing"
    assert chosen.distributions["our-thing"] == "1.5"
    assert chosen.wheels["its-need"] == "1.5"
    assert chosen.asked == {"its-need"}, "what the core requires was not asked for by the plugin"


def test_a_module_of_no_distribution_is_copied(site: Path) -> None:
    (site / "my_models.py").write_text("")
    chosen = contents(["lambdaml_core", "my_models"])
    assert chosen.sources["my_models"] == site / "my_models.py"
    assert "my_models" not in chosen.distributions


def test_a_plugin_with_compiled_files_is_fetched_as_a_wheel(site: Path) -> None:
    installed(site, "our-fast", plugin="fast", files=["_fast.cpython-311-x86_64-linux-gnu.so"])
    chosen = contents(["lambdaml_core", "our_fast"])
    assert "our_fast" not in chosen.sources
    assert chosen.wheels["our-fast"] == "1.5"
    assert chosen.asked == {"our-fast"}


def test_who_asks_for_boto3_gets_the_descriptions_of_all_services() -> None:
    assert contents(OURS, ["boto3"]).services is None
    assert "numpy" in contents(OURS, [f"numpy=={metadata.version('numpy')}"]).asked


@pytest.mark.parametrize(
    ("modules", "requirements", "error", "says", "hint"),
    [
        ([], ["no-such-thing==1"], NotSupported, "no-such-thing, which provider.requirements", "no-such-thing==1"),
        ([], ["numpy>=99"], OptionError, "numpy>=99 is asked for, and numpy", "pip install 'numpy>=99'"),
        ([], ["not a requirement"], OptionError, "not a requirement", "pandas==2.2.3"),
        (["no_such_module"], [], NotSupported, "no_such_module cannot be copied", "install it"),
        (["our_lone"], [], NotSupported, "no-such-need, which our-lone asks for", "pip install 'no-such-need"),
    ],
)
def test_what_is_not_here_is_refused(
    modules: list[str], requirements: list[str], error: type[LambdaMLError], says: str, hint: str, site: Path
) -> None:
    installed(site, "our-lone", requires=["no-such-need"], plugin="lone")
    with pytest.raises(error) as caught:
        contents(["lambdaml_core", *modules], requirements)
    assert says in caught.value.message
    assert hint in (caught.value.hint or "")


@pytest.mark.parametrize(("runtime", "architecture"), [("python2.7", "x86_64"), ("python3.12", "sparc")])
def test_an_unknown_runtime_or_architecture_is_refused(runtime: str, architecture: str) -> None:
    with pytest.raises(OptionError):
        Target(runtime, architecture)


def test_platforms_are_those_whose_c_library_is_not_newer() -> None:
    old, new = Target("python3.11", "x86_64").platforms, Target("python3.12", "arm64").platforms
    assert "manylinux2014_x86_64" in old
    assert "manylinux_2_26_x86_64" in old
    assert "manylinux_2_28_x86_64" not in old
    assert "manylinux_2_34_aarch64" in new
    assert "manylinux2014_aarch64" in new
    assert not [tag for tag in new if "x86_64" in tag]
    assert Target(CUSTOM, "x86_64").python == HERE
    assert Target("python3.13", "x86_64").python == "3.13"


@pytest.mark.parametrize(
    ("path", "expected", "whole"),
    [
        ("numpy/_core/fromnumeric.py", True, True),
        ("numpy/_core/tests/test_x.py", False, False),
        ("numpy/_core/include/numpy/ndarraytypes.h", False, False),
        ("numpy/_core/lib/libnpymath.a", False, False),
        ("numpy/__init__.pyi", False, True),
        ("numpy/testing/__init__.py", True, True),
        ("numpy/distutils/__init__.py", False, True),
        ("numpy/_core/_simd.cpython-311-x86_64-linux-gnu.so", False, True),
        ("numpy/__pycache__/__init__.cpython-311.pyc", False, False),
        ("numpy-2.4.6.dist-info/METADATA", True, True),
        ("numpy-2.4.6.dist-info/entry_points.txt", False, True),
        ("numpy-2.4.6.dist-info/RECORD", False, False),
        ("../../bin/f2py", False, False),
    ],
)
def test_what_may_be_imported_stays(path: str, expected: bool, whole: bool) -> None:
    assert kept(PurePosixPath(path), "numpy", whole=False, services=()) is expected
    assert kept(PurePosixPath(path), "numpy", whole=True, services=()) is whole


def test_only_the_descriptions_of_services_that_are_asked_stay() -> None:
    def stays(path: str, services: tuple[str, ...] | None) -> bool:
        return kept(PurePosixPath("botocore/data", path), "botocore", whole=False, services=services)

    assert stays("lambda/2015-03-31/service-2.json.gz", ("lambda",))
    assert not stays("ec2/2016-11-15/service-2.json.gz", ("lambda",))
    assert stays("ec2/2016-11-15/service-2.json.gz", None)
    assert stays("endpoints.json", ())


def test_command_line_samples_and_tests_of_ours_stay_here() -> None:
    def stays(path: str) -> bool:
        return kept_of_ours(PurePosixPath(path), "lambdaml_core")

    assert stays("run/worker/worker.py")
    left = ("cli/train.py", "testing/plugin.py", "data/samples/a.gz", "py.typed", "testing.py", ".x/a.py", "tests/a.py")
    assert not [path for path in left if stays(path)]


def test_modules_of_tests_that_others_import_are_found(tmp_path: Path) -> None:
    files = {
        "pkg/__init__.py": "",
        "pkg/testing/utils.py": "if True:\n    from pkg._core.tests._natype import NA\n",
        "pkg/near.py": "from .tests.helper import x\nfrom .testing import y\n",
        "pkg/deep/far.py": "from ..lib.test import z",
        "pkg/_core/tests/__init__.py": "",
        "pkg/_core/tests/_natype.py": "",
        "pkg/_core/tests/test_a.py": "from pkg._core.tests._other import a",
        "pkg/_core/tests/_other.py": "",
        "pkg/tests/helper.py": "",
        "pkg/lib/test/__init__.py": "",
        "pkg/lib/test/z.py": "",
    }
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    tests = {str(path) for path in imported_tests(tmp_path)} - {"pkg/__init__.py"}
    assert tests == {
        "pkg/_core/tests/__init__.py",
        "pkg/_core/tests/_natype.py",
        "pkg/tests/helper.py",
        "pkg/lib/test/__init__.py",
        "pkg/lib/test/z.py",
    }
