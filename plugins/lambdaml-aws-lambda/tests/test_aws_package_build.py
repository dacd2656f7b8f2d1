"""The zip file of small wheels that are made here, so that no package index is asked: the same bytes each time, errors
that say what to do, and nothing wrong found in the cache."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lambdaml_aws_lambda.package import build as building
from lambdaml_aws_lambda.package.archive import Member, Package, cache, make
from lambdaml_aws_lambda.package.build import about, build
from lambdaml_aws_lambda.package.bytecode import compiled
from lambdaml_aws_lambda.package.contents import Contents
from lambdaml_aws_lambda.package.target import HERE
from lambdaml_core.errors import LambdaMLError, NotSupported

RUNTIME = f"python{HERE}"
OTHER = "python3.13" if HERE != "3.13" else "python3.12"


@pytest.fixture(autouse=True)
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in place of the package index; beside it one that distributions are installed in, and a cache."""
    folder = tmp_path / "index"
    folder.mkdir()
    (tmp_path / "site").mkdir()
    monkeypatch.syspath_prepend(tmp_path / "site")
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


def wheel(index: Path, name: str, files: Mapping[str, str], *, tag: str = "py3-none-any") -> None:
    """Version 1.5 of a distribution, which is installed here too."""
    info = f"{name}-1.5.dist-info"
    meta = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\n",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    everything = {**files, **meta}
    file = index / f"{name}-1.5-{tag}.whl"
    with zipfile.ZipFile(file, "w") as archive:
        for path, text in everything.items():
            archive.writestr(path, text)
        record = "".join(f"{path},,{len(text)}\n" for path, text in everything.items())
        archive.writestr(f"{info}/RECORD", f"{record}{info}/RECORD,,\n")
    with zipfile.ZipFile(file) as archive:
        archive.extractall(index.parent / "site")


def demo(index: Path) -> None:
    """A wheel with what goes into a package, and what does not."""
    files = ("__init__.py", "core.py", "types.pyi", "tests/test_core.py", "core.h")
    wheel(index, "demo", {f"demo/{name}": "X = 1\n" for name in files})


def holding(sources: Path, wheels: Sequence[str] = ("demo",), name: str = "ours") -> Contents:
    """One package of ours, and wheels in version 1.5."""
    folder = sources / name
    (folder / "tests").mkdir(parents=True, exist_ok=True)
    (folder / "__init__.py").write_text("Y = 2\n")
    (folder / "table.json").write_text("{}")
    (folder / "tests" / "test_ours.py").write_text("")
    pins = dict.fromkeys(wheels, "1.5")
    return Contents({name: folder}, {name: name}, {**pins, name: "1.0"}, pins, frozenset(), ())


def built(contents: Contents, runtime: str = RUNTIME) -> Package:
    return build(contents, runtime=runtime, architecture="x86_64")


def names(package: Package) -> set[str]:
    with zipfile.ZipFile(package.path) as archive:
        assert archive.testzip() is None
        return set(archive.namelist())


