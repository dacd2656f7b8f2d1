"""What goes wrong with a server, as errors of LambdaML: one line, and a remedy."""

from __future__ import annotations

import ssl

from lambdaml_core.errors import StorageDenied, StorageError, StorageFull, StorageUnavailable
from lambdaml_redis.resp import ProtocolError, Refusal

_DENIED = "look at user and password of the URL, and at what the server allows them (ACL GETUSER)"
_CLUSTER = "use a server, or a replication group, with cluster mode disabled"

_REFUSALS: dict[str, tuple[type[StorageError], str]] = {
    "OOM": (StorageFull, "raise its maxmemory, choose a larger node, or clean up old runs"),
    "NOAUTH": (StorageDenied, "put a password into the URL, as {env:NAME}"),
    "WRONGPASS": (StorageDenied, _DENIED),
    "NOPERM": (StorageDenied, _DENIED),
    "DENIED": (StorageDenied, "give the server a password, or bind it to this machine"),
    "LOADING": (StorageUnavailable, "wait until the server has read its data"),
    "BUSY": (StorageUnavailable, "see which script keeps the server busy"),
    "READONLY": (StorageUnavailable, "use the address of the primary, not of a replica"),
    "MASTERDOWN": (StorageUnavailable, "use the address of the primary, not of a replica"),
    "MISCONF": (StorageUnavailable, "see why the server cannot save its data, or switch saving off"),
    "NOREPLICAS": (StorageUnavailable, "see where the server's replicas are"),
    "MOVED": (StorageError, _CLUSTER),
    "ASK": (StorageError, _CLUSTER),
    "CROSSSLOT": (StorageError, _CLUSTER),
    "CLUSTERDOWN": (StorageError, _CLUSTER),
    "WRONGTYPE": (StorageError, "another program uses this name: choose another option prefix, or another database"),
}
_OLD = ("wrong number of arguments for 'pexpire'", "unknown command 'XADD'", "unknown command `XADD`")


def of_refusal(where: str, refusal: Refusal) -> StorageError:
    """The error for an answer that is one."""
    if any(text in refusal.line for text in _OLD):
        return StorageError(f"{where} is too old: {refusal.line}", hint="use Redis 7.0 or later, or Valkey")
    kind, hint = _REFUSALS.get(refusal.word, (StorageError, None))
    return kind(f"{where}: {refusal.line}", hint=hint)


def of_connecting(where: str, error: Exception) -> StorageError:
    """The error for a connection that did not come about."""
    import redis

    if isinstance(error, redis.exceptions.AuthenticationError):
        return StorageDenied(f"{where} refuses user and password: {error}", hint=_DENIED)
    if isinstance(error, redis.exceptions.NoPermissionError):
        return StorageDenied(f"{where}: {error}", hint=_DENIED)
    cause = error.__cause__ or error.__context__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return StorageDenied(
            f"{where} is not who it says it is: {cause.verify_message}",
            hint="name the file of the certificates that signed the server's by the option tls_ca",
        )
    if isinstance(error, redis.ConnectionError | redis.TimeoutError | OSError):
        hint = "see whether the server runs" + (", with TLS at this port" if where.startswith("rediss:") else "")
        return StorageUnavailable(f"{where} cannot be reached: {error}", hint=hint)
    if isinstance(error, redis.ResponseError):
        return StorageError(
            f"{where}: {error}", hint="look at the number of the database, and at the server's settings"
        )
    return StorageError(f"{where} does not answer as Redis does: {error}", hint="look at host and port of the URL")


def of_connection(where: str, error: Exception, timeout_s: float) -> StorageError:
    """The error for a connection that has failed."""
    if isinstance(error, ProtocolError):
        return StorageError(f"{where} does not answer as Redis does: {error}", hint="look at host and port of the URL")
    if isinstance(error, BlockingIOError | TimeoutError):
        return StorageUnavailable(f"{where} has been silent for {timeout_s:g} s", hint="see what the server is doing")
    return StorageUnavailable(f"{where}: {error}", hint="see whether the server runs")
