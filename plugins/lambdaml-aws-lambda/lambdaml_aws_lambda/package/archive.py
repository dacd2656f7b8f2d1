"""Zip files of which equal contents make equal bytes, and the folder where they are kept for the next time."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

_LONG_AGO = (1980, 1, 1, 0, 0, 0)
_LEVEL = 6  # 9 takes 2.7 times as long and makes it 0.7 % smaller
_UNUSED_S = 30 * 86_400.0
_MOST = 20  # files that are kept: a gigabyte, about


@dataclass(frozen=True)
class Package:
    """A zip file and what there is to know of it.

    Attributes:
        path: of the file; others may use it too.
        sha256: of its bytes, in hex.
        zipped_bytes, unzipped_bytes: its size, and that of what is in it.
        weights: unzipped bytes by distribution, the heaviest first.
    """

    path: Path
    sha256: str
    zipped_bytes: int
    unzipped_bytes: int
    weights: Mapping[str, int]

    def __str__(self) -> str:
        about = "" if self.sha256 else "about "
        zipped, unzipped = self.zipped_bytes / 2**20, self.unzipped_bytes / 2**20
        return f"{about}{zipped:.0f} MB zipped, {unzipped:.0f} MB unzipped: {self.heaviest()}"

    def heaviest(self) -> str:
        """What weighs most in it, such as ``scipy 78 MB, numpy 49 MB``."""
        return ", ".join(f"{name} {size / 2**20:.0f} MB" for name, size in list(self.weights.items())[:5])


class Member(NamedTuple):
    """A file to be: the distribution it is of, its path in the zip file, and what is in it."""

    owner: str
    path: str
    data: bytes


def cache() -> Path:
    """The folder with what was built before, which may be removed at any time."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lambdaml" / "aws-lambda"


def key(*parts: object) -> str:
    """A name for what follows from these JSON values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def found(place: Path) -> Package | None:
    """The package that was made there before; None where there is none, or it was damaged since."""
    try:
        package = Package(**json.loads(place.with_suffix(".json").read_text()) | {"path": place})
        intact = _sha256(place) == package.sha256
        os.utime(place)  # it is in use: see _clear
    except (OSError, ValueError, TypeError):
        return None
    return package if intact else None


def make(place: Path, members: Iterable[Member], base: Package | None = None) -> Package:
    """Write the zip file, on top of what another holds. Of two processes that do so at once either may win: their bytes
    are equal."""
    place.parent.mkdir(parents=True, exist_ok=True)
    _clear(place.parent)
    weights = dict(base.weights) if base else {}
    with tempfile.TemporaryDirectory(prefix=".new-", dir=place.parent) as folder:
        new = Path(folder) / place.name
        if base:
            shutil.copyfile(base.path, new)
        with zipfile.ZipFile(new, "a") as archive:
            for member in sorted(members):
                archive.writestr(_info(member.path), member.data, compresslevel=_LEVEL)
                weights[member.owner] = weights.get(member.owner, 0) + len(member.data)
        package = Package(
            path=place,
            sha256=_sha256(new),
            zipped_bytes=new.stat().st_size,
            unzipped_bytes=sum(weights.values()),
            weights=by_weight(weights),
        )
        about = new.with_suffix(".json")
        about.write_text(json.dumps(asdict(package) | {"path": place.name}))
        new.replace(place)
        about.replace(place.with_suffix(".json"))
    return package


def by_weight(weights: Mapping[str, int]) -> dict[str, int]:
    """The heaviest first, equal ones by name."""
    return dict(sorted(weights.items(), key=lambda item: (-item[1], item[0])))


def _info(path: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(path, _LONG_AGO)
    info.compress_type = zipfile.ZIP_DEFLATED
    info.create_system = 3  # Unix: it reads the permissions
    info.external_attr = (0o100755 if path == "bootstrap" else 0o100644) << 16
    return info


def _clear(folder: Path) -> None:
    """Remove what has not been used for long: each change of a source makes another package."""
    used = []
    for file in folder.glob("*.zip"):
        with contextlib.suppress(FileNotFoundError):  # another process was faster
            used.append((time.time() - file.stat().st_mtime, file))
    for place, (age_s, file) in enumerate(sorted(used)):
        if place >= _MOST or age_s > _UNUSED_S:
            file.with_suffix(".json").unlink(missing_ok=True)
            file.unlink(missing_ok=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