def test_equal_contents_give_equal_bytes_in_another_folder_and_on_another_day(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    demo(index)
    first = built(holding(tmp_path / "a"))
    data = first.path.read_bytes()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
    again = holding(tmp_path / "b")
    for file in (tmp_path / "b").rglob("*"):
        os.utime(file, (1_000_000_000, 1_000_000_000))
        file.chmod(0o700)
    second = built(again)
    assert second.path != first.path
    assert second.path.read_bytes() == data
    assert second.sha256 == first.sha256
    (tmp_path / "b" / "ours" / "__init__.py").write_text("Y = 3\n")
    assert built(again).sha256 != first.sha256


def test_what_is_in_it_and_what_it_weighs(index: Path, tmp_path: Path) -> None:
    demo(index)
    package = built(holding(tmp_path))
    tag = sys.implementation.cache_tag
    sources = {"demo/__init__.py", "demo/core.py", "ours/__init__.py"}
    bytecode = {f"demo/__pycache__/{name}.{tag}.pyc" for name in ("__init__", "core")}
    bytecode.add(f"ours/__pycache__/__init__.{tag}.pyc")
    assert names(package) == sources | bytecode | {"ours/table.json", "demo-1.5.dist-info/METADATA"}
    with zipfile.ZipFile(package.path) as archive:
        held = archive.infolist()
    assert {info.date_time for info in held} == {(1980, 1, 1, 0, 0, 0)}
    assert {stat.S_IMODE(info.external_attr >> 16) for info in held} == {0o644}
    assert package.unzipped_bytes == sum(info.file_size for info in held) == sum(package.weights.values())
    assert package.zipped_bytes == package.path.stat().st_size
    assert list(package.weights) == ["demo", "ours"]
    assert package.weights["ours"] == sum(i.file_size for i in held if i.filename.startswith("ours/"))


def test_another_python_gets_sources_alone(index: Path, tmp_path: Path) -> None:
    demo(index)
    assert not [name for name in names(built(holding(tmp_path), OTHER)) if name.endswith(".pyc")]


def test_bytecode_is_used_as_it_is(tmp_path: Path) -> None:
    source = tmp_path / "thing.py"
    source.write_text("print('changed since')")
    code = compiled(b"print('compiled', {'a', 'b'} | {1.5, (2, 'c')} != set())", "thing.py")
    assert code is not None
    folder = tmp_path / "__pycache__"
    folder.mkdir()
    (folder / f"thing.{sys.implementation.cache_tag}.pyc").write_bytes(code)
    done = subprocess.run([sys.executable, "-c", "import thing"], cwd=tmp_path, capture_output=True, check=True)
    assert done.stdout == b"compiled True\n"
    assert compiled(b"def {{name}}:", "template.py") is None


@settings(deadline=None, max_examples=30)
@given(st.dictionaries(st.from_regex(r"[a-z]{1,3}/[a-z]{1,5}\.txt", fullmatch=True), st.binary(max_size=50)), st.data())
def test_bytes_depend_on_what_is_in_it_alone(files: dict[str, bytes], data: st.DataObject) -> None:
    members = [Member("x", path, content) for path, content in files.items()]
    place = cache() / "law.zip"
    package = make(place, members)
    assert make(place, data.draw(st.permutations(members))) == package
    changed = {**files, "new": b"1"}
    assert make(place, [Member("x", *item) for item in changed.items()]).sha256 != package.sha256


def test_it_is_built_once_and_again_where_the_file_was_damaged(index: Path, tmp_path: Path) -> None:
    demo(index)
    holds = holding(tmp_path)
    package = built(holds)
    (index / "demo-1.5-py3-none-any.whl").unlink()
    assert built(holds) == package, "pip was asked again"
    package.path.write_bytes(package.path.read_bytes()[:-1])
    assert built(holds) == package
    assert len(names(package)) > 0
    package.path.with_suffix(".json").write_text("{")
    assert built(holds) == package


def test_two_processes_may_build_it_at_once(index: Path, tmp_path: Path) -> None:
    demo(index)
    holding(tmp_path)
    code = (
        "import sys; from pathlib import Path; from lambdaml_aws_lambda.package.build import build\n"
        "from lambdaml_aws_lambda.package.contents import Contents\n"
        "holds = Contents({'ours': Path(sys.argv[1])}, {'ours': 'ours'}, {}, {'demo': '1.5'}, frozenset(), ())\n"
        f"print(build(holds, runtime='{RUNTIME}', architecture='x86_64').sha256)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "ours")]
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) for _ in range(2)]
    said = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert said[0] == said[1] == f"{built(holding(tmp_path)).sha256}\n"
    assert {path.suffix for path in cache().iterdir()} == {".json", ".zip"}, "something half-made was left"


def test_what_nobody_has_used_for_a_month_is_removed(index: Path, tmp_path: Path) -> None:
    demo(index)
    old = built(holding(tmp_path, name="before"))
    wheels = next(cache().glob("wheels-*.zip"))
    for path in (old.path, wheels):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    built(holding(tmp_path))
    assert not old.path.exists()
    assert not old.path.with_suffix(".json").exists()
    assert wheels.exists(), "it has just been used"


