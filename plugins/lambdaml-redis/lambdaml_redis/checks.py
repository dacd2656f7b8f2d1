"""What only Redis knows to look at, for ``lambdaml doctor``; workers do not import this."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from lambdaml_core.errors import StorageError
from lambdaml_core.findings import Finding
from lambdaml_redis.address import Address
from lambdaml_redis.connection import connect
from lambdaml_redis.errors import of_connecting
from lambdaml_redis.options import RedisOptions

_OLDEST = (7, 0)
_NEARLY_FULL = 0.8
_SKEW_S = 5.0

Ask = Callable[..., Any]


def checks(address: Address, options: RedisOptions) -> Iterator[Finding]:
    """Look at a server; nothing is changed there."""
    try:
        connection = connect(address, options)
    except StorageError as e:
        yield Finding(what="server", state="problem", said=e.message, remedy=e.hint)
        return

    def ask(*words: str) -> Any:
        connection.send_command(*words)
        return connection.read_response()

    try:
        yield from _look(ask, address)
    finally:
        connection.disconnect()


def _look(ask: Ask, address: Address) -> Iterator[Finding]:
    import redis

    for look in (_server, _memory, _persistence, _clock):
        try:
            yield look(ask)
        except redis.ResponseError as e:
            yield Finding(
                what=look.__name__.strip("_"),
                state="warning",
                said=f"cannot be looked at: {e}",
                remedy="allow the user INFO, TIME and CONFIG|GET (ACL SETUSER)",
            )
        except (redis.RedisError, OSError) as e:
            error = of_connecting(address.shown, e)
            yield Finding(what="server", state="problem", said=error.message, remedy=error.hint)
            return


def _server(ask: Ask) -> Finding:
    """Its version, and whether it is one server that can be written to."""
    info = {**_info(ask("INFO", "server")), **_info(ask("INFO", "replication")), **_info(ask("INFO", "cluster"))}
    valkey = info.get("valkey_version")
    name = f"Valkey {valkey}" if valkey else f"Redis {info['redis_version']}"
    wrong = {}
    if tuple(map(int, info["redis_version"].split(".")[:2])) < _OLDEST:
        wrong["older than 7.0"] = "install Redis 7.0 or later, or Valkey"
    if info.get("cluster_enabled") == "1":
        wrong["in cluster mode, which has no waits for keys of several nodes"] = "disable cluster mode"
    if info.get("role") == "slave":
        wrong["a replica, which takes no values"] = "use the address of its primary"
    if wrong:
        said = f"{name} is {' and '.join(wrong)}"
        return Finding(what="server", state="problem", said=said, remedy="; ".join(wrong.values()))
    return Finding(what="server", state="ok", said=name, values={"version": valkey or info["redis_version"]})


def _memory(ask: Ask) -> Finding:
    """How much there is, and what becomes of values when it is used up."""
    info = _info(ask("INFO", "memory"))
    used, most, policy = int(info["used_memory"]), int(info.get("maxmemory", 0)), info.get("maxmemory_policy", "")
    values = {"used_bytes": used, "most_bytes": most, "policy": policy}
    if not most:
        return Finding(what="memory", state="ok", said="the server takes what its machine has", values=values)
    said = f"{used / 1e6:.0f} of {most / 1e6:.0f} MB are used"
    if policy != "noeviction":
        return Finding(
            what="memory",
            state="warning",
            said=f"{said}, and when they are, {policy} drops values, with which a run loses its way",
            remedy="set maxmemory-policy to noeviction: then it says that it is full",
            values=values,
        )
    if used > _NEARLY_FULL * most:
        return Finding(
            what="memory", state="warning", said=said, remedy="raise maxmemory, or clean up old runs", values=values
        )
    return Finding(what="memory", state="ok", said=said, values=values)


def _persistence(ask: Ask) -> Finding:
    """Whether the server writes to a disk, which a channel has no use for."""
    import redis

    saves = ["a log of all writes (appendonly)"] if _info(ask("INFO", "persistence")).get("aof_enabled") == "1" else []
    try:
        _, when = ask("CONFIG", "GET", "save")
        saves += [f"snapshots (save {when.decode()})"] if when else []
    except (redis.ResponseError, ValueError):  # managed servers do not tell
        pass
    if not saves:
        return Finding(what="persistence", state="ok", said="the server writes nothing to a disk")
    return Finding(
        what="persistence",
        state="warning",
        said=f"the server writes {' and '.join(saves)}: messages become slower, and need it for nothing",
        remedy="start it with --save '' --appendonly no",
    )


def _clock(ask: Ask) -> Finding:
    """The server's clock beside this machine's, as far as the way there lets it be known."""
    before = time.time()
    seconds, micros = ask("TIME")
    after = time.time()
    theirs = int(seconds) + int(micros) / 1e6
    skew_s = max(theirs - after, before - theirs, 0.0)
    if skew_s > _SKEW_S:
        return Finding(
            what="clock",
            state="warning",
            said=f"the server's clock is {skew_s:.0f} s away from this machine's",
            remedy="have both set by NTP; lives of values are counted by the server's alone",
            values={"skew_s": skew_s},
        )
    return Finding(what="clock", state="ok", said="the server's clock is this machine's", values={"skew_s": skew_s})


def _info(text: Any) -> Mapping[str, str]:
    """The lines ``name:value`` of an INFO."""
    lines = (line.partition(":") for line in bytes(text).decode("utf-8", "replace").splitlines())
    return {name: value for name, colon, value in lines if colon}
