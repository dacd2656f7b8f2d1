"""The user's own files of a job: packed by the driver, carried by the store, imported by its workers."""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import importlib
import importlib.util
import io
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from lambdaml_core.errors import JobError, RunError

MOST_BYTES = 32 << 20
"""Of all files together, before they are packed."""

_MOST_FILES = 2000
_MODE = 0o100644 << 16


class Code(NamedTuple):
    """Files as they travel: a zip that is the same for the same files, and its SHA-256."""

    data: bytes
    sha256: str


def pack(paths: Sequence[str]) -> Code:
    """Pack Python files and folders, each under its own name.

    Hidden files and caches are left out.

    Raises:
        JobError: one is missing or no Python, has another's name, is or holds a link, or all are too large.
    """
    import zipfile

    files: dict[str, bytes] = {}
    for path in map(Path, paths):
        for name, file in _files(path):
            if name in files:
                raise JobError(f"code has two files {name}", hint="rename one of them")
            files[name] = _read(file)
    size = sum(map(len, files.values()))
    if size > MOST_BYTES or len(files) > _MOST_FILES:
        raise JobError(
            f"code has {len(files)} files of {size} bytes, and may have {_MOST_FILES} of {MOST_BYTES}",
            hint="it is for code: put data where data.source can name it",
        )
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in sorted(files):
            info = zipfile.ZipInfo(name)  # its time is that of 1980
            info.external_attr, info.compress_type, info.create_system = _MODE, zipfile.ZIP_DEFLATED, 3
            packed.writestr(info, files[name])
    return Code(out.getvalue(), hashlib.sha256(out.getvalue()).hexdigest())


def module_names(paths: Sequence[str]) -> list[str]:
    """The top-level modules that these files are."""
    return [Path(path).name.removesuffix(".py") for path in paths]


def _files(path: Path) -> Iterator[tuple[str, Path]]:
    """Every file of it, by its name in the zip."""
    if path.is_symlink() or not path.exists():
        raise JobError(f"code names {path}, which is {'a link' if path.is_symlink() else 'not there'}")
    if not path.name.removesuffix(".py").isidentifier() or (path.is_file() and path.suffix != ".py"):
        raise JobError(
            f"code names {path.name}, which cannot be imported", hint="give Python files, and folders of them"
        )
    _check_free(path)
    if path.is_file():
        yield path.name, path
        return
    for file in sorted(path.rglob("*")):
        inner = file.relative_to(path)
        if any(part.startswith(".") or part == "__pycache__" for part in inner.parts):
            continue
        if file.is_symlink():
            raise JobError(f"code holds the link {file}", hint="put the file itself there")
        if file.is_file():
            yield f"{path.name}/{inner.as_posix()}", file


def _check_free(path: Path) -> None:
    """Refuse what would stand before a module that is installed, here or where workers run.

    Raises:
        JobError: there is one of that name.
    """
    name = path.name.removesuffix(".py")
    found = importlib.util.find_spec(name)
    origin = Path(found.origin) if found is not None and found.origin else None
    mine = [path.resolve(), path.resolve() / "__init__.py", *(Path(folder) for folder, _ in _used.values())]
    is_mine = origin is not None and any(origin.resolve().is_relative_to(each) for each in mine)
    if name in sys.stdlib_module_names or (origin is not None and not is_mine):
        raise JobError(f"code has a module {name}, and another one is installed", hint="give it another name")


def _read(file: Path) -> bytes:
    try:
        if file.stat().st_size > MOST_BYTES:
            raise JobError(f"{file} of code has more than {MOST_BYTES} bytes", hint="it is for code, and not for data")
        return file.read_bytes()
    except OSError as e:
        raise JobError(f"{file} of code cannot be read: {e.strerror}") from e


def unpack(code: Code, folder: Path) -> None:
    """Unpack it into a folder.

    Raises:
        RunError: it is not what was packed, or holds what no driver packs.
    """
    import zipfile

    if hashlib.sha256(code.data).hexdigest() != code.sha256:
        raise RunError("the code in the store is not that which the run was planned with", hint="start the run again")
    left = MOST_BYTES
    with zipfile.ZipFile(io.BytesIO(code.data)) as packed:
        for info in packed.infolist():
            parts = PurePosixPath(info.filename).parts
            odd = "\\" in info.filename or ".." in parts or info.filename.startswith("/") or info.is_dir()
            left -= info.file_size
            if odd or left < 0:
                raise RunError(f"the code of the run holds {info.filename!r:.99}, which is not unpacked")
            file = folder.joinpath(*parts)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(packed.read(info))


# --- on the path of this process ------------------------------------------------------------------------------

_lock = threading.RLock()
_used: dict[str, tuple[str, int]] = {}  # by hash: the folder, and by how many


@contextlib.contextmanager
def importable(code: Code) -> Iterator[None]:
    """Meanwhile its modules can be imported, from a fresh folder that several in this process share.

    Raises:
        RunError: as :func:`unpack`.
    """
    _take(code)
    try:
        yield
    finally:
        _leave(code.sha256)


def _take(code: Code) -> None:
    with _lock:
        folder, users = _used.get(code.sha256, ("", 0))
        if not users:
            folder = tempfile.mkdtemp(prefix="lambdaml-code-")
            try:
                unpack(code, Path(folder))
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
            sys.path.insert(0, folder)
            importlib.invalidate_caches()
        _used[code.sha256] = (folder, users + 1)


def _leave(sha256: str) -> None:
    with _lock:
        folder, users = _used.pop(sha256)
        if users > 1:
            _used[sha256] = (folder, users - 1)
            return
        sys.path.remove(folder)
        for name, module in list(sys.modules.items()):
            if str(getattr(module, "__file__", None) or "").startswith(f"{folder}/"):
                del sys.modules[name]
        shutil.rmtree(folder, ignore_errors=True)


_drivers: list[str] = []  # the hash of the code of the last job of this process


def use(paths: Sequence[str]) -> Code | None:
    """Pack the code of a job, and have it importable, and its plugins known, until another job has other code.

    Raises:
        JobError: as :func:`pack`.
    """
    from lambdaml_core.registry import default_registry

    code = pack(paths) if paths else None
    with _lock:
        if _drivers == ([code.sha256] if code else []):
            return code
        if code is not None:
            _take(code)
        _forget()
        if code is not None:
            _drivers.append(code.sha256)
        folder = Path(_used[code.sha256][0]) if code is not None else Path()
        plugins = [name for name in module_names(paths) if _is_plugin(folder, name)]
        default_registry().replace_job_plugins(plugins)
    return code


def _is_plugin(folder: Path, module: str) -> bool:
    """Whether it says so; nothing is imported."""
    file = folder / f"{module}.py"
    file = file if file.exists() else folder / module / "__init__.py"
    return file.exists() and b"LAMBDAML_API" in file.read_bytes()


@atexit.register
def _forget() -> None:
    while _drivers:
        _leave(_drivers.pop())