def test_the_cache_does_not_grow_without_end() -> None:
    for each in range(30):
        place = cache() / f"package-{each}.zip"
        make(place, [Member("x", "x.txt", b"")])
        os.utime(place, (time.time() - 1000 + each,) * 2)
    left = {path.name for path in cache().iterdir()}
    assert left == {f"package-{each}.{suffix}" for each in range(9, 30) for suffix in ("zip", "json")}


def test_sizes_are_told_before_it_is_built(index: Path, tmp_path: Path) -> None:
    demo(index)
    holds = holding(tmp_path)
    expected = about(holds, runtime=RUNTIME, architecture="x86_64")
    assert not expected.sha256
    assert str(expected).startswith("about 0 MB zipped, 0 MB unzipped: ")
    assert not cache().exists()
    package = built(holds)
    assert expected.weights.keys() == package.weights.keys()
    assert about(holds, runtime=RUNTIME, architecture="x86_64") == package


# --- what goes wrong -----------------------------------------------------------------------------------------


def refusal(contents: Contents, runtime: str = RUNTIME) -> tuple[LambdaMLError, str]:
    with pytest.raises(LambdaMLError) as caught:
        built(contents, runtime)
    assert "\n" not in caught.value.message + (caught.value.hint or "")
    assert not list(cache().glob("*")) if cache().exists() else True
    return caught.value, f"{caught.value.message} | {caught.value.hint}"


def test_no_wheel_for_a_runtime_says_which_would_do(index: Path, tmp_path: Path) -> None:
    """That of python3.11 has too old a C library for the wheel of its version."""
    for version in ("cp311", "cp312", "cp313"):
        wheel(index, "native", {"native.py": ""}, tag=f"{version}-{version}-manylinux_2_28_x86_64")
    error, said = refusal(holding(tmp_path, ["native"]), "python3.11")
    assert isinstance(error, NotSupported)
    assert error.message == "there is no wheel of native 1.5 for python3.11 on x86_64"
    assert "set provider.runtime to python3.12 or python3.13; or" in said
    wheel(index, "native", {"native.py": ""}, tag="cp311-cp311-manylinux_2_17_x86_64")
    assert "native.py" in names(built(holding(tmp_path, ["native"]), "python3.11"))


def test_an_index_without_it_is_told(index: Path, tmp_path: Path) -> None:
    demo(index)
    next(index.iterdir()).unlink()
    assert "the package index has no wheel of demo" in refusal(holding(tmp_path))[1]


def test_an_index_that_does_not_answer_is_told_and_its_password_is_not(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    demo(index)
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", "https://me:pass-word@127.0.0.1:1/simple")
    _, said = refusal(holding(tmp_path))
    assert "the package index does not answer" in said
    assert "pass-word" not in said


def test_no_pip_is_told(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    demo(index)
    monkeypatch.setitem(sys.modules, "pip", None)
    assert "-m ensurepip" in refusal(holding(tmp_path))[1]


def test_a_cache_that_cannot_be_written_to_is_told(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    demo(index)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert "file/lambdaml/aws-lambda: Not a directory | make room" in refusal(holding(tmp_path))[1]


def test_a_package_too_large_names_what_is_heavy(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel(index, "heavy", {"heavy.txt": "x" * (4 << 20)})
    monkeypatch.setattr(building, "UNZIPPED_BYTES", 3 << 20)
    holds = holding(tmp_path, ["heavy"])
    for size in (build, build, about):  # where it is to be built, and where it was
        with pytest.raises(NotSupported) as caught:
            size(holds, runtime=RUNTIME, architecture="x86_64")
        assert "4 MB unzipped" in caught.value.message
        assert "3 MB: heavy 4 MB" in caught.value.message
        assert "container image" in str(caught.value.hint)


def test_what_is_much_too_large_is_not_even_fetched(tmp_path: Path) -> None:
    info = tmp_path / "site" / "giant-1.5.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: giant\nVersion: 1.5\n")
    (info / "RECORD").write_text("giant/lib.so,,700000000\n")
    holds = replace(holding(tmp_path), wheels={"giant": "1.5"})
    assert "giant 668 MB" in refusal(holds)[1], "pip was asked for what is in no index"
