"""What lambdaml-acme provides. This is imported to list plugins: it imports nothing heavy, and names what does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lambdaml_core.hookspecs import hookimpl
from lambdaml_core.options import option
from lambdaml_core.specs import OptimizerSpec, StorageSpec

LAMBDAML_API = 0


@dataclass(frozen=True)
class SqliteOptions:
    """Options of ``sqlite://``."""

    busy_s: float = option(60.0, help="how long to wait for another process that is writing", unit="s", above=0)


@dataclass(frozen=True)
class SignSGDOptions:
    """Options of ``signsgd``."""

    learning_rate: float = option(0.05, help="how far the first step goes, in every parameter", above=0)


@hookimpl
def lambdaml_storages() -> Iterator[StorageSpec]:
    yield StorageSpec(
        name="sqlite",
        schemes=("sqlite",),
        factory="lambdaml_acme.sqlite:SqliteStorage",
        options=SqliteOptions,
        summary="one SQLite database, for processes of one machine",
    )


@hookimpl
def lambdaml_optimizers() -> Iterator[OptimizerSpec]:
    yield OptimizerSpec(
        name="signsgd",
        factory="lambdaml_acme.signsgd:SignSGD",
        options=SignSGDOptions,
        summary="steps of one size, in the direction that most workers vote for",
    )
