"""file:// when processes are killed: what they left is removed by the next close, and what lives is left alone."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lambdaml_core.storage import FullStorage, open_storage
from lambdaml_core.storage.file import FileStorage

LARGE = 100_000  # is mapped and recycled

WRITER = f"""
import sys
from lambdaml_core.storage import open_storage
from lambdaml_core.storage.file import FileStorage

store = open_storage(sys.argv[1])
store.put("mine/deleted", [bytes({LARGE})])
store.put("mine/kept", [b"kept"])
store.delete(["mine/deleted"])
FileStorage._publish = lambda *_: (print("writing", flush=True), sys.stdin.read(1), sys.exit(1))
store.put("mine/never", [bytes({LARGE} // 2)])
"""


@contextmanager
def writer(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has put a value, recycled another, and stops between writing a third and giving it its name."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", WRITER, folder.as_uri()], **pipes) as process:  # type: ignore[call-overload]
        assert process.stdout.readline() == b"writing\n"
        try:
            yield process
        finally:
            process.kill()


def hidden(folder: Path) -> list[Path]:
    """Files without a key, such as one that is being written."""
    return [path for path in folder.rglob("*") if path.is_file() and "/." in str(path)]


def come_and_go(folder: Path) -> None:
    store = open_storage(folder.as_uri())
    assert list(store.list("")) == ["mine/kept"]
    store.close()


def test_the_next_close_removes_what_a_killed_process_left(tmp_path: Path) -> None:
    with writer(tmp_path) as process:
        come_and_go(tmp_path)
        assert len(hidden(tmp_path)) == 2  # its process lives
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert len(hidden(tmp_path)) == 2
    come_and_go(tmp_path)
    assert [path.name for path in tmp_path.rglob("*")] == ["mine", "kept"]


def test_what_is_being_written_outlives_the_closes_of_others(tmp_path: Path) -> None:
    """A client of another process, of the same, and a thread of the same client come and go between write and link."""
    store = open_storage(tmp_path.as_uri())
    store.put("mine/kept", [b"kept"])
    publish = FileStorage._publish

    def slowly(self: FileStorage, temporary: str, path: str, if_absent: bool) -> bool:
        come_and_go(tmp_path)
        script = "import sys; from lambdaml_core.storage import open_storage; open_storage(sys.argv[1]).close()"
        subprocess.run([sys.executable, "-c", script, tmp_path.as_uri()], check=True)
        return publish(self, temporary, path, if_absent)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FileStorage, "_publish", slowly)
        store.put("mine/late", [bytes(LARGE)])
    assert store.get("mine/late") == bytes(LARGE)


def test_a_client_that_nobody_closed_is_not_for_ever(tmp_path: Path) -> None:
    forgotten = open_storage(tmp_path.as_uri())
    forgotten.put("mine/kept", [b"kept"])
    forgotten.put("mine/old", [bytes(LARGE)])
    forgotten.delete(["mine/old"])
    assert len(hidden(tmp_path)) == 1
    del forgotten
    come_and_go(tmp_path)
    assert [path.name for path in tmp_path.rglob("*")] == ["mine", "kept"]


def test_folders_that_a_killed_process_emptied_go_with_the_keys_beside_them(tmp_path: Path) -> None:
    (tmp_path / "runs/r/attempts/0/1").mkdir(parents=True)
    (tmp_path / "runs/other").mkdir(parents=True)
    store = open_storage(tmp_path.as_uri())
    store.put("runs/r/spec", [b"x"])
    store.put("runs/other/spec", [b"x"])
    store.delete(list(store.list("runs/r/")))
    store.close()
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == [
        "runs",
        "runs/other",
        "runs/other/spec",
    ]


@pytest.mark.parametrize("size", [1, LARGE])
def test_a_client_goes_on_in_a_directory_that_was_emptied(tmp_path: Path, size: int) -> None:
    """As after a restart of a machine's tmpfs, or by somebody who tidies up."""
    store = open_storage(f"file://{tmp_path}/channel")
    for turn in range(3):
        store.put(f"k/{turn}", [bytes(size)], if_absent=True)
        store.put("k/deleted", [bytes(size)])
        store.delete(["k/deleted"])
        shutil.rmtree(tmp_path / "channel")
        assert store.get_many([f"k/{turn}"], wait_s=0.01) == {}
    store.put("k/last", [bytes(size)])
    assert store.get("k/last") == bytes(size)
    store.close()
    assert hidden(tmp_path) == []


def test_a_file_that_vanishes_before_it_has_its_name_is_written_again(tmp_path: Path) -> None:
    publish = FileStorage._publish

    def after_emptying(self: FileStorage, temporary: str, path: str, if_absent: bool) -> bool:
        patch.setattr(FileStorage, "_publish", publish)
        shutil.rmtree(tmp_path / "channel")
        return publish(self, temporary, path, if_absent)

    store = open_storage(f"file://{tmp_path}/channel")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FileStorage, "_publish", after_emptying)
        assert store.put("k", [b"x"], if_absent=True) is True
    assert store.get("k") == b"x"


def test_a_client_goes_on_after_its_close(tmp_path: Path) -> None:
    store: FullStorage = open_storage(tmp_path.as_uri())
    for turn in range(3):
        store.put("k", [b"%d" % turn])
        store.close()
        assert [path.name for path in tmp_path.rglob("*")] == ["k"]
    assert store.get("k") == b"2"


def open_below(folder: Path) -> list[str]:
    """What this process has open there; other tests have left other descriptors, which come and go."""
    targets = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            targets.append(str(descriptor.readlink()))
    return [target for target in targets if target.startswith(str(folder))]


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    store = open_storage(tmp_path.as_uri())
    for size in (1, LARGE):
        store.put("k", [bytes(size)])
        store.get("k")
    assert open_below(tmp_path), "the lock of a client that is open"
    store.close()
    assert open_below(tmp_path) == []
