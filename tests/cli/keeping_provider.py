"""A plugin with a provider that keeps deployments, as empty files of a folder; its workers are those of ``local``."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lambdaml_core.builtin import LocalOptions
from lambdaml_core.hookspecs import hookimpl
from lambdaml_core.options import option
from lambdaml_core.provider.base import Removed, Work
from lambdaml_core.provider.local import LocalProvider
from lambdaml_core.specs import ProviderSpec

LAMBDAML_API = 0
START_S, USD_PER_WORKER_S, USD_PER_LAUNCH = 2.5, 0.01, 0.001


@dataclass(frozen=True)
class KeepingOptions(LocalOptions):
    folder: str = option("kept", help="where deployments are kept")


class KeepingProvider(LocalProvider):
    """Deployments are named after the number of workers."""

    def __init__(self, options: KeepingOptions) -> None:
        super().__init__(options)
        self._folder = Path(options.folder)

    def plan(self, job: Mapping[str, Any]) -> Mapping[str, Any]:
        return {
            **super().plan(job),
            "usd_per_worker_s": USD_PER_WORKER_S,
            "usd_per_launch": USD_PER_LAUNCH,
            "start_s": START_S,
            "function": f"function-{job['workers']}",
            "resources": [f"function function-{job['workers']}"],
            "facts": {"package": "3 MB"},
            "permissions": {"user": {"Action": ["make"]}},
        }

    def keep(self, plan: Mapping[str, Any]) -> Mapping[str, Any]:
        self._folder.mkdir(exist_ok=True)
        (self._folder / plan["function"]).touch()
        return {"function": plan["function"]}

    def remove(self, plan: Mapping[str, Any] | None) -> Removed:
        there: Sequence[Path] = sorted(self._folder.glob("*"))
        mine = [path for path in there if path.name.startswith("function-")]
        if plan is not None:
            mine = [path for path in mine if path.name == plan["function"]]
        for path in mine:
            path.unlink()
        left = [f"{path.name}: it is not ours" for path in there if not path.name.startswith("function-")]
        return Removed([path.name for path in mine], left if plan is None else [])

    def estimates(self, job: Mapping[str, Any], work: Work) -> Mapping[str, Mapping[str, Any]]:
        return {"barn": {"seconds": 60.0, "usd": 3.5 * work.workers, "said": f"{job['workers']} cows"}}


@hookimpl
def lambdaml_providers() -> Iterator[ProviderSpec]:
    yield ProviderSpec(
        name="keeping", factory="keeping_provider:KeepingProvider", options=KeepingOptions, summary="keeps"
    )


def install(folder: Path) -> None:
    """Make it a distribution of a folder that is put on the path."""
    shutil.copy(__file__, folder)
    info = folder / "lambdaml_keeping-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lambdaml-keeping\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text("[lambdaml]\nkeeping = keeping_provider\n")
