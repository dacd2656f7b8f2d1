"""The job: what to train, on what, how and where. TOML and keyword arguments have one structure, checked whole."""

from __future__ import annotations

import dataclasses
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from lambdaml_core.errors import JobError
from lambdaml_core.options import join_path, nearest, option, parse
from lambdaml_core.registry import default_registry
from lambdaml_core.run.code import use
from lambdaml_core.run.spec import Checkpointing, Limits, Recovery, Stop, model_url
from lambdaml_core.specs import Kind, Reference
from lambdaml_core.storage.url import StorageURL

__all__ = ["AUTO", "DataSource", "Job", "default_store", "storage_url"]

T = TypeVar("T")

AUTO = "auto"
"""What ``aggregators`` is where the driver settles it, by what the channel takes and costs."""

_AGGREGATOR_WORDS = {
    "allreduce": "1",
    "reduce": "1",
    "scatter-reduce": "all",
    "scatter_reduce": "all",
    "reduce_scatter": "all",
}
_ASYNCHRONOUS = "async"
"""The paper's word, among those for patterns, for what is an option of optimizers."""
_AGGREGATORS = "give a number from 1 to workers, all or auto"
_FORMAT_WORDS = {"dense_libsvm": {"layout": "dense"}, "sparse_libsvm": {"layout": "sparse"}}
_PLUGINS = ("model", "optimizer", "communicator", "provider")
_TABLES: dict[str, type[Any]] = {"stop": Stop, "checkpoint": Checkpointing, "recovery": Recovery, "limits": Limits}
_EXAMPLES = {"stop": "loss = 0.3", "checkpoint": "seconds = 10", "recovery": "restarts = 3", "limits": "cost_usd = 2"}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")
_RUN = re.compile(r"\d{8}-\d{6}-[A-Za-z0-9_-]+")  # as the driver names them
_SECRET = re.compile(r"password|passwd|secret|token|credential|(api|access|private)_?key", re.IGNORECASE)
_FROM_ENVIRONMENT = re.compile(r"\{env:[A-Za-z_][A-Za-z0-9_]*\}")


@dataclass(frozen=True, kw_only=True)
class DataSource:
    """The table ``[data]`` of a job.

    Attributes:
        source: an absolute path to partition, of a file, a folder of data files or a pattern such as ``part-*.csv``;
            or the storage URL of a partition that exists; or None where arrays are given from Python.
        format: how files, or the columns of a frame, are read; None = by the ending of their names.
        shards: files that a partition made for this run is cut into; None = one per worker, or one if there is little.
        validation: share of the rows kept for validation, of a partition made for this run; None where it exists.
        features: columns the data must have; None = whatever it has.
    """

    source: str | None = option(None, help="file, folder or pattern of files to partition, or a partition that exists")
    format: Reference | None = None
    shards: int | None = option(
        None,
        help="files of the partition made for this run; default: as many as workers, or one if there is little",
        minimum=1,
    )
    validation: float | None = option(0.2, help="share of the rows kept for validation", minimum=0, maximum=0.9)
    features: int | None = option(None, help="columns the data must have; default: whatever it has", minimum=1)


@dataclass(frozen=True, kw_only=True)
class _Settings:
    """The keys at the top of a job."""

    name: str | None = option(None, help="a word for listings; part of the run's name")
    seed: int = option(
        0, help="all randomness comes from it, but the order of a partition that exists", minimum=0, maximum=2**63 - 1
    )
    workers: int = option(4, help="number of workers", minimum=1, maximum=10_000)
    batch_size: int = option(1000, help="rows of a mini-batch, over all workers together", unit="rows", minimum=1)
    epochs: int | None = option(None, help="passes over the data; default: 10 if rounds is not given", minimum=1)
    rounds: int | None = option(
        None, help="rounds of the optimizer; whichever of epochs and rounds ends first counts", minimum=1
    )
    evaluate: int | None = option(
        None, help="rounds between looks at the validation rows; default: an epoch, at most 200 looks", minimum=1
    )
    class_weight: str | dict[str, float] | None = option(  # noqa: RUF009  (it makes a field)
        None, help='what a row of each class counts, by label; "balanced" = as much as those of any other class'
    )
    code: tuple[str, ...] = option(
        (), help='files of your own that workers import, such as ["net.py", "layers/"]; plugins may be among them'
    )
    init_from: str | None = option(None, help="a saved model to go on from: a directory, a URL, or a run of the store")
    aggregators: int | str = option(
        1, help='ranks that fold: 1 = AllReduce by a leader, "all" = ScatterReduce, "auto" = the quickest', minimum=1
    )
    store: str = option("", help="URL of the durable place for runs; default: LAMBDAML_STORE, else the data home")
    channel: str | None = option(None, help="URL where collectives exchange; default: chosen by provider")


