"""How chunks share requests: batches, windows, and what is looked for when."""

from __future__ import annotations

from typing import Any

from lambdaml_core.comm.schedule import (
    Await,
    Create,
    Delete,
    GetMany,
    PutMany,
    Request,
    Requests,
    Schedule,
    Task,
    advance,
)


def nothing() -> Requests:
    yield from ()


def schedule(*tasks: Task, window: int = 100, watch: bool = True, **more: Any) -> Requests:
    hooks = {"before_wait": nothing, "on_long_wait": nothing, **more}
    return Schedule(tasks, window=window, parallel=1, watch=watch, **hooks).run()


def ask(requests: Requests, answer: Any = None) -> Request | None:
    """The next request, after an answer to the last."""
    return advance(requests, answer)


def sender(number: int, log: list[str]) -> Task:
    created = yield Create(f"in/{number}", [b"x"])
    log.append(f"{number} {'created' if created else 'existed'}")
    got = yield Await({f"out/{number}": 7})
    log.append(f"{number} got {sorted(got)}")


def folder(number: int, ranks: int, log: list[str]) -> Task:
    missing = {f"in/{number}/{rank}": rank for rank in range(1, ranks)}
    while missing:
        got = yield Await(missing, f"out/{number}")
        log.append(f"{number} got {sorted(got)}")
        if f"out/{number}" in got:
            yield Await({"last": 0})
            return
        missing = {key: rank for key, rank in missing.items() if key not in got}


def test_chunks_are_created_together_and_waited_for_together() -> None:
    log: list[str] = []
    requests = schedule(*(sender(number, log) for number in range(3)))
    assert ask(requests) == PutMany({f"in/{number}": [b"x"] for number in range(3)})
    assert ask(requests, ["in/0", "in/2"]) == GetMany(["out/0", "out/1", "out/2"], {f"out/{n}": 7 for n in range(3)})
    assert log == ["0 created", "1 existed", "2 created"]
    assert ask(requests, {"out/1": b"", "out/2": b""}) == GetMany(["out/0"], {"out/0": 7})
    assert ask(requests, {"out/0": b""}) is None
    assert log[3:] == ["1 got ['out/1']", "2 got ['out/2']", "0 got ['out/0']"]


def test_no_more_chunks_than_the_window_are_on_their_way() -> None:
    requests = schedule(*(sender(number, []) for number in range(3)), window=2)
    assert ask(requests) == PutMany({"in/0": [b"x"], "in/1": [b"x"]})
    assert ask(requests, []) == GetMany(["out/0", "out/1"], {"out/0": 7, "out/1": 7})
    assert ask(requests, {"out/0": b""}) == PutMany({"in/2": [b"x"]})
    assert ask(requests, []) == GetMany(["out/1", "out/2"], {"out/1": 7, "out/2": 7})


def test_the_result_is_among_the_keys_however_many_ranks_there_are() -> None:
    request = ask(schedule(folder(0, 100, []), folder(1, 100, [])))
    assert isinstance(request, GetMany)
    assert request.keys[:3] == ["out/0", "in/0/1", "in/0/2"]
    assert len(request.keys) < 100, "not all at once"


def test_the_oldest_chunk_comes_first_whatever_arrives() -> None:
    requests = schedule(folder(0, 40, []), folder(1, 40, []))
    request = ask(requests)
    for rank in range(1, 39):
        request = ask(requests, {f"in/0/{rank}": b""})
    assert isinstance(request, GetMany)
    assert request.keys[:4] == ["out/0", "in/0/39", "out/1", "in/1/1"]


def test_who_is_waited_for_is_who_has_not_answered() -> None:
    requests = schedule(folder(0, 4, []))
    ask(requests)
    request = ask(requests, {"in/0/1": b"", "in/0/3": b""})
    assert isinstance(request, GetMany)
    assert request.makers == {"in/0/2": 2}


def test_a_chunk_is_not_handed_what_it_no_longer_wants() -> None:
    log: list[str] = []
    requests = schedule(folder(0, 4, log))
    ask(requests)
    assert ask(requests, {"out/0": b""}) == GetMany(["last"], {"last": 0})
    assert ask(requests, {"last": b""}) is None


def test_results_are_looked_for_once_a_wait_is_long() -> None:
    def again() -> Requests:
        yield PutMany({"again": [b""]})

    requests = schedule(folder(0, 2, []), watch=False, on_long_wait=again)
    assert ask(requests) == GetMany(["in/0/1"], {"in/0/1": 1})
    assert ask(requests, {}) == PutMany({"again": [b""]})
    assert ask(requests, ["again"]) == GetMany(["out/0", "in/0/1"], {"in/0/1": 1})


def test_what_is_done_with_is_deleted_before_a_wait() -> None:
    garbage = [["a", "b"], ["c"]]

    def tidy() -> Requests:
        if garbage:
            yield Delete(garbage.pop(0))

    requests = schedule(sender(0, []), before_wait=tidy)
    assert isinstance(ask(requests), PutMany)
    assert ask(requests, []) == Delete(["a", "b"])
    assert ask(requests) == GetMany(["out/0"], {"out/0": 7})
