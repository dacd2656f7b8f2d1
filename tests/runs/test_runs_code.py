"""The user's own files: they travel with the job, plugins among them, and nothing of them stays behind."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from runs_help import cancer, keys_of, make_job

from lambdaml_core.errors import JobError, RunError, UnknownPlugin
from lambdaml_core.run.code import MOST_BYTES, Code, importable, pack, unpack, use
from lambdaml_core.run.driver.driver import run_job
from lambdaml_core.run.driver.needs import job_for_provider
from lambdaml_core.run.spec import sha256

PLUGIN = """
from lambdaml_core.builtin import LinearOptions
from lambdaml_core.hookspecs import hookimpl
from lambdaml_core.specs import ModelSpec

LAMBDAML_API = 0

@hookimpl
def lambdaml_models():
    yield ModelSpec(name="mine", factory="mine_deep.model:Mine", options=LinearOptions)
"""
MODEL = """
from lambdaml_core.models.logistic import LogisticRegression

class Mine(LogisticRegression):
    pass
"""


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A plugin, and a package with its model; where code is unpacked, none of other processes is."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    folder = tmp_path / "own"
    (folder / "mine_deep").mkdir(parents=True)
    (folder / "mine_plugin.py").write_text(PLUGIN)
    (folder / "mine_deep" / "__init__.py").touch()
    (folder / "mine_deep" / "model.py").write_text(MODEL)
    (folder / "mine_deep" / ".secret").write_text("hidden")
    (folder / "mine_deep" / "__pycache__").mkdir()
    (folder / "mine_deep" / "__pycache__" / "model.pyc").touch()
    yield [str(folder / "mine_plugin.py"), str(folder / "mine_deep")]
    use(())


def left() -> set[Path]:
    return set(Path(tempfile.gettempdir()).glob("lambdaml-code-*"))


@pytest.mark.parametrize("provider", ["inline", "local"])
def test_a_model_of_the_users_own(tmp_path: Path, code: list[str], provider: str) -> None:
    """It is chosen by its name, in whatever process, and told to no provider."""
    before, path = left(), list(sys.path)
    keys: dict[str, Any] = {"workers": 2, "provider": provider, "rounds": 10}
    job = make_job(tmp_path / "store", model="mine", code=code, **keys)
    assert job_for_provider(job)["modules"] == ["lambdaml_core"]
    record = run_job(job, arrays=cancer())
    plain = run_job(make_job(tmp_path / "plain", **keys), arrays=cancer())
    assert record["model_sha256"] == plain["model_sha256"]
    assert f"runs/{record['run']}/code.zip" in keys_of(tmp_path / "store")
    assert (left(), sys.path) == (before, path)  # another job has other code, which is none
    assert not [name for name in sys.modules if name.startswith("mine_")]
    with pytest.raises(UnknownPlugin):
        make_job(tmp_path / "store", model="mine")


def test_equal_files_are_packed_alike(tmp_path: Path, code: list[str]) -> None:
    """In another folder, on another day, with other permissions."""
    shutil.copytree(tmp_path / "own", tmp_path / "other")
    other = [path.replace("/own/", "/other/") for path in code]
    os.utime(other[0], (time.time() + 1e6,) * 2)
    Path(other[0]).chmod(0o600)
    assert pack(other) == pack(code)
    Path(other[0]).write_text(PLUGIN + "# more")
    assert pack(other).sha256 != pack(code).sha256
    names = zipfile.ZipFile(io.BytesIO(pack(code).data)).namelist()
    assert names == ["mine_deep/__init__.py", "mine_deep/model.py", "mine_plugin.py"]


@pytest.mark.parametrize("name", ["numpy.py", "json.py", "lambdaml_core", "not-a-name.py", "rows.csv", "missing.py"])
def test_files_that_cannot_be_code(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "lambdaml_core":
        path.mkdir()
    elif name != "missing.py":
        path.touch()
    with pytest.raises(JobError, match="code"):
        pack([str(path)])


def test_links_and_large_files_and_names_twice(tmp_path: Path, code: list[str]) -> None:
    (tmp_path / "own" / "mine_deep" / "passwords").symlink_to("/etc/passwd")
    with pytest.raises(JobError, match="link"):
        pack(code)
    (tmp_path / "linked.py").symlink_to(code[0])
    with pytest.raises(JobError, match="link"):
        pack([str(tmp_path / "linked.py")])
    with pytest.raises(JobError, match="two files"):
        pack([code[0], code[0]])
    with (tmp_path / "large_one.py").open("wb") as large:
        large.truncate(MOST_BYTES + 1)
    with pytest.raises(JobError, match="bytes"):
        pack([str(tmp_path / "large_one.py")])


def zipped(name: str, data: bytes = b"x") -> Code:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr(name, data)
    return Code(out.getvalue(), sha256(out.getvalue()))


@given(st.lists(st.sampled_from(["..", "a", ".", "", "b.py", "\\", "c\\.."]), min_size=1, max_size=5))
def test_nothing_is_written_outside_of_the_folder(parts: list[str]) -> None:
    """Whoever can write to the store could have put another zip there."""
    with tempfile.TemporaryDirectory() as outer:
        inner = Path(outer, "in", "ner")
        inner.mkdir(parents=True)
        with contextlib.suppress(RunError, OSError):
            unpack(zipped("/".join(parts) or "a"), inner)
        assert [path for path in Path(outer).rglob("*") if path.is_file() and inner not in path.parents] == []


@pytest.mark.parametrize("name", ["../a.py", "/a.py", "a/../../b.py", "a\\b.py"])
def test_names_that_lead_away_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(RunError, match="not unpacked"):
        unpack(zipped(name), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_another_zip_and_one_that_grows_are_refused(tmp_path: Path, code: list[str]) -> None:
    packed = pack(code)
    with pytest.raises(RunError, match="planned"):
        unpack(packed._replace(sha256=sha256(b"another")), tmp_path)
    with pytest.raises(RunError, match="not unpacked"):
        unpack(zipped("bomb.py", bytes(MOST_BYTES + 1)), tmp_path)


def test_several_in_one_process_share_a_folder(code: list[str]) -> None:
    before, packed = left(), pack(code)
    with importable(packed):
        (folder,) = left() - before
        with importable(packed):
            assert left() - before == {folder}
        import mine_deep.model  # type: ignore[import-not-found]

        assert mine_deep.model.__file__ == str(folder / "mine_deep" / "model.py")
        assert folder.stat().st_mode & 0o777 == 0o700
    assert left() == before
    assert "mine_deep.model" not in sys.modules