@dataclass(frozen=True, kw_only=True)
class Job(_Settings):
    """A job that has been checked: names are resolved, options typed, paths absolute, words of the paper replaced.

    ``epochs`` and ``rounds`` are never both None, ``store`` is a URL, and ``aggregators`` is a number up to
    ``workers``, or "auto", which the driver settles. ``init_from`` is a URL. No URL holds a literal secret. The paths
    of ``code`` are absolute, and its modules can be imported until a job with other code is made.
    """

    data: DataSource = DataSource()
    stop: Stop
    checkpoint: Checkpointing
    recovery: Recovery
    limits: Limits
    model: Reference
    optimizer: Reference
    communicator: Reference
    provider: Reference

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], *, base: Path | None = None) -> Job:
        """Check a job given as nested mappings.

        Args:
            values: the structure of the TOML file. A table with a ``name`` may be given as the name alone.
            base: directory that relative paths start from; default: the current one.

        Raises:
            JobError, OptionError: a key is unknown, of the wrong type or out of range; the message has its dotted path.
            PluginError: a model, optimizer, communicator, provider or format cannot be found.
            URLError: the store or the channel is no storage URL.
        """
        base = base or Path.cwd()
        tables = {k: values.get(k) for k in ("data", *_TABLES, *_PLUGINS)}
        top = {k: v for k, v in values.items() if k not in tables and v is not None}
        known = {f.name for f in dataclasses.fields(cls)}
        for key in values:
            if key not in known:
                raise JobError(f"unknown key {key} in the job", hint=nearest(key, known))
        if top.get("aggregators") == _ASYNCHRONOUS:
            top["aggregators"] = 1  # of the few collectives that there are
            optimizer = _table("optimizer", tables["optimizer"], "name")
            tables["optimizer"] = {"name": "ga_sgd", **optimizer, "asynchronous": True}
        if "aggregators" in top:
            top["aggregators"] = _aggregators(top["aggregators"], top.get("workers", _Settings.workers))
        settings = vars(parse(_Settings, top))
        _check_settings(settings)
        settings["code"] = tuple(os.path.normpath(base / Path(path).expanduser()) for path in settings["code"])
        use(settings["code"])
        if settings["epochs"] is None and settings["rounds"] is None:
            settings["epochs"] = 10
        settings["store"] = storage_url(settings["store"] or default_store(), "store", base)
        if settings["channel"] is not None:
            settings["channel"] = storage_url(settings["channel"], "channel", base)
        if settings["init_from"] is not None:
            settings["init_from"] = _init_from(settings["init_from"], settings["store"], base)
        return cls(
            **settings,
            data=_data(tables["data"], base),
            **{name: _typed(kind, name, tables[name]) for name, kind in _TABLES.items()},
            model=_choice("model", tables["model"], "logistic_regression"),
            optimizer=_choice("optimizer", tables["optimizer"], "ga_sgd"),
            communicator=_choice("communicator", tables["communicator"], "aggregate"),
            provider=_choice("provider", tables["provider"], "local"),
        )

    @classmethod
    def from_toml(cls, path: Path, overrides: Mapping[str, Any] | None = None) -> Job:
        """Read and check a job file; relative paths in it start from its directory.

        Args:
            overrides: keys that replace those of the file, tables key by key; paths in them start from the current
                directory.

        Raises:
            JobError: the file is missing, unreadable or no TOML; and as :meth:`from_mapping`.
        """
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as e:
            raise JobError(
                f"the job {path} cannot be read: {e.strerror}",
                hint="lambdaml train --template prints one to start from",
            ) from e
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
            raise JobError(f"{path} is not TOML: {e}", hint="lambdaml train --template prints an example") from e
        replaced = {k: _absolute(k, v) for k, v in (overrides or {}).items()}
        return cls.from_mapping(_merged(values, replaced), base=path.resolve().parent)

    def to_mapping(self) -> dict[str, Any]:
        """The job as JSON; :meth:`from_mapping` takes it back."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(_Settings)}
        values |= {name: _flat(getattr(self, name)) for name in _PLUGINS}
        values |= {name: dataclasses.asdict(getattr(self, name)) for name in _TABLES}
        data = {f.name: getattr(self.data, f.name) for f in dataclasses.fields(DataSource)}
        return values | {"data": data | {"format": self.data.format and _flat(self.data.format)}}


def default_store() -> str:
    """``LAMBDAML_STORE``, or a directory in the user's data home."""
    home = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return os.environ.get("LAMBDAML_STORE") or str(Path(home) / "lambdaml")


