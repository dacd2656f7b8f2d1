"""Whether a storage can be what a job wants it to be, by what it says of itself; no I/O, and no numpy."""

from __future__ import annotations

from lambdaml_core.errors import NotSupported
from lambdaml_core.run.job import Job
from lambdaml_core.run.spec import Place
from lambdaml_core.storage import StorageURL, build_storage
from lambdaml_core.storage.base import Storage, StorageCaps, SupportsList

_REACH = {"process": 0, "host": 1, "network": 2}
_LEAST_VALUE_BYTES = 128 << 10  # messages are cut to fit, but not into crumbs


def check_store(job: Job, scope: str) -> tuple[Place, StorageCaps]:
    """The store of a job, and what it promises.

    Args:
        scope: how far storage must reach for the workers to meet.

    Raises:
        NotSupported: it cannot be a store here; message and hint say why and what instead.
        URLError, PluginError: as :func:`~lambdaml_core.storage.open_storage`.
    """
    place, storage = look_at(job.store)
    caps = storage.caps
    name = f"the store {StorageURL.parse(job.store)}"
    if not isinstance(storage, SupportsList):
        raise NotSupported(f"{name} cannot list its keys", hint="use it as channel, and file:// or s3:// as store")
    if not caps.durable and scope != "process":
        raise NotSupported(f"{name} is not durable", hint="use it as channel, and file:// or s3:// as store")
    _check_reach(name, caps, job, scope)
    return place, caps


def check_channel(url: str, job: Job, scope: str) -> tuple[Place, StorageCaps]:
    """A channel, and what it promises; as :func:`check_store`."""
    place, storage = look_at(url, channel=True)
    caps = storage.caps
    name = f"the channel {StorageURL.parse(url)}"
    if not caps.creates_once:
        raise NotSupported(f"{name} cannot create a value exactly once", hint="choose another channel")
    if caps.max_value_bytes is not None and caps.max_value_bytes < _LEAST_VALUE_BYTES:
        raise NotSupported(
            f"{name} takes values up to {caps.max_value_bytes} bytes, and messages need {_LEAST_VALUE_BYTES}",
            hint="choose another channel",
        )
    _check_reach(name, caps, job, scope)
    return place, caps


def _check_reach(name: str, caps: StorageCaps, job: Job, scope: str) -> None:
    if _REACH[caps.scope] < _REACH[scope]:
        raise NotSupported(
            f"{name} reaches no further than one {caps.scope}, and workers of {job.provider.name} do not share one",
            hint={"host": "use file://, or provider = inline"}.get(
                scope, "use a storage on the network, such as s3://"
            ),
        )


def look_at(url: str, *, channel: bool = False) -> tuple[Place, Storage]:
    """The place, and its storage as its author wrote it; no I/O."""
    place = Place.of(url, channel=channel)
    return place, build_storage(url, place.reference)
