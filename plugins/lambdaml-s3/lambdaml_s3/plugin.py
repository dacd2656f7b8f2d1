"""What this distribution provides. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterator

from lambdaml_core.hookspecs import hookimpl
from lambdaml_core.specs import StorageSpec
from lambdaml_s3.options import S3Options

LAMBDAML_API = 0


@hookimpl
def lambdaml_storages() -> Iterator[StorageSpec]:
    """The storage ``s3://``."""
    yield StorageSpec(
        name="s3",
        schemes=("s3",),
        factory="lambdaml_s3.storage:S3Storage",
        options=S3Options,
        summary="Values as objects of Amazon S3, or of what speaks its protocol",
    )