def storage_url(text: str, where: str, base: Path | None = None) -> str:
    """A storage URL as it goes into a job: checked, without a literal secret; a plain path becomes a ``file://`` URL.

    Args:
        where: the key it was given for, named in messages.
        base: directory that a relative path starts from; default: the current one.

    Raises:
        URLError: not a URL.
        JobError: it is empty, or holds a password; the hint says how to give it instead.
    """
    if not text:
        raise JobError(f"{where} is empty", hint="give a URL such as file:///data, or a path")
    if "://" not in text:
        return StorageURL("file", path=os.path.normpath((base or Path.cwd()) / Path(text).expanduser())).text()
    url = StorageURL.parse(text)
    secrets = [url.password, *(v for k, v in url.query.items() if _SECRET.search(k))]
    if any(secret and not _FROM_ENVIRONMENT.fullmatch(secret) for secret in secrets):
        raise JobError(
            f"the {url.scheme}:// URL of {where} holds a password",
            hint="put it in an environment variable and write {env:NAME} in its place",
        )
    return url.text()


def _names_run(text: str, base: Path) -> bool:
    """Whether a model to go on from is that of a run, and no path."""
    return _RUN.fullmatch(text) is not None and not os.path.lexists(base / text)


def _init_from(text: str, store: str, base: Path) -> str:
    """The URL of a saved model, which may be that of a run of the store."""
    return model_url(store, text) if _names_run(text, base) else storage_url(text, "init_from", base)


def _aggregators(value: Any, workers: Any) -> Any:
    """A number for the words; what is no word is left to the check of types."""
    word = _AGGREGATOR_WORDS.get(value, value) if isinstance(value, str) else value
    if word == "all":
        return workers
    if isinstance(word, str) and word != AUTO:
        if not word.isdecimal():
            raise JobError(f"aggregators cannot be {value!r}", hint=_AGGREGATORS)
        return int(word)
    return word


def _check_settings(settings: Mapping[str, Any]) -> None:
    weights = settings["class_weight"]
    if isinstance(weights, str) and weights != "balanced":
        raise JobError(f"class_weight cannot be {weights!r}", hint='"balanced", or a table such as { spam = 2.0 }')
    if isinstance(weights, dict) and min(weights.values(), default=1.0) < 0:
        raise JobError("class_weight has a weight below 0", hint="a row of weight 0 does not count at all")
    if settings["name"] is not None and not _NAME.fullmatch(settings["name"]):
        raise JobError(f"name cannot be {settings['name']!r}", hint="up to 40 letters, digits, - and _")
    aggregators = settings["aggregators"]
    if aggregators != AUTO and aggregators > settings["workers"]:
        raise JobError(f"aggregators = {aggregators} is more than workers = {settings['workers']}", hint=_AGGREGATORS)


