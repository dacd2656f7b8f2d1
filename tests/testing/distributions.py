"""Distributions as pip leaves them, without pip: a folder with modules and metadata, which is put on the path."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path

PLUGIN = '''
"""A plugin."""

from lambdaml_core.hookspecs import hookimpl
from lambdaml_core.specs import ModelSpec

LAMBDAML_API = 0


@hookimpl
def lambdaml_models():
    yield ModelSpec(name="NAME", factory="lambdaml_NAME.model:Model", summary="a model")
'''

MODEL = '''
"""What the plugin is about."""

from lambdaml_core.models.logistic import LogisticRegression


class Model(LogisticRegression):
    def __init__(self, options):
        pass
'''


def install(
    folder: Path,
    name: str,
    files: Mapping[str, str | None],
    *,
    requires: tuple[str, ...] = ("lambdaml>=0.1,<1",),
    entry_points: str = "[lambdaml]\nNAME = lambdaml_NAME.plugin\n",
) -> None:
    """Make the distribution ``lambdaml-NAME`` in ``folder``.

    Args:
        files: by path, beside or instead of those of a correct plugin; None leaves one out. NAME is replaced in all.
    """
    correct = {"__init__.py": "", "plugin.py": PLUGIN, "model.py": MODEL, "py.typed": ""}
    info = "lambdaml_NAME-0.1.0.dist-info"
    written = {f"lambdaml_NAME/{path}": text for path, text in correct.items()} | {
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: lambdaml-NAME\nVersion: 0.1.0\n"
        + "".join(f"Requires-Dist: {each}\n" for each in requires),
        f"{info}/entry_points.txt": entry_points,
        **files,
    }
    kept = {path.replace("NAME", name): text for path, text in written.items() if text is not None}
    kept[f"{info}/RECORD".replace("NAME", name)] = "".join(f"{path},,\n" for path in kept)
    for path, text in kept.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(textwrap.dedent(text).replace("NAME", name))