def _table(where: str, value: Any, word: str) -> dict[str, Any]:
    """A table, from a mapping or from the one word that a string is short for."""
    if value is None:
        return {}
    if isinstance(value, Mapping):
        return {k: v for k, v in value.items() if v is not None}
    if isinstance(value, str | os.PathLike):
        return {word: os.fspath(value)}
    raise JobError(f"{where} must be a table or the {word} alone, not {value!r}")


def _choice(kind: Kind, value: Any, default: str | None = None, *, where: str = "") -> Reference:
    """A plugin by name, with its options."""
    where = where or kind
    table = _table(where, value, "name")
    name = table.pop("name", default)
    if not isinstance(name, str):
        raise JobError(f"{join_path(where, 'name')} must be given as a word", hint="lambdaml plugins lists them")
    return default_registry().resolve(kind, name, table, where=where)


def _typed(kind: type[T], name: str, value: Any) -> T:
    """A table whose keys are all typed."""
    if value is not None and not isinstance(value, Mapping):
        raise JobError(f"{name} must be a table, not {value!r}", hint=f"such as {name} = {{ {_EXAMPLES[name]} }}")
    return parse(kind, value or {}, where=name)


def _data(value: Any, base: Path) -> DataSource:
    table = _table("data", value, "source")
    known = {f.name for f in dataclasses.fields(DataSource)}
    for key in table:
        if key not in known:
            raise JobError(f"unknown key data.{key} in the job", hint=nearest(key, known))
    if "source" in table:
        table["source"] = _source(table["source"], base)
    partitioned = "://" in table.get("source", "")
    if partitioned:
        _check_partitioned(table)
    form = table.pop("format", None)
    data = parse(DataSource, table, where="data")
    if partitioned:
        return dataclasses.replace(data, validation=None)
    return data if form is None else dataclasses.replace(data, format=_format(form, data.source))


def _check_partitioned(table: Mapping[str, Any]) -> None:
    """Refuse what says how a partition is to be made beside one that exists."""
    for key in ("format", "shards", "validation"):
        if key in table:
            raise JobError(
                f"data.{key} means nothing to {StorageURL.parse(table['source'])}, which is a partition already",
                hint=f"leave data.{key} out, or partition the source again with it",
            )


def _format(value: Any, source: str | None) -> Reference:
    """The format with its options; without a name, the one that the names of the source's files end like."""
    table = _table("data.format", value, "name")
    if source is not None and "name" not in table:
        from lambdaml_core.data.sources import format_of  # with numpy, which a listing of runs does without

        return format_of(source, table)
    return _choice("data_format", _FORMAT_WORDS.get(table.get("name", ""), {}) | table, where="data.format")


def _source(value: Any, base: Path) -> str:
    """An absolute path, or the URL of a partition, as which a directory with a manifest is taken."""
    if not isinstance(value, str | os.PathLike) or not os.fspath(value):
        raise JobError(f"data.source must be a path or a URL, not {value!r}", hint='such as source = "train.csv"')
    text = os.fspath(value)
    if "://" in text:
        return storage_url(text, "data.source")
    from lambdaml_core.data.shards import MANIFEST_KEY  # as above

    path = os.path.normpath(base / Path(text).expanduser())
    return storage_url(path, "data.source") if (Path(path) / MANIFEST_KEY).is_file() else path


def _merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The values with these changes; a table changes key by key."""
    merged = dict(values)
    for key, value in changes.items():
        if isinstance(value, Mapping):
            value = _merged(_table(key, merged.get(key), "source" if key == "data" else "name"), value)
        merged[key] = value
    return merged


def _absolute(key: str, value: Any) -> Any:
    """Paths among the overrides, which start from the current directory and not from the file's."""
    if key == "init_from" and isinstance(value, str) and _names_run(value, Path.cwd()):
        return value
    if key in ("store", "channel", "init_from") and isinstance(value, str):
        return storage_url(value, key)
    if key == "data" and value is not None:
        table = _table("data", value, "source")
        return table | ({"source": _source(table["source"], Path.cwd())} if "source" in table else {})
    return value


def _flat(ref: Reference) -> dict[str, Any]:
    return {"name": ref.name, **ref.values}
